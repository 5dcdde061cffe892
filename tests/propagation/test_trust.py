"""Jumps that say how far they can be believed, and what a run does about it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from conftest import make_card, make_operator
from judged import PLAIN, Breaks, Judged, SpringCalculator
from springs import SpringOperator

from ase_atom.ase.replicas import propagate_replicas
from ase_atom.cli import main
from ase_atom.errors import ConfigError, FallbackError, TrustError
from ase_atom.operator import save_operator
from ase_atom.operator.trust import round_trip
from ase_atom.propagation import (
    NVE,
    Adaptive,
    Bussi,
    Expectation,
    Fallback,
    Langevin,
    Propagator,
    TrustWarning,
    expect,
    look_ahead,
    sample_velocities,
)
from ase_atom.propagation.expectation import percent
from ase_atom.state import PhaseState


@pytest.fixture
def state(ethanol: Atoms) -> PhaseState:
    start = PhaseState.from_atoms(ethanol).repeat(2)
    return sample_velocities(start, 300.0, torch.Generator().manual_seed(1))


def frames(propagator: Propagator, time: float) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(propagator.run(time))
    return torch.cat([each.times for each in parts]), torch.cat(
        [each.positions for each in parts], dim=1
    )


# -- the round trip --------------------------------------------------------------------------------


def test_exact_dynamics_come_back_and_an_error_does_not(ethanol, state) -> None:
    exact = round_trip(SpringOperator(ethanol), state, 16.0).features
    assert float(exact[:, :3].max()) < 1e-9
    found = [
        round_trip(SpringOperator(ethanol, heating=heating), state, 16.0).features
        for heating in (0.0005, 0.001, 0.002)
    ]
    for column in (0, 1, 2):
        assert bool((found[0][:, column] < found[1][:, column]).all())
        assert bool((found[1][:, column] < found[2][:, column]).all())


def test_a_drift_and_a_place_change_nothing(ethanol, state) -> None:
    operator = make_operator()
    moved = state.replace(
        positions=state.positions + torch.tensor([5.0, -2.0, 1.0], dtype=torch.float64),
        velocities=state.velocities + torch.tensor([0.01, 0.0, 0.02], dtype=torch.float64),
    )
    here, there = (round_trip(operator, each, 16.0).features for each in (state, moved))
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-5)


def test_an_estimate_rises_with_every_feature_and_has_no_number_for_none() -> None:
    calibration = PLAIN.model_copy(update={"weights": (0.6, 0.2, 0.1, 0.05), "offset": -0.5})
    features = torch.rand((50, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = calibration.error(features)
    for column in range(4):
        higher = features.clone()
        higher[:, column] *= 2
        assert bool((calibration.error(higher) > low).all())
    assert calibration.error(torch.tensor([0.1, float("nan"), 0.1, 0.1])).item() == float("inf")


def test_an_operator_knows_its_error_by_its_card_alone(state) -> None:
    operator = make_operator()
    assert operator.error_estimate is None
    assert expect(operator, state, 16.0, 300.0) == []
    operator.card = make_card(calibration=PLAIN)
    found = operator.error_estimate(state, 16.0)
    torch.testing.assert_close(found, round_trip(operator, state, 16.0).features[:, 0])
    assert PLAIN.usual(14.0) == (0.03, 0.06)


# -- before a run ----------------------------------------------------------------------------------


def test_the_line_before_a_run() -> None:
    line = str(Expectation("some", 16.0, 0.05, (0.03, 0.06), several=True))
    assert line == "expected error of a 16 fs jump: 5 % (trained molecules: 3 to 6 %)"
    assert [percent(each) for each in (0.0071, 0.153, 1.1)] == ["0.7 %", "15 %", "110 %"]


def test_a_run_beyond_depth_is_refused_unless_accepted(state) -> None:
    operator = make_operator()
    operator.card = make_card(calibration=PLAIN.model_copy(update={"offset": 5.0}))
    with pytest.raises(TrustError, match=r"out of the depth of tiny: expected error .* 16 fs jump"):
        look_ahead(operator, state, NVE(), 16.0)
    with pytest.warns(TrustWarning, match="expected error of a 16 fs jump"):
        look_ahead(operator, state, Langevin(300.0, 0.01), 16.0, accept_error=True)


def test_the_command_line_refuses_and_goes_on_if_told(tmp_path, ethanol, capsys) -> None:
    operator = make_operator(strength=0.003)  # coasts at 1 K
    harsh = PLAIN.model_copy(update={"offset": 20.0})
    operator.card = make_card(calibration=harsh)
    file = save_operator(operator, tmp_path / "tiny.safetensors")
    ethanol.write(tmp_path / "ethanol.xyz")
    common = ["run", tmp_path / "ethanol.xyz", "-o", tmp_path / "o.dcd", "--operator", file]
    common += ["--temperature", 1, "--time", "16fs", "--uncorrected", "--no-equilibration"]
    assert main([str(each) for each in common]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is out of the depth of tiny: expected error of a 16 fs jump" in line
    assert "--accept-error goes on" in line
    assert not (tmp_path / "o.dcd").exists()
    assert main([str(each) for each in [*common, "--accept-error"]]) == 0
    assert "warning: expected error of a 16 fs jump" in capsys.readouterr().err


def test_log_and_frames_say_what_was_expected_also_of_a_resumed_run(
    tmp_path, ethanol, capsys
) -> None:
    operator = make_operator(strength=0.003)
    operator.card = make_card(calibration=PLAIN)
    file = save_operator(operator, tmp_path / "tiny.safetensors")
    ethanol.write(tmp_path / "ethanol.xyz")
    out, log = tmp_path / "o.extxyz", tmp_path / "o.csv"
    common = ["run", tmp_path / "ethanol.xyz", "-o", out, "--operator", file, "--log", log]
    common += ["--temperature", 1, "--uncorrected", "--no-equilibration", "--accept-error"]
    common += ["--tolerance", 1, "--stride", "16fs", "--frame-interval", "4fs"]
    common += ["--restart", tmp_path / "o.restart", "--time", "24fs"]
    assert main([str(each) for each in common]) == 0
    assert main(["run", "--resume", str(tmp_path / "o.restart"), "--time", "48fs"]) == 0
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    frames = read(out, ":")
    assert len(rows) == len(frames) == 13
    assert rows[0]["expected_error"] == rows[0]["stride_fs"] == ""
    for row, frame in zip(rows[1:], frames[1:], strict=True):
        assert float(row["stride_fs"]) == frame.info["stride_fs"]
        assert float(row["expected_error"]) == pytest.approx(frame.info["expected_error"], rel=1e-3)
    assert "strides: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tolerance", "0"], "--tolerance must be above 0 and at most 1, not 0"),
        (["--tolerance", "1.5"], "--tolerance must be above 0 and at most 1, not 1.5"),
        (["--fallback", "nonsense"], "unknown --fallback 'nonsense'"),
        (["--fallback", "gfn2", "--ensemble", "nve"], "--fallback goes with a thermostat"),
        (["--tolerance", "0.1"], "tiny was never calibrated"),
    ],
)
def test_bad_tolerances_and_fallbacks_are_one_line(go, out, options, said) -> None:
    code, text, lines = go(*options)
    assert (code, text) == (2, "")
    assert said in lines[-1]
    assert not list(out.iterdir())


# -- strides that are divided ----------------------------------------------------------------------


def test_exact_jumps_stay_whole_and_are_those_of_a_plain_run(ethanol, state) -> None:
    ensemble = NVE(energy_correction=False, reversible=False)
    adaptive = Adaptive(0.05)
    divided = Propagator(Judged(ethanol), state, ensemble, 64.0, 8.0, adaptive=adaptive)
    plain = Propagator(Judged(ethanol), state, ensemble, 64.0, 8.0)
    times, positions = frames(divided, 192.0)
    expected_times, expected = frames(plain, 192.0)
    torch.testing.assert_close(times, expected_times)
    torch.testing.assert_close(positions, expected, rtol=0, atol=1e-9)
    assert dict(adaptive.time) == {64.0: 2 * 192.0}


def test_a_stride_is_as_long_as_its_error_allows(ethanol, state) -> None:
    operator = Judged(ethanol, heating=0.004)
    adaptive = Adaptive(0.05)
    run = Propagator(operator, state, Langevin(300.0, 0.01), 64.0, 10.0, adaptive=adaptive)
    times, positions = frames(run, 640.0)
    assert times.tolist() == [10.0 * n for n in range(65)]
    assert bool(torch.isfinite(positions).all())
    assert set(adaptive.time) <= {4.0, 8.0, 16.0, 32.0}
    assert sum(adaptive.time.values()) == 2 * 640.0
    longest = max(adaptive.time)
    assert float(operator.error_estimate(state, longest).max()) < 0.05 * 2
    assert float(operator.error_estimate(state, 4 * longest).max()) > 0.05
    assert adaptive.exceeded == 0.0
    assert f"{longest:g} fs" in adaptive.sentence()


def test_the_times_do_not_depend_on_how_a_run_is_cut_or_resumed(ethanol, state) -> None:
    def made(seed: int) -> Propagator:
        operator = Judged(ethanol, heating=0.004)
        return Propagator(
            operator, state, Bussi(300.0, 100.0), 64.0, 16.0, seed, adaptive=Adaptive(0.04)
        )

    _, whole = frames(made(3), 512.0)
    cut = made(3)
    _, first = frames(cut, 112.0)
    resumed = made(0)
    resumed.load_state_dict(cut.state_dict())
    _, second = frames(resumed, 400.0)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="tolerance was Adaptive"):
        Propagator(
            Judged(ethanol, heating=0.004), state, Bussi(300.0, 100.0), 64.0, 16.0
        ).load_state_dict(cut.state_dict())


def test_forces_take_over_where_no_jump_is_good_enough(ethanol, state) -> None:
    exact = SpringOperator(ethanol)
    fallback = Fallback(SpringCalculator(exact))
    adaptive = Adaptive(0.05, fallback)
    ensemble = Langevin(300.0, 0.02)
    hopeless = Judged(ethanol, heating=1.0)
    run = Propagator(hopeless, state, ensemble, 16.0, 6.0, seed=5, adaptive=adaptive)
    _, found = frames(run, 64.0)
    _, expected = frames(Propagator(exact, state, ensemble, 16.0, 6.0, seed=5), 64.0)
    assert float((found - expected).abs().max()) < 0.02  # of Verlet steps of half a femtosecond
    assert adaptive.time[0.0] == 2 * 64.0
    assert fallback.calls >= 2 * 2 * 64
    assert "SpringCalculator: 100 % of the time" in adaptive.sentence()


def test_a_batch_is_divided_between_jumps_and_forces(ethanol, state) -> None:
    exact = SpringOperator(ethanol)

    class Half(Judged):
        """Is trusted with molecules that are close to its reference's place."""

        @property
        def error_estimate(self):
            return lambda state, stride: (state.positions.mean((1, 2)) > 50).double()

    away = state.positions + torch.tensor([0.0, 100.0])[:, None, None]
    apart = state.replace(positions=away)
    adaptive = Adaptive(0.05, Fallback(SpringCalculator(exact)))
    ensemble = Langevin(300.0, 0.02)
    run = Propagator(Half(ethanol), apart, ensemble, 16.0, 16.0, seed=5, adaptive=adaptive)
    _, found = frames(run, 64.0)
    _, expected = frames(Propagator(exact, apart, ensemble, 16.0, 16.0, seed=5), 64.0)
    assert float((found[0] - expected[0]).abs().max()) < 1e-9
    assert float((found[1] - expected[1]).abs().max()) < 0.03
    assert adaptive.time == {16.0: 64.0, 0.0: 64.0}


