"""Andersen's thermostat: collisions against their exact statistics, and in every front end."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase_dynamics import FS, thermal
from springs import SpringOperator

from ase_atom import Andersen, ATOMPropagator, propagate_replicas
from ase_atom.cli import main
from ase_atom.cli.options import ensemble_files
from ase_atom.errors import ConfigError
from ase_atom.propagation import Propagator, sample_velocities, torch_noise
from ase_atom.propagation.ensembles import ensembles
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

ETHANOL = str(Path(__file__).parents[2] / "examples" / "ethanol.xyz")


def canonical(atoms, copies, fixed=True):
    state = PhaseState.from_atoms(atoms).repeat(copies)
    return sample_velocities(state, 300.0, torch.Generator().manual_seed(0), fix_com=fixed)


def test_atoms_collide_as_often_as_said_and_others_keep_their_velocity():
    state = canonical(molecule("H2O"), 20_000, fixed=False)
    after = Andersen(300.0, 0.02, fix_com=False).thermalise(state, 30.0, torch_noise(1))
    hit = (after.velocities != state.velocities).any(dim=2)
    assert torch.equal(hit, (after.velocities != state.velocities).all(dim=2))  # whole atoms
    chance = 1 - math.exp(-0.6)
    error = math.sqrt(chance * (1 - chance) / hit.numel())
    assert float(hit.double().mean()) == pytest.approx(chance, abs=4 * error)
    both = (hit[:, 0] & hit[:, 1]).double().mean()  # atoms by themselves
    assert float(both) == pytest.approx(chance**2, abs=0.015)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("rate", [0.001, 0.03, 0.5])
def test_collisions_keep_the_canonical_velocities_of_each_atom(rate, fixed):
    """With a fixed centre of mass the variance is (1 - m/M) k_B T / m; drift taken out afterwards
    alone would leave less."""
    state = canonical(molecule("H2O"), 20_000, fixed)
    ensemble, noise = Andersen(300.0, rate, fix_com=fixed), torch_noise(2)
    for _ in range(10):
        state = ensemble.thermalise(state, 30.0, noise)
    masses = state.masses[0]
    share = 1 - masses / masses.sum() if fixed else torch.ones(3)
    expected = share * KB * 300.0 / (AMU_A2_FS2_IN_EV * masses)
    found = state.velocities.square().mean(dim=(0, 2))
    torch.testing.assert_close(found, expected.double(), rtol=0.025, atol=0)
    assert (float(state.linear_momentum().abs().max()) < 1e-12) == fixed


@pytest.mark.parametrize(("fixed", "dof"), [(True, 6), (False, 9)])
def test_andersen_samples_the_canonical_distribution(fixed, dof):
    atoms = molecule("H2O")
    operator = SpringOperator(atoms)
    ensemble = Andersen(300.0, 0.03, fix_com=fixed, energy_correction=False)
    start = canonical(atoms, 600, fixed)
    propagator = Propagator(operator, start, ensemble, 16.0, seed=2)
    kelvin, potential = [], []
    for frames in propagator.run(2400.0):
        if float(frames.times[-1]) > 400.0:
            kelvin.append(ensemble.temperature(frames.state(-1)))
            potential.append(operator.energy(frames.state(-1)).mean())
    kelvin = torch.stack(kelvin)
    assert float(kelvin.mean()) == pytest.approx(300.0, rel=0.01)
    assert float(kelvin.std()) == pytest.approx(300.0 * math.sqrt(2 / dof), rel=0.03)
    assert float(torch.stack(potential).mean()) == pytest.approx(3 * KB * 300.0, rel=0.02)


def test_the_energy_relaxes_in_the_time_that_is_said():
    """Of vibrations that start at 600 K beside a thermostat of 300 K."""
    atoms = molecule("H2O")
    operator = SpringOperator(atoms, stiffness=30.0)
    state = canonical(atoms, 2000)
    state = state.replace(velocities=2.0 * state.velocities)
    ensemble = Andersen(300.0, 0.005, energy_correction=False)
    total = [
        float((now.kinetic_energy() + operator.energy(now)).mean())
        for frames in Propagator(operator, state, ensemble, 8.0, seed=3).run(800.0)
        for now in [frames.state(-1)]
    ]
    rest = 6 * KB * 300.0
    measured = -800.0 / math.log((total[-1] - rest) / (float(state.kinetic_energy().mean()) - rest))
    assert measured == pytest.approx(ensemble.relaxation_time, rel=0.15)


def test_padding_never_collides():
    state = PhaseState.from_atoms([molecule("CH3CH2OH"), molecule("H2O")])
    state = Andersen(300.0, 0.5).thermalise(state, 100.0, torch_noise(0))
    assert float(state.velocities[1, 3:].abs().max()) == 0.0
    assert bool(torch.isfinite(state.velocities).all())


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, 10.0])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ConfigError, match=r"collision_rate (must be above 0|cannot be 10) 1/fs"):
        Andersen(collision_rate=rate)


# -- front ends --------------------------------------------------------------------------------


def test_help_names_every_ensemble_of_the_package():
    own = {e.name for e in ensembles().values() if e.__module__.startswith("ase_atom.")}
    assert own <= set(ensemble_files())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"collision_rat": 0.1}, "no ensemble has a setting 'collision_rat': did you mean"),
        ({"collision_rate": "often"}, "collision_rate is a number in ASE's units"),
        ({"collision_rate": 1e9}, "collision_rate cannot be"),
        (0.1, "settings are values by name, not 0.1"),
    ],
)
def test_settings_in_ase_that_make_no_ensemble_are_refused(ethanol, springs, settings, message):
    with pytest.raises(ConfigError, match=message):
        ATOMPropagator(thermal(ethanol), FS, operator=springs, temperature_K=300, settings=settings)


def test_ase_has_it_by_its_setting_and_goes_on_by_a_restart_file(ethanol, springs, tmp_path):
    def dynamics(atoms, **more):
        return ATOMPropagator(
            atoms, FS, operator=springs, stride=8 * FS, temperature_K=300,
            settings={"collision_rate": 0.02 / FS}, seed=1, **more,
        )  # fmt: skip

    whole, parts = thermal(ethanol.copy()), thermal(ethanol.copy())
    made = dynamics(whole)
    assert made.ensemble == Andersen(300.0, made.ensemble.collision_rate)
    assert made.ensemble.collision_rate == pytest.approx(0.02)
    with pytest.raises(ConfigError, match="Andersen's dynamics have no friction"):
        made.set_friction(0.1)
    made.run(48)
    for steps in (20, 28):
        dynamics(parts, restart=tmp_path / "a.restart").run(steps)
    np.testing.assert_array_equal(whole.positions, parts.positions)
    atoms = thermal(ethanol.copy())
    settings = {"friction": 0.02 / FS}
    with pytest.raises(ConfigError, match="friction is given twice"):
        propagate_replicas(
            [atoms], FS, 8, operator=springs, temperature_K=300, friction=1.0, settings=settings
        )


def test_openmm_has_it_by_its_setting():
    unit = pytest.importorskip("openmm.unit")
    from ase_atom.openmm.quantities import settings_of

    rate = {"collision_rate": 20 / unit.picosecond}
    settings = settings_of(300 * unit.kelvin, None, None, rate, None, None, True, None)
    made = settings.ensemble()
    assert made == Andersen(300.0, made.collision_rate)
    assert made.collision_rate == pytest.approx(0.02)


def test_the_command_line_runs_and_resumes_it(tmp_path, capsys):
    def run(*words: str) -> str:
        assert main(["run", *words]) == 0
        return capsys.readouterr().err

    common = ("--ensemble", "andersen", "--setting", "collision_rate=20", "--no-equilibration")
    whole, parts, kept = (str(tmp_path / n) for n in ("whole.dcd", "parts.dcd", "run.restart"))
    said = run(ETHANOL, "-o", whole, "--time", "160fs", *common)
    assert "Andersen at 300 K and 20 per ps" in said
    run(ETHANOL, "-o", parts, "--time", "64fs", "--restart", kept, *common)
    run("--resume", kept, "--time", "160fs")
    assert Path(whole).read_bytes() == Path(parts).read_bytes()
