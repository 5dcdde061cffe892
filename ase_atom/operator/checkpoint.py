"""Save, load, verify and list operators: safetensors files with their facts in the header."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, overload

import torch
from pydantic import BaseModel, ValidationError
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ase_atom.errors import CheckpointError
from ase_atom.errors.keywords import known_keywords
from ase_atom.files import replace_file
from ase_atom.io.guard import reading
from ase_atom.operator.atomic_charges import AtomicCharges, ChargesCard, PotentialCharges
from ase_atom.operator.base import Operator, checksum
from ase_atom.operator.blueprint import blueprint
from ase_atom.operator.card import OperatorCard
from ase_atom.operator.config import ArchitectureConfig
from ase_atom.operator.engine.choice import Engine, check_engine, evaluated_by
from ase_atom.operator.engine.runtime import OnnxEngine
from ase_atom.operator.leap import LeapCard, LeapDecoder
from ase_atom.operator.potential import Potential, PotentialCard
from ase_atom.operator.registry import build_operator, parse_config
from ase_atom.operator.torch_settings import own_torch

FORMAT = "ase-atom-operator/1"
LEAPS_ALONE = "ase-atom-leaps/1"
SUFFIX = ".safetensors"
_LEAPS, _CHARGES, _POTENTIAL = "leaps.", "atomic_charges.", "potential."
"""What names of facts and tensors begin with that are a leap decoder's, atomic charges' and a
potential's."""

Value = TypeVar("Value")
Card = TypeVar("Card", bound=BaseModel)


@known_keywords()
def save_operator(operator: Operator, path: str | Path) -> Path:
    """Write an operator with its card to one safetensors file, atomically.

    Parameters
    ----------
    operator
        A trained operator; its ``card`` must be set.
    path
        File to write; replaced if it exists.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    CheckpointError
        If the operator has no card.
    """
    if operator.card is None:
        raise CheckpointError("an operator without a card cannot be saved: set operator.card first")
    path = Path(path)
    tensors = {key: value.detach().contiguous() for key, value in operator.state_dict().items()}
    facts = {
        "format": FORMAT,
        "config": operator.config.model_dump_json(),
        "card": operator.card.model_dump_json(),
    }
    leaps = operator.leaps if isinstance(operator.leaps, LeapDecoder) else None
    charges = operator.atomic_charges
    charges = charges if isinstance(charges, AtomicCharges) else None
    parts = (_LEAPS, leaps), (_CHARGES, charges), (_POTENTIAL, operator.potential)
    for prefix, part in parts:
        if part is not None:
            own, weights = part.saved()
            facts |= {prefix + key: text for key, text in own.items()}
            tensors |= {prefix + key: value for key, value in weights.items()}
    facts["checksum"] = checksum(tensors, facts)
    # Written here and not by safetensors, whose files only their owner may read.
    replace_file(path, lambda scratch: scratch.write_bytes(save(tensors, metadata=facts)))
    return path


@known_keywords()
def save_leaps(leaps: LeapDecoder, path: str | Path) -> Path:
    """Write leaps without an operator, learned from a trajectory, to one file, atomically.

    Parameters
    ----------
    leaps
        The decoder.
    path
        File to write; replaced if it exists.
    """
    facts, tensors = leaps.saved()
    facts["format"] = LEAPS_ALONE
    facts["checksum"] = checksum(tensors, facts)
    path = Path(path)
    replace_file(path, lambda scratch: scratch.write_bytes(save(tensors, metadata=facts)))
    return path


@known_keywords()
@own_torch()
def load_leaps(name_or_path: str | Path) -> LeapDecoder:
    """Load leaps from a file of them alone, or those of an operator.

    Parameters
    ----------
    name_or_path
        A shipped operator's name, or a ``.safetensors`` file.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated or altered, or holds no leaps.
    """
    path = find_operator(name_or_path)
    facts, tensors = _read(path, leaps=True)
    with reading(path, CheckpointError, what="does not fit this version of ase-atom"):
        if facts.pop("format") == FORMAT:
            facts, tensors = _take(facts, _LEAPS), _take(tensors, _LEAPS)
        leaps = LeapDecoder.load(facts, tensors)
    if leaps is None:
        raise CheckpointError(f"{path} has no leaps: ase-atom leap-train trains them")
    return leaps


@overload
def load_operator(
    name_or_path: str | Path, engine: Literal["torch"] = "torch", device: str = "cpu"
) -> Operator: ...


@overload
def load_operator(
    name_or_path: str | Path, engine: Engine, device: str = "cpu"
) -> Operator | OnnxEngine: ...


