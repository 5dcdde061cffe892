"""``python -m training.evaluate``: rollouts judged rightly, the whole command, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from conftest import make_card
from springs import SpringOperator

from ase_atom.analysis.molecule.symmetry import bond_classes
from ase_atom.errors import ConfigError, CoverageError, DataError
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import Operator, SpectralConfig, build_operator, save_operator
from ase_atom.propagation import NVE, sample_velocities
from ase_atom.state import PhaseState
from ase_atom.units import KB
from training.data.burst import Burst
from training.data.molecules import from_smiles
from training.data.store import fingerprint, write_bursts
from training.evaluate import main, parse_lags
from training.evaluation import report as screen
from training.evaluation.rollouts import Plan, observed_run
from training.evaluation.selection import digest, select_bursts
from training.evaluation.verdicts import (
    compare_bonds,
    langevin_report,
    nve_report,
    reference_energy,
    reference_observables,
)
from training.generation.dynamics import Settings, run_burst

NITROGEN = {
    "engine": "ase.calculators.morse:MorsePotential",
    "engine_options": json.dumps({"epsilon": 9.9, "r0": 1.1, "rho0": 2.96}),
    "thermalise": 200.0,
    "duration": 80.0,
    "temperatures": (300.0, 500.0),
}


class SpringCalculator(Calculator):
    """The springs' energy as a reference engine."""

    implemented_properties: ClassVar[list[str]] = ["energy"]

    def __init__(self, springs: SpringOperator) -> None:
        super().__init__()
        self.springs = springs

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        state = PhaseState.from_atoms(self.atoms)
        self.results = {"energy": float(self.springs.energy(state)[0])}


def collinear() -> Atoms:
    return Atoms("OCO", positions=[[-1.17, 0, 0], [0, 0, 0], [1.17, 0, 0]])


def moving_along(replicas: int) -> PhaseState:
    """Carbon dioxide vibrating along its axis, so that it has no angular momentum to keep."""
    state = PhaseState.from_atoms(collinear()).repeat(replicas)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(0))
    return state.replace(velocities=state.velocities * torch.tensor([1.0, 0, 0]).double())


# -- rollouts --------------------------------------------------------------------------------------


def test_exact_microcanonical_dynamics_has_no_drift() -> None:
    springs = SpringOperator(collinear())
    plan = Plan(duration=800.0, stride=16.0, temperature=300.0, reversible=False)
    report, run = nve_report(springs, moving_along(3), plan, SpringCalculator(springs))
    assert report["broken"] == 0
    assert report["duration_ps"] == pytest.approx(0.8)
    assert len(run.times) == plan.snapshots
    assert abs(report["total_energy_drift"]["mean_meV_per_atom_per_ps"]) < 1e-9
    assert report["momentum_change_amu_A_per_fs"] < 1e-12
    assert report["angular_momentum_change_amu_A2_per_fs"] < 1e-12


def test_heating_shows_as_drift() -> None:
    springs = SpringOperator(collinear(), heating=1e-5)
    plan = Plan(800.0, 16.0, 300.0, energy_correction=False, reversible=False)
    report, run = nve_report(springs, moving_along(3), plan, SpringCalculator(springs))
    total = np.array(run.potential) + np.array(run.kinetic)
    gained = 1000 * (total[-1] - total[0]) / 3
    drift = report["total_energy_drift"]
    assert drift["change_at_end_mean_meV_per_atom"] == pytest.approx(gained.mean())
    assert drift["mean_meV_per_atom_per_ps"] == pytest.approx(gained.mean() / 0.8, rel=0.2)
    assert drift["worst_replica"] >= drift["mean_meV_per_atom_per_ps"] > 0
    assert drift["standard_error"] > 0


