"""Collections of many compounds: starts, verification, storage, workers, table of contents."""

from __future__ import annotations

import csv
import json
import resource
from pathlib import Path

import distributed
import h5py
import numpy as np
import pytest

from ase_atom.cluster.workers import open_workers
from ase_atom.errors import ConfigError, DataError
from ase_atom.units import KB
from training.data.burst import Burst
from training.data.molecules import embed, from_smiles, from_structure
from training.data.store import file_attributes, fingerprint, read_burst, read_bursts, write_burst
from training.engines.forcefield import ForceField
from training.generate import main
from training.generation.campaign import DIED, Outcome, _Run, make_bursts, run_campaign
from training.generation.contents import CONTENTS
from training.generation.dynamics import Settings, run_burst
from training.generation.presets import COMPOUNDS, read_compounds
from training.generation.targets import Target
from training.generation.verification import Connectivity

NITROGEN = {
    "engine": "ase.calculators.morse:MorsePotential",
    "engine_options": json.dumps({"epsilon": 9.9, "r0": 1.1, "rho0": 2.96}),
    "thermalise": 20.0,
    "duration": 5.0,
}


@pytest.mark.parametrize("smiles", ["CCO", "CS(=O)(=O)c1ccccc1Cl", "C[N+](=O)[O-]", "CSSC"])
def test_force_field_forces_are_the_gradient_wherever_it_was_before(smiles: str) -> None:
    """RDKit keeps distances between calls; a force must not be that of the last structure."""
    atoms = embed(smiles, 1)
    calculator = ForceField(smiles)
    rng = np.random.default_rng(0)
    for _ in range(3):
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
        calculator.calculate(atoms)
        forces, step = calculator.results["forces"].copy(), 1e-4
        for atom, axis in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                calculator.calculate(moved)
                energies.append(calculator.results["energy"])
            slope = (energies[1] - energies[0]) / (2 * step)
            assert forces[atom, axis] == pytest.approx(slope, abs=1e-5)
        calculator.calculate(atoms)


def test_a_force_field_makes_the_start_as_warm_as_asked() -> None:
    """The kinetic energy when the engine takes over, here one that leaves the atoms alone."""
    settings = Settings(
        **{"engine": "crashing:Free", "force_field": 300.0, "thermalise": 0.0, "duration": 1.0},
        **{"temperatures": (400.0,), "thermal_friction": 0.05, "precision": "single"},
    )
    molecule = from_smiles("CC", "ethane")
    bursts = [run_burst(molecule, index, settings) for index in range(24)]
    internal = [burst.kinetic_energies()[0] / (1.5 * (8 - 1) * KB) for burst in bursts]
    # 24 bursts of 21 degrees of freedom: a standard error of 6 %.
    assert np.mean(internal) == pytest.approx(400, rel=0.2)
    lengths = [np.linalg.norm(burst.positions[0, 0] - burst.positions[0, 1]) for burst in bursts]
    assert 0.01 < np.std(lengths) < 0.1
    assert np.mean(lengths) == pytest.approx(1.53, abs=0.05)


def test_a_force_field_is_not_for_given_structures(tmp_path: Path) -> None:
    path = tmp_path / "n2.xyz"
    path.write_text("2\n\nN 0 0 0\nN 0 0 1.1\n")
    with pytest.raises(ConfigError, match="SMILES"):
        run_campaign(
            tmp_path, [from_structure(path)], Settings(force_field=10), 1, 1, lambda *_: None
        )


def water(stretch: float = 1.0) -> np.ndarray:
    return np.array([[0, 0, 0], [0.96 * stretch, 0, 0], [-0.24, 0.93, 0]], float)