def test_a_molecule_goes_back_to_jumps_when_the_usual_one_is_good_again(ethanol, state) -> None:
    class Fickle(Judged):
        """Trusts short jumps always, and those of 16 fs from the second hundred fs on."""

        asked = 0

        @property
        def error_estimate(self):
            def estimate(state, stride):
                self.asked += 1
                bad = self.asked < 20 and (stride > 4 or self.asked < 6)
                return torch.full((state.batch_size,), 1.0 if bad else 0.001)

            return estimate

    adaptive = Adaptive(0.05, Fallback(SpringCalculator(SpringOperator(ethanol))))
    run = Propagator(Fickle(ethanol), state, Langevin(300.0, 0.02), 64.0, 16.0, adaptive=adaptive)
    frames(run, 640.0)
    # Jumps of 4 fs would have been allowed all the time.
    assert adaptive.time[0.0] >= 2 * 14 * 16.0
    assert adaptive.time[4.0] == 0
    assert sum(adaptive.time.values()) == 2 * 640.0


def test_a_fallback_that_fails_stops_the_run_with_its_frames(ethanol, state) -> None:
    calculator = SpringCalculator(SpringOperator(ethanol), fails_at=200)
    adaptive = Adaptive(0.05, Fallback(calculator, "springs"))
    hopeless = Judged(ethanol, heating=1.0)
    run = Propagator(hopeless, state, Langevin(300.0, 0.02), 16.0, adaptive=adaptive)
    given = []
    with pytest.raises(FallbackError, match=r"springs failed \(the self-consistent field did not"):
        for part in run.run(1000.0):
            given += part.times.tolist()
    assert given == [0.0, 16.0, 32.0, 48.0]


