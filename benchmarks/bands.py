"""Bands of an operator's dynamics beside measured ones: ``python benchmarks/bands.py OPERATOR``.

Each molecule moves for 20 ps at constant energy, from 300 K, and the band of each normal mode of
GFN2-xTB is taken from the power spectrum along it. Bands and fundamentals are matched by rank.
Measured fundamentals in the gas phase are those of Shimanouchi, Tables of Molecular Vibrational
Frequencies, Consolidated Volume I, NSRDS-NBS 39 (1972). Those of ethanol, which it does not have,
are from the entry of trans ethanol in NIST's CCCBDB (Standard Reference Database 101, release 22),
with the O-H stretch from a matrix. Nuclei are classical here: they swing less far than at the zero
point, so a band lies nearer to its harmonic wavenumber than the measured one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ase_atom import PotentialSteps, load_operator, simulate
from ase_atom.analysis.modes import mode_spectra
from ase_atom.analysis.reference_engines import make_calculator

FUNDAMENTALS = {
    "water": ("O", [3657, 1595, 3756]),
    "formaldehyde": ("C=O", [2783, 1746, 1500, 1167, 2843, 1249]),
    "methanol": ("CO", [3681, 3000, 2844, 1477, 1455, 1345, 1060, 1033, 2960, 1477, 1165, 295]),
    "ethanol": (
        "CCO",
        [3653, 2984, 2939, 2900, 1490, 1464, 1412, 1371, 1256, 1091, 1028, 888, 417]
        + [2991, 2910, 1446, 1275, 1161, 812, 251, 200],
    ),
    "benzene": (
        "c1ccccc1",
        [3062, 992, 1326, 673, 3068, 1010, 995, 703, 1310, 1150]
        + 2 * [849, 3063, 1486, 1038, 3047, 1596, 1178, 606, 975, 410],
    ),
}
"""SMILES, and fundamentals in cm⁻¹, degenerate ones twice."""

STRETCHES = 2500
"""cm⁻¹, above which hydrogen stretches: there classical nuclei make the largest difference."""


def main(
    name: Annotated[str, typer.Argument(help="An operator's name or file.")] = "organic-wb97m",
    time: Annotated[str, typer.Option(help="Length of each run.")] = "20 ps",
    output: Annotated[Path | None, typer.Option("-o", help="Folder for pictures.")] = None,
    timestep: Annotated[
        float | None, typer.Option(help="Steps by forces, fs, in place of jumps.")
    ] = None,
    only: Annotated[str, typer.Option(help="Molecules, with commas.")] = ",".join(FUNDAMENTALS),
) -> None:
    """Print the table as Markdown."""
    print("| molecule | measured, 1/cm | band | band less measured |\n|---|---|---|---|")
    operator = load_operator(name, engine="auto")
    mover = operator if timestep is None else PotentialSteps(operator, timestep)
    wanted = only.split(",")
    if strange := sorted({*wanted} - {*FUNDAMENTALS}):
        raise typer.BadParameter(f"{strange[0]!r} is none of {', '.join(FUNDAMENTALS)}")
    for molecule in wanted:
        smiles, measured = FUNDAMENTALS[molecule]
        run = simulate(
            smiles, time, operator=mover, ensemble="nve", frame_interval="2 fs", accept_error=True
        )
        found = mode_spectra(run.trajectory(), make_calculator("gfn2"))
        bands = sorted((b for b in found.bands if b is not None), key=lambda band: band.position)
        if len(bands) < len(measured):
            print(f"| {molecule} | {len(measured)} | {len(bands)} stand out | |", flush=True)
            continue
        errors = [band.position - real for band, real in zip(bands, sorted(measured), strict=True)]
        for band, real, error in zip(bands, sorted(measured), errors, strict=True):
            print(
                f"| {molecule} | {real} | {band.position:.0f} ± {band.error:.0f} | {error:+.0f} |"
            )
        below = np.array(sorted(measured)) < STRETCHES
        means = [np.abs(np.array(errors)[part]).mean() for part in (below, ~below)]
        print(
            f"| **{molecule}** | | **mean error below and above {STRETCHES}** "
            f"| **{means[0]:.0f}, {means[1]:.0f}** |",
            flush=True,
        )
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            found.draw(output / f"{molecule}.png", f"{molecule} by {name}")


if __name__ == "__main__":
    typer.run(main)