def test_changed_bonds_are_named() -> None:
    numbers, bonds = np.array([8, 1, 1]), np.array([[0, 1], [0, 2]])
    connectivity = Connectivity.of(numbers, water(), bonds)
    shaken = np.stack([water(), water(1.4), water(0.8)])
    assert connectivity.changes(shaken) == ""
    broken = connectivity.changes(np.stack([water(), water(1.6)]))
    assert broken == "O0-H1 broke (1.60 of its length)"
    hydrogen = water()
    hydrogen[1:] = [[0.96, 0, 0], [0.96, 0.7, 0]]
    assert "H1-H2 formed (0.70 Å)" in connectivity.changes(hydrogen[None])


@pytest.mark.parametrize("smiles", ["C1CC1", "C1CCC1", "C1C2CC1C2", "C1SCSCS1", "OC(=O)CC(=O)O"])
def test_small_rings_and_hydrogen_bonds_form_nothing(smiles: str) -> None:
    """Atoms across a small ring are near, and so are those of a hydrogen bond."""
    atoms, molecule = embed(smiles, 1), from_smiles(smiles)
    connectivity = Connectivity.of(atoms.numbers, atoms.positions, molecule.bonds())
    rng = np.random.default_rng(0)
    shaken = atoms.positions + 0.06 * rng.normal(size=(20, len(atoms), 3))
    assert connectivity.changes(shaken) == ""


def test_bursts_with_changed_bonds_are_dropped_or_kept() -> None:
    """A nitrogen molecule too hot to hold together."""
    weak = {"engine_options": json.dumps({"epsilon": 0.3, "r0": 1.1, "rho0": 2.96})}
    settings = Settings(**NITROGEN | weak | {"duration": 200.0}, temperatures=(6000.0,))
    with pytest.raises(DataError, match="N0-N1 broke"):
        run_burst(from_smiles("N#N", "n"), 0, settings)
    kept = run_burst(
        from_smiles("N#N", "n"), 0, settings.model_copy(update={"bond_changes": "keep"})
    )
    assert "N0-N1 broke" in kept.attrs["bond_changes"]


def test_single_precision_halves_the_file_and_keeps_the_energy(tmp_path: Path) -> None:
    settings = Settings(**NITROGEN | {"duration": 200.0})
    double = run_burst(from_smiles("N#N", "nitrogen"), 0, settings)
    single = run_burst(
        from_smiles("N#N", "nitrogen"), 0, settings.model_copy(update={"precision": "single"})
    )
    for name, burst in (("double", double), ("single", single)):
        write_burst(tmp_path / f"{name}.h5", burst)
    assert single.positions.dtype == np.float32
    assert single.energies.dtype == np.float64
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-6)
    np.testing.assert_array_equal(single.energies, double.energies)
    np.testing.assert_allclose(single.total_energies(), double.total_energies(), atol=1e-6)
    again: Burst = read_burst(tmp_path / "single.h5")
    assert again.positions.dtype == np.float32
    assert again.checksum() == single.checksum()
    sizes = [(tmp_path / f"{name}.h5").stat().st_size for name in ("single", "double")]
    assert sizes[0] < 0.7 * sizes[1]  # of two atoms, the energies and the frame are a good part


def test_records_older_than_a_setting_mean_its_default(tmp_path: Path) -> None:
    molecule, settings = from_smiles("N#N", "nitrogen"), Settings(**NITROGEN)
    run_campaign(tmp_path, [molecule], settings, 1, 1, lambda *_: None)
    path = tmp_path / "nitrogen.h5"
    old = json.loads(file_attributes(path)["settings"])
    for younger in ("force_field", "bond_changes", "precision"):
        del old[younger]
    with h5py.File(path, "r+") as file:
        file.attrs["settings"] = json.dumps(old)
    Target(tmp_path, molecule, settings).check_unchanged()
    with pytest.raises(ConfigError, match="precision was 'double' and is now 'single'"):
        Target(tmp_path, molecule, Settings(**NITROGEN, precision="single")).check_unchanged()


def test_a_run_is_breadth_first(tmp_path: Path) -> None:
    lines: list[str] = []
    molecules = [from_smiles("N#N", name) for name in ("a", "b", "c")]
    run_campaign(
        *(tmp_path, molecules, Settings(**NITROGEN), 2, 1),
        lambda done, total, line: lines.append(line.partition(":")[0]),
    )
    assert lines[1:] == [f"{name}/0000{index}" for index in (0, 1) for name in "abc"]


