"""Reference bursts in memory, sampled as windows of frames and as single states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.errors import DataError
from ase_atom.operator import Operator
from training.data.store import Burst


@dataclass(frozen=True)
class FrameData:
    """Frames of all bursts one after another, about a centre of mass at rest.

    Shapes: S bursts, F frames, N atoms of the largest molecule.

    Attributes
    ----------
    numbers, masses
        Of each burst's molecule, 0 on padding, ``[S, N]``; masses in amu.
    charge
        Total charge of each burst's molecule, e, ``[S]``.
    molecule
        Which molecule each burst is of, by its SMILES, from 0 on, ``[S]``.
    positions, velocities, forces
        Å, Å/fs and eV/Å, ``[F, N, 3]``, float32.
    energies
        eV less the offsets given, ``[F]``, float32.
    burst
        Burst of each frame, ``[F]``.
    first, length
        First frame and number of frames of each burst, ``[S]``.
    interval
        Time between frames, fs.
    """

    numbers: Tensor
    masses: Tensor
    charge: Tensor
    molecule: Tensor
    positions: Tensor
    velocities: Tensor
    forces: Tensor
    energies: Tensor
    burst: Tensor
    first: Tensor
    length: Tensor
    interval: float

    @classmethod
    def from_bursts(
        cls,
        bursts: Sequence[Burst],
        offsets: EnergyOffsets | None = None,
        size: int = 0,
    ) -> FrameData:
        """Join bursts.

        Parameters
        ----------
        bursts
            At least one; all with the same frame interval.
        offsets
            Energy of elements and charges to take off; see `energy_offsets`.
        size
            Least number of atoms to pad to; by default that of the largest molecule.

        Raises
        ------
        DataError
            If the bursts' intervals differ.
        """
        intervals = sorted({burst.interval for burst in bursts})
        if len(intervals) != 1:
            raise DataError(f"bursts must share one frame interval, not {intervals} fs")
        size = max(size, *(len(burst.numbers) for burst in bursts))
        lengths = [len(burst.positions) for burst in bursts]
        total = sum(lengths)
        numbers = np.zeros((len(bursts), size), np.int64)
        masses = np.zeros((len(bursts), size), np.float32)
        frames = {
            name: np.zeros((total, size, 3), np.float32)
            for name in ("positions", "velocities", "forces")
        }
        energies = np.zeros(total, np.float32)
        start = 0
        for row, burst in enumerate(bursts):
            atoms, stop = len(burst.numbers), start + len(burst.positions)
            numbers[row, :atoms], masses[row, :atoms] = burst.numbers, burst.masses
            weights = (burst.masses / np.sum(burst.masses))[:, None]
            for name in ("positions", "velocities"):
                values = np.asarray(getattr(burst, name), np.float64)
                centre = (weights * values).sum(1, keepdims=True)
                frames[name][start:stop, :atoms] = values - centre
            frames["forces"][start:stop, :atoms] = burst.forces
            shift = offsets.of(burst) if offsets else 0.0
            energies[start:stop] = np.asarray(burst.energies, np.float64) - shift
            start = stop
        length = torch.tensor(lengths)
        known = {smiles: index for index, smiles in enumerate({b.smiles: None for b in bursts})}
        return cls(
            numbers=torch.from_numpy(numbers),
            masses=torch.from_numpy(masses),
            charge=torch.tensor([burst.charge for burst in bursts]),
            molecule=torch.tensor([known[burst.smiles] for burst in bursts]),
            **{name: torch.from_numpy(values) for name, values in frames.items()},
            energies=torch.from_numpy(energies),
            burst=torch.repeat_interleave(length),
            first=length.cumsum(0) - length,
            length=length,
            interval=intervals[0],
        )

    @property
    def longest(self) -> float:
        """Longest time that every burst covers, fs."""
        return (int(self.length.min()) - 1) * self.interval

    def starts(self, longest: int, count: int) -> list[Tensor]:
        """Frames of each burst from which to measure; see `start_frames`."""
        return [
            first + torch.from_numpy(start_frames(length, longest, count))
            for first, length in zip(self.first.tolist(), self.length.tolist(), strict=True)
        ]

    def to(self, device: torch.device) -> FrameData:
        """The same on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "interval"}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

    def frames_of(self, fs: float, name: str) -> int:
        """A time as a whole number of frames.

        Raises
        ------
        DataError
            If it is none, or longer than the shortest burst.
        """
        count = round(fs / self.interval)
        if abs(count * self.interval - fs) > 1e-6 or count < 1:
            raise DataError(
                f"{name} ({fs:g} fs) is no multiple of the data's frame interval "
                f"({self.interval:g} fs)"
            )
        if fs > self.longest + 1e-6:
            raise DataError(
                f"{name} ({fs:g} fs) is longer than the shortest burst ({self.longest:g} fs)"
            )
        return count


