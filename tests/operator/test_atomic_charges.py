"""Atomic charges: what must hold of any, and what teaching them reaches."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from conftest import make_card, make_ionic_operator, make_operator, mixed_states
from harmonic_bursts import water_bursts
from safetensors import safe_open
from safetensors.torch import save_file

from ase_atom import ATOMCalculator, PhaseState
from ase_atom.cli import main
from ase_atom.errors import CheckpointError, DataError
from ase_atom.operator import Operator, load_operator, save_operator
from ase_atom.operator.atomic_charges import AtomicCharges, ChargesCard, ChargesNetwork
from ase_atom.operator.base import checksum
from training.charges import main as teach
from training.data.burst import Burst
from training.data.store import write_bursts
from training.learning.charges import ChargesConfig, measure_charges, train_charges

CARD = ChargesCard(
    reference="none", compounds=1, training_command="none", data_fingerprint="0" * 64
)


def with_charges(operator: Operator, seed: int = 0) -> Operator:
    """Give an operator random atomic charges of some tenths."""
    torch.manual_seed(seed)
    network = ChargesNetwork(operator.config)
    for parameter in network.parameters():
        parameter.data.mul_(3.0)
    operator.atomic_charges = AtomicCharges(operator, network, CARD)
    return operator


def charged_bursts(count: int) -> list[Burst]:
    """Water whose oxygen takes more charge from a longer bond."""
    found = []
    for burst in water_bursts(count):
        lengths = np.linalg.norm(burst.positions[:, 1:] - burst.positions[:, :1], axis=-1)
        hydrogens = 0.35 + 0.8 * (lengths - 0.96)
        charges = np.concatenate([-hydrogens.sum(1, keepdims=True), hydrogens], axis=1)
        found.append(replace(burst, atomic_charges=charges))
    return found


@pytest.fixture
def states(ethanol: Atoms) -> PhaseState:
    """Ethanol, water and the hydroxide ion, bent, in one batch."""
    return mixed_states(ethanol)


@pytest.fixture
def charged() -> Operator:
    """An operator of three total charges with random atomic charges."""
    return with_charges(make_ionic_operator())


def test_charges_add_up_and_know_no_frame_of_reference(charged, states):
    charges = charged.atomic_charges(states)
    assert charges.abs().max() > 0.1
    torch.testing.assert_close(
        charges.sum(1), torch.tensor([0.0, 0.0, -1.0], dtype=charges.dtype), atol=1e-6, rtol=0
    )
    assert not charges[~states.mask].any()
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    moved = states.positions @ turn.T + torch.tensor([5.0, -3.0, 1.0])
    turned = states.replace(positions=moved * states.mask.unsqueeze(-1))
    torch.testing.assert_close(charged.atomic_charges(turned), charges, atol=1e-5, rtol=0)
    dipole = charged.atomic_charges.dipole(states)
    expected = (charges.unsqueeze(-1) * states.about_center()).sum(1)
    torch.testing.assert_close(dipole, expected)
    torch.testing.assert_close(
        charged.atomic_charges.dipole(turned), dipole @ turn.T, atol=1e-4, rtol=0
    )


def test_charges_do_not_depend_on_the_order_of_atoms_or_the_batch(charged, states):
    charges = charged.atomic_charges(states)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    ethanol = PhaseState(
        states.numbers[:1, order],
        states.masses[:1, order],
        states.positions[:1, order],
        states.velocities[:1, order],
    )
    torch.testing.assert_close(
        charged.atomic_charges(ethanol)[0], charges[0, order], atol=1e-5, rtol=0
    )


def test_a_file_keeps_charges_beside_the_same_operator(charged, states, tmp_path):
    before = charged.fingerprint
    path = save_operator(charged, tmp_path / "charged.safetensors")
    for engine in ("torch", "onnx"):
        found = load_operator(path, engine)
        assert found.fingerprint == before
        assert found.atomic_charges.card == CARD
        assert torch.equal(found.atomic_charges(states), charged.atomic_charges(states))
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    name = next(key for key in tensors if key.startswith("atomic_charges."))
    del tensors[name], facts["checksum"]
    facts["checksum"] = checksum(tensors, facts)
    save_file(tensors, path, facts)
    with pytest.raises(CheckpointError, match="its atomic charges are of another network"):
        load_operator(path)


def test_charges_are_learned_from_bursts():
    operator = make_operator()
    bursts = charged_bursts(8)
    config = ChargesConfig(steps=250, bursts=4, lr=1e-3, readout_lr=3e-3)
    network = train_charges(operator, bursts[:6], config)
    operator.atomic_charges = AtomicCharges(operator, network, CARD)
    (found,) = measure_charges(operator, bursts[6:]).values()
    spread = np.concatenate([burst.atomic_charges for burst in bursts]).std(0).mean()
    assert found.charge < 0.25 * spread
    assert found.change < 0.2
    with pytest.raises(DataError, match=r"water/00000 has no atomic charges: those by AIMNet2"):
        train_charges(operator, water_bursts(1), ChargesConfig(steps=1))


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs ``python -m training.charges`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    save_operator(make_operator(), Path("water.safetensors"))
    write_bursts(Path("water.h5"), charged_bursts(3))
    table = "smiles,set,part\nCO,alcohol,validation\nO,inorganic,train\n"
    Path("table.csv").write_text(table)

    def run(*words: str) -> tuple[int, str, str]:
        arguments = ["charges", "water.safetensors", "water.h5", "--table", "table.csv", *words]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as end:
            teach()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_the_command_teaches_and_measures(command):
    code, out, _ = command("--steps", "20", "-o", "charged.safetensors")
    assert code == 0
    assert "written to charged.safetensors" in out
    card = load_operator("charged.safetensors").atomic_charges.card
    assert (card.reference, card.compounds) == ("springs", 1)
    code, _, err = command("--part", "validation")
    assert code == 2
    assert "--part validation: none of the 3 bursts is of that part" in err
    assert command("--steps", "1")[0] == command("--part", "train", "--write")[0] == 2
    code, _, err = command("--part", "train")
    assert code == 2
    assert "tiny has no atomic charges: python -m training.charges" in err
    assert command("--steps", "3", "--write")[0] == 0
    code, out, _ = command("--part", "train")
    assert code == 0
    assert "| inorganic | 1 |" in out


def test_the_calculator_has_a_dipole(ethanol, states):
    operator = with_charges(make_operator())
    ethanol.calc = ATOMCalculator(operator)
    ethanol.rattle(0.05, seed=0)
    assert ethanol.get_charges().sum() == pytest.approx(0, abs=1e-6)
    state = PhaseState.from_atoms(ethanol)
    expected = operator.atomic_charges.dipole(state)[0].numpy()
    np.testing.assert_allclose(ethanol.get_dipole_moment(), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.01
    assert set(ethanol.calc.results) == {"energy", "free_energy", "charges", "dipole"}
    ethanol.calc = ATOMCalculator(make_operator())
    assert "dipole" not in ethanol.calc.implemented_properties
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_dipole_moment()


def test_absorption_by_an_operator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    operator = with_charges(make_operator())
    operator.card = make_card(smiles=["O"])
    save_operator(operator, Path("charged.safetensors"))
    operator.atomic_charges = None
    save_operator(operator, Path("bare.safetensors"))
    run = water_bursts(1, 2500)[0]
    np.savez(
        "water.npz", numbers=run.numbers, positions=run.positions, velocities=run.velocities,
        times=run.times,
    )  # fmt: skip
    assert main(["spectrum", "water.npz", "--dipoles", "charged.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["of"] == "dipoles by charged.safetensors"
    kept = np.load("water-infrared.npz")["dipoles"]
    atoms = Atoms(run.numbers, calculator=ATOMCalculator("charged.safetensors"))
    for frame in (0, 63, 64, 2499):
        atoms.positions = run.positions[frame]
        np.testing.assert_allclose(atoms.get_dipole_moment(), kept[frame], atol=1e-5)
    assert main(["spectrum", "water.npz", "--dipoles", "bare.safetensors", "-o", "x.png"]) == 2
    assert "the operator has no atomic charges, and so no dipoles" in capsys.readouterr().err
    assert not Path("x.png").exists()


def test_dipoles_of_the_general_operator_are_those_of_the_gas_phase():
    """Measured dipoles of small molecules (CRC Handbook of Chemistry and Physics), in debye."""
    operator = load_operator("organic-wb97m")
    if operator.atomic_charges is None:
        pytest.fail("the general operator has no atomic charges")
    measured = {"CH3OH": 1.70, "CH3CN": 3.92, "CH3Cl": 1.89, "C6H6": 0.0}
    for name, debye in measured.items():
        state = PhaseState.from_atoms(molecule(name))
        dipole = 4.803 * float(operator.atomic_charges.dipole(state).norm())
        assert dipole == pytest.approx(debye, abs=0.6), name