@pytest.mark.usefixtures("turning_springs")
def test_canonical_dynamics_has_the_right_temperature_and_widths(ethanol: Atoms) -> None:
    springs = SpringOperator(ethanol, stiffness=20.0)
    classes = bond_classes(ethanol.numbers, perceive_bonds(ethanol.numbers, ethanol.positions))
    plan = Plan(duration=16 * 400.0, stride=16.0, temperature=300.0, friction=0.05, snapshots=5)
    state = PhaseState.from_atoms(ethanol).repeat(32)
    report, _, watch = langevin_report(springs, state, plan, classes, SpringCalculator(springs))
    assert report["broken"] == 0
    assert report["settling_ps"] == pytest.approx(0.64)
    heat = report["temperature"]["internal"]
    assert heat["degrees_of_freedom"] == 24
    assert heat["mean_K"] == pytest.approx(300, abs=4)
    assert 0 < heat["standard_error_K"] < 4
    # Each difference of two displacements has a variance of 2 k_B T / (N k) in every direction.
    width = np.sqrt(2 * KB * 300 / (9 * 20.0))
    for bond in report["bonds"]:
        assert bond["width_angstrom"] == pytest.approx(width, rel=0.06)
        assert bond["mean_error_angstrom"] < 0.002
    # 24 quadratic degrees of freedom hold k_B T/2 each.
    energy = report["reference_potential_energy"]
    assert energy["mean_eV"] == pytest.approx(12 * KB * 300, rel=0.15)
    assert compare_bonds(report["bonds"], watch.bond_lengths()) == {
        "bonds": [
            {
                "bond": bond["bond"],
                "reference_mean_angstrom": bond["mean_angstrom"],
                "reference_mean_error_angstrom": bond["mean_error_angstrom"],
                "reference_width_angstrom": bond["width_angstrom"],
                "reference_width_error_angstrom": bond["width_error_angstrom"],
                "mean_difference_angstrom": 0.0,
                "width_ratio": 1.0,
            }
            for bond in report["bonds"]
        ],
        "largest_mean_difference_angstrom": 0.0,
        "largest_width_deviation": 0.0,
    }


class Exploding(SpringOperator):
    """Springs, but the second replica flies apart after a while."""

    jumps = 0

    def __call__(self, state: PhaseState, times: torch.Tensor) -> tuple:
        self.jumps += 1
        positions, velocities = super().__call__(state, times)
        if self.jumps > 5:
            positions[1] = positions[1] * 3
        return positions, velocities


def test_broken_replicas_are_counted_and_the_others_go_on() -> None:
    springs = Exploding(collinear())
    plan = Plan(320.0, 16.0, 300.0, reversible=False, snapshots=11)
    report, run = nve_report(springs, moving_along(3), plan, SpringCalculator(springs))
    assert report["broken"] == 1
    assert report["broken_replicas"][0]["replica"] == 1
    assert report["broken_replicas"][0]["time_ps"] == pytest.approx(0.096)
    assert run.jumps == 20
    assert np.isnan(run.potential[-1]).tolist() == [False, True, False]
    assert report["total_energy_drift"]["mean_meV_per_atom_per_ps"] == pytest.approx(0, abs=1e-3)


def test_an_interrupted_rollout_keeps_what_it_has() -> None:
    springs = SpringOperator(collinear())
    plan = Plan(duration=320.0, stride=16.0, temperature=300.0, snapshots=21)
    done = []

    def stop_after_seven(count: int) -> None:
        done.append(count)
        if len(done) == 7:
            raise KeyboardInterrupt

    run = observed_run(springs, moving_along(2), NVE(False, False), plan, advance=stop_after_seven)
    assert run.interrupted
    assert run.jumps == 7
    assert len(run.times) == 8


def test_reference_runs_must_be_thermostatted_and_match(springs_run: Burst) -> None:
    classes = bond_classes(springs_run.numbers, np.array([[0, 1], [1, 2]]))
    watch = reference_observables([springs_run], classes, 300.0)
    counted = springs_run.positions[20:]  # a tenth is left for settling
    lengths = np.linalg.norm(counted[:, [0, 2]] - counted[:, [1]], axis=-1)
    (bond,) = watch.bond_lengths()
    assert bond["mean_angstrom"] == pytest.approx(lengths.mean())
    assert bond["mean_error_angstrom"] > 0
    energy = reference_energy([springs_run])
    assert energy["mean_eV"] == pytest.approx(springs_run.energies[20:].mean())


@pytest.fixture
def springs_run() -> Burst:
    random = np.random.default_rng(0)
    atoms = collinear()
    return Burst(
        key="co2/00000",
        smiles="O=C=O",
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        positions=atoms.positions + 0.03 * random.normal(size=(200, 3, 3)),
        velocities=0.01 * random.normal(size=(200, 3, 3)),
        energies=random.normal(size=200),
        forces=np.zeros((200, 3, 3)),
        interval=10.0,
        temperature_K=300.0,
        seed=0,
        attrs={"ensemble": "langevin"},
    )


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bursts() -> list[Burst]:
    molecule = from_smiles("N#N", "nitrogen")
    return [run_burst(molecule, index, Settings(**NITROGEN)) for index in range(5)]