@known_keywords()
@own_torch()
def load_operator(
    name_or_path: str | Path, engine: Engine = "torch", device: str = "cpu"
) -> Operator | OnnxEngine:
    """Load a shipped operator by name, or another operator from its file.

    Parameters
    ----------
    name_or_path
        A name from `list_operators`, or a ``.safetensors`` file.
    engine
        Engine that evaluates the operator: ``torch``; ``onnx``, ONNX Runtime on the CPU in single
        precision, several times faster for small molecules; or ``auto``, ONNX Runtime if it can
        evaluate the operator, else torch.
    device
        Device for torch, such as ``cpu`` or ``cuda``. States may be on another device, and results
        are returned there.

    Returns
    -------
    Operator, or OnnxEngine
        In evaluation mode.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, altered, or not an operator.
    ConfigError
        For an unknown engine or a missing device.
    """
    check_engine(engine, device)
    path = find_operator(name_or_path)
    facts, tensors = _read(path)
    with reading(path, CheckpointError, what="does not fit this version of ase-atom"):
        try:
            config = parse_config(facts["config"])
            card = OperatorCard.model_validate_json(facts["card"])
            leaps = LeapDecoder.load(_take(facts, _LEAPS), _take(tensors, _LEAPS))
            charges = _take(facts, _CHARGES), _take(tensors, _CHARGES)
            potential = Potential.load(_take(facts, _POTENTIAL), _take(tensors, _POTENTIAL))
        except ValidationError as error:
            first = error.errors()[0]
            where = [str(part) for part in first["loc"] if "[" not in str(part)]
            raise ValueError(": ".join([*where, first["msg"]])) from error
        # Weights are drawn before they are read, which is no business of the process's generator.
        with torch.random.fork_rng(devices=[]):
            _check_shapes(config, tensors)
            operator = build_operator(config)
        operator.card = card
        operator.load_state_dict(tensors)
        operator.leaps = None if leaps is None else leaps.to(device)
        if potential is not None:
            if not set(config.elements) <= set(potential.network.config.elements):
                raise ValueError("its potential does not know all of the operator's elements")
            operator.potential = potential
            operator.has_energy = True
        atomic = AtomicCharges.load(operator, *charges)
        if atomic is not None:
            operator.atomic_charges = atomic.to(device)
        elif potential is not None:
            operator.atomic_charges = PotentialCharges(operator)
    return evaluated_by(operator.eval().requires_grad_(False), engine, device)


def _take(values: dict[str, Value], prefix: str) -> dict[str, Value]:
    """Take those under a prefix out of a dictionary, and return them without it."""
    names = [name for name in values if name.startswith(prefix)]
    return {name.removeprefix(prefix): values.pop(name) for name in names}


def _check_shapes(config: ArchitectureConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless an operator of this configuration has these tensors.

    Looked at without memory: settings may ask for far more of it than their file is long.
    """
    with blueprint():
        wanted = {key: value.shape for key, value in build_operator(config).state_dict().items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        if key not in wanted or key not in tensors:
            whose = "settings" if key in wanted else "tensors"
            raise ValueError(f"only its {whose} name {key}")
        if tensors[key].shape != wanted[key]:
            raise ValueError(
                f"by its settings {key} is {list(wanted[key])}, and it is "
                f"{list(tensors[key].shape)}"
            )


def find_operator(name_or_path: str | Path) -> Path:
    """Path of the file behind a shipped name or a path.

    Raises
    ------
    CheckpointError
        If there is neither.
    """
    text = str(name_or_path)
    shipped = {path.stem: path for path in _shipped_files()}
    if text in shipped:
        return shipped[text]
    path = Path(text).expanduser()
    if path.is_file():
        return path
    names = ", ".join(sorted(shipped)) or "none"
    raise CheckpointError(
        f"no operator named {text!r} and no such file; shipped operators: {names}"
    )


@known_keywords()
def list_operators() -> list[OperatorCard]:
    """Return the cards of the shipped operators, sorted by name."""
    return [read_card(path) for path in sorted(_shipped_files())]


@known_keywords()
def read_card(path: str | Path) -> OperatorCard:
    """The card in a checkpoint's header, without loading its weights.

    Raises
    ------
    CheckpointError
        If the file is no readable operator.
    """
    path = Path(path)
    with _reading(path):
        return OperatorCard.model_validate_json(_header(path)["card"])


class PartCards(NamedTuple):
    """Cards of what a checkpoint holds beside an operator; None where it holds none."""

    leaps: LeapCard | None
    atomic_charges: ChargesCard | None
    potential: PotentialCard | None


def read_part_cards(path: str | Path) -> PartCards:
    """The cards of what goes with an operator, without loading weights.

    Raises
    ------
    CheckpointError
        If the file is no readable operator.
    """
    path = Path(path)
    with _reading(path):
        facts = _header(path)

        def card(prefix: str, kind: type[Card]) -> Card | None:
            text = facts.get(f"{prefix}card")
            return None if text is None else kind.model_validate_json(text)

        return PartCards(
            card(_LEAPS, LeapCard), card(_CHARGES, ChargesCard), card(_POTENTIAL, PotentialCard)
        )


def _header(path: Path) -> dict[str, str]:
    """What a checkpoint says of itself, once its format is known."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, str] = file.metadata() or {}
    _check_format(path, facts)
    return facts


def _read(path: Path, leaps: bool = False) -> tuple[dict[str, str], dict[str, Tensor]]:
    with _reading(path):
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if not (leaps and facts.get("format") == LEAPS_ALONE):
                _check_format(path, facts)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        expected = facts.pop("checksum")
        found = checksum(tensors, facts)
    if found != expected:
        raise CheckpointError(
            f"{path} was altered after it was saved (checksum differs): fetch or train it again"
        )
    return facts, tensors


def _check_format(path: Path, facts: dict[str, str]) -> None:
    found = facts.get("format")
    if found == LEAPS_ALONE:
        raise CheckpointError(
            f"{path} holds leaps alone, learned from a trajectory, and no operator that settles "
            "them: load_leaps reads them, for CalculatorSteps or OpenMMSteps"
        )
    if found != FORMAT:
        raise CheckpointError(
            f"{path} is no ase-atom operator: its format is {found!r}, not {FORMAT!r}"
        )


def _reading(path: Path) -> AbstractContextManager[None]:
    what = "is truncated or no ase-atom operator"
    return reading(path, CheckpointError, what=what, advice="fetch or train it again")


def _shipped_files() -> list[Path]:
    folder = Path(str(resources.files("ase_atom"))) / "weights"
    return list(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
