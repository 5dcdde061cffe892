"""Which functions work out the mechanics of a state."""

from __future__ import annotations

from importlib.util import find_spec

from ase_atom.state import PhaseState


def with_bodies(state: PhaseState, engine: str) -> PhaseState:
    """Return a state whose mechanics are compiled if Numba is the engine of the jumps.

    All states that come from it by `PhaseState.replace` have the same, and no others.
    """
    state = PhaseState(state.numbers, state.masses, state.positions, state.velocities, state.charge)
    if engine == "numba" and find_spec("numba") is not None:
        from ase_atom.propagation.compiled_mechanics import CompiledBodies

        counts = state.num_atoms.cpu().numpy()
        state.known["bodies"] = CompiledBodies.made(state, counts=counts)
    return state
