"""Thermal equilibrium for ASE's atoms, before dynamics that would not bring them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from ase import Atoms

from ase_atom.ase.settings import ASE_TIME, ase_time, choose_noise, choose_operator, in_fs
from ase_atom.errors.keywords import known_keywords
from ase_atom.molecules.atoms import fixes_centre_of_mass
from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Langevin, Settings, check_time, default_stride
from ase_atom.propagation import equilibrate as equilibrate_state
from ase_atom.propagation.equilibration import DURATION, FRICTION
from ase_atom.state import PhaseState
from ase_atom.units import FS, velocities_to_ase

_FORGOTTEN = 100.0  # friction times the time after which velocities are all noise


@known_keywords()
def equilibrate(
    atoms: Atoms,
    temperature_K: float,
    *,
    duration: float = DURATION * FS,
    friction: float = FRICTION / FS,
    stride: float | None = None,
    operator: str | Path | OperatorLike | None = None,
    energy_correction: bool = True,
    rng: Any = None,
    seed: int | None = None,
    threads: int | None = 1,
) -> None:
    """Equilibrate a molecule by Langevin dynamics with the operator's jumps.

    Use it before `ATOMBussi`, which scales all velocities alike, or `ATOMVerlet`, which conserves
    the energy. From a structure at its minimum, velocities of 300 K would become 150 K. Atoms at
    rest get velocities first. Positions and momenta of the atoms change; the centre of mass is
    fixed.

    Parameters
    ----------
    atoms
        One isolated molecule. The only constraint that is supported is ``FixCom``.
    temperature_K
        Temperature in K.
    duration
        Length of the equilibration in ASE's unit, by default 1 ps, rounded up to whole strides.
    friction
        Friction in ASE's inverse unit of time, by default 20 per ps.
    stride, operator, energy_correction, rng, seed, threads
        As in `ase_atom.ATOMPropagator`.

    Raises
    ------
    ConfigError, CoverageError, HorizonError, StateError
        As `ase_atom.ATOMPropagator`.
    BrokenStateError
        If the molecule breaks; the atoms stay as they were.
    """
    fixes_centre_of_mass(atoms)
    model = choose_operator(atoms, operator)
    jump = default_stride(model) if stride is None else ase_time("stride", stride)
    time = ase_time("duration", duration)
    check_time("stride", jump, ASE_TIME)
    check_time("duration", time, ASE_TIME)
    noise = choose_noise(rng, seed, thermostatted=True)
    asked = Settings(
        kind=Langevin.name,
        temperature=temperature_K,
        own={"friction": in_fs("friction", friction, FS)},
        energy_correction=energy_correction,
        names={"temperature": "temperature_K"},
    ).ensemble()
    ensemble = cast(Langevin, asked)
    with own_torch(threads), torch.no_grad():
        state = PhaseState.from_atoms(atoms)
        if not bool(state.velocities.any()):
            state = ensemble.thermalise(state, _FORGOTTEN / ensemble.friction, noise)
        found = equilibrate_state(
            model,
            state,
            ensemble.temperature_K,
            duration=time,
            friction=ensemble.friction,
            stride=jump,
            energy_correction=energy_correction,
            seed=noise,
        )
    if found.broken:
        raise found.broken[0]
    velocities = velocities_to_ase(found.state.velocities[0].double().numpy())
    atoms.arrays["positions"][...] = found.state.positions[0].double().numpy()
    atoms.set_momenta(atoms.get_masses()[:, None] * velocities, apply_constraint=False)