@pytest.mark.parametrize(("stride", "interval"), [(64.0, 4.0), (64.0, 0.5), (16.0, 3.0)])
def test_frames_before_a_failure_are_given_wherever_in_a_stride_it_is(
    ethanol, state, stride, interval
) -> None:
    def given(fails_at: int | None) -> tuple[list[float], torch.Tensor]:
        calculator = SpringCalculator(SpringOperator(ethanol), fails_at=fails_at)
        adaptive = Adaptive(0.05, Fallback(calculator))
        run = Propagator(
            Judged(ethanol, heating=1.0),
            state,
            Langevin(300.0, 0.02),
            stride,
            interval,
            seed=2,
            adaptive=adaptive,
        )
        parts = []
        try:
            for part in run.run(192.0):
                parts.append(part)
        except FallbackError:
            assert run.has_failed
        times = [time for part in parts for time in part.times.tolist()]
        return times, torch.cat([part.positions for part in parts], dim=1)

    _, whole = given(None)
    times, found = given(226)  # of some 66 for each 16 fs of two molecules
    assert 54.0 - interval < times[-1] <= 55.0
    assert times == [interval * n for n in range(len(times))]
    torch.testing.assert_close(found, whole[:, : len(times)], rtol=0, atol=0)


def test_a_molecule_that_breaks_between_two_frames_has_no_later_one(ethanol, state) -> None:
    adaptive = Adaptive(0.1)  # 0.05 for 4 fs
    ensemble = NVE(energy_correction=False, reversible=False)
    run = Propagator(Breaks(ethanol), state, ensemble, 16.0, drop_broken=True, adaptive=adaptive)
    _, positions = frames(run, 48.0)
    assert adaptive.time == {4.0: 12.0 + 48.0}
    assert [error.time for error in run.broken] == [16.0]
    assert bool(torch.isnan(positions[1, 1:]).all())
    assert bool(torch.isfinite(positions[0]).all())


