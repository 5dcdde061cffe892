"""Random velocities: Maxwell-Boltzmann samples and the exact maps of two thermostats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.errors.values import whole_number
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation.mechanics import Bodies, array, tensor
from ase_atom.state import PhaseState
from ase_atom.units import KB, thermal_speed

Noise = Callable[[torch.Size], Tensor]
"""Gives independent standard normal numbers of a shape, float64 on the CPU."""


@runtime_checkable
class SerialisableNoise(Protocol):
    """A source of noise whose state can be kept, and which goes on from a kept state."""

    def __call__(self, shape: torch.Size) -> Tensor: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class TorchNoise:
    """Standard normal numbers from a generator of torch's, whose state can be kept.

    Numbers are float64 on the CPU whatever they are used for, so a seed means the same on every
    device.

    Parameters
    ----------
    source
        A seed, or a generator on the CPU.

    Raises
    ------
    ConfigError
        For a seed that is no whole number from 0 to 2⁶⁴ - 1.
    """

    def __init__(self, source: int | torch.Generator) -> None:
        if not isinstance(source, torch.Generator):
            seed = whole_number("seed", source)
            if seed >= 2**64:
                raise ConfigError(f"seed is at most 2**64 - 1, not {seed}")
            source = torch.Generator("cpu").manual_seed(seed)
        self._generator = source

    def __call__(self, shape: torch.Size) -> Tensor:
        """Draw standard normal numbers of a shape."""
        return torch.randn(shape, generator=self._generator, dtype=torch.float64, device="cpu")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of the generator."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a generator was.

        Raises
        ------
        ConfigError
            If this is no state of such a generator.
        """
        try:
            self._generator.set_state(state["generator"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ConfigError("this is no state of torch's generator on the CPU") from error


def torch_noise(source: int | torch.Generator) -> TorchNoise:
    """Return a source of noise from a seed or a CPU generator, see `TorchNoise`."""
    return TorchNoise(source)


@own_torch()
def sample_velocities(
    state: PhaseState, temperature: float, generator: torch.Generator, fix_com: bool = True
) -> PhaseState:
    """Draw velocities from the Maxwell-Boltzmann distribution.

    Parameters
    ----------
    state
        The molecules, whose velocities are replaced.
    temperature
        K.
    generator
        Source of the random numbers, on the CPU.
    fix_com
        Take the centre of mass's part out, which leaves the other 3N - 3 degrees of freedom at
        the temperature.
    """
    noise = torch_noise(generator)(state.velocities.shape).to(state.velocities)
    state = state.replace(velocities=thermal_speeds(state, temperature) * noise)
    return state.without_drift() if fix_com else state


def ornstein_uhlenbeck(
    state: PhaseState,
    temperature: float,
    friction: float,
    duration: float,
    noise: Tensor,
    fix_com: bool = False,
) -> PhaseState:
    """Apply the exact Ornstein-Uhlenbeck map to the velocities.

    Parameters
    ----------
    state
        The molecules.
    temperature
        K.
    friction
        1/fs.
    duration
        fs.
    noise
        Standard normal numbers, ``[B, N, 3]``.
    fix_com
        Bring the centre of mass to rest.
    """
    keep = math.exp(-friction * duration)
    strength = math.sqrt(-math.expm1(-2.0 * friction * duration))  # sqrt(1 - keep²), exactly
    strength *= thermal_speed(1.0, temperature)
    velocities = Bodies.of(state).ornstein_uhlenbeck(
        array(state.velocities), keep, strength, array(noise), fix_com
    )
    return state.replace(velocities=tensor(velocities, state.velocities))


def rescale_kinetic_energy(
    state: PhaseState,
    degrees_of_freedom: Tensor,
    temperature: float,
    relaxation: float,
    duration: float,
    noise: Tensor,
    fix_com: bool = False,
) -> PhaseState:
    """Apply the exact map of stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007).

    With c = exp(-t/τ), the mean kinetic energy K̄ = N_f k_B T / 2, and standard normal R_1 … R_Nf,
    all velocities are multiplied by α,

        α² K = c K + (1 - c) (K̄ / N_f) Σ_i R_i² + 2 R_1 sqrt(c (1 - c) K K̄ / N_f),

    with α of the sign of R_1 + sqrt(c N_f K / ((1 - c) K̄)).

    Parameters
    ----------
    state
        The molecules; the kinetic energy of each must be above zero.
    degrees_of_freedom
        N_f, ``[B]``.
    temperature
        K.
    relaxation
        τ in fs.
    duration
        t in fs.
    noise
        Standard normal numbers, ``[B, F]`` with F at least the largest N_f.
    fix_com
        Bring the centre of mass to rest first.
    """
    velocities = Bodies.of(state).rescaled(
        array(state.velocities),
        degrees_of_freedom.cpu().numpy(),
        array(noise),
        math.exp(-duration / relaxation),
        0.5 * KB * temperature,  # K̄ / N_f
        fix_com,
    )
    return state.replace(velocities=tensor(velocities, state.velocities))


def thermal_speeds(state: PhaseState, temperature: float) -> Tensor:
    """Return thermal speeds in Å/fs at a temperature in K, ``[B, N, 1]``, zero on padding."""
    return tensor(thermal_speed(1.0, temperature) * Bodies.of(state).slowness, state.velocities)
