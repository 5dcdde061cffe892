"""An operator evaluated by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_atom.errors import ConfigError, EngineWarning
from ase_atom.errors.warning import warn
from ase_atom.operator.base import Operator
from ase_atom.operator.engine.session import Arrays, Evaluator, Session
from ase_atom.operator.leap.decoder import LeapDecoder
from ase_atom.operator.leap.engines import EngineLeaps, NumbaLeaps, OnnxLeaps
from ase_atom.operator.potential import Potential
from ase_atom.operator.potential.graph import constants, graph_of
from ase_atom.operator.protocol import OperatorBase
from ase_atom.operator.torch_settings import own_torch
from ase_atom.operator.trunk.lifting import limited
from ase_atom.state import PhaseState

TOLERANCE = 1e-5
"""Largest difference from torch on the first state: Å, eV/atom and eV/Å, or relative above one.

Ten times that for a potential, whose sums are longer."""


class OnnxEngine(OperatorBase):
    """An operator whose network runs in ONNX Runtime: on the CPU, in single precision.

    The graphs are written from the operator's weights when they are first needed, in some tenths
    of a second, so that none can be stale, damaged or another operator's. The first answer of each
    is compared with torch's. Gradients of states that require them, and double precision, are
    torch's.

    Parameters
    ----------
    operator
        What is evaluated; it answers itself where the runtime cannot.
    strict
        Raise where the runtime cannot, instead of going on with torch.

    Attributes
    ----------
    operator
        The operator in torch.
    reason
        Why torch evaluates instead, or None.

    Raises
    ------
    ConfigError
        If the architecture has no graph, or the operator is not in single precision on the CPU.
    """

    kind, title = "onnx", "ONNX Runtime"
    leaps_of: type[EngineLeaps] = OnnxLeaps

    def __init__(self, operator: Operator, strict: bool = False) -> None:
        network = operator.network()
        if network is None:
            raise ConfigError(
                f"{operator.name} has no graph for {self.title}, as its architecture is "
                f"{operator.config.architecture}: use engine='torch'"
            )
        weight = next(operator.parameters())
        if weight.dtype != torch.float32 or weight.device.type != "cpu":
            raise ConfigError(
                f"{operator.name} is in {weight.dtype} on {weight.device}: {self.title} computes "
                "in torch.float32 on cpu; use engine='torch'"
            )
        self.operator, self.strict = operator, strict
        self.horizon, self.piece, self.card = operator.horizon, operator.piece, operator.card
        self.has_energy = operator.has_energy
        self.predicts_velocities = operator.predicts_velocities
        self.atomic_charges = operator.atomic_charges
        leaps = operator.leaps
        self.leaps = self.leaps_of(leaps) if isinstance(leaps, LeapDecoder) else leaps
        self.reason: str | None = None
        self._network = network
        self._alone = RLock()  # what is known of the last molecules is for one thread at a time
        self._forget()

    @property
    def engine(self) -> str:  # type: ignore[override]
        """What evaluates: that of the class, or ``torch`` where that failed."""
        return self.kind if self.reason is None else "torch"

    @property
    def moves_centre_exactly(self) -> bool:  # type: ignore[override]
        """Whether it is not torch that evaluates."""
        return self.reason is None

    @property
    def potential(self) -> Potential | None:
        """That of the operator."""
        return self.operator.potential

    @property
    def fingerprint(self) -> str:
        """That of the operator."""
        return self.operator.fingerprint

    @own_torch()
    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the state at ``times``; see `Operator.forward`."""
        return self._answer(
            "path", state, lambda: self._path(state, times), lambda: self.operator(state, times)
        )

    @own_torch()
    def energy(self, state: PhaseState) -> Tensor:
        """Potential energy in eV, ``[B]``; see `Operator.energy`."""
        return self._answer(
            "energy", state, lambda: self._energy(state, forces=False)[:1],
            lambda: (self.operator.energy(state),),
        )[0]  # fmt: skip

    @own_torch()
    def energy_and_forces(self, state: PhaseState) -> tuple[Tensor, Tensor]:
        """Potential energy in eV, ``[B]``, and forces −∇E in eV/Å, ``[B, N, 3]``."""
        return self._answer(
            "forces", state, lambda: self._energy(state, forces=True),
            lambda: self.operator.energy_and_forces(state),
        )  # fmt: skip

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of the operator, as torch has them."""
        return self.operator.parameters()

    def in_double_precision(self) -> Operator:
        """The operator in torch, in double precision."""
        return self.operator.in_double_precision()

    # -- evaluation --------------------------------------------------------------------------------

    def _path(self, state: PhaseState, times: Tensor) -> tuple[Tensor, ...]:
        pieces, count, key = self._plan(times)
        molecule = self._molecule(state)
        x, v = _double(state.positions), _double(state.velocities)
        out: list[NDArray[Any]] = []
        for piece, (here, instants) in enumerate(pieces):
            moving = {"x": x, "v": v} | self._heard(molecule, x)
            found = self._run("path", molecule, moving, (key, piece), instants)
            if len(pieces) == 1:
                out = found
                break
            out = out or [np.empty((len(x), count, *x.shape[1:])) for _ in range(2)]
            for side, path in zip(out, found, strict=True):
                side[:, here] = path[:, : len(here)]
            x, v = (path[:, -1] for path in found)
        out = out or [np.empty((len(x), 0, *x.shape[1:])) for _ in range(2)]
        return tuple(_like(side, state.positions) for side in out)

    def _heard(self, molecule: Arrays, x: NDArray[Any]) -> Arrays:
        """Forces of a potential at the start of a piece, where the network hears them."""
        if "force_gate" not in molecule:
            return {}
        forces = torch.from_numpy(-self._felt(molecule, x)[1])
        heard = limited(forces, torch.from_numpy(molecule["limits"]))
        return {"f": heard.float().contiguous().numpy()}

    def _felt(self, molecule: Arrays, x: NDArray[Any]) -> list[NDArray[Any]]:
        """A potential's energies and gradients; the last ones are kept.

        A jump begins where the one before ended, whose energy was asked for already.
        """
        last = self._last_felt
        if last is not None and last[0] is molecule and np.array_equal(last[1], x):
            return last[2]
        found = self._run("heard", molecule, {"x": x})
        self._last_felt = molecule, x.copy(), found
        return found

    def _energy(self, state: PhaseState, forces: bool) -> tuple[Tensor, ...]:
        molecule, x = self._molecule(state), _double(state.positions)
        if self.potential is not None and (forces or "force_gate" in molecule):
            output, *gradient = self._felt(molecule, x)[: 1 + forces]
        else:
            output, *gradient = self._run("forces" if forces else "energy", molecule, {"x": x})
        energy = torch.from_numpy(output[:, 0, 0] * self._scale + self._offsets)
        energy = energy if state.positions.is_cpu else energy.to(state.device)
        return energy, *(_like(-self._scale * each, state.positions) for each in gradient)

    def _run(
        self,
        kind: str,
        molecule: Arrays,
        moving: Arrays,
        key: object = None,
        shared: Arrays | None = None,
    ) -> list[NDArray[Any]]:
        """Run a graph, in parts of the batch as its session wants them.

        ``molecule`` and ``moving`` have an axis of the batch first, ``shared`` has none; that has
        the ``key``.
        """
        session = self._session(kind)
        shape = molecule["kinds"].shape
        rows = session.rows(shape)
        if rows >= shape[0] and (constant := self._constants.get((key, 0, rows))) is not None:
            return session(constant, moving)
        parts = []
        for row in range(0, max(shape[0], 1), rows):
            constant = self._constants.get((key, row, rows))
            if constant is None:
                constant = {name: each[row : row + rows] for name, each in molecule.items()}
                constant |= shared or {}
                self._constants[key, row, rows] = constant
            part = {name: each[row : row + rows] for name, each in moving.items()}
            parts.append(session(constant, part))
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(sides) for sides in zip(*parts, strict=True)]

    def _molecule(self, state: PhaseState) -> Arrays:
        """Inputs of the molecules, worked out anew where these are others than before."""
        last = self._known
        if last is not None:
            numbers, masses, charge, feed = last
            same = (
                (numbers is state.numbers or torch.equal(numbers, state.numbers))
                and (masses is state.masses or torch.equal(masses, state.masses))
                and (charge is state.charge or torch.equal(charge, state.charge))
            )
            if same:
                return feed
        operator, masses = self.operator, state.masses.double()
        found = self._network.molecule(operator.species(state), masses)
        if operator.potential is None:
            self._offsets = operator.offsets(state.numbers, state.charge).numpy()
            self._scale = float(operator.energy_scale)
        else:
            network, kinds = operator.potential.network, operator.potential.kinds(state.numbers)
            found |= constants(network, kinds, masses, state.charge)
            self._offsets, self._scale = network.alone[kinds].sum(1).numpy(), 1.0
        feed = {name: each.contiguous().numpy() for name, each in found.items()}
        self._constants.clear()
        self._known = (state.numbers, state.masses, state.charge, feed)
        return feed

    def _plan(self, times: Tensor) -> tuple[list[tuple[list[int], Arrays]], int, object]:
        """Places of the times in each piece of the path with its inputs, their number, and a key.

        Kept for times that come again, as those of jumps do.
        """
        times = torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        key = times.numpy(force=True).tobytes()
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
                self._constants.clear()
            plan = []
            for here, asked in self.operator.pieces(times):
                found = self._network.instants(asked)
                plan.append((here, {name: each.numpy() for name, each in found.items()}))
            self._plans[key] = plan
        return self._plans[key], len(times), key

    def _session(self, kind: str) -> Evaluator:
        """What evaluates a path, an energy or forces, with as many threads as torch has now."""
        threads = torch.get_num_threads()
        if (kind, threads) not in self._sessions:
            self._sessions[kind, threads] = self._open(kind, threads)
        return self._sessions[kind, threads]

    def _open(self, kind: str, threads: int) -> Evaluator:
        network = self._network
        if self._of_potential(kind):
            assert self.operator.potential is not None
            model = graph_of(self.operator.potential.network, kind != "energy")
        else:
            model = network.path() if kind == "path" else network.energy(kind == "forces")
        return Session(model, threads)

    def _of_potential(self, kind: str) -> bool:
        """Whether a graph is the potential's and not the network's."""
        return kind == "heard" or (kind == "energy" and self.potential is not None)

    # -- trust -------------------------------------------------------------------------------------

    def _answer(
        self,
        kind: str,
        state: PhaseState,
        engine: Callable[[], tuple[Tensor, ...]],
        torch_itself: Callable[[], tuple[Tensor, ...]],
    ) -> Any:
        """The engine's answer, if the first of its kind is torch's; one thread at a time."""
        with self._alone:
            return self._checked(kind, state, engine, torch_itself)

    def _checked(
        self,
        kind: str,
        state: PhaseState,
        engine: Callable[[], tuple[Tensor, ...]],
        torch_itself: Callable[[], tuple[Tensor, ...]],
    ) -> Any:
        graded = state.positions.requires_grad or state.velocities.requires_grad
        if self.reason is not None or (graded and torch.is_grad_enabled()):
            return torch_itself()
        if kind in self._trusted:
            return engine()
        with torch.no_grad():
            expected = torch_itself()  # refuses first what is to be refused
        try:
            found = engine()
            tolerance = TOLERANCE * (1 if self.operator.potential is None else 10)
            wrong = _differs(found, expected, state, tolerance)
        except Exception as error:  # whatever a runtime of another build or processor raises
            wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if wrong is None:
            if all(bool(torch.isfinite(side).all()) for side in expected):
                self._trusted.add(kind)
            return found
        message = f"{self.operator.name} cannot be evaluated by {self.title}: {wrong}"
        if self.strict:
            raise ConfigError(f"{message}; use engine='torch'")
        self.reason = wrong
        warn(f"{message}; torch evaluates it", EngineWarning)
        return expected

    def _forget(self) -> None:
        self._sessions: dict[tuple[str, int], Evaluator] = {}
        self._constants: dict[tuple[object, int, int], Arrays] = {}
        self._trusted: set[str] = set()
        self._known: tuple[Tensor, Tensor, Tensor, Arrays] | None = None
        self._plans: dict[bytes, list[tuple[list[int], Arrays]]] = {}
        self._offsets, self._scale = np.zeros(0), 1.0
        self._last_felt: tuple[Arrays, NDArray[Any], list[NDArray[Any]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Sessions stay in their process.
        return {key: self.__dict__[key] for key in ("operator", "strict")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


_MOST_PLANS = 64
"""Sets of times whose pieces are kept."""


def _double(values: Tensor) -> NDArray[Any]:
    if values.dtype != torch.float64 or not values.is_cpu:
        values = values.double().cpu()
    return np.ascontiguousarray(values.detach().numpy())


def _like(values: NDArray[Any], like: Tensor) -> Tensor:
    found = torch.from_numpy(values)
    return found if like.dtype is torch.float64 and like.is_cpu else found.to(like)


def _differs(
    found: tuple[Tensor, ...], expected: tuple[Tensor, ...], state: PhaseState, tolerance: float
) -> str | None:
    """How answers differ by more than the tolerance, if they do."""
    for ours, theirs in zip(found, expected, strict=True):
        finite = torch.isfinite(theirs)
        if not torch.equal(finite, torch.isfinite(ours)):
            return "it gives numbers that are not finite"
        largest = float(theirs[finite].abs().max()) if bool(finite.any()) else 0.0
        allowed = tolerance * max(1.0, largest)
        if theirs.ndim == 1:
            # Energies are thousands of eV, of which an operator knows the part per atom.
            allowed = tolerance * state.numbers.shape[1]
        off = float((ours - theirs)[finite].abs().max()) if bool(finite.any()) else 0.0
        if off > allowed:
            return f"its first answer differs from torch's by {off:.1e}, more than {allowed:.0e}"
    return None


class NumbaEngine(OnnxEngine):
    """An operator whose paths, energies and leaps Numba compiled for this processor.

    All else is as in `OnnxEngine`, and forces are its. The first call compiles, in some twenty
    seconds; Numba keeps the result for later processes.
    """

    kind, title = "numba", "Numba"
    leaps_of = NumbaLeaps

    def _open(self, kind: str, threads: int) -> Evaluator:
        kernel = None if self._of_potential(kind) else self._network.kernel(kind, threads)
        return kernel or super()._open(kind, threads)

    def _energy(self, state: PhaseState, forces: bool) -> tuple[Tensor, ...]:
        if self.potential is not None:
            return super()._energy(state, forces)
        energy, *rest = super()._energy(state, forces)
        # The same, to the last bit, with forces and without.
        return (super()._energy(state, False)[0] if forces else energy), *rest