def test_what_no_fallback_can_be() -> None:
    with pytest.raises(ConfigError, match="object computes no forces"):
        Fallback(object())

    class Energies(Calculator):
        implemented_properties = ("energy",)

    with pytest.raises(ConfigError, match="Energies computes no forces"):
        Fallback(Energies())


@pytest.mark.parametrize("tolerance", [0, -0.1, 1.5, float("nan"), "much"])
def test_what_no_tolerance_can_be(tolerance) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        Adaptive(tolerance)


def test_a_fallback_needs_a_thermostat_and_works_before_anything_starts(ethanol, state) -> None:
    broken = SpringCalculator(SpringOperator(ethanol), fails_at=1)
    with pytest.raises(ConfigError, match="a fallback goes with a thermostat, not with NVE"):
        Propagator(Judged(ethanol), state, NVE(), 16.0, adaptive=Adaptive(0.05, Fallback(broken)))
    with pytest.raises(ConfigError, match="try it on the structure by itself"):
        Propagator(
            Judged(ethanol),
            state,
            Langevin(300.0, 0.01),
            16.0,
            adaptive=Adaptive(0.05, Fallback(broken)),
        )


def test_divided_strides_keep_the_canonical_distribution(ethanol) -> None:
    """Equipartition of an exact system whose strides depend on its state."""
    start = PhaseState.from_atoms(ethanol).repeat(6)
    start = sample_velocities(start, 300.0, torch.Generator().manual_seed(2))

    class Moody(Judged):
        """Exact, and trusts itself less the faster the molecules are."""

        @property
        def error_estimate(self):
            return lambda state, stride: 0.03 * stride / 16 * state.temperature(24.0) / 300.0

    adaptive = Adaptive(0.05)
    run = Propagator(Moody(ethanol), start, Langevin(300.0, 0.05), 64.0, 16.0, adaptive=adaptive)
    kelvin = []
    for part in run.run(8000.0):
        kelvin += part.flat().temperature(24.0).view(6, -1)[:, part.times > 200].flatten().tolist()
    assert len(adaptive.time) > 1
    assert np.mean(kelvin) == pytest.approx(300.0, abs=8.0)


def test_replicas_of_ase_take_a_tolerance_and_a_calculator(ethanol) -> None:
    springs = SpringOperator(ethanol)
    replicas = [ethanol.copy() for _ in range(2)]
    for atoms in replicas:
        atoms.set_velocities(1e-3 * atoms.positions)
    calculator = SpringCalculator(springs)
    settings = {"temperature_K": 300, "friction": 0.01 / units.fs, "seed": 1}
    propagate_replicas(
        replicas,
        0.5 * units.fs,
        64,
        operator=Judged(ethanol, heating=1.0),
        stride=16 * units.fs,
        energy_correction=False,
        fallback=calculator,
        **settings,
    )
    assert calculator.calls >= 2 * 64
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        propagate_replicas(
            replicas, 0.5 * units.fs, 32, operator=springs, tolerance=2.0, **settings
        )