def test_a_compound_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    molecules = [from_smiles("N#N", "nitrogen"), from_smiles("O=O", "oxygen")]
    settings = Settings(engine="crashing:Crashing", thermalise=20.0, duration=5.0)
    outcome = run_campaign(tmp_path, molecules, settings, 2, 1, lambda *_: None)
    assert outcome.failed == {f"oxygen/0000{index}": DIED for index in range(2)}
    assert sorted(outcome.finished) == [f"nitrogen/0000{index}" for index in range(2)]
    assert len(read_bursts(tmp_path / "nitrogen.h5")) == 2
    assert not (tmp_path / "oxygen.h5").exists()


def test_of_a_batch_that_kills_its_worker_one_compound_fails(tmp_path: Path) -> None:
    settings = Settings(engine="crashing:Crashing", thermalise=20.0, duration=5.0)
    molecules = [from_smiles("N#N", "nitrogen"), from_smiles("O=O", "oxygen")]
    targets = [Target(tmp_path, molecule, settings) for molecule in molecules]
    for target in targets:
        target.prepare()
    outcome = Outcome()
    with open_workers(1, None, "training.generation.campaign") as workers:
        _Run([[(target, 0) for target in targets]], 2, workers, lambda *_: None).go(outcome)
    assert outcome.failed == {"oxygen/00000": DIED}
    assert outcome.finished == ["nitrogen/00000"]


def test_an_engine_that_does_not_converge_is_a_reason() -> None:
    settings = Settings(engine_options=json.dumps({"max_iterations": 1}), duration=5.0)
    (result,), seconds = make_bursts([(from_smiles("O", "water"), 0)], settings)
    assert isinstance(result, str)
    assert "CalculationFailed" in result
    assert seconds > 0


