"""Dynamics of many molecules in one batch: physics, padding, ions, what is stored and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.morse import MorsePotential
from ase.io import read
from ase.md.verlet import VelocityVerlet
from spring_ensemble import STIFFNESS, save_springs

from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV, KB, velocities_from_ase
from training.data.burst import Burst
from training.data.export import export_bursts
from training.data.molecules import from_smiles
from training.data.store import fingerprint, read_burst, read_bursts, write_burst
from training.engines.aimnet2 import FILE, SHA256, EnsembleCalculator, load_ensemble
from training.engines.factory import get_engine
from training.generate import main
from training.generation.batched.bursts import run_bursts
from training.generation.batched.grouping import ATOMS, BLOCK, group
from training.generation.batched.motion import Batch, langevin, relax, velocity_verlet
from training.generation.campaign import run_campaign
from training.generation.dynamics import Settings, run_burst
from training.generation.targets import Target

BRIEF = {"thermalise": 10.0, "duration": 20.0, "temperatures": (300.0, 500.0)}


@pytest.fixture(scope="module")
def springs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Engine options that name the file of springs."""
    path = tmp_path_factory.mktemp("springs") / "springs.jpt"
    return {"path": str(path), "sha256": save_springs(path)}


@pytest.fixture
def settings(springs: dict[str, str]) -> Settings:
    return Settings(engine="aimnet2", engine_options=json.dumps(springs), **BRIEF)


def water(count: int = 1) -> Batch:
    """Water molecules at rest, each at the origin and a little stretched."""
    rng = np.random.default_rng(0)
    shape = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]
    molecules = [Atoms("OH2", shape + rng.normal(0, 0.03, (3, 3))) for _ in range(count)]
    return Batch.of(molecules, [0] * count)


def commands(folder: Path, springs: dict[str, str], *more: str) -> list[str]:
    return [
        *("--engine", "aimnet2", "--engine-options", json.dumps(springs), "--data", str(folder)),
        *("--thermalise", "10", "--duration", "10", "--bursts", "2", "--workers", "1", *more),
    ]


def test_dynamics_agree_with_ases(springs: dict[str, str]) -> None:
    ensemble = load_ensemble(**springs)
    batch = water()
    atoms = Atoms(batch.numbers[0], batch.positions[0])
    atoms.calc = EnsembleCalculator(ensemble)
    VelocityVerlet(atoms, 0.5 * units.fs).run(40)
    velocity_verlet(batch, ensemble, batch.evaluate(ensemble), 0.5, 40)
    np.testing.assert_allclose(batch.positions[0], atoms.positions, atol=1e-5)
    moved = velocities_from_ase(atoms.get_velocities())
    np.testing.assert_allclose(batch.velocities[0], moved, atol=1e-6)


def test_padding_changes_nothing_and_stays_where_it_is(springs: dict[str, str]) -> None:
    ensemble = load_ensemble(**springs)
    alone, ammonia = (
        water(),
        Atoms("NH3", [[0, 0, 0.3], [0.9, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]]),
    )
    beside = Batch.of([ammonia, Atoms("OH2", alone.positions[0])], [0, 0])
    for batch in (alone, beside):
        velocity_verlet(batch, ensemble, batch.evaluate(ensemble), 0.5, 40)
    np.testing.assert_allclose(beside.positions[1, :3], alone.positions[0], atol=1e-6)
    assert not beside.positions[1, 3].any()
    assert not beside.velocities[1, 3].any()


def test_relaxation_ends_where_springs_are_at_rest(springs: dict[str, str]) -> None:
    ensemble, batch = load_ensemble(**springs), water(3)
    relax(batch, ensemble, 60, fmax=0.01)
    assert np.linalg.norm(batch.evaluate(ensemble).forces, axis=-1).max() <= 0.01
    bonds = np.linalg.norm(batch.positions[:, 1:] - batch.positions[:, :1], axis=-1)
    np.testing.assert_allclose(bonds, 0.96, atol=1e-3)


def test_langevin_has_its_temperature_in_every_degree_of_freedom(springs: dict[str, str]) -> None:
    ensemble, count = load_ensemble(**springs), 600
    batch, temperatures = water(count), np.full(count, 400.0)
    generators = [np.random.default_rng(seed) for seed in range(count)]
    now = langevin(
        batch, ensemble, batch.evaluate(ensemble), 0.5, 200, temperatures, 0.05, generators
    )
    heat = AMU_A2_FS2_IN_EV * batch.masses * (batch.velocities**2).mean(-1) / KB
    for atom in range(3):  # 1800 degrees of freedom each: 3.3 % is one standard error
        assert heat[:, atom].mean() == pytest.approx(400, rel=0.13)
    weights = batch.masses / batch.masses.sum(1, keepdims=True)
    centre = (weights[..., None] * batch.velocities).sum(1)
    whole = AMU_A2_FS2_IN_EV * batch.masses[0].sum() * (centre**2).mean() / KB
    assert whole == pytest.approx(400, rel=0.13)
    # Three springs, each with kT/2; bending couples them to rotation a little.
    assert 2 * now.energies.mean() / (3 * KB) == pytest.approx(400, rel=0.15)


