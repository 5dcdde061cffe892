"""A test system with an exact solution: atoms on springs, moved by their normal modes."""

from __future__ import annotations

import math

import torch
from ase import Atoms
from torch import Tensor

from ase_atom.operator import OperatorBase
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV


class SpringOperator(OperatorBase):
    """E = k/2 Σ_{i<j} |u_i - u_j|², u the displacements from a reference structure.

    The energy is kept under translation but not under rotation. Every jump is exact in float64.

    Parameters
    ----------
    reference
        The structure without strain.
    stiffness
        k in eV/Å².
    horizon
        fs.
    heating
        Relative growth of velocities per fs of a jump, for a map that does not keep energy; one
        number, or one for each mode.
    piece
        fs, beyond which a call counts as one of several passes.
    """

    def __init__(
        self,
        reference: Atoms,
        stiffness: float = 10.0,
        horizon: float = 64.0,
        heating: float | Tensor = 0.0,
        piece: float = math.inf,
    ) -> None:
        self.horizon, self.piece = horizon, piece
        self.stiffness = stiffness
        self.reference = torch.tensor(reference.positions)
        n = len(reference)
        self.heating = torch.as_tensor(heating, dtype=torch.float64).expand(n)
        laplacian = n * torch.eye(n, dtype=torch.float64) - 1.0
        self.root = torch.as_tensor(reference.get_masses()).sqrt()
        scaled = stiffness / AMU_A2_FS2_IN_EV * laplacian / torch.outer(self.root, self.root)
        squared, self.modes = torch.linalg.eigh(scaled)
        self.omega = squared.clamp(min=0).sqrt()
        self.omega[self.omega < 1e-6] = 0.0

    def __call__(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        root = self.root[:, None]
        q = self.modes.T @ (root * (state.positions - self.reference))
        p = self.modes.T @ (root * state.velocities)
        q, p, t = q[:, None], p[:, None], times[None, :, None, None]
        omega = self.omega[:, None]
        cosine, sine = torch.cos(omega * t), torch.sin(omega * t)
        over = torch.where(omega > 0, sine / omega.clamp(min=1e-30), t)  # sin(ωt)/ω
        positions = self.modes @ (q * cosine + p * over) / root + self.reference
        grown = (p * cosine - q * omega * sine) * (1.0 + self.heating[:, None] * t)
        return positions, self.modes @ grown / root

    def energy(self, state: PhaseState) -> Tensor:
        """Return the potential energy in eV, ``[B]``."""
        u = state.positions - self.reference
        n = u.shape[1]
        return 0.5 * self.stiffness * (n * (u**2).sum(dim=(1, 2)) - u.sum(dim=1).pow(2).sum(dim=1))
