"""Ab initio trajectories as reference data: ``python -m training.import_trajectory FILE...``.

Positions, forces and energies of any program that ASE reads, checked for units, time step, jumps
and chemistry, with velocities from the file or from the positions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError, DataError
from training.data.burst import Burst
from training.data.molecules import checked_name
from training.data.store import write_bursts
from training.importing.bursts import GRID, divide, import_trajectory

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

FEW = 4
"""With fewer trajectories than this, each is divided in time."""
DEFAULT_SHARE = 0.25
"""Of what is held out where nothing is said."""
_ROUNDING = 1e-3  # Å, coarser than formats round and finer than two runs are alike throughout


def import_all(
    files: Sequence[Path],
    name: str,
    *,
    held_out: float | None = None,
    interval: float | None = None,
    theory: str | None = None,
    format: str | None = None,
) -> list[Burst]:
    """Read trajectories of one molecule as bursts.

    Parameters
    ----------
    files
        Each a continuous run. Fewer than four are divided in time, each into a part to learn from
        and, 50 fs later, one to measure errors on; of more, whole ones are held out in training.
    name
        Of the molecule.
    held_out
        Share of each to hold out, by default a quarter; of fewer than four trajectories only.
    interval, theory, format
        As for `training.importing.bursts.import_trajectory`.

    Raises
    ------
    DataError
        If one cannot be what it is said to be, they are of different molecules, or two are one run.
    ConfigError
        If the share is none, or is given where nothing is divided.
    """
    checked_name(name)
    share = DEFAULT_SHARE if held_out is None else held_out
    if not 0 < share < 1:
        raise ConfigError(f"the share to hold out lies between 0 and 1, not at {share:g}")
    if held_out is not None and len(files) >= FEW:
        raise ConfigError(
            f"--held-out {held_out:g} divides up to {FEW - 1} trajectories in time; of "
            f"{len(files)}, whole ones are held out in training: give it to ase-atom finetune"
        )
    bursts = [
        import_trajectory(
            file, name=name, index=index, interval=interval, theory=theory, format=format
        )
        for index, file in enumerate(files)
    ]
    for file, burst in zip(files, bursts, strict=True):
        if burst.smiles != bursts[0].smiles:
            raise DataError(
                f"{file} is of {burst.smiles} and {files[0]} of {bursts[0].smiles}: import each "
                "molecule by itself"
            )
    for (one, first), (other, second) in combinations(zip(files, bursts, strict=True), 2):
        if _same(first, second):
            raise DataError(
                f"{one} and {other} hold the same frames: what is learned from one would be "
                "measured on the other; give each run once"
            )
    if len(bursts) < FEW:
        bursts = [piece for burst in bursts for piece in divide(burst, share)]
    return bursts


def _same(first: Burst, second: Burst) -> bool:
    """Whether two bursts are of the same frames, but for a format's rounding."""
    a, b = first.positions, second.positions
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=_ROUNDING)


@app.command()
def run(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Trajectories with energies and forces: what ASE reads (extended XYZ, .traj, "
            "vasprun.xml, OUTCAR, ...), or CP2K's *-pos-1.xyz with *-frc-1.xyz beside it."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of reference data, .h5.")],
    interval: Annotated[
        float | None, typer.Option(help="Time between frames in fs, where the file has none.")
    ] = None,
    theory: Annotated[
        str | None, typer.Option(help='Level of theory, such as "PBE-D3/def2-TZVP (ORCA 6.0)".')
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the molecule; default: the output's.")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of the time of each of up to three trajectories to measure errors on; "
            "default: 0.25."
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="ASE's name of the format, if the file's does not tell.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Check trajectories and write them as data for ase-atom finetune."""
    if output.suffix != ".h5":
        raise ConfigError(f"reference data are files that end in .h5: {output} does not")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: give another --output, or --overwrite")
    bursts = import_all(
        files,
        name or output.stem,
        held_out=held_out,
        interval=interval,
        theory=theory,
        format=format,
    )
    write_bursts(output, bursts)
    print(described(bursts))
    print(f"written to {output}")


def described(bursts: Sequence[Burst]) -> str:
    """A line for each burst."""
    lines = []
    for burst in bursts:
        length = (len(burst.energies) - 1) * GRID
        part = burst.attrs.get("part")
        use = {"train": ", to learn from", "validation": ", held out"}.get(part, "")
        lines.append(
            f"{burst.key}: {burst.smiles}, {length:g} fs at {burst.temperature_K:.0f} K, from "
            f"frames every {burst.attrs['source_interval_fs']:g} fs of "
            f"{burst.attrs['source']}{use}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    stopped = "nothing was written"
    sys.exit(run_command(app, "python -m training.import_trajectory", stopped=stopped))


if __name__ == "__main__":
    main()
