"""Step-to-step noise of trajectories: ``python -m training.stability DATA ... --output x.png``.

Two measures, for each compound of each data set. *Path*: what remains of a step once the forces are
accounted for, δ = x(t+h) − 2x(t) + x(t−h) − h²/12 (a(t+h) + 10 a(t) + a(t−h)), Cowell's
fourth-order rule, as a root mean square over atoms and frames. Noise in positions or forces and the
kicks of a thermostat stay in it; a smooth path leaves O(h⁶). *Energy*: the root mean square change
of the total energy from frame to frame, per atom; none in exact microcanonical dynamics.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import typer
from ase.data import atomic_masses

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV
from training.benchmarks.figures import kind_of_image
from training.benchmarks.trajectories import read_arrays
from training.data.export import check_output, find_data
from training.data.md17 import EV_IN_KCAL_PER_MOL
from training.data.store import iterate_bursts
from training.importing.reading import Frames

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def path_noise(path: Frames) -> np.ndarray:
    """Return the squares of Cowell's remainder ``[T - 2, N, 3]`` in Å²."""
    x = path.positions
    a = path.forces / (path.masses[:, None] * AMU_A2_FS2_IN_EV)
    steps = x[2:] - 2 * x[1:-1] + x[:-2]
    return (steps - path.interval**2 / 12 * (a[2:] + 10 * a[1:-1] + a[:-2])) ** 2


def energy_noise(path: Frames) -> np.ndarray:
    """Return the squares of the total energy's steps per atom ``[T - 5]`` in eV².

    Velocities are fourth-order differences of the positions, so that data without velocities are
    measured alike.
    """
    x = path.positions
    v = (8 * (x[3:-1] - x[1:-3]) - (x[4:] - x[:-4])) / (12 * path.interval)
    kinetic = 0.5 * AMU_A2_FS2_IN_EV * (path.masses[:, None] * v**2).sum((1, 2))
    return (np.diff(path.energies[2:-2] + kinetic) / len(path.masses)) ** 2


def read_paths(data: Path, interval: float) -> Iterator[Frames]:
    """Yield the pieces of a data set: bursts, or a file or folder of files in MD17's layout.

    Parameters
    ----------
    data
        A path, or a name or path in the data folder.
    interval
        Of an MD17 file's frames in fs, which it does not tell.

    Raises
    ------
    DataError
        If there is no such data, it is damaged, or of another kind.
    """
    data = find_data(data)
    files = [data] if data.suffix == ".npz" else sorted(data.glob("*.npz"))
    for path in files:
        yield _read_md17(path, interval)
    if files:
        return
    for burst in iterate_bursts(data):
        if burst.attrs.get("ensemble") == "displaced":
            raise DataError(f"burst {burst.key} is of ensemble displaced: its frames are no path")
        arrays = [np.asarray(array, np.float64) for array in (burst.positions, burst.forces)]
        atoms = burst.numbers, burst.masses
        yield Frames(burst.molecule, *atoms, *arrays, burst.energies, interval=burst.interval)


def _read_md17(path: Path, interval: float) -> Frames:
    arrays = read_arrays(path, (), ("R", "z", "E", "F"))
    if len(arrays) < 4:
        raise DataError(f"{path}: has no arrays R, z, E and F as MD17's files have")
    shape = (arrays["E"].size, arrays["z"].size, 3)
    if not arrays["R"].shape == arrays["F"].shape == shape:
        raise DataError(f"{path}: R and F should be [T, N, 3], for E of T frames and z of N atoms")
    return Frames(
        path.stem,
        arrays["z"],
        atomic_masses[arrays["z"]],
        arrays["R"],
        arrays["F"] / EV_IN_KCAL_PER_MOL,
        arrays["E"].ravel() / EV_IN_KCAL_PER_MOL,
        interval=interval,
    )


def measure(data: Path, interval: float) -> dict[str, tuple[float, float]]:
    """Return path noise (Å) and energy noise (meV per atom and frame) of each compound."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for path in read_paths(data, interval):
        if len(path.energies) >= 6:
            found[path.name].append([path_noise(path).mean(), energy_noise(path).mean()])
    if not found:
        raise DataError(f"{data}: holds no trajectory of six frames or more")
    means = {name: np.sqrt(np.mean(squares, axis=0)) for name, squares in found.items()}
    return {name: (float(path), 1000 * float(energy)) for name, (path, energy) in means.items()}


def plot(measured: dict[str, dict[str, tuple[float, float]]], output: Path) -> None:
    """Draw both measures, a point for each compound, a column for each data set."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rng = np.random.default_rng(0)
    titles = ("noise of the path, Å", "step of the total energy, meV per atom")
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True)):
        for column, compounds in enumerate(measured.values()):
            values = np.array([pair[place] for pair in compounds.values()])
            spread = rng.uniform(-0.25, 0.25, len(values))
            axes.plot(column + spread, values, "o", ms=4, alpha=0.6)
            axes.plot([column - 0.35, column + 0.35], [np.median(values)] * 2, "k-", lw=1.5)
        axes.set_yscale("log")
        points = [pair[place] for compounds in measured.values() for pair in compounds.values()]
        decades = np.log10([min(points), max(points)])
        axes.set_ylim(10 ** np.floor(decades[0]), 10 ** np.ceil(decades[1]))
        axes.set_xticks(range(len(measured)), list(measured))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(output, dpi=150)


@app.command()
def stability(
    data: list[Path] = typer.Argument(help="Bursts, or files or folders of files as MD17's (npz)."),
    label: list[str] = typer.Option([], help="Name in the figure; once for each. [default: file]"),
    interval: float = typer.Option(0.5, min=0.01, help="Of frames in npz files, in fs."),
    output: Path = typer.Option(..., "--output", "-o", help="Figure to write, such as x.png."),
) -> int:
    """Compare the step-to-step noise of data sets; print medians and draw a figure."""
    if label and len(label) != len(data):
        raise ConfigError(f"{len(label)} labels for {len(data)} data sets: give one for each")
    check_output(output, overwrite=True)
    kind_of_image(output)
    labels = label or [path.stem for path in data]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{', '.join(labels)}: give each data set a --label of its own")
    measured = {name: measure(path, interval) for name, path in zip(labels, data, strict=True)}
    print(f"{'':24}{'compounds':>10}{'path, Å':>12}{'energy, meV':>13}")
    for name, compounds in measured.items():
        path, energy = np.median(list(compounds.values()), axis=0)
        print(f"{name:24}{len(compounds):>10}{path:>12.2e}{energy:>13.2e}")
    plot(measured, output)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 for success, 2 for bad input."""
    return run_command(app, "python -m training.stability", arguments, name="stability")


if __name__ == "__main__":
    sys.exit(main())