def test_a_burst_does_not_depend_on_what_is_beside_it(settings: Settings) -> None:
    jobs = [(from_smiles(text), index) for text in ("O", "S", "N") for index in range(2)]
    together = run_bursts(jobs, settings)
    for job, burst in zip(jobs, together, strict=True):
        (alone,) = run_bursts([job], settings)
        assert isinstance(burst, Burst)
        assert burst.key == alone.key
        assert burst.seed == alone.seed
        np.testing.assert_allclose(burst.positions, alone.positions, atol=1e-4)
    assert [burst.temperature_K for burst in together] == [300, 500] * 3


def test_a_burst_keeps_its_energy_and_says_where_it_is_from(settings: Settings) -> None:
    (burst,) = run_bursts([(from_smiles("O"), 0)], settings)
    total = burst.total_energies()
    assert np.ptp(burst.energies) > 0.005
    assert np.ptp(total) < 0.01
    assert burst.attrs["energy_error_eV"] < 0.01
    assert "member 1 of 4" in burst.attrs["theory"]
    assert "path" not in json.loads(burst.attrs["engine_options"])
    momentum = (burst.masses[:, None] * burst.velocities).sum(1)
    assert np.abs(momentum).max() < 1e-6


def test_charges_and_the_spread_of_members_are_stored(settings: Settings, tmp_path: Path) -> None:
    molecule = from_smiles("[OH3+]", charges=(0, 1))
    (burst,) = run_bursts([(molecule, 0)], settings.model_copy(update={"precision": "single"}))
    write_burst(tmp_path / "one.h5", burst)
    read = read_burst(tmp_path / "one.h5")
    assert read.charge == 1
    assert read.checksum() == burst.checksum()
    np.testing.assert_allclose(read.atomic_charges, 0.25)
    assert read.force_spread.shape == (3, 4)  # of 21 frames: 0, 10 and 20
    # Each member's forces are the first one's in the ratio of their springs.
    ratio = np.std(STIFFNESS) / STIFFNESS[0] / np.sqrt(3)
    expected = ratio * np.linalg.norm(read.forces[::10], axis=-1)
    np.testing.assert_allclose(read.force_spread, expected, atol=1e-4)
    burst.charge = 0
    assert read.checksum() != burst.checksum()


def test_ions_are_exported_with_their_charges(settings: Settings, tmp_path: Path) -> None:
    (burst,) = run_bursts([(from_smiles("[OH3+]", charges=(1,)), 0)], settings)
    write_burst(tmp_path / "ion.h5", burst)
    export_bursts(tmp_path / "ion.h5", tmp_path / "ion.extxyz", "extxyz")
    atoms = read(tmp_path / "ion.extxyz", index=-1)
    assert atoms.info["charge"] == 1
    np.testing.assert_allclose(atoms.get_charges(), 0.25)
    with pytest.raises(DataError, match="which the md17 format does not hold"):
        export_bursts(tmp_path / "ion.h5", tmp_path / "ion.npz", "md17")
    assert not (tmp_path / "ion.npz").exists()


def test_batches_run_on_a_cluster(settings: Settings, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    molecules = [from_smiles("O", "water"), from_smiles("[OH3+]", "oxonium", (1,))]
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(dashboard_address=None, **options) as cluster:
        outcome = run_campaign(
            tmp_path, molecules, settings, 2, 1, lambda *_: None, cluster.scheduler_address
        )
    assert not outcome.failed
    assert len(outcome.finished) == 4
    assert [burst.charge for burst in read_bursts(tmp_path / "oxonium.h5")] == [1, 1]


def test_displaced_frames_are_no_path(settings: Settings) -> None:
    displaced = settings.model_copy(update={"ensemble": "displaced", "displacement": 0.05})
    (burst,) = run_bursts([(from_smiles("O"), 0)], displaced)
    assert not burst.velocities.any()
    assert burst.interval == 0
    steps = burst.positions - burst.positions.mean(0)
    assert 0.01 < steps.std() < 0.05
    widths = steps.std((1, 2))
    assert widths.min() < 0.5 * widths.max()
    moved = Batch.of([Atoms(burst.numbers, burst.positions[-1])], [0])
    now = moved.evaluate(get_engine(displaced.engine, displaced.engine_options).potential())
    np.testing.assert_allclose(burst.forces[-1], now.forces[0], atol=1e-6)


def test_of_a_batch_that_comes_to_nothing_each_says_why(settings: Settings) -> None:
    jobs = [(from_smiles("FOF"), index) for index in range(2)]
    for found in run_bursts(jobs, settings):
        assert "another molecule: F0-O1 is gone" in found


def test_a_molecule_that_falls_apart_is_listed_and_the_rest_goes_on(
    springs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "list.csv"
    rows = "water,O,\ndifluoride,FOF,0\nsodium,[Na]O,0\nradical,[OH],0\n"
    table.write_text(f"name,smiles,charge\n{rows}ion,[O-2],-2\nacid,[OH3+],0\n")
    assert main(commands(tmp_path / "data", springs, "--compounds", str(table))) == 1
    said = capsys.readouterr().err
    for name, reason in (
        ("difluoride/00000", "another molecule: F0-O1 is gone"),
        ("refused: sodium", "holds Na, and engine aimnet2 knows H, B, C"),
        ("refused: radical", "unpaired electrons"),
        ("refused: ion", "total charge of -2; only -1, 0, +1"),
        ("refused: acid", "a charge of 0, and its SMILES one of +1"),
    ):
        assert any(name in line and reason in line for line in said.splitlines()), name
    assert len(read_bursts(tmp_path / "data" / "water.h5")) == 2
    assert not (tmp_path / "data" / "difluoride.h5").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "nowhere.jpt"}, "there is no file nowhere.jpt; it comes in the wheel"),
        ({"sha256": SHA256}, "not 2e8a7008"),
        ({"member": 2}, "has no option 'member'"),
    ],
)
def test_a_wrong_file_is_one_line_before_anything_is_written(
    springs: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    said: str,
) -> None:
    folder = tmp_path / "data"
    assert main(commands(folder, springs | change, "--smiles", "O")) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not folder.exists()


