r"""Reference engines by name: what computes the energies and forces that an operator learns.

``gfn2`` (the default) and ``gfn1`` through tblite, ``aimnet2`` through TorchScript,
``pyscf:<functional>/<basis>`` through PySCF, and any other ASE calculator as
``<module>:<callable>``, which makes one. A package adds engines of its own by name as entry points
of the group ``ase_atom.engines``, whose values are `Maker`\ s.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import chemical_symbols

from ase_atom import plugins
from ase_atom.analysis.reference_engines import ACCURACY, XTB, functional_and_basis, load_class
from ase_atom.errors import ConfigError, DataError
from training.data.molecules import Molecule
from training.engines.potential import Potential

GROUP = "ase_atom.engines"
"""Group of entry points under which other packages name their engines."""

WHEREABOUTS = {"aimnet2": ("path",)}
"""Options that say where an engine's files lie, which is no matter of what it computes."""

CLOSED_SHELL = {
    "charge": (0, None),
    "multiplicity": (1, None),
    "mult": (1, None),
    "spin": (0, None, "none", "non-polarized"),
    "uhf": (0, None),
    "magmom": (0, None),
}
"""Options by which calculators take a charge or an open shell, and their values for neither."""


@dataclass(frozen=True)
class Engine:
    """A reference engine.

    Attributes
    ----------
    name
        As given on the command line.
    program, version
        The package that computes and its version.
    theory
        Level of theory for people: ``GFN2-xTB (tblite 0.8.0)``.
    make
        Returns a fresh ASE calculator; each burst gets its own, so that none depends on another.
    charges
        Total charges that it computes.
    elements
        Atomic numbers that it knows; None if it has to be asked.
    potential
        Returns a potential that evaluates many molecules at a time; None for engines that do not.
    """

    name: str
    program: str
    version: str
    theory: str
    make: Callable[[], Calculator]
    charges: tuple[int, ...] = (0,)
    elements: tuple[int, ...] | None = None
    potential: Callable[[], Potential] | None = None

    def check(self, molecule: Molecule) -> None:
        """Check that the engine knows the elements of a molecule.

        Raises
        ------
        DataError
            Naming the one that it does not know.
        """
        if self.elements is None:
            return
        for number in molecule.numbers().tolist():
            if number not in self.elements:
                known = ", ".join(chemical_symbols[one] for one in self.elements)
                raise DataError(
                    f"{molecule.smiles!r} holds {chemical_symbols[number]}, and engine "
                    f"{self.name} knows {known}"
                )


Maker = Callable[[str, dict[str, Any]], Engine]
"""Makes an engine of the name on the command line and the calculator's keyword arguments.

The name is that of the entry point, or begins with it and a colon, as in ``pyscf:pbe/def2-svp``.
Keywords that it does not know are a `ConfigError`.
"""


class Moving(GetPropertiesMixin):
    """A calculator for atoms of which nothing changes but positions.

    ASE's own calculators compare everything about the atoms several times a step, which takes a
    quarter of the time of GFN2-xTB dynamics of ethanol. The results are the same.

    Parameters
    ----------
    calculator
        Computes energy and forces; not to be used by others meanwhile.
    """

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator
        self._positions: np.ndarray | None = None

    def calculation_required(self, atoms: Atoms, properties: Sequence[str]) -> bool:
        """Say whether the atoms have moved since the last calculation."""
        return self._positions is None or not np.array_equal(self._positions, atoms.positions)

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Return ``energy`` (eV), ``forces`` (eV/Å) or whatever else the calculator computes.

        Raises
        ------
        PropertyNotImplementedError
            If it does not compute this.
        """
        if atoms is not None and self.calculation_required(atoms, [name]):
            if not allow_calculation:
                return None
            changes = all_changes if self._positions is None else ["positions"]
            self._positions = None
            self.calculator.reset()
            self.calculator.calculate(atoms, ["energy", "forces"], changes)
            self._positions = atoms.positions.copy()
        if name not in self.calculator.results:
            raise PropertyNotImplementedError(f"{name} is not computed")
        value = self.calculator.results[name]
        return value.copy() if isinstance(value, np.ndarray) else value


def get_engine(name: str, options: str = "{}") -> Engine:
    """Look an engine up.

    Parameters
    ----------
    name
        ``gfn2``, ``gfn1``, ``aimnet2``, ``pyscf:<functional>/<basis>``, the name of an engine of
        another package, or ``<module>:<callable>``.
    options
        JSON object of keyword arguments for the calculator.

    Raises
    ------
    ConfigError
        If there is no such engine, it is not installed, it does not take the options, or these set
        a charge or an open shell.
    """
    keywords = _parse(options)
    if name != "aimnet2":  # it knows no such options: charges come with the molecules
        _check_closed_shell(keywords)
    engine = _maker(name)(name, keywords)
    try:
        made = engine.make()
    except Exception as error:
        raise ConfigError(f"engine {name} does not start: {error}") from error
    if not all(hasattr(made, part) for part in ("calculate", "results", "reset")):
        raise ConfigError(f"engine {name} makes a {type(made).__name__}, not an ASE calculator")
    return engine


def _maker(name: str) -> Maker:
    """Return what makes an engine: one of this module, one of another package, or a calculator."""
    family, colon, _ = name.partition(":")
    installed = plugins.installed(GROUP, "engine", _SHIPPED)
    if family in _SHIPPED and bool(colon) == (family == "pyscf"):
        return _SHIPPED[family]
    if family in installed:
        return partial(_of_package, installed[family])
    if name.count(":") == 1:
        return _dotted
    raise ConfigError(
        f"unknown engine {name!r}: there are {', '.join([*XTB, 'aimnet2', *installed])}, "
        "pyscf:<functional>/<basis> such as pyscf:pbe/def2-svp, and any ASE calculator as "
        "<module>:<callable>"
    )


def _of_package(entry: EntryPoint, name: str, keywords: dict[str, Any]) -> Engine:
    make: Maker = plugins.load(entry, "engine")
    try:
        engine = make(name, keywords)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"engine {name} of {entry.value} cannot be made: {error}") from error
    if not isinstance(engine, Engine):
        raise ConfigError(
            f"engine {name} of {entry.value} is a {type(engine).__name__}, and no "
            "training.engines.factory.Engine"
        )
    return engine


def recorded_options(name: str, options: str) -> str:
    """Return an engine's options as data record them: without those that say where files lie."""
    left_out = WHEREABOUTS.get(name, ())
    keywords = _parse(options)
    if not keywords.keys() & set(left_out):
        return options
    return json.dumps({key: value for key, value in keywords.items() if key not in left_out})


