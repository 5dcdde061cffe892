"""`ATOMPropagator` with the settings of one ensemble each, in the place of ASE's integrators."""

from __future__ import annotations

from inspect import signature
from typing import Any

from ase import Atoms

from ase_atom.ase.propagator import OF_ASE, ATOMPropagator
from ase_atom.ase.settings import choose_noise
from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import known_keywords

KEYWORDS = (*OF_ASE, *list(signature(ATOMPropagator).parameters)[2:-1])
"""All keywords of `ATOMPropagator`, for the classes with the settings of one ensemble."""


class ATOMVerlet(ATOMPropagator):
    """Microcanonical dynamics by jumps, in the place of ``ase.md.verlet.VelocityVerlet``."""

    @known_keywords(*KEYWORDS)
    def __init__(self, atoms: Atoms, timestep: float, **kwargs: Any) -> None:
        for name in ("temperature_K", "friction", "taut", "settings", "fixcm", "rng", "seed"):
            if kwargs.get(name) is not None:
                if name == "rng":
                    choose_noise(kwargs[name], None, thermostatted=False)  # if it is none at all
                raise ConfigError(f"ATOMVerlet is microcanonical and takes no {name}")
        super().__init__(atoms, timestep, **kwargs)


class ATOMLangevin(ATOMPropagator):
    """Langevin dynamics by jumps, in the place of ``ase.md.langevin.Langevin``.

    ``fixcm=True`` fixes the centre of mass without rescaling the noise: N_f = 3N - 3 degrees of
    freedom have the temperature.
    """

    @known_keywords(*KEYWORDS)
    def __init__(
        self, atoms: Atoms, timestep: float, *, temperature_K: float, friction: float, **kwargs: Any
    ) -> None:
        super().__init__(atoms, timestep, temperature_K=temperature_K, friction=friction, **kwargs)


class ATOMBussi(ATOMPropagator):
    """Stochastic velocity rescaling by jumps, in the place of ``ase.md.bussi.Bussi``."""

    @known_keywords(*KEYWORDS)
    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        temperature_K: float,
        taut: float,
        rng: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, temperature_K=temperature_K, taut=taut, rng=rng, **kwargs)
