"""Density functional theory along paths: forces, conservation, restarts, bursts made with it."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule as ase_molecule
from ase.calculators.calculator import CalculationFailed
from ase.md.verlet import VelocityVerlet

from ase_atom.errors import ConfigError
from ase_atom.units import velocities_from_ase
from training.data.export import export_bursts
from training.data.molecules import from_smiles
from training.data.store import read_bursts
from training.engines.factory import get_engine
from training.generate import main
from training.generation.campaign import run_campaign
from training.generation.dynamics import Settings, run_burst

pyscf = pytest.importorskip("pyscf")

from training.engines.dft import DensityFunctional  # noqa: E402

SMALL = "pyscf:svwn/sto-3g"
HYDROGEN = {"engine": SMALL, "engine_options": '{"grid_level": 0}', "thermal_engine": "gfn2"}
SHORT = {"thermalise": 10.0, "relax_steps": 5, "temperatures": (300.0,)}


def bent_water() -> Atoms:
    """Return water without any symmetry."""
    return Atoms("OHH", [[0.0, 0.0, 0.1], [0.0, 0.8, 0.55], [0.1, -0.75, 0.65]])


def moved(atoms: Atoms, step: float) -> Atoms:
    """Return the atoms displaced along a fixed random direction of unit length."""
    direction = np.random.default_rng(1).standard_normal((len(atoms), 3))
    copy = atoms.copy()
    copy.positions += step * direction / np.linalg.norm(direction)
    return copy


@pytest.mark.parametrize("functional", ["svwn", "pbe", "tpss", "pbe0", "camb3lyp", "hf"])
def test_forces_are_the_gradient_of_the_energy(functional: str) -> None:
    """Also on the coarsest grid, where the motion of points and weights matters most."""
    calculator = DensityFunctional(functional, "sto-3g", grid_level=0, tolerance=1e-8)
    energies = []
    for step in (-2e-3, 2e-3, 0.0):
        atoms = moved(bent_water(), step)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    forces = atoms.get_forces()
    direction = moved(bent_water(), 1.0).positions - bent_water().positions
    slope = -(energies[1] - energies[0]) / 4e-3
    assert abs(slope) > 0.05
    assert (forces * direction).sum() == pytest.approx(slope, abs=2e-4)
    assert np.abs(forces.sum(0)).max() < 1e-7


def test_heavy_atoms_have_core_potentials() -> None:
    calculator = DensityFunctional("pbe", "def2-svp", grid_level=0, tolerance=1e-8)
    energies = []
    for distance in (1.748, 1.752, 1.75):
        atoms = Atoms("HI", [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert calculator._field.molecule.nelectron == 1 + 25
    slope = -(energies[1] - energies[0]) / 4e-3
    assert atoms.get_forces()[1, 2] == pytest.approx(slope, abs=1e-3)
    assert abs(slope) > 0.5


@pytest.mark.parametrize(
    ("functional", "basis", "level", "atoms"),
    [
        ("pbe", "def2-svp", 1, bent_water()),
        ("hse06", "def2-svp", 0, bent_water()),
        ("b97m_v", "sto-3g", 0, ase_molecule("H2")),
    ],
)
def test_it_agrees_with_plain_pyscf(functional: str, basis: str, level: int, atoms: Atoms) -> None:
    """On the same grids and auxiliary basis, by PySCF's own iterations and gradients."""
    from pyscf import dft, gto

    atoms.calc = DensityFunctional(functional, basis, grid_level=level, tolerance=1e-8)
    molecule = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions * units.Angstrom / units.Bohr, strict=True)),
        basis=basis,
        unit="Bohr",
        verbose=0,
    )
    energy = atoms.get_potential_energy()
    field = dft.RKS(molecule, xc=functional).density_fit()
    field.nlcgrids.level = level
    for name in ("atom_grid", "radi_method"):
        setattr(field.grids, name, getattr(atoms.calc._field._full, name))
    field.conv_tol = 1e-11
    field.kernel()
    gradient = field.nuc_grad_method()
    gradient.grid_response = True
    forces = -gradient.kernel() * units.Hartree / units.Bohr
    assert energy == pytest.approx(field.e_tot * units.Hartree, abs=1e-7)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5)


def test_earlier_places_save_iterations_and_change_nothing() -> None:
    calculator = DensityFunctional("pbe", "6-31g", grid_level=1)
    fresh, along = [], []
    for step in np.linspace(0.0, 0.06, 7):
        atoms = moved(bent_water(), step)
        atoms.calc = calculator
        forces = atoms.get_forces()
        along.append(list(calculator._field.residuals))
        atoms.calc = DensityFunctional("pbe", "6-31g", grid_level=1)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-4)
        fresh.append(list(atoms.calc._field.residuals))
    assert len(along[-1]) <= 2
    assert along[-1][0] < 1e-2 * along[1][0]
    assert len(fresh[-1]) > 2