def start_frames(frames: int, longest: int, count: int) -> NDArray:
    """At most ``count`` different frames, evenly spread, with ``longest`` more after each."""
    return np.unique(np.linspace(0, frames - 1 - longest, count).round().astype(int))


@dataclass(frozen=True)
class EnergyOffsets:
    """Energies that molecules have by their elements and total charge alone, eV.

    Attributes
    ----------
    elements
        Of an atom, by its atomic number.
    charges
        Of a total charge other than 0.
    """

    elements: Mapping[int, float]
    charges: Mapping[int, float]

    @classmethod
    def from_operator(cls, operator: Operator) -> EnergyOffsets:
        """Those that an operator's energies hold, of a potential the energies of separate atoms."""
        if operator.potential is not None:
            network = operator.potential.network
            alone = zip(network.config.elements, network.alone[1:].tolist(), strict=True)
            return cls(dict(alone), {})
        elements = {n: float(operator.energy_offsets[n]) for n in operator.config.elements}
        if operator.charge_offsets is None:
            return cls(elements, {})
        charges = zip(operator.config.charges, operator.charge_offsets.tolist(), strict=True)
        return cls(elements, dict(charges))

    def set_in(self, operator: Operator, scale: float | Tensor) -> None:
        """Put them into an operator, with its energy scale in eV."""
        if operator.potential is None:
            operator.set_energy_scale(self.elements, float(scale), self.charges)
            return
        for number, energy in self.elements.items():
            operator.potential.network.alone[operator.potential.kinds(torch.tensor(number))] = (
                energy
            )

    def of(self, burst: Burst) -> float:
        """Offset of a burst's molecule, eV."""
        atoms = sum(self.elements.get(int(number), 0.0) for number in burst.numbers)
        return atoms + self.charges.get(burst.charge, 0.0)


def energy_offsets(
    bursts: Sequence[Burst],
    explained: Sequence[float] | None = None,
    charged: bool = True,
) -> EnergyOffsets:
    """Energies of elements and charges that best explain the molecules' mean energies.

    The least-squares solution of smallest norm: with one molecule it hits its mean energy exactly.

    Parameters
    ----------
    bursts
        Reference bursts.
    explained
        Energy of each burst's molecule that something else accounts for already, eV.
    charged
        Whether charges have energies of their own.
    """
    elements = sorted({int(number) for burst in bursts for number in burst.numbers})
    charges = sorted({burst.charge for burst in bursts} - {0}) if charged else []
    counts = [
        [
            *(int(np.sum(burst.numbers == element)) for element in elements),
            *(int(burst.charge == charge) for charge in charges),
        ]
        for burst in bursts
    ]
    means = np.array([float(np.mean(burst.energies)) for burst in bursts])
    means = means - np.asarray(explained if explained is not None else 0.0)
    solution = np.linalg.lstsq(np.array(counts, float), means, rcond=None)[0]
    found = solution.tolist()
    return EnergyOffsets(
        dict(zip(elements, found[: len(elements)], strict=True)),
        dict(zip(charges, found[len(elements) :], strict=True)),
    )


@dataclass(frozen=True)
class Windows:
    """A batch of paths; frame 0 is the start. Shapes: B windows, L lags, N atoms.

    Attributes
    ----------
    numbers, masses
        ``[B, N]``.
    charge
        Total charges, e, ``[B]``.
    positions, velocities
        Å and Å/fs at the start and at each lag, ``[B, 1 + L, N, 3]``.
    lags
        Frames between the start and the others, ``[L]``.
    forces
        eV/Å at the start, ``[B, N, 3]``.
    """

    numbers: Tensor
    masses: Tensor
    charge: Tensor
    positions: Tensor
    velocities: Tensor
    lags: Tensor
    forces: Tensor


@dataclass(frozen=True)
class States:
    """Single frames with what the energy head learns: shapes as in `FrameData`, B first."""

    numbers: Tensor
    masses: Tensor
    charge: Tensor
    positions: Tensor
    forces: Tensor
    energies: Tensor


