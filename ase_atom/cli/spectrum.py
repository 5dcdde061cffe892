"""``ase-atom spectrum``: the power spectrum or infrared absorption of a trajectory."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ase_atom.cli.messages import be_quiet, is_quiet, say, say_warning
from ase_atom.cli.options import check_positive, read_time
from ase_atom.cli.report import print_table
from ase_atom.errors import CheckpointError, ConfigError
from ase_atom.units import format_time

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from ase_atom.analysis import Trajectory
    from ase_atom.analysis.infrared import InfraredSpectrum
    from ase_atom.analysis.modes import ModeSpectra
    from ase_atom.analysis.power import PowerSpectrum

IN_FILE = "file"
TEMPERATURE = 300.0  # K
BROAD = 10.0
"""cm⁻¹ of broadening from which a warning is given."""

VISITED = 0.9
"""Share of the frames nearest to a minimum below which its modes get a warning."""

_PICTURES = (".png", ".pdf", ".svg")


def spectrum(
    trajectory: Path = typer.Argument(help="Any trajectory that ase-atom convert reads."),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Picture (.png, .pdf or .svg); a CSV file goes beside it.",
        show_default="TRAJECTORY-spectrum.png here, or -infrared.png, or -modes.png",
    ),
    highest: float | None = typer.Option(
        None, help="Highest wavenumber in cm⁻¹.", show_default="4000, without hydrogen 2600"
    ),
    window: str | None = typer.Option(
        None, help="Length of the windows.", show_default="what the run allows, at most 8ps"
    ),
    dipoles: str | None = typer.Option(
        None,
        help="Infrared absorption, from the dipole of every frame by an operator's name or file, "
        "gfn2, gfn1, pyscf:FUNCTIONAL/BASIS or an ASE calculator as MODULE:CLASS; or file, from "
        "those that the trajectory holds (.npz).",
    ),
    modes: str | None = typer.Option(
        None,
        help="Power spectrum of each normal mode, of the minimum by gfn2, gfn1, "
        "pyscf:FUNCTIONAL/BASIS, an ASE calculator as MODULE:CLASS, or an operator's name or file.",
    ),
    temperature: float | None = typer.Option(
        None,
        help="Of the motion, K, for --dipoles.",
        show_default="the frames' own, the record's, or 300",
    ),
    topology: Path | None = typer.Option(
        None,
        help="Structure or PSF file of the atoms, for formats that do not say.",
        show_default="the .pdb or .psf beside",
    ),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames, if the file has no times of its own."
    ),
    charge: int | None = typer.Option(
        None, help="Total charge of the molecule in e, for files that do not state it."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print warnings and errors alone."),
) -> None:
    """Compute the power spectrum of the velocities by element or mode, or infrared absorption.

    A file without velocities will do. Best of
    microcanonical runs with close frames: --ensemble nve --frame-interval 1fs. Friction broadens
    lines, and of frames that lie far apart high wavenumbers fold onto low ones: such are refused.
    """
    be_quiet(quiet or as_json)
    from ase_atom.analysis import load_trajectory
    from ase_atom.analysis.power import checked_interval
    from ase_atom.io.registry import check_free

    if dipoles is not None and modes is not None:
        raise ConfigError("--dipoles and --modes make two spectra: ask for one at a time")
    kind = "infrared" if dipoles is not None else "spectrum" if modes is None else "modes"
    picture = Path(f"{trajectory.stem}-{kind}.png") if output is None else output
    if picture.suffix not in _PICTURES:
        raise ConfigError(f"--output {picture} should end in {', '.join(_PICTURES)}")
    if temperature is not None:
        if dipoles is None:
            raise ConfigError(f"--temperature {temperature:g} goes with --dipoles")
        check_positive("--temperature", temperature, "K")
    files = [picture, picture.with_suffix(".csv")]
    if dipoles not in (None, IN_FILE):
        files.append(picture.with_suffix(".npz"))
    for file in files:
        check_free(file, overwrite)
    interval = None if frame_interval is None else read_time(frame_interval, "--frame-interval")
    loaded = load_trajectory(trajectory, topology, frame_interval=interval, charge=charge)
    span = None if window is None else read_time(window, "--window")
    checked_interval(loaded, highest)  # before any dipole is computed
    friction = friction_of(trajectory)
    if friction is not None and broadening(friction) > BROAD:
        say_warning(
            f"{trajectory} was run with a friction of {1000 * friction:g}/ps, which broadens lines "
            f"by {broadening(friction):.0f} cm⁻¹: --ensemble nve does not"
        )
    facts: dict[str, Any] = {
        "friction_broadening_cm-1": None if friction is None else broadening(friction)
    }
    found: PowerSpectrum | InfraredSpectrum | ModeSpectra
    if modes is not None:
        found, rows, own = _of_modes(loaded, modes, highest, span)
    elif dipoles is None:
        found, rows, own = _of_velocities(loaded, highest, span)
    else:
        found, rows, own = _of_dipoles(
            loaded, dipoles, temperature, highest, span, files, temperature_of(trajectory)
        )
    found.write_csv(files[1])
    found.draw(picture, trajectory.name)
    if as_json:
        facts |= {
            "window_fs": found.window,
            "resolution_cm-1": found.resolution,
            "windows": found.windows,
            **own,
            "picture": str(picture),
            "table": str(files[1]),
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    if quiet:
        return
    rows += [
        (
            "window",
            f"{found.windows} of {format_time(round(found.window))} (Hann, half overlap)",
        ),
        ("resolution", f"{found.resolution:.1f} cm⁻¹, full width of a sharp line"),
        ("friction", _said(friction)),
    ]
    rows += list(zip(("picture", "table", "dipoles"), map(str, files), strict=False))
    print_table(rows)


def _of_velocities(
    loaded: Trajectory, highest: float | None, span: float | None
) -> tuple[PowerSpectrum, list[tuple[str, str]], dict[str, Any]]:
    from ase_atom.analysis.power import power_spectrum

    found = power_spectrum(loaded, highest, span)
    rows = [("spectrum", f"of {found.source}, up to {found.wavenumbers[-1]:.0f} cm⁻¹")]
    return found, rows, {"of": found.source}


def _of_modes(
    loaded: Trajectory, modes: str, highest: float | None, span: float | None
) -> tuple[ModeSpectra, list[tuple[str, str]], dict[str, Any]]:
    from ase_atom.analysis.modes import mode_spectra

    found = mode_spectra(loaded, _calculator_or_operator(modes, loaded), highest, span)
    if found.visited < VISITED:
        say_warning(
            f"the modes are those of one of {found.minima} minima, which {found.visited:.0%} of "
            "the frames are nearest to: of the others they show little"
        )
    rows = [
        ("spectrum", f"of {found.source} along {len(found.harmonic)} normal modes by {modes}"),
        ("minimum", f"nearest to {found.visited:.0%} of the frames, of {found.minima} found"),
    ]
    facts = []
    for number, (harmonic, band) in enumerate(zip(found.harmonic, found.bands, strict=True), 1):
        at = "no band stands out"
        if band is not None:
            at = f"band {band.position:.0f} ± {band.error:.0f} cm⁻¹"
        rows.append((f"mode {number}", f"harmonic {harmonic:.0f} cm⁻¹, {at}"))
        facts.append(
            {
                "harmonic_cm-1": round(float(harmonic), 1),
                "band_cm-1": None if band is None else round(band.position, 1),
            }
        )
    return found, rows, {"of": found.source, "visited": found.visited, "modes": facts}


def _calculator_or_operator(name: str, loaded: Trajectory) -> Calculator:
    """Return an engine by name, as `make_calculator` has them, or an operator's potential."""
    from ase_atom.analysis.molecule.minima import HeadCalculator
    from ase_atom.analysis.reference_engines import make_calculator
    from ase_atom.analysis.rollout import typical_atoms
    from ase_atom.molecules.catalogue import operator_for

    if _names_calculator(name):
        return make_calculator(name, "--modes")
    operator = operator_for(typical_atoms(loaded), name)
    if not operator.has_energy:
        raise ConfigError(f"--modes {name}: the operator has no energies, and so no normal modes")
    return HeadCalculator(operator)