def test_it_goes_on_after_a_leap_and_with_other_atoms() -> None:
    calculator = DensityFunctional("pbe", "6-31g", grid_level=0)
    leaps = [bent_water(), moved(bent_water(), 0.02), moved(bent_water(), 0.9)]
    for atoms in [*leaps, ase_molecule("H2"), bent_water()]:
        atoms.calc = calculator
        energy = atoms.get_potential_energy()
        atoms.calc = DensityFunctional("pbe", "6-31g", grid_level=0)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_dynamics_conserves_energy() -> None:
    """Velocity Verlet errs by the square of the time step; forces that were wrong would not."""
    errors = []
    for timestep, steps in ((0.5, 16), (0.25, 32)):
        atoms = bent_water()
        atoms.set_momenta(0.5 * moved(atoms, 1.0).positions - 0.5 * atoms.positions)
        atoms.calc = DensityFunctional("pbe", "sto-3g", grid_level=0)
        dynamics = VelocityVerlet(atoms, timestep * units.fs)
        total = []
        dynamics.attach(lambda atoms=atoms, to=total: to.append(atoms.get_total_energy()))
        dynamics.run(steps)
        errors.append(np.ptp(total))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] < 0.01


def test_a_field_that_does_not_converge_is_reported() -> None:
    atoms = ase_molecule("H2")
    atoms.calc = DensityFunctional("svwn", "sto-3g", grid_level=0, tolerance=1e-200)
    with pytest.raises(CalculationFailed, match="did not converge"):
        atoms.get_potential_energy()


def test_a_burst_without_convergence_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = json.dumps({"grid_level": 0, "tolerance": 1e-200})
    arguments = ["--smiles", "[H][H]", "--engine", SMALL, "--engine-options", options]
    assert main([*arguments, "--bursts", "1", "--workers", "1", "--data", str(tmp_path)]) == 1
    assert "failed: H2/00000: CalculationFailed: the self-consistent field did not converge" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("pyscf:pbe", {}, "should be pyscf:"),
        ("pyscf:no-such/sto-3g", {}, "does not start"),
        ("pyscf:pbe/no-such", {}, "does not start"),
        (SMALL, {"grid_level": 12}, "grid_level 12 should be 0 to 9"),
        (SMALL, {"tolerance": 0}, "tolerance 0 should be"),
        (SMALL, {"auxbasis": "no-such"}, "does not start"),
        (SMALL, {"level": 2}, "unexpected keyword argument 'level'"),
    ],
)
def test_engines_that_cannot_be(engine: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_engine(engine, json.dumps(options))


def test_the_theory_names_what_was_left_to_default() -> None:
    theory = get_engine(SMALL, '{"tolerance": 1e-7}').theory
    assert theory.startswith("svwn/sto-3g, density fitting, grid_level=2, tolerance=1e-07 (PySCF ")


def test_another_engine_thermalises(tmp_path: Path) -> None:
    """Starts are those of the cheaper engine, to the last bit; the rest is the engine's own."""
    molecule = from_smiles("[H][H]", "hydrogen")
    burst = run_burst(molecule, 0, Settings(**HYDROGEN, **SHORT, duration=5.0))
    cheap = run_burst(molecule, 0, Settings(**SHORT, duration=5.0))
    np.testing.assert_array_equal(burst.positions[0], cheap.positions[0])
    np.testing.assert_array_equal(burst.velocities[0], cheap.velocities[0])
    assert np.abs(burst.positions[-1] - cheap.positions[-1]).max() > 1e-3
    assert burst.attrs["thermal_theory"] == cheap.attrs["theory"]
    atoms = Atoms(burst.numbers, burst.positions[-1])
    atoms.calc = DensityFunctional("svwn", "sto-3g", grid_level=0)
    np.testing.assert_allclose(burst.forces[-1], atoms.get_forces(), atol=1e-5)
    assert burst.energies[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)

    settled = run_burst(molecule, 0, Settings(**HYDROGEN, **SHORT, duration=5.0, settle=5.0))
    assert np.abs(settled.positions[0] - burst.positions[0]).max() > 1e-3
    with pytest.raises(ValueError, match="settle is for after another thermal_engine"):
        Settings(settle=5.0)

    settings = Settings(**HYDROGEN, **SHORT, duration=5.0)
    run_campaign(tmp_path, [molecule], settings, 1, 1, lambda *_: None)
    other = settings.model_copy(update={"thermal_engine": None})
    with pytest.raises(ConfigError, match="thermal_engine was 'gfn2' and is now None"):
        run_campaign(tmp_path, [molecule], other, 1, 1, lambda *_: None)


def test_exported_frames_tell_their_whole_origin(tmp_path: Path) -> None:
    molecule = from_smiles("[H][H]", "hydrogen")
    settings = Settings(**HYDROGEN, **SHORT, duration=4.0)
    run_campaign(tmp_path, [molecule], settings, 1, 1, lambda *_: None)
    burst = read_bursts(tmp_path / "hydrogen.h5")[0]
    assert export_bursts(tmp_path / "hydrogen.h5", tmp_path / "out.xyz", "extxyz") == 5
    frames = ase.io.read(tmp_path / "out.xyz", ":")
    for number, atoms in enumerate(frames):
        assert atoms.info["time_fs"] == number
        assert atoms.get_potential_energy() == pytest.approx(burst.energies[number], abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), burst.forces[number], atol=1e-7)
        np.testing.assert_allclose(
            velocities_from_ase(atoms.get_velocities()), burst.velocities[number], atol=1e-8
        )
    info = frames[-1].info
    assert info["burst"] == "hydrogen/00000"
    assert info["seed"] == burst.seed
    assert info["engine"] == SMALL
    assert info["engine_options"] == '{"grid_level": 0}' or info["engine_options"] == {
        "grid_level": 0
    }
    for name in ("theory", "thermal_theory", "program", "version", "ase_version", "ensemble"):
        assert info[name] == burst.attrs[name]
    assert info["timestep_fs"] == 0.5
