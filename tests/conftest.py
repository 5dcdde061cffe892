"""Fixtures that several test files share: molecules, and a small operator on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.data import atomic_masses
from ase.io import read
from springs import SpringOperator

from ase_atom import PhaseState
from ase_atom.cli import main
from ase_atom.operator import (
    Operator,
    OperatorCard,
    SpectralConfig,
    build_operator,
    save_operator,
)
from ase_atom.propagation.ensembles import Thermostat

ROOT = Path(__file__).parents[1]
ETHANOL = ROOT / "examples" / "ethanol.xyz"

# With next to no forces a molecule coasts; at 1 K it holds together for a while.
BRIEF = ["--time", "80fs", "--stride", "2fs"]
CALM = ["--temperature", "1", *BRIEF]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def ethanol() -> Atoms:
    """Ethanol at rest, relaxed with GFN2-xTB."""
    return read(ETHANOL)


@pytest.fixture
def springs(ethanol: Atoms) -> SpringOperator:
    """Ethanol's atoms on springs."""
    return SpringOperator(ethanol)


def make_card(**changes: object) -> OperatorCard:
    """Return the card of an operator for ethanol."""
    elements = [1, 6, 8]
    facts = {
        "name": "tiny",
        "smiles": ["CCO"],
        "elements": elements,
        "masses": {z: float(atomic_masses[z]) for z in elements},
        "temperature_range_K": (1.0, 500.0),
        "horizon_fs": 32.0,
        "stride_fs": 16.0,
        "level_of_theory": "none: random weights",
        "training_command": "none",
        "data_fingerprint": "0" * 64,
    }
    return OperatorCard(**(facts | changes))


def make_operator(seed: int = 0, strength: float = 1.0) -> Operator:
    """Return a small operator for ethanol with random weights and forces of some strength."""
    torch.manual_seed(seed)
    config = SpectralConfig(
        horizon=32.0,
        segment=16.0,
        width=16,
        pair_width=8,
        vector_channels=8,
        heads=2,
        blocks=1,
        energy_blocks=1,
        pair_vectors=2,
        radial_channels=4,
        modes=4,
    )
    operator = build_operator(config).eval().requires_grad_(False)
    for name, parameter in operator.named_parameters():
        if name.startswith("decoder.from_"):
            parameter.mul_(strength)
    operator.card = make_card()
    return operator


def make_ionic_operator() -> Operator:
    """Return such an operator of three total charges, without strength of its own."""
    torch.manual_seed(0)
    config = make_operator().config.model_copy(update={"charges": (0, 1, -1)})
    operator = build_operator(config).eval().requires_grad_(False)
    operator.card = make_card(charges=[-1, 0, 1])
    return operator


def mixed_states(ethanol: Atoms) -> PhaseState:
    """Ethanol, water and the hydroxide ion, bent, in one batch."""
    hydroxide = Atoms("OH", [[0, 0, 0], [0.1, 0, 0.96]], info={"charge": -1})
    batch = [ethanol, molecule("H2O"), hydroxide]
    for seed, atoms in enumerate(batch):
        atoms.rattle(0.05, seed=seed)
    return PhaseState.from_atoms(batch)


@pytest.fixture
def tiny_operator() -> Operator:
    """A small operator with random weights: its paths are smooth and wrong."""
    return make_operator()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small operator's file, so weak that at 1 K a molecule coasts for 100 fs unbroken."""
    return save_operator(
        make_operator(strength=0.003), tmp_path_factory.mktemp("operator") / "tiny.safetensors"
    )


@pytest.fixture
def go(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, list[str]]]:
    """Return a function that runs ``ase-atom run`` into an empty folder: code, out, err lines."""

    def run(
        *options: object, structure: Path = ETHANOL, output: str = "t.dcd", operator: object = None
    ):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        arguments = ["run", structure, "--output", folder / output]
        # A random operator's energy has nothing to do with its paths, nor have these with a thermal
        # molecule's.
        arguments += ["--operator", operator or tiny_checkpoint, "--uncorrected", *options]
        if "--equilibration" not in options:
            arguments.append("--no-equilibration")
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip().splitlines()

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where `go` writes."""
    return tmp_path / "out"


@pytest.fixture
def turning_springs(monkeypatch):
    """Springs pull back a molecule that turns, so thermostats are not to keep its momentum."""
    monkeypatch.setattr(Thermostat, "keeps_momentum", False)