def test_a_full_disk_ends_the_run_and_keeps_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files, which a longer burst exceeds, in place of a full disk."""
    options = ["--smiles", "N#N", "--name", "nitrogen", "--engine", NITROGEN["engine"]]
    options += ["--engine-options", NITROGEN["engine_options"], "--thermalise", "20"]
    options += ["--data", str(tmp_path), "--workers", "1", "--duration", "400", "--bursts", "1"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert main(options) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.rglob("*.h5"))


@pytest.fixture
def compounds(tmp_path: Path) -> Path:
    path = tmp_path / "compounds.csv"
    rows = "nitrogen,N#N\nsalt,[Na+].[Cl-]\nradical,[CH3]\ncharged,C[NH3+]\nwrong,C((\n"
    rows += "bent,C1[C@H]2[C@@H]1C2\n"
    path.write_text(f"name,smiles\n{rows}")
    return path


def collection(compounds: Path, folder: Path, *more: str) -> list[str]:
    return [
        *("--compounds", str(compounds), "--data", str(folder), "--bursts", "2", "--workers", "1"),
        *("--engine", NITROGEN["engine"], "--engine-options", NITROGEN["engine_options"]),
        *("--thermalise", "20", "--duration", "10", *more),
    ]


def test_a_collection_has_contents_with_checksums_and_reasons(
    compounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    assert main(collection(compounds, folder)) == 1
    with open(folder / CONTENTS, newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["nitrogen"]["fingerprint"] == fingerprint(folder / "nitrogen.h5")
    assert rows["nitrogen"]["femtoseconds"] == "20.0"
    assert rows["nitrogen"]["temperatures"] == "300 400"
    assert int(rows["nitrogen"]["bytes"]) == (folder / "nitrogen.h5").stat().st_size
    assert float(rows["nitrogen"]["cpu_seconds"]) > 0
    reasons = {"salt": "2 molecules", "radical": "unpaired", "charged": "+1", "wrong": "SMILES"}
    assert rows["bent"]["failed"] == "2: no conformer of C1[C@H]2C[C@@H]12 could be embedded"
    error = capsys.readouterr().err
    for name, reason in reasons.items():
        assert reason in rows[name]["failed"]
        assert f"refused: {name}" in error
    assert "1 of 6 compounds, 2 bursts, 20 fs" in error
    first = float(rows["nitrogen"]["cpu_seconds"])
    assert main(collection(compounds, folder, "--bursts", "4")) == 1
    with open(folder / CONTENTS, newline="") as file:
        row = next(csv.DictReader(file))
    assert row["bursts"] == "4"
    assert float(row["cpu_seconds"]) > first


def test_a_collection_of_which_nothing_can_be_made_gives_each_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "compounds.csv", tmp_path / "data"
    path.write_text("name,smiles\nsalt,[Na+].[Cl-]\nradical,[CH3]\n")
    assert main(collection(path, folder)) == 2
    salt, radical, last = capsys.readouterr().err.strip().splitlines()
    assert salt.startswith("refused: salt: ")
    assert "2 molecules or ions" in salt
    assert radical.startswith("refused: radical: ")
    assert "unpaired electrons" in radical
    assert last == f"generate: {path}: holds no compound that can be simulated"
    assert not folder.exists()


def test_a_part_of_a_collection(tmp_path: Path) -> None:
    path = tmp_path / "compounds.csv"
    path.write_text("name,smiles,part\nnitrogen,N#N,test\nwater,O,train\n")
    assert [one.name for one in read_compounds([path])] == ["nitrogen", "water"]
    assert [one.name for one in read_compounds([path], where={"part": "test"})] == ["nitrogen"]


def test_contents_keep_the_compounds_of_other_parts(tmp_path: Path) -> None:
    path, folder = tmp_path / "compounds.csv", tmp_path / "data"
    path.write_text("name,smiles,part\nnitrogen,N#N,test\nother,N#N,train\n")
    assert main(collection(path, folder, "--part", "train")) == 0
    with open(folder / CONTENTS, newline="") as file:
        first = list(csv.DictReader(file))
    assert main(collection(path, folder, "--part", "test")) == 0
    with open(folder / CONTENTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["nitrogen", "other"]
    assert rows[1:] == first
    assert rows[0]["bursts"] == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tg90"], "tg80, tg80-plus"),
        (["--preset", "tg80", "--duration", "5"], "--duration is for the preset"),
        (["--preset", "tg80-plus", "--part", "test"], "--part is for the presets tg80 and wb97m"),
        (["--preset", "tg80", "--part", "none"], "test, train, validation"),
        (["--preset", "tg80", "--smiles", "C"], "--smiles is for the preset"),
        (["--compounds", "missing.csv"], "no such file"),
        (["--compounds", str(COMPOUNDS / "tg80.csv"), "--part", "test"], "no columns name, smiles"),
        (
            ["--compounds", str(COMPOUNDS / "tg80_split.csv"), "--part", "x"],
            "test, train, validation",
        ),
        (["--smiles", "C", "--part", "test"], "--part chooses among the --compounds"),
        (["--smiles", "C", "--bond-changes", "mend"], "--bond-changes"),
        (["--smiles", "C", "--precision", "half"], "--precision"),
        (["--smiles", "C", "--scheduler", "here"], "no scheduler file"),
        (["--smiles", "C", "--scheduler", "jobqueue:cron"], "unknown queueing system 'cron'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "data").exists()


def test_a_cluster_makes_the_same_bursts(tmp_path: Path) -> None:
    settings, molecules = Settings(**NITROGEN), [from_smiles("N#N", "nitrogen")]
    local, remote = tmp_path / "local", tmp_path / "remote"
    run_campaign(local, molecules, settings, 3, 1, lambda *_: None)
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        outcome = run_campaign(
            *(remote, molecules, settings, 3, 1, lambda *_: None), cluster.scheduler_address
        )
    assert len(outcome.finished) == 3
    assert fingerprint(remote / "nitrogen.h5") == fingerprint(local / "nitrogen.h5")
