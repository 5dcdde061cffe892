"""Judge an operator's leaps: ``python -m training.leap.evaluate OPERATOR RUN.safetensors``.

RUN is a run of the teacher, which the operator's own Langevin dynamics are taken from.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import OperatorLike, load_operator
from ase_atom.operator.leap.rigid import turned
from ase_atom.operator.torch_settings import set_threads
from ase_atom.propagation import Langevin, Propagator, sample_velocities, torch_noise
from ase_atom.state import PhaseState
from ase_atom.units import KB, PS, format_time
from training.leap.measures import (
    Coordinates,
    axes_after,
    divergence,
    legendre,
    mean_and_error,
    states,
    transitions,
)
from training.leap.teacher import TeacherRun, read_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Line = tuple[str, str]


class Judge:
    """Leaps from frames of a run, beside what the run does itself.

    Parameters
    ----------
    operator
        With leaps.
    run
        Langevin dynamics of the operator.
    starts
        Leaps of each test.
    seed
        Of starts and samples.
    """

    def __init__(self, operator: OperatorLike, run: TeacherRun, starts: int, seed: int) -> None:
        self.operator, self.run, self.starts, self.seed = operator, run, starts, seed
        self.x = run.positions.double().numpy()
        self._one = PhaseState(
            run.numbers[None],
            run.masses[None],
            run.positions[0, :1].double(),
            torch.zeros(1, len(run.numbers), 3, dtype=torch.float64),
        )
        self.coordinates = Coordinates.of(self._one.to_atoms()[0])
        self.flat = self.x[:, :: max(1, self.x.shape[1] // 40)].reshape(-1, *self.x.shape[2:])
        self.energies = self.energy(self.flat)
        self.unit = 0.5 * KB * run.temperature_K * (3 * len(run.numbers) - 6)

    def state(self, x: NDArray, seed: int = 0) -> PhaseState:
        """Structures ``[B, N, 3]`` with thermal velocities."""
        rows = torch.zeros(len(x), dtype=torch.long)
        state = self._one.select(rows).replace(positions=torch.from_numpy(x.copy()))
        generator = torch.Generator().manual_seed(seed)
        return sample_velocities(state, self.run.temperature_K, generator)

    def energy(self, x: NDArray) -> NDArray:
        """Potential energies in eV."""
        found: NDArray = self.operator.energy(self.state(x)).double().numpy()
        return found

    def drawn(self, lag: int) -> NDArray:
        """Starts of leaps of so many frames, ``[B, N, 3]``."""
        rng = np.random.default_rng((self.seed, lag))
        replica = rng.integers(len(self.x), size=self.starts)
        first = rng.integers(self.x.shape[1] - lag, size=self.starts)
        found: NDArray = self.x[replica, first]
        return found

    def propagator(self, x: NDArray, lag: float, seed: int) -> Propagator:
        """Leaps from structures, dropping those of which no sample is a molecule."""
        ensemble = Langevin(self.run.temperature_K, self.run.friction)
        state = self.state(x, seed)
        return Propagator(self.operator, state, ensemble, lag, seed=seed, drop_broken=True)

    def leap(self, x: NDArray, lag: float, times: int = 1, seed: int = 1) -> Propagator:
        """Make so many leaps from structures, and return what made them."""
        propagator = self.propagator(x, lag, seed)
        for _ in propagator.run(times * lag):
            pass
        return propagator

    # -- tests -------------------------------------------------------------------------------------

    def structure(self, x: NDArray, name: str) -> Iterator[Line]:
        """Bonds of samples beside those of the run."""
        ours, theirs = self.coordinates.lengths(x), self.coordinates.lengths(self.flat)
        off = np.abs(ours.mean(0) - theirs.mean(0)).max()
        ratio = ours.std(0) / theirs.std(0)
        error = theirs.std(0).max() / np.sqrt(len(ours))
        yield (
            f"{name}: bonds",
            f"largest error of a mean {off:.4f} ± {error:.4f} Å, widths {ratio.min():.2f} to "
            f"{ratio.max():.2f} of the run's",
        )
        excess = (self.energy(x) - self.energies.mean()) / self.unit / 2
        yield (
            f"{name}: energy",
            f"{excess.mean():+.3f} ± {excess.std() / np.sqrt(len(excess)):.3f} k_BT per degree of "
            "freedom",
        )

    def at(self, frames: int) -> Iterator[Line]:
        """Samples of one leap of so many of the run's frames."""
        lag = frames * self.run.interval
        x = self.drawn(frames)
        made = self.leap(x, lag)
        assert made.leaping is not None
        tally, after = made.leaping.tally, made.state.positions.numpy()
        name = format_time(lag)
        raw = (tally.raw - tally.settled) / max(tally.kept, 1) / self.unit / 2
        yield from self.structure(after, name)
        yield f"{name}: energy as drawn", f"{raw:+.3f} k_BT per degree of freedom above settled"
        yield (
            f"{name}: drawn again",
            f"{tally.drawn_again} of {tally.kept}; {len(made.broken)} lost",
        )
        before, then = self.coordinates.angles(x), self.coordinates.angles(after)
        everything = states(self.coordinates.angles(self.x))
        for index, torsion in enumerate(self.coordinates.torsions):
            which = "-".join(str(int(atom)) for atom in torsion)
            ours = transitions(states(before[:, index]), states(then[:, index]))
            replicas = [
                transitions(each[:-frames, index], each[frames:, index]) for each in everything
            ]
            theirs = transitions(everything[:, :-frames, index], everything[:, frames:, index])
            spread = mean_and_error(replicas)[1]
            kept = 1, 1
            flat = states(self.coordinates.angles(self.flat)[:, index])
            drawn = np.array([(flat == state).mean() for state in range(3)])
            drawn[1:] = drawn[1:].mean()
            yield (
                f"{name}: torsion {which}",
                f"stays gauche {ours[kept]:.3f} (run {theirs[kept]:.3f} ± {spread[kept]:.3f}), "
                f"crosses {ours[1, 2]:.3f} ({theirs[1, 2]:.3f} ± {spread[1, 2]:.3f}), to trans "
                f"{ours[1, 0]:.3f} ({theirs[1, 0]:.3f} ± {spread[1, 0]:.3f}); torsions drawn at "
                f"random: {drawn[1]:.3f}, {drawn[2]:.3f}, {drawn[0]:.3f}",
            )
            far = divergence(then[:, index], self.coordinates.angles(self.flat)[:, index])
            yield f"{name}: torsion {which}, divergence", f"{far:.4f} nat"

    def chain(self, lag: float, leaps: int, replicas: int) -> Iterator[Line]:
        """Leap after leap: does anything drift?"""
        propagator = self.propagator(self.drawn(1)[:replicas], lag, 3)
        lengths, energies = [], []
        for frames in propagator.run(leaps * lag):
            good = frames.valid[:, -1].numpy()
            x = frames.positions[:, -1].numpy()[good]
            lengths.append(self.coordinates.lengths(x).mean(0))
            energies.append(self.energy(x).mean())
        assert propagator.leaping is not None
        tally = propagator.leaping.tally
        span = np.linspace(-0.5, 0.5, leaps)
        for what, unit, values in (
            ("bond means", "Å", np.array(lengths[1:])),
            ("mean energy", "eV", np.array(energies[1:])[:, None]),
        ):
            slope = (span[:, None] * (values - values.mean(0))).sum(0) / (span**2).sum()
            rest = values - values.mean(0) - span[:, None] * slope
            error = np.sqrt((rest**2).sum(0) / (leaps - 2) / (span**2).sum())
            worst = np.abs(slope / error).argmax()
            yield (
                f"chain of {leaps} leaps of {format_time(lag)}, {replicas} replicas: {what}",
                f"largest drift over the chain {slope[worst]:+.4f} ± {error[worst]:.4f} {unit}",
            )
        off = np.mean(energies[leaps // 2 :]) - self.energies.mean()
        yield (
            "chain: second half",
            f"energy {off / self.unit / 2:+.3f} k_BT per degree of freedom off the run's; "
            f"{tally.drawn_again} of {tally.kept} drawn again, {len(propagator.broken)} lost",
        )

    def chapman_kolmogorov(self, lag: float) -> Iterator[Line]:
        """One leap of twice a lag beside two of it."""
        x = self.drawn(1)
        once = self.leap(x, 2 * lag, seed=5).state.positions.numpy()
        twice = self.leap(x, lag, times=2, seed=6).state.positions.numpy()
        before = states(self.coordinates.angles(x))
        for index, torsion in enumerate(self.coordinates.torsions):
            ends = [states(self.coordinates.angles(each)[:, index]) for each in (once, twice)]
            one, two = (transitions(before[:, index], end) for end in ends)
            which = "-".join(str(int(atom)) for atom in torsion)
            yield (
                f"{format_time(2 * lag)} at once or in two: torsion {which}",
                f"total variation from gauche {0.5 * np.abs(one - two)[1].sum():.3f} ± "
                f"{np.sqrt(0.5 / len(x)):.3f}",
            )
        means = [self.coordinates.lengths(each).mean(0) for each in (once, twice)]
        yield (
            f"{format_time(2 * lag)} at once or in two: bond means",
            f"{np.abs(means[0] - means[1]).max():.4f} Å apart at most",
        )

    def orientation(self, frames: int, count: int = 2000) -> Iterator[Line]:
        """Correlation of the principal axes over a lag, beside rigid-body dynamics."""
        lag = frames * self.run.interval
        rng = np.random.default_rng(self.seed)
        replica = rng.integers(len(self.x), size=count)
        first = rng.integers(self.x.shape[1] - frames, size=count)
        start, end = self.x[replica, first], self.x[replica, first + frames]
        theirs = axes_after(start, end, self.run.masses.numpy())
        state = self.state(start, 11)
        kelvin, friction = self.run.temperature_K, self.run.friction
        rotation = turned(state, lag, kelvin, friction, torch_noise(12)).numpy()
        moved = np.einsum("bxy,bny->bnx", rotation, start - start.mean(1, keepdims=True))
        ours = axes_after(start, moved, self.run.masses.numpy())
        for name, one, other in zip("12", legendre(ours), legendre(theirs), strict=True):
            error = np.hypot(one.std(0), other.std(0)) / np.sqrt(count)
            pairs = ", ".join(
                f"{a:.3f} ({b:.3f} ± {e:.3f})"
                for a, b, e in zip(one.mean(0), other.mean(0), error, strict=True)
            )
            yield f"{format_time(lag)}: orientation, l = {name}", f"three axes: {pairs}"

    def cost(self, lag: float) -> Iterator[Line]:
        """Time of a leap, alone and in a batch."""
        for count, leaps in ((1, 8), (64, 2)):
            propagator = self.propagator(self.drawn(1)[:count], lag, 9)
            blocks = propagator.run((leaps + 1) * lag)
            next(blocks)
            next(blocks)
            begin = time.process_time()
            for _ in blocks:
                pass
            spent = (time.process_time() - begin) / leaps / count
            yield (
                f"cost of a leap of {format_time(lag)}, {count} at a time",
                f"{1000 * spent:.1f} ms of processor time a molecule",
            )


@app.command()
def run(
    operator: Annotated[str, typer.Argument(help="Name or file of an operator with leaps.")],
    teacher: Annotated[Path, typer.Argument(help="Run of its teacher.")],
    starts: Annotated[int, typer.Option(min=8, help="Leaps of each test.")] = 1024,
    chain: Annotated[int, typer.Option(min=8, help="Leaps of the chain.")] = 100,
    replicas: Annotated[int, typer.Option(min=2, help="Of the chain.")] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print a table of what leaps are judged by."""
    set_threads(threads)
    found = load_operator(operator, "auto")
    if found.leaps is None:
        raise ConfigError(
            f"{operator} has no leaps: python -m training.leap {operator} trains them"
        )
    judge = Judge(found, read_run(teacher), starts, seed)
    step = judge.run.interval
    tests = [
        *(judge.at(round(lag * PS / step)) for lag in (0.512, 1.024, 4.096, 16.0)),
        judge.chapman_kolmogorov(1024.0),
        *(judge.orientation(round(lag * PS / step)) for lag in (0.512, 1.024, 2.048)),
        judge.cost(4000.0),
        judge.chain(4000.0, chain, replicas),
    ]
    for test in tests:
        for name, value in test:
            print(f"{name:44s}  {value}", flush=True)


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.leap.evaluate"))


if __name__ == "__main__":
    main()