@pytest.fixture(scope="module")
def data(bursts: list[Burst], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "nitrogen.h5"
    write_bursts(path, bursts)
    return path


@pytest.fixture(scope="module")
def thermostatted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(**NITROGEN | {"ensemble": "langevin", "temperatures": (300.0,)})
    path = tmp_path_factory.mktemp("reference") / "langevin.h5"
    write_bursts(path, [run_burst(from_smiles("N#N", "nitrogen"), 0, settings)])
    return path


def nitrogen_card(bursts: list[Burst]):
    keys = [burst.key for burst in bursts]
    return make_card(
        name="nitrogen",
        smiles=["N#N"],
        elements=[7],
        masses={7: 14.007},
        data_fingerprint=digest(bursts),
        split={"train": keys[:2], "validation": keys[2:3], "test": keys[3:]},
    )


@pytest.fixture(scope="module")
def checkpoint(bursts: list[Burst], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator that knows next to nothing: its paths are almost ballistic."""
    torch.manual_seed(0)
    sizes = {"width": 16, "pair_width": 8, "vector_channels": 8, "heads": 2, "radial_channels": 4}
    config = SpectralConfig(
        elements=(7,), horizon=32, blocks=1, energy_blocks=1, pair_vectors=2, modes=4, **sizes
    )
    operator: Operator = build_operator(config).eval()
    for name, parameter in operator.named_parameters():
        if name.startswith("decoder.from_"):
            parameter.data.mul_(1e-3)
    operator.card = nitrogen_card(bursts)
    return save_operator(operator, tmp_path_factory.mktemp("model") / "nitrogen.safetensors")


def test_the_whole_command(
    checkpoint: Path,
    data: Path,
    thermostatted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    command = [
        *(str(checkpoint), str(data), "--output", str(folder), "--starts", "4"),
        *("--langevin", "0.16", "--nve", "0.16", "--replicas", "3", "--stride", "8"),
        *("--reference", str(thermostatted)),
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "none of these 2 bursts was used for training or selection" in printed
    for words in ("RMS displacement", "ballistic", "harmonic", "N_f = 3", "drift of total energy"):
        assert words in printed
    written = json.loads((folder / "report.json").read_text())
    assert set(written) == {
        *("command", "checkpoint", "data", "harmonic", "lag_errors", "chained_errors"),
        *("energy_head", "frequencies", "langevin", "nve"),
    }
    assert written["data"]["unseen"] is True
    assert written["data"]["bursts"] == ["nitrogen/00003", "nitrogen/00004"]
    single = written["lag_errors"]
    assert single["lags_fs"] == [8.0, 16.0, 32.0]
    assert set(single["predictors"]) == {"operator", "stay", "ballistic", "harmonic"}
    assert single["predictors"]["stay"]["position"] == pytest.approx([1, 1, 1])
    assert single["predictors"]["stay"]["velocity"] == pytest.approx([1, 1, 1])
    # Two atoms close to their minimum: the harmonic guess must be good, the operator cannot be.
    harmonic = single["predictors"]["harmonic"]["position"]
    assert harmonic[0] < 0.3 < single["predictors"]["operator"]["position"][0]
    assert set(single["by_element"]) == {"N"}
    assert written["chained_errors"]["lags_fs"] == [16.0, 32.0, 64.0]
    assert written["harmonic"]["minima"] == {"N#N": 1}
    assert len(written["langevin"]["temperature"]) == 3
    assert written["langevin"]["temperature"]["rotation"]["degrees_of_freedom"] == 2
    assert written["langevin"]["comparison"]["bonds"][0]["bond"] == "N1–N2"
    assert written["nve"]["replicas"] == 3
    for name in ("error_by_lag", "temperature", "bonds", "langevin_energy", "nve_energy"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    before = (folder / "report.json").read_bytes()
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() == before


def test_without_the_engine_the_harmonic_guess_is_skipped_with_its_reason(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = [str(checkpoint), str(data), "--output", str(folder), "--no-engine", "--no-rollouts"]
    assert main([*command, "--split", "all", "--lags", "4,8"]) == 0
    written = json.loads((folder / "report.json").read_text())
    assert written["harmonic"]["skipped"] == "left out by --no-engine"
    assert set(written["lag_errors"]["predictors"]) == {"operator", "stay", "ballistic"}
    assert written["lag_errors"]["bursts"] == 5
    assert written["data"]["unseen"] is False
    assert "frequencies" not in written
    assert "langevin" not in written


def test_ctrl_c_in_a_rollout_writes_what_there_is(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def keyboard(label: str, total: int) -> Iterator[Callable[[int], None]]:
        presses = iter([False] * 3 + [label.startswith("Langevin")])

        def advance(count: int) -> None:
            if next(presses, False):
                raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(screen, "progress", keyboard)
    command = [str(checkpoint), str(data), "--output", str(tmp_path), "--replicas", "2"]
    assert main([*command, "--no-engine", "--langevin", "0.16", "--stride", "2"]) == 130
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["langevin"]["interrupted"] is True
    assert written["langevin"]["duration_ps"] == pytest.approx(0.008)
    assert "lag_errors" in written
    assert "nve" not in written


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--lags", "64"], "beyond the horizon of nitrogen, 32 fs"),
        (["--lags", "1.5"], "multiples of the 1 fs between frames"),
        (["--lags", "8,zwölf"], "--lags takes times in fs"),
        (["--lags", "-8"], "--lags takes times in fs"),
        (["--stride", "33"], "stride of 33 fs lies beyond the horizon"),
        (["--stride", "0"], "--stride must be above 0"),
        (["--stride", "3.3"], "multiples of the 1 fs between frames"),
        (["--temperature", "-300"], "--temperature must be above 0"),
        (["--friction", "0"], "--friction must be above 0"),
        (["--langevin", "-1"], "--langevin must be at least 0"),
        (["--nve", "nan"], "--nve must be at least 0"),
        (["--replicas", "0"], "--replicas"),
        (["--split", "train"], "--split"),
        (["--molecule", "CCO"], "--molecule CCO: the bursts are of N#N"),
        (["--reference", "nowhere.h5"], "nowhere.h5"),
        (["--reference", "DATA"], "is nve at"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str],
    reason: str,
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    options = [str(data) if option == "DATA" else option for option in options]
    assert main([str(checkpoint), str(data), "--output", str(folder), *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_missing_and_damaged_files_are_one_line(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.h5"
    torn.write_bytes(data.read_bytes()[:1000])
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(checkpoint.read_bytes()[:-10])
    for command, reason in (
        ([str(bad), str(data)], "truncated"),
        (["no-such-operator", str(data)], "no-such-operator"),
        ([str(checkpoint), str(tmp_path / "none.h5")], "none.h5"),
        ([str(checkpoint), str(torn)], "torn.h5"),
        ([str(checkpoint), str(data), str(data)], "more than one"),
    ):
        assert main([*command, "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_lags_are_sorted() -> None:
    assert parse_lags("32,8, 16,8") == (8.0, 16.0, 32.0)
    with pytest.raises(ConfigError):
        parse_lags("")


# -- what counts as unseen -------------------------------------------------------------------------


def test_the_digest_is_the_stores_fingerprint(bursts: list[Burst], data: Path) -> None:
    assert digest(bursts[::-1]) == fingerprint(data)


def test_bursts_added_after_training_do_not_change_the_test(
    bursts: list[Burst], data: Path, tmp_path: Path
) -> None:
    card = nitrogen_card(bursts)
    assert select_bursts([data], card, "test").same_data
    extended = tmp_path / "more.h5"
    extra = run_burst(from_smiles("N#N", "nitrogen"), 5, Settings(**NITROGEN))
    write_bursts(extended, [*bursts, extra])
    found = select_bursts([extended], card, "test")
    assert found.same_data
    assert found.unseen
    assert [burst.key for burst in found.bursts] == ["nitrogen/00003", "nitrogen/00004"]
    assert len(select_bursts([extended], card, "validation").bursts) == 1


def test_other_data_are_told_apart_by_keys(bursts: list[Burst], data: Path) -> None:
    card = nitrogen_card(bursts).model_copy(update={"data_fingerprint": "f" * 64})
    found = select_bursts([data], card, "test")
    assert not found.same_data
    assert found.unseen
    assert "by their keys alone" in found.note
    assert len(found.bursts) == 2
    seen = select_bursts([data], card, "all")
    assert not seen.unseen
    assert "3 of these 5 bursts" in seen.note


def test_a_checkpoint_without_a_split_needs_all(bursts: list[Burst], data: Path) -> None:
    card = nitrogen_card(bursts).model_copy(update={"split": {}})
    with pytest.raises(DataError, match="--split all"):
        select_bursts([data], card, "test")
    found = select_bursts([data], card, "all")
    assert not found.unseen
    assert "does not say" in found.note


def test_ions_are_refused_by_an_operator_of_neutral_molecules(
    bursts: list[Burst], tmp_path: Path
) -> None:
    ion = replace(bursts[0], charge=1)
    write_bursts(tmp_path / "ion.h5", [ion])
    with pytest.raises(CoverageError, match=r"total charge of \+1, and .* was trained for 0"):
        select_bursts([tmp_path / "ion.h5"], nitrogen_card(bursts), "all")


def test_thermostatted_data_are_refused(bursts: list[Burst], thermostatted: Path) -> None:
    with pytest.raises(DataError, match="--reference"):
        select_bursts([thermostatted], nitrogen_card(bursts), "test")
