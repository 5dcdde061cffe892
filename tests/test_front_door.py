"""From a SMILES or a line of Python to a trajectory, and from that to a spectrum."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from conftest import ETHANOL, ROOT

import ase_atom
from ase_atom.analysis import Trajectory
from ase_atom.analysis.measures.spectra import SPEED_OF_LIGHT
from ase_atom.analysis.power import power_spectrum
from ase_atom.ase.conformer import from_smiles
from ase_atom.cli import main
from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.molecules.topology import perceive_bonds, perceive_smiles

BRIEF = ["--time", "64fs", "--equilibration", "32fs"]


# -- SMILES ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "C/C=C/C", "N[C@@H](C)C(=O)O", "[NH4+]"])
def test_a_conformer_is_the_molecule_that_was_asked_for(smiles) -> None:
    atoms = from_smiles(smiles, seed=3)
    charge = atoms.info.get("charge", 0)
    assert charge == smiles.count("+")
    other = from_smiles(smiles, seed=4)
    names = [perceive_smiles(a.numbers, a.positions, charge)[1] for a in (atoms, other)]
    assert names[0] == names[1]
    assert len(perceive_bonds(atoms.numbers, atoms.positions)) >= len(atoms) - 1
    same = from_smiles(smiles, seed=3)
    np.testing.assert_array_equal(atoms.positions, same.positions)


@pytest.mark.parametrize(
    ("smiles", "said"),
    [
        ("C1CC", "no SMILES that RDKit can read"),
        ("", "no SMILES that RDKit can read"),
        ("CCO.O", "holds 2 molecules"),
        ("C*", "atom of no element"),
        ("C" * 100, "302 atoms"),
    ],
)
def test_what_no_conformer_can_be_made_of(smiles, said) -> None:
    with pytest.raises(CoverageError, match=said):
        from_smiles(smiles)


@pytest.mark.parametrize(
    ("molecule", "error", "said"),
    [
        ("C" * 300, CoverageError, "902 atoms"),  # longer than the name of a file can be
        ("nowhere.xyz", ConfigError, "nowhere.xyz: there is no such file"),
        ("CCO.c1ccccc1", CoverageError, "holds 2 molecules"),
    ],
)
def test_a_molecule_is_a_file_or_a_smiles(molecule, error, said) -> None:
    with pytest.raises(error, match=said):
        ase_atom.simulate(molecule)


def test_isotopes_and_open_shells_are_not_lost() -> None:
    assert from_smiles("[2H]O").get_masses().tolist()[0] == pytest.approx(2.014, abs=1e-3)
    assert from_smiles("C[CH2]").info["multiplicity"] == 2


def test_a_run_from_a_smiles_has_its_file_named_by_formula(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--smiles", "CCO", *BRIEF]) == 0
    said = capsys.readouterr()
    assert "expected error of a 16 fs jump" in said.err
    assert "C2H6O.dcd" in said.out
    assert mdtraj.load("C2H6O.dcd", top="C2H6O.pdb").n_frames == 5
    assert main(["run", "--smiles", "CCO", *BRIEF]) == 2  # nothing is overwritten
    assert "C2H6O.dcd" in capsys.readouterr().err


def test_a_run_from_an_sdf_and_the_record_as_json(tmp_path, monkeypatch, capsys) -> None:
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    monkeypatch.chdir(tmp_path)
    molecule = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDistGeom.EmbedMolecule(molecule, 1)
    Chem.MolToMolFile(molecule, "mol.sdf")
    assert main(["run", "mol.sdf", *BRIEF, "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["state"] == "done"
    assert record["trajectories"] == ["mol.dcd"]
    assert said.err == ""
    assert main(["run", "mol.sdf", *BRIEF, "--quiet", "-o", "quiet.dcd"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--smiles", "C1CC"], "'C1CC' is no SMILES that RDKit can read"),
        (["--smiles", "CCO", "--smiles", "OCC"], "--output is missing"),
        ([], "a structure file or --smiles is missing"),
        (["--smiles", "[Na+].[Cl-]", "-o", "o.dcd"], "holds 2 molecules"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path, monkeypatch, capsys, options, said) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


# -- one line of Python ----------------------------------------------------------------------------


def test_simulate_returns_frames_that_can_be_written_and_drawn(tmp_path) -> None:
    found = ase_atom.simulate("CCO", time="160 fs", equilibration="32 fs", seed=4)
    assert len(found) == 11
    assert found.times[-1] == 160.0
    assert found.atoms.get_chemical_formula() == "C2H6O"
    assert found[3].get_potential_energy() == pytest.approx(found.energies[3])
    assert found.expectation is not None
    np.testing.assert_allclose(found.atoms.positions, found.positions[-1])
    file = found.write(tmp_path / "x.dcd")
    np.testing.assert_allclose(
        10 * mdtraj.load(file, top=tmp_path / "x.pdb").xyz, found.positions, atol=1e-4
    )
    found.plot(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5000
    again = ase_atom.simulate("CCO", time="160 fs", equilibration="32 fs", seed=4)
    np.testing.assert_array_equal(found.positions, again.positions)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time": 100}, "time is text with a unit"),
        ({"time": "0 ps"}, "time must be above zero"),
        ({"frame_interval": "soon"}, "frame_interval 'soon' is no time"),
        ({"tolerance": 0}, "tolerance must be above 0"),
        ({"ensemble": "npt"}, "npt"),
        ({"strid": "8 fs"}, "strid"),
    ],
)
def test_what_simulate_refuses(settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        ase_atom.simulate(read(ETHANOL), **settings)


# -- spectra ---------------------------------------------------------------------------------------

LINE = 1500.0  # cm⁻¹


def vibrating(interval: float, frames: int, velocities: bool = True) -> Trajectory:
    """Return a CO molecule whose atoms vibrate at `LINE` against each other."""
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    omega = 2 * np.pi * SPEED_OF_LIGHT * LINE
    times = interval * np.arange(frames)
    swing = np.zeros((2, 3))
    swing[:, 2] = 0.05 / atoms.get_masses() * np.array([1, -1]) * 12
    x = atoms.positions + np.sin(omega * times)[:, None, None] * swing
    v = omega * np.cos(omega * times)[:, None, None] * swing
    return Trajectory.from_arrays(atoms.numbers, x, v if velocities else None, times)


@pytest.mark.parametrize("velocities", [True, False])
def test_a_line_is_where_it_belongs_and_as_wide_as_the_window_says(velocities) -> None:
    found = power_spectrum(vibrating(1.0, 4000, velocities))
    peak = found.wavenumbers[found.total.argmax()]
    assert peak == pytest.approx(LINE, abs=1.5)
    above = found.wavenumbers[found.total > 0.5 * found.total.max()]
    assert np.ptp(above) == pytest.approx(found.resolution, rel=0.1)
    assert found.total.sum() == pytest.approx(1.0, rel=1e-6)
    # Momenta are equal and opposite: the lighter atom has more of the energy.
    carbon, oxygen = (float(found.elements[symbol].sum()) for symbol in "CO")
    assert carbon / oxygen == pytest.approx(15.999 / 12.011, rel=1e-3)
    assert found.source == ("velocities" if velocities else "positions")


def test_frames_too_far_apart_say_where_they_fold() -> None:
    with pytest.raises(DataError, match=r"16 fs apart: wavenumbers above 1042 cm⁻¹ fold onto"):
        power_spectrum(vibrating(16.0, 1000))
    with pytest.raises(
        DataError, match=r"fold onto .* go up to 6000 cm⁻¹; write a frame every 2.7 fs"
    ):
        power_spectrum(vibrating(4.0, 1000), highest=6000.0)
    for interval, highest in ((2.7, 6000.0), (6.4, None)):  # what was advised is taken
        power_spectrum(vibrating(interval, 1000), highest=highest)
    with pytest.raises(DataError, match="too short for a spectrum"):
        power_spectrum(vibrating(1.0, 100))
    with pytest.raises(ConfigError, match="the window must be 200 fs to the 999 fs"):
        power_spectrum(vibrating(1.0, 1000), window=5000.0)


def test_a_spectrum_from_the_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    made = vibrating(2.0, 2000)
    run = made.segments[0]
    np.savez(
        "co.npz",
        numbers=made.numbers,
        positions=run.positions,
        velocities=run.velocities,
        times=run.times,
    )
    (tmp_path / "co.json").write_text('{"ensemble": "Langevin(temperature_K=300, friction=0.01)"}')
    assert main(["spectrum", "co.npz"]) == 0
    text = capsys.readouterr().out
    assert "10/ps, which broadens lines by 53 cm⁻¹" in text
    with open("co-spectrum.csv") as file:
        rows = list(csv.DictReader(file))
    power = [float(row["total_cm"]) for row in rows]
    assert float(rows[int(np.argmax(power))]["wavenumber_cm-1"]) == pytest.approx(LINE, abs=3)
    assert main(["spectrum", "co.npz"]) == 2
    assert "co-spectrum.png" in capsys.readouterr().err
    assert main(["spectrum", "co.npz", "-o", "x.gif"]) == 2
    assert ".png" in capsys.readouterr().err


# -- estimates, and the extra [training] -----------------------------------------------------------


def test_estimates_as_a_table_and_as_json(capsys) -> None:
    assert main(["estimate", str(ETHANOL), "--states", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    strides = [row["stride_fs"] for row in found["strides"]]
    assert strides == [4.0, 8.0, 16.0, 32.0, 64.0]
    assert all(0 < row["expected"] < row["bound"] < 0.2 for row in found["strides"])
    assert main(["estimate"]) == 2
    against = ["--states", "2", "--against", "ase.calculators.emt:EMT", "--json"]
    assert main(["estimate", str(ETHANOL), *against]) == 0
    (beside,) = json.loads(capsys.readouterr().out)
    # Another potential: its paths are far from the operator's, and farther the longer they are.
    measured = [row["measured"] for row in beside["strides"]]
    assert 0.1 < measured[0] < measured[2]


def test_the_commands_of_the_extra_answer(capsys) -> None:
    assert main(["finetune", "--help"]) == 0
    assert "ase-atom finetune" in capsys.readouterr().out
    assert main(["leap-train", "--help"]) == 0
    assert "ase-atom leap-train" in capsys.readouterr().out
    assert main(["import", "nothing.xyz", "--output", "x.h5"]) == 2
    assert "nothing.xyz" in capsys.readouterr().err


@pytest.mark.parametrize("stranger", [False, True])
def test_the_installed_folder_and_a_checkout_live_together(stranger: bool, tmp_path: Path) -> None:
    # The package is the installed one, since the checkout comes last on the path.
    lines = f"import sys; sys.path.append({str(ROOT)!r}); "
    if stranger:
        (tmp_path / "training.py").write_text('"""Of somebody else."""\n')
        lines += "import training, ase_atom.training as own; assert sys.modules['training'] is own"
    else:
        lines += "import training.engines, ase_atom.training, training as own; own.engines"
    subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, check=True)
