"""ASE scripts whose strides are divided where jumps err, with a calculator to fall back on."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read
from ase_dynamics import FS, record, thermal
from judged import Breaks, Judged, SpringCalculator
from springs import SpringOperator

from ase_atom import ATOMLangevin, ATOMPropagator, ATOMVerlet, PhaseState
from ase_atom.errors import BrokenStateError, ConfigError, FallbackError
from ase_atom.io import read_trajectory
from ase_atom.propagation import NVE, Adaptive, Propagator

LANGEVIN = {"temperature_K": 300, "friction": 0.02 / FS, "seed": 4}


class Moody(Judged):
    """Exact springs, judged by a phase of their motion, so that strides go up and down."""

    @property
    def error_estimate(self):
        def estimate(state, stride):
            slow = torch.sin(3 * state.positions[:, 2, 0] + 40 * state.velocities[:, 2, 1])
            return 0.05 * (stride / 16) * (1.2 + slow)

        return estimate


class Hopeless(Judged):
    """Judged to be no good."""

    @property
    def error_estimate(self):
        return lambda state, stride: torch.ones(state.batch_size)


def positions_of(seen) -> np.ndarray:
    return np.array([positions for _, positions, _ in seen])


# -- the same as in a propagator -------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "timestep"), [(64, 0.5), (64, 16), (50, 1), (50, 10)])
def test_frames_and_strides_are_those_of_a_propagator(ethanol, stride, timestep) -> None:
    atoms = thermal(ethanol.copy())
    settings = {"energy_correction": False, "reversible": False, "tolerance": 0.06}
    start = PhaseState.from_atoms(atoms)
    dyn = ATOMVerlet(atoms, timestep * FS, operator=Moody(ethanol), stride=stride * FS, **settings)
    seen = record(dyn)
    dyn.run(4 * stride // timestep)
    ensemble = NVE(energy_correction=False, reversible=False)
    adaptive = Adaptive(0.06)
    run = Propagator(
        Moody(ethanol), start, ensemble, float(stride), float(timestep), adaptive=adaptive
    )
    expected = torch.cat([part.positions[0] for part in run.run(4.0 * stride)]).numpy()
    np.testing.assert_allclose(positions_of(seen), expected, rtol=0, atol=1e-9)
    assert len(adaptive.time) > 1
    assert dyn.adaptive.time == adaptive.time


@pytest.mark.parametrize("fallback", [False, True])
def test_a_run_does_not_depend_on_how_it_is_cut(ethanol, fallback) -> None:
    def made() -> ATOMPropagator:
        calculator = SpringCalculator(SpringOperator(ethanol)) if fallback else None
        settings = {**LANGEVIN, "tolerance": 0.03, "fallback": calculator}
        return ATOMLangevin(thermal(ethanol.copy()), 0.5 * FS, operator=Moody(ethanol), **settings)

    whole, cut, single = made(), made(), made()
    whole.run(400)
    for steps in (7, 130, 1, 262):
        cut.run(steps)
    for _ in range(400):
        single.step()
    for other in (cut, single):
        assert np.array_equal(other.atoms.positions, whole.atoms.positions)
        assert np.array_equal(other.atoms.get_momenta(), whole.atoms.get_momenta())
        assert other.adaptive.record() == whole.adaptive.record()
    assert (whole.adaptive.time[0.0] > 0) == fallback


@pytest.mark.parametrize(("stride", "at"), [(64, 3), (64, 40), (50, 2), (50, 9)])
@pytest.mark.parametrize("fallback", [False, True])
def test_a_change_inside_a_part_keeps_the_grid(ethanol, stride, at, fallback) -> None:
    """Exact springs that are turned round inside a stride retrace their path."""
    atoms = thermal(ethanol.copy())
    operator = (Hopeless if fallback else Moody)(ethanol)
    dyn = ATOMPropagator(
        atoms,
        FS,
        operator=operator,
        stride=stride * FS,
        energy_correction=False,
        reversible=False,
        tolerance=0.06,
        **{**LANGEVIN, "friction": 1e-9 / FS},
        **({"fallback": SpringCalculator(SpringOperator(ethanol))} if fallback else {}),
    )
    seen = record(dyn)
    dyn.attach(lambda: dyn.nsteps == at and atoms.set_momenta(-atoms.get_momenta()), interval=1)
    dyn.run(2 * at)
    back = positions_of(seen)
    # Verlet's steps of half a femtosecond are half steps longer or shorter at neither end.
    np.testing.assert_allclose(back[at + 1 :], back[:at][::-1], rtol=0, atol=2e-3)
    dyn.run(2 * stride - 2 * at)
    assert sum(dyn.adaptive.time.values()) == pytest.approx(2 * stride)


def test_what_is_told_of_strides(ethanol, caplog) -> None:
    calculator = SpringCalculator(SpringOperator(ethanol))
    dyn = ATOMLangevin(
        thermal(ethanol.copy()),
        0.5 * FS,
        operator=Hopeless(ethanol),
        fallback=calculator,
        **LANGEVIN,
    )
    assert dyn.steps_per_stride == 128
    noted = dyn.todict()
    assert (noted["tolerance"], noted["fallback"]) == ("0.12", "SpringCalculator")
    with caplog.at_level(logging.INFO, "ase_atom"):
        dyn.run(64)
    (line,) = [each.getMessage() for each in caplog.records if "SpringCalculator" in each.message]
    assert line == dyn.adaptive.sentence()
    # A call before the run, and of each 16 fs one at the start and one a step.
    assert "SpringCalculator: 100 % of the time, 67 calls" in line
    plain = ATOMLangevin(thermal(ethanol.copy()), 0.5 * FS, operator=Judged(ethanol), **LANGEVIN)
    assert plain.adaptive is None


# -- interrupted runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("timestep", [0.5, 8])
def test_a_script_that_is_started_again_goes_on(ethanol, tmp_path, timestep) -> None:
    def live(folder, steps: int) -> ATOMPropagator:
        folder.mkdir(exist_ok=True)
        dyn = ATOMLangevin(
            thermal(ethanol.copy()),
            timestep * FS,
            operator=Moody(ethanol),
            tolerance=0.03,
            fallback=SpringCalculator(SpringOperator(ethanol)),
            restart=folder / "run.restart",
            trajectory=folder / "run.dcd",
            **LANGEVIN,
        )
        dyn.run(steps - dyn.nsteps)
        return dyn

    steps = int(320 / timestep)
    whole = live(tmp_path / "whole", steps)
    for part in (steps // 7, steps // 3, steps):
        cut = live(tmp_path / "cut", part)
    assert np.array_equal(cut.atoms.positions, whole.atoms.positions)
    names = [tmp_path / each / "run.dcd" for each in ("whole", "cut")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert cut.adaptive.time == whole.adaptive.time
    with pytest.raises(ConfigError, match=r"tolerance was 0\.03 and is now 0\.04"):
        ATOMLangevin(
            thermal(ethanol.copy()),
            timestep * FS,
            operator=Moody(ethanol),
            tolerance=0.04,
            fallback=SpringCalculator(SpringOperator(ethanol)),
            restart=tmp_path / "cut" / "run.restart",
            trajectory=tmp_path / "cut" / "run.dcd",
            **LANGEVIN,
        )
    with pytest.raises(ConfigError, match=r"tolerance was 0\.03 and is now none"):
        ATOMLangevin(
            thermal(ethanol.copy()),
            timestep * FS,
            operator=Moody(ethanol),
            stride=64 * FS,
            restart=tmp_path / "cut" / "run.restart",
            trajectory=tmp_path / "cut" / "run.dcd",
            **LANGEVIN,
        )


@pytest.mark.usefixtures("turning_springs")
def test_a_calculator_that_fails_leaves_all_frames_and_may_be_tried_again(
    ethanol, tmp_path
) -> None:
    def made(fails_at: int | None, file: str) -> ATOMPropagator:
        calculator = SpringCalculator(SpringOperator(ethanol), fails_at=fails_at)
        return ATOMLangevin(
            thermal(ethanol.copy()),
            0.5 * FS,
            operator=Hopeless(ethanol),
            fallback=calculator,
            trajectory=tmp_path / file,
            **LANGEVIN,
        )

    whole = made(None, "whole.dcd")
    whole.run(200)
    dyn = made(80, "run.dcd")  # one call at the start and one a step: the 15th of the third 16 fs
    with pytest.raises(FallbackError, match=r"SpringCalculator failed \(.*\) after 39 fs"):
        dyn.run(200)
    assert dyn.nsteps == 78
    with read_trajectory(tmp_path / "run.dcd") as reader:
        assert len(reader) == 79
        (last,) = reader[78:]
    assert np.allclose(last.positions[0], dyn.atoms.positions, atol=1e-5)
    dyn.run(122)
    # The energy that is kept from there on is that of the last frame, not of the stretch's start.
    np.testing.assert_allclose(dyn.atoms.positions, whole.atoms.positions, rtol=0, atol=1e-3)


def test_a_molecule_that_breaks_between_two_frames_breaks_at_the_next(ethanol) -> None:
    settings = {"energy_correction": False, "reversible": False, "tolerance": 0.1}
    dyn = ATOMVerlet(thermal(ethanol.copy()), 16 * FS, operator=Breaks(ethanol), **settings)
    with pytest.raises(BrokenStateError, match="broke at 16 fs"):
        dyn.run(4)
    assert dyn.nsteps == 0


# -- what is refused -------------------------------------------------------------------------------


class Energies(Calculator):
    implemented_properties = ("energy",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tolerance": 0}, "tolerance must be above 0 and at most 1, not 0"),
        ({"tolerance": 1.5}, "tolerance must be above 0 and at most 1, not 1.5"),
        ({"tolerance": True}, "tolerance must be above 0 and at most 1, not True"),
        ({"fallback": Energies()}, "the fallback Energies computes no forces"),
        ({"fallback": "gfn2"}, "the fallback str computes no forces"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    ethanol, tmp_path, settings, said
) -> None:
    with pytest.raises(ConfigError, match=said):
        ATOMLangevin(
            thermal(ethanol.copy()),
            0.5 * FS,
            operator=Judged(ethanol),
            trajectory=tmp_path / "a.dcd",
            **LANGEVIN,
            **settings,
        )
    assert not list(tmp_path.iterdir())


def test_a_fallback_is_refused_in_nve_and_a_tolerance_without_a_calibration(
    ethanol: Atoms,
) -> None:
    calculator = SpringCalculator(SpringOperator(ethanol))
    with pytest.raises(ConfigError, match="a fallback goes with a thermostat, not with NVE"):
        ATOMVerlet(thermal(ethanol.copy()), FS, operator=Judged(ethanol), fallback=calculator)
    with pytest.raises(ConfigError, match="SpringOperator was never calibrated"):
        ATOMVerlet(thermal(ethanol.copy()), FS, operator=SpringOperator(ethanol), tolerance=0.1)
    calculator.fails_at = calculator.calls + 1
    with pytest.raises(ConfigError, match="try it on the structure by itself"):
        ATOMLangevin(
            thermal(ethanol.copy()), FS, operator=Judged(ethanol), fallback=calculator, **LANGEVIN
        )


def test_frames_say_what_was_expected_of_their_jump(ethanol, tmp_path) -> None:
    operator = Moody(ethanol)
    dyn = ATOMLangevin(
        thermal(ethanol.copy()),
        FS,
        operator=operator,
        tolerance=0.03,
        fallback=SpringCalculator(SpringOperator(ethanol)),
        trajectory=tmp_path / "run.extxyz",
        **LANGEVIN,
    )
    told = []
    dyn.attach(lambda: told.append(dyn.told), interval=1)
    dyn.run(256)
    frames = read(tmp_path / "run.extxyz", ":")
    assert "expected_error" not in frames[0].info
    assert [frame.info["stride_fs"] for frame in frames[1:]] == [stride for _, stride in told[1:]]
    errors = [frame.info["expected_error"] for frame in frames[1:]]
    np.testing.assert_allclose(errors, [error for error, _ in told[1:]], rtol=1e-6)
    for stride, time in dyn.adaptive.time.items():
        assert sum(each.info["stride_fs"] == stride for each in frames[1:]) == time
    for frame in frames[1:]:
        error, stride = frame.info["expected_error"], frame.info["stride_fs"]
        if stride:
            assert error <= dyn.adaptive.allowed(stride)
        else:
            assert error > dyn.adaptive.allowed(4.0)