class Sampler:
    """Random windows and states, fixed by (seed, rank, step) alone.

    So a run that resumes at a step sees what it would have seen without the interruption.

    Parameters
    ----------
    data
        Frames to sample from.
    geometries
        More frames from which states are drawn, of no path, padded alike.
    window
        Frames of one jump.
    chain
        Jumps in a window.
    lags_per_jump
        Random lags of each jump, the same for a whole batch; all by default. With more than one
        jump the end of each is always among them, since the next starts there.
    batch_size, state_batch_size
        Windows and states in a batch.
    seed, rank
        Of the run and of the process.
    """

    def __init__(
        self,
        data: FrameData,
        *,
        geometries: FrameData | None = None,
        window: int,
        chain: int = 1,
        lags_per_jump: int | None = None,
        batch_size: int,
        state_batch_size: int,
        seed: int,
        rank: int = 0,
    ) -> None:
        self.data, self.geometries = data, geometries
        self.window, self.chain = window, chain
        self.lags_per_jump = min(lags_per_jump or window, window)
        self.batch_size, self.state_batch_size = batch_size, state_batch_size
        self.seed, self.rank = seed, rank
        self._last_start = (data.length - 1 - window * chain).cpu()
        self._windows = (self._last_start + 1).cumsum(0)
        self._first = data.first.cpu()

    def to(self, device: torch.device) -> None:
        """Move the frames to a device."""
        self.data = self.data.to(device)
        if self.geometries is not None:
            self.geometries = self.geometries.to(device)

    def generator(self, step: int) -> torch.Generator:
        """Random numbers of one step."""
        words = np.random.SeedSequence([self.seed, self.rank, step]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))

    def windows(self, generator: torch.Generator) -> Windows:
        """Draw windows, every one as likely; half of them run backwards in time.

        Microcanonical dynamics is reversible: the frames in reverse order with the velocities
        negated are a trajectory too.
        """
        lags = self._lags(generator)
        chosen = torch.randint(int(self._windows[-1]), (self.batch_size,), generator=generator)
        reverse = torch.rand(self.batch_size, generator=generator) < 0.5
        burst = torch.searchsorted(self._windows, chosen, right=True)
        before = torch.cat([self._windows.new_zeros(1), self._windows])[burst]
        start = self._first[burst] + chosen - before
        steps = torch.cat([lags.new_zeros(1), lags])
        frames = start[:, None] + torch.where(
            reverse[:, None], self.window * self.chain - steps, steps
        )
        data, device = self.data, self.data.positions.device
        frames, burst = frames.to(device), burst.to(device)
        sign = torch.where(reverse, -1.0, 1.0).to(device)[:, None, None, None]
        return Windows(
            numbers=data.numbers[burst],
            masses=data.masses[burst],
            charge=data.charge[burst],
            positions=data.positions[frames],
            velocities=data.velocities[frames] * sign,
            lags=lags,
            forces=data.forces[frames[:, 0]],
        )

    def states(self, generator: torch.Generator) -> States:
        """Draw frames, every one as likely."""
        count = len(self.data.energies)
        more = 0 if self.geometries is None else len(self.geometries.energies)
        frames = torch.randint(count + more, (self.state_batch_size,), generator=generator)
        frames = frames.to(self.data.positions.device)
        drawn = select_states(self.data, frames[frames < count])
        if self.geometries is None:
            return drawn
        others = select_states(self.geometries, frames[frames >= count] - count)
        pairs = zip(vars(drawn).values(), vars(others).values(), strict=True)
        return States(*(torch.cat(pair) for pair in pairs))

    def _lags(self, generator: torch.Generator) -> Tensor:
        if self.lags_per_jump == self.window:
            return torch.arange(1, self.window * self.chain + 1)
        pieces = []
        for jump in range(self.chain):
            if self.chain == 1:
                lags = torch.randperm(self.window, generator=generator)[: self.lags_per_jump] + 1
            else:
                inner = torch.randperm(self.window - 1, generator=generator) + 1
                lags = torch.cat([inner[: self.lags_per_jump - 1], torch.tensor([self.window])])
            pieces.append(lags.sort().values + jump * self.window)
        return torch.cat(pieces)


def select_states(data: FrameData, frames: Tensor) -> States:
    """The frames of the given indices as `States`."""
    burst = data.burst[frames]
    return States(
        numbers=data.numbers[burst],
        masses=data.masses[burst],
        charge=data.charge[burst],
        positions=data.positions[frames],
        forces=data.forces[frames],
        energies=data.energies[frames],
    )
