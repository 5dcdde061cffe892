"""Power spectra by normal mode: each mode has its own line, wherever the molecule turns."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet

from ase_atom.analysis import Trajectory
from ase_atom.analysis.modes import mode_spectra
from ase_atom.analysis.molecule.minima import modes_at, relax
from ase_atom.cli import main
from ase_atom.errors import DataError
from ase_atom.units import velocities_from_ase, velocities_to_ase

SPRINGS = ((0, 1, 0.96, 40.0), (0, 2, 0.96, 40.0), (1, 2, 1.52, 8.0))  # Å, eV/Å²
STEPS = 2000


class Springs(Calculator):
    """Water of three springs."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, energy, forces = self.atoms.positions, 0.0, np.zeros((3, 3))
        for i, j, length, stiffness in SPRINGS:
            apart = x[i] - x[j]
            distance = np.linalg.norm(apart)
            energy += 0.5 * stiffness * (distance - length) ** 2
            pull = -stiffness * (distance - length) * apart / distance
            forces[i] += pull
            forces[j] -= pull
        self.results = {"energy": energy, "forces": forces}


class Slope(Calculator):
    """A potential that nothing relaxes in."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.tile([1.0, 0.0, -1.0], (3, 1))}


@pytest.fixture(scope="module")
def water() -> Atoms:
    start = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    return relax(start, Springs())


@pytest.fixture(scope="module")
def run(water: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return a tumbling, drifting, vibrating run: small amplitudes, so lines are harmonic."""
    atoms = water.copy()
    atoms.calc = Springs()
    random = np.random.default_rng(1)
    velocities = 2e-3 * random.normal(size=(3, 3)) / np.sqrt(atoms.get_masses()[:, None])
    velocities += np.cross([1e-3, 2e-3, -1e-3], atoms.positions - atoms.get_center_of_mass())
    atoms.set_velocities(velocities_to_ase(velocities + [1e-3, 0, 0]))
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    x, v = [], []
    for _ in range(STEPS):
        x.append(atoms.positions.copy())
        v.append(velocities_from_ase(atoms.get_velocities()))
        dynamics.run(4)
    return np.array(x), np.array(v)


@pytest.mark.parametrize("moving", [True, False])
def test_each_mode_has_its_harmonic_line(water: Atoms, run, moving: bool) -> None:
    x, v = run
    loaded = Trajectory.from_arrays(water.numbers, x, v if moving else None, np.arange(STEPS))
    found = mode_spectra(loaded, Springs())
    np.testing.assert_allclose(found.harmonic, modes_at(water).wavenumbers, atol=1.0)
    assert (found.minima, found.visited) == (1, 1.0)
    for mode, (harmonic, band) in enumerate(zip(found.harmonic, found.bands, strict=True)):
        assert band is not None
        assert band.position == pytest.approx(harmonic, abs=found.resolution / 4)
        near = np.abs(found.wavenumbers - harmonic) < 2 * found.resolution
        assert found.powers[mode, near].sum() > 0.9 * found.powers[mode].sum()


@pytest.mark.parametrize("change", [[0, 2, 1], -1.0])
def test_labels_and_mirrors_make_no_difference(water: Atoms, run, change) -> None:
    times = np.arange(STEPS)
    plain = mode_spectra(Trajectory.from_arrays(water.numbers, *run, times), Springs())
    other = [change * s if change == -1.0 else s[:, change] for s in run]
    found = mode_spectra(Trajectory.from_arrays(water.numbers, *other, times), Springs())
    np.testing.assert_allclose(found.powers, plain.powers, atol=1e-5)


def test_without_a_minimum_there_are_no_modes(water: Atoms, run) -> None:
    loaded = Trajectory.from_arrays(water.numbers, *run, np.arange(STEPS), name="water")
    with pytest.raises(DataError, match="no frame of water relaxes to a minimum"):
        mode_spectra(loaded, Slope())


def test_modes_from_the_command_line(water: Atoms, run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    x, v = run
    np.savez("water.npz", numbers=water.numbers, positions=x, velocities=v, times=np.arange(STEPS))
    words = ["spectrum", "water.npz", "--modes", f"{__name__}:Springs"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    for mode in facts["modes"]:
        assert mode["band_cm-1"] == pytest.approx(mode["harmonic_cm-1"], abs=10)
    header = (tmp_path / "water-modes.csv").read_text().splitlines()[0].split(",")
    assert len(header) == 4
    assert (tmp_path / "water-modes.png").stat().st_size > 1000
    for wrong, said in (("nothing", "nothing"), ("ethanol-paper", "ethanol-paper")):
        assert main([*words[:3], wrong, "--overwrite"]) == 2
        assert said in capsys.readouterr().err
    assert main([*words, "--dipoles", "gfn2", "--overwrite"]) == 2
