"""Leaps of molecules that no training saw: ``python -m training.leap.unseen OPERATOR``.

For each molecule the operator makes a run of its own at 300 K, and leaps from its frames are
compared with it. Runs are kept, and a command that is given again takes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ase_atom.commandline import run_command
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import format_time
from training.data.store import data_folder
from training.leap.command import Schedule, assignments, compounds
from training.leap.evaluate import frames_of
from training.leap.flexible import HELD_OUT
from training.leap.judge import Judge, load_leaping
from training.leap.measures import divergence, mean_and_error, states
from training.leap.samples import Structure
from training.leap.teacher import make_runs

RARE = 0.02
"""Torsions that hop less often in a run over a lag are not compared: too few hops are seen."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Hops:
    """How often a torsion is in another state after a lag.

    Parameters
    ----------
    name
        Symbols of its atoms.
    ours, theirs
        Of leaps, and of the run.
    error
        Standard error of the difference.
    apart
        Jensen-Shannon divergence of its angles after leaps from those of the run, nat.
    """

    name: str
    ours: float
    theirs: float
    error: float
    apart: float


@dataclass(frozen=True)
class Verdict:
    """Leaps of one molecule at one lag, beside the operator's own run.

    Parameters
    ----------
    structure
        After settling.
    drawn
        Mean potential energy of samples as drawn above that after settling, k_BT per degree of
        freedom.
    kept, redrawn, lost
        Samples.
    hops
        Of each torsion.
    """

    structure: Structure
    drawn: float
    kept: int
    redrawn: int
    lost: int
    hops: tuple[Hops, ...]


def judged(judge: Judge, frames: int) -> Verdict:
    """Leap over so many frames of the run from as many of its frames as the judge takes."""
    x, lag = judge.drawn(frames), frames * judge.run.interval
    made = judge.leap(x, lag)
    assert made.leaping is not None
    tally, after = made.leaping.tally, made.state.positions.double().numpy()
    whole = np.isfinite(after).all((1, 2))
    before, after = x[whole], after[whole]
    return Verdict(
        structure=Structure.of(judge, after),
        drawn=(tally.raw - tally.settled) / max(tally.kept, 1) / judge.unit / 2,
        kept=tally.kept,
        redrawn=tally.drawn_again,
        lost=int((~whole).sum()),
        hops=tuple(_hops(judge, before, after, frames)),
    )


def _hops(judge: Judge, x: NDArray, after: NDArray, frames: int) -> Iterator[Hops]:
    inner = judge.coordinates
    before, then, all_ = (inner.angles(each) for each in (x, after, judge.x))
    flat = inner.angles(judge.flat)
    for index, torsion in enumerate(inner.torsions):
        changed = states(before[:, index]) != states(then[:, index])
        run = states(all_[..., index])
        replicas = (run[:, :-frames] != run[:, frames:]).mean(1)
        mean, error = mean_and_error(replicas)
        yield Hops(
            "-".join(judge.atoms.symbols[int(atom)] for atom in torsion),
            float(changed.mean()),
            float(mean),
            float(np.hypot(error, changed.std() / np.sqrt(len(changed)))),
            divergence(then[:, index], flat[:, index]),
        )


def row(smiles: str, lag: float, found: Verdict) -> str:
    """One line of the table, in Markdown."""
    turns = "; ".join(
        f"{each.name} {each.theirs:.2f} → {each.ours:.2f} ± {each.error:.2f}" for each in found.hops
    )
    shape = found.structure
    return (
        f"| {smiles} | {format_time(lag)} | {shape.bond[0]:.4f} | {shape.angle[0]:.1f} | "
        f"{shape.widths[0]:.2f} to {shape.widths[1]:.2f} | {shape.energy[0]:+.3f} | "
        f"{found.drawn:+.3f} | {found.redrawn} of {found.kept}, {found.lost} | {turns} | "
        f"{max((each.apart for each in found.hops), default=0.0):.3f} |"
    )


HEADER = (
    "| molecule | lag | bond mean, Å | angle mean, degrees | bond widths | energy | as drawn | "
    "drawn again, lost | hops: run → leap | divergence, nat |\n" + "|---" * 10 + "|"
)


@app.command()
def run(
    operator: Annotated[str, typer.Argument(help="Name or file of an operator with leaps.")],
    molecules: Annotated[
        list[str] | None,
        typer.Argument(help="SMILES or structure files; default: those held out of the list."),
    ] = None,
    lags: Annotated[str, typer.Option(help="In ps.")] = "0.512,1.024,4.096",
    starts: Annotated[int, typer.Option(min=8, help="Leaps of each molecule and lag.")] = 256,
    replicas: Annotated[int, typer.Option(min=2, help="Of each run.")] = 16,
    duration: Annotated[float, typer.Option(min=1.0, help="Of each run, ps.")] = 10.0,
    folder: Annotated[
        Path | None, typer.Option(help="Of runs; default: leaps/NAME-unseen in the data folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Compare leaps of molecules with runs of the operator, in one table."""
    set_threads(threads)
    found = load_leaping(operator)
    assert found.leaps is not None
    schedule = Schedule(300.0, replicas, duration * 1000.0)
    known = list(compounds(found, molecules or list(HELD_OUT)))
    jobs = assignments(known, [schedule], found.leaps.card.friction, seed)
    name = found.card.name if found.card else Path(operator).stem
    print(HEADER)
    every: list[Verdict] = []
    for made in make_runs(found, jobs, folder or data_folder() / "leaps" / f"{name}-unseen"):
        judge = Judge(found, made, starts, seed)
        for frames in frames_of(lags, made):
            every.append(judged(judge, frames))
            print(row(made.smiles, frames * made.interval, every[-1]), flush=True)
    print(summary(every))


def summary(found: list[Verdict]) -> str:
    """Means over molecules and lags, weighted alike, and sums."""
    hops = [each for verdict in found for each in verdict.hops if each.theirs > RARE]
    said = (
        f"{len(found)} molecules and lags: energy "
        f"{np.mean([each.structure.energy[0] for each in found]):+.3f} settled, "
        f"{sum(each.redrawn for each in found)} of {sum(each.kept for each in found)} drawn again, "
        f"{sum(each.lost for each in found)} lost; "
    )
    if not hops:
        return f"{said}no torsion hops often enough to be compared"
    ratios = np.array([each.ours / each.theirs for each in hops])
    close = [abs(each.ours - each.theirs) < 0.2 * each.theirs + each.error for each in hops]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return (
        f"{said}{len(hops)} torsions hop {middle:.2f} times as often as in the runs (median; "
        f"quartiles {low:.2f} and {high:.2f}), {np.mean(close):.0%} within 20 % and a "
        "standard error"
    )


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.leap.unseen"))


if __name__ == "__main__":
    main()