def test_a_file_that_is_not_installed_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path))
    monkeypatch.setattr("training.engines.aimnet2.PACKAGE", "no-such-package")
    with pytest.raises(ConfigError, match=f"needs {FILE}, which is neither in"):
        load_ensemble()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / FILE).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="damaged or another file"):
        load_ensemble()


def test_a_run_goes_on_where_it_stopped_though_the_file_has_moved(
    settings: Settings, springs: dict[str, str], tmp_path: Path
) -> None:
    molecules = [from_smiles("O", "water"), from_smiles("S", "sulfane")]
    run_campaign(tmp_path, molecules, settings, 1, 1, lambda *_: None)
    before = fingerprint(tmp_path / "water.h5")
    moved = tmp_path / "moved.jpt"
    moved.write_bytes(Path(springs["path"]).read_bytes())
    options = json.dumps(springs | {"path": str(moved)})
    settings = settings.model_copy(update={"engine_options": options})
    outcome = run_campaign(tmp_path, molecules, settings, 3, 1, lambda *_: None)
    assert sorted(outcome.finished) == [
        f"{name}/0000{index}" for name in ("sulfane", "water") for index in (1, 2)
    ]
    assert len(read_bursts(tmp_path / "water.h5")) == 3
    assert read_bursts(tmp_path / "water.h5")[0].checksum() != before


def test_batches_are_of_like_size_and_the_first_compounds_come_first(
    settings: Settings, tmp_path: Path
) -> None:
    sizes = np.random.default_rng(0).integers(1, 9, BLOCK + 10)
    molecules = [from_smiles("C" * size, f"alkane{i}") for i, size in enumerate(sizes)]
    targets = [Target(tmp_path, molecule, settings) for molecule in molecules]
    batches = group([(target, index) for target in targets for index in range(3)])
    made = [job for batch in batches for job in batch]
    assert len(made) == len(set(made)) == 3 * len(targets)
    assert {target.molecule.name for target, _ in made[: 3 * BLOCK]} == {
        molecule.name for molecule in molecules[:BLOCK]
    }
    for batch in batches:
        atoms = [len(target.molecule.numbers()) for target, _ in batch]
        assert len(batch) * max(atoms) <= ATOMS
    padded = sum(len(b) * max(len(t.molecule.numbers()) for t, _ in b) for b in batches)
    assert padded < 1.1 * sum(len(target.molecule.numbers()) for target, _ in made)


def test_another_engine_does_not_thermalise_a_batch(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="leave --thermal-engine out"):
        run_bursts([(from_smiles("O"), 0)], settings.model_copy(update={"thermal_engine": "gfn2"}))


def test_ions_are_for_engines_that_take_a_charge() -> None:
    with pytest.raises(DataError, match=r"total charge of \+1; only neutral molecules"):
        from_smiles("[NH4+]", charges=get_engine("ase.calculators.emt:EMT").charges)


def make_morse(epsilon: float) -> MorsePotential:
    """Nitrogen by ASE's Morse potential."""
    return MorsePotential(epsilon=epsilon, r0=1.1, rho0=2.96)


def test_any_callable_that_makes_a_calculator_is_an_engine() -> None:
    settings = Settings(
        engine="test_batched:make_morse", engine_options='{"epsilon": 9.9}', **BRIEF
    )
    burst = run_burst(from_smiles("N#N"), 0, settings)
    assert burst.attrs["theory"].startswith("make_morse, epsilon=9.9")
    assert burst.atomic_charges is None
    with pytest.raises(ConfigError, match="makes a list, not an ASE calculator"):
        get_engine("builtins:list")
