"""Which module may import which: arrows point one way, and there are no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ADAPTERS = {"ase_atom.ase", "ase_atom.cli", "ase_atom.openmm"}
"""What users meet: nothing below may need them."""

SHARED = {"ase_atom.io.bounds", "ase_atom.io.guard"}
"""How large a file may be, and what is said of a damaged one: for all who read files."""

FORBIDDEN = {
    "ase_atom.state": {"operator", "propagation", "analysis", "io", "molecules.catalogue"},
    "ase_atom.operator": {"propagation", "analysis", "io", "molecules"},
    "ase_atom.molecules": {"propagation", "analysis", "io"},
    "ase_atom.propagation": {"analysis", "io", "molecules.catalogue"},
    "ase_atom.io": {"operator", "propagation", "analysis", "molecules.catalogue"},
    "ase_atom.analysis": set(),
}
"""Parts of the package that know nothing of others, beside the adapters."""


def modules(package: str) -> dict[str, Path]:
    """Files of a package by the names of their modules."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """Modules that a file imports anywhere: at its top, in functions, and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known or node.module in known:
                    yield inner if inner in known else node.module


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports of the package and of the training scripts."""
    files = modules("ase_atom") | modules("training")
    return {name: set(imported(path, set(files))) - {name} for name, path in files.items()}


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def test_no_module_needs_one_that_needs_it(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_no_room_of_the_training_scripts_needs_one_that_needs_it(
    graph: dict[str, set[str]],
) -> None:
    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for module, needed in graph.items():
        if module.count("."):
            rooms.setdefault(room(module), set()).update(
                room(other) for other in needed if room(other) != room(module)
            )
    training = {
        here: {other for other in needed if other.startswith("training.")}
        for here, needed in rooms.items()
        if here.startswith("training.")
    }
    TopologicalSorter(training).prepare()


@pytest.mark.parametrize("part", list(FORBIDDEN))
def test_arrows_point_from_adapters_to_propagation_to_operator_to_state(
    graph: dict[str, set[str]], part: str
) -> None:
    barred = ADAPTERS | {f"ase_atom.{other}" for other in FORBIDDEN[part]} | {"training"}
    wrong = [
        f"{module} imports {other}"
        for module, needed in graph.items()
        if is_within(module, part)
        for other in needed - SHARED
        if any(is_within(other, one) for one in barred)
    ]
    assert wrong == []


def test_the_package_never_needs_the_training_scripts(graph: dict[str, set[str]]) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, needed in graph.items()
        if is_within(module, "ase_atom")
        for other in needed
        if is_within(other, "training")
    ]
    assert wrong == []


def test_chemistry_takes_arrays() -> None:
    """Two modules of `ase_atom.molecules` look at an `ase.Atoms`."""
    looking = {
        path.stem
        for path in (ROOT / "ase_atom" / "molecules").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(a.name == "Atoms" for a in node.names)
    }
    assert looking == {"atoms", "catalogue"}