def _xtb(name: str, keywords: dict[str, Any]) -> Engine:
    calculator = load_class(
        "training.engines.xtb", "EnergyAndForces", f"engine {name}", "pip install tblite"
    )
    _known(name, keywords, *calculator.default_parameters)
    settings = {"method": XTB[name], "verbosity": 0, "accuracy": ACCURACY} | keywords
    release = version("tblite")
    theory = f"{settings['method']}{_stated(keywords)} (tblite {release})"
    return Engine(name, "tblite", release, theory, lambda: calculator(**settings))


def _aimnet2(name: str, keywords: dict[str, Any]) -> Engine:
    # Torch takes a second or two to import.
    from training.engines.aimnet2 import EnsembleCalculator, load_ensemble

    ensemble = load_ensemble(**_known(name, keywords, "path", "sha256"))
    return Engine(
        name,
        "aimnet2",
        ensemble.version,
        ensemble.theory,
        lambda: EnsembleCalculator(ensemble),
        ensemble.charges,
        ensemble.elements,
        lambda: ensemble,
    )


def _known(name: str, keywords: dict[str, Any], *options: str) -> dict[str, Any]:
    for option in keywords:
        if option not in options:
            raise ConfigError(
                f"engine {name} has no option {option!r}; it has {', '.join(options)}"
            )
    return keywords


def _pyscf(name: str, keywords: dict[str, Any]) -> Engine:
    functional, basis = functional_and_basis(name, "engine")
    calculator = load_class(
        "training.engines.dft", "DensityFunctional", f"engine {name}", "pip install pyscf"
    )
    release = version("pyscf")
    settings = {"functional": functional, "basis": basis} | keywords
    stated = _stated(calculator.default_parameters | keywords)
    theory = f"{functional}/{basis}, density fitting{stated} (PySCF {release})"
    return Engine(name, "pyscf", release, theory, lambda: calculator(**settings))


def _dotted(name: str, keywords: dict[str, Any]) -> Engine:
    module, _, attribute = name.partition(":")
    calculator = load_class(module, attribute, f"engine {name}", "check the module's name")
    package = module.partition(".")[0]
    try:
        release = version(package)
    except PackageNotFoundError:
        release = str(getattr(importlib.import_module(package), "__version__", "unknown"))
    theory = f"{attribute}{_stated(keywords)} ({package} {release})"
    return Engine(name, package, release, theory, lambda: calculator(**keywords))


def _stated(keywords: dict[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in keywords.items())


_SHIPPED: dict[str, Maker] = {"gfn2": _xtb, "gfn1": _xtb, "aimnet2": _aimnet2, "pyscf": _pyscf}


def _parse(options: str) -> dict[str, Any]:
    try:
        keywords = json.loads(options)
    except json.JSONDecodeError as error:
        raise ConfigError(f"engine options are no JSON ({error}): {options}") from error
    if not isinstance(keywords, dict):
        raise ConfigError(
            f'engine options must be a JSON object such as {{"accuracy": 1.0}}: {options}'
        )
    return keywords


def _check_closed_shell(keywords: dict[str, Any]) -> None:
    for option, value in keywords.items():
        allowed = CLOSED_SHELL.get(option.lower())
        if allowed and value not in allowed:
            raise ConfigError(
                f"engine option {option}={value}: only neutral closed-shell molecules are "
                f"simulated, for which {option} is {allowed[0]}"
            )
        if isinstance(value, dict):
            _check_closed_shell(value)