def _names_calculator(name: str) -> bool:
    """Whether a name is that of an engine or an ASE calculator, and not of an operator."""
    from ase_atom.analysis.reference_engines import XTB

    return name in XTB or (":" in name and not Path(name).is_file())


def _of_dipoles(
    loaded: Trajectory,
    dipoles: str,
    temperature: float | None,
    highest: float | None,
    span: float | None,
    files: list[Path],
    recorded: float | None,
) -> tuple[InfraredSpectrum, list[tuple[str, str]], dict[str, Any]]:
    """Compute dipoles, keep them where a calculator made them, and the absorption."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from ase_atom.analysis.infrared import infrared, kinetic_temperature
    from ase_atom.analysis.measures.infrared import with_dipoles, with_learned_dipoles
    from ase_atom.analysis.power import checked_window
    from ase_atom.analysis.reference_engines import make_calculator
    from ase_atom.analysis.rollout import typical_atoms
    from ase_atom.files import replace_file
    from ase_atom.molecules.catalogue import operator_for
    from ase_atom.operator.checkpoint import find_operator

    if dipoles != IN_FILE:
        calculator = charges = None
        if _names_calculator(dipoles):
            calculator = make_calculator(dipoles, "--dipoles")
        else:
            try:
                find_operator(dipoles)
            except CheckpointError as error:
                raise ConfigError(
                    f"unknown --dipoles {dipoles!r}: {error}; or gfn2, gfn1, "
                    "pyscf:<functional>/<basis>, an ASE calculator as <module>:<class>, or file"
                ) from error
            operator = operator_for(typical_atoms(loaded), dipoles)
            charges = operator.atomic_charges
            if charges is None:
                raise ConfigError(
                    f"--dipoles {dipoles}: the operator has no atomic charges, and so no dipoles; "
                    "python -m training.charges teaches them"
                )
        interval = loaded.interval or 0.0
        checked_window(loaded, [(len(run) - 1) * interval for run in loaded], span)
        say(f"dipoles of {loaded.frames} frames by {dipoles}")
        console = Console(stderr=True)
        with Progress(console=console, disable=is_quiet() or not console.is_terminal) as bar:
            task = bar.add_task("dipoles", total=loaded.frames)
            step = partial(bar.advance, task)
            if calculator is not None:
                loaded = with_dipoles(loaded, calculator, f"--dipoles {dipoles}", step)
            elif charges is not None:
                loaded = with_learned_dipoles(loaded, charges, step)
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(run, name) for run in loaded])
            for name in ("positions", "velocities", "times", "dipoles")
            if all(getattr(run, name) is not None for run in loaded)
        }

        def keep(scratch: Path) -> None:
            with scratch.open("wb") as file:
                np.savez_compressed(file, numbers=loaded.numbers, charge=loaded.charge, **arrays)

        replace_file(files[2], keep)
    choices = (
        (temperature, "given"),
        (kinetic_temperature(loaded), "of the frames"),
        (recorded, "by the record beside"),
        (TEMPERATURE, "assumed"),
    )
    kelvin, whose = next((value, source) for value, source in choices if value)
    found = infrared(loaded, kelvin, highest, span)
    bands = ", ".join(f"{band.position:.0f}" for band in found.bands)
    source = "dipoles of the file" if dipoles == IN_FILE else f"dipoles by {dipoles}"
    rows = [
        ("spectrum", f"infrared, {source}, up to {found.wavenumbers[-1]:.0f} cm⁻¹"),
        ("temperature", f"{kelvin:.0f} K, {whose}; harmonic quantum correction"),
        ("bands", f"{bands} cm⁻¹" if bands else "none stands out"),
    ]
    facts = {
        "of": source,
        "temperature_K": kelvin,
        "quantum_correction": "harmonic",
        "bands_cm-1": [round(band.position, 1) for band in found.bands],
    }
    return found, rows, facts


def broadening(friction: float) -> float:
    """Full width in cm⁻¹ that a Langevin friction in 1/fs gives to a sharp line: γ/2πc."""
    from ase_atom.analysis.measures.spectra import SPEED_OF_LIGHT

    return friction / (2 * math.pi * SPEED_OF_LIGHT)


def temperature_of(trajectory: Path) -> float | None:
    """Mean temperature in K by the record beside the trajectory; None where there is none."""
    try:
        (molecule,) = json.loads(trajectory.with_suffix(".json").read_text())["molecules"]
        return float(molecule["temperature_K"]["mean"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def friction_of(trajectory: Path) -> float | None:
    """Langevin friction in 1/fs by the record beside the trajectory; None where there is none."""
    record = trajectory.with_suffix(".json")
    try:
        ensemble = str(json.loads(record.read_text())["ensemble"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = re.match(r"Langevin\(.*friction=([0-9.e+-]+)", ensemble)
    return float(found[1]) if found else 0.0


def _said(friction: float | None) -> str:
    if friction is None:
        return "not known (no record beside); Langevin's 10/ps broadens lines by 53 cm⁻¹"
    if friction == 0.0:
        return "none, by the record beside"
    return f"{1000 * friction:g}/ps, which broadens lines by {broadening(friction):.0f} cm⁻¹"
