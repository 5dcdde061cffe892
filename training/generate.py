"""Reference data by molecular dynamics: ``python -m training.generate --smiles CCO ...``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer import TyperException

from ase_atom.errors import AtomError, ConfigError
from training.campaign import Outcome, WorkerError, run_campaign
from training.dynamics import Settings
from training.engines import get_engine
from training.export import export_bursts, find_data
from training.molecules import Molecule, from_smiles, from_structure
from training.presets import Part, get_preset, read_compounds
from training.store import data_folder, fingerprint

FAILED = 1
BAD_INPUT = 2
console = Console(stderr=True, highlight=False, soft_wrap=True)
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def generate(
    context: typer.Context,
    smiles: list[str] = typer.Option([], help="A molecule as SMILES; may be repeated."),
    structure: list[Path] = typer.Option(
        [], help="A molecule as a structure file, whose frames are the starts; may be repeated."
    ),
    name: list[str] = typer.Option(
        [], help="Names the molecule's data; once for each, SMILES first. [default: formula, file]"
    ),
    preset: str | None = typer.Option(
        None, help="A whole collection, tg80 or tg80-plus, in place of molecules and settings."
    ),
    bursts: int | None = typer.Option(
        None,
        min=1,
        help="Bursts of each molecule; with a preset, only its first so many. [default: 100]",
    ),
    duration: float = typer.Option(1000.0, help="Length of a burst in fs."),
    temperatures: str = typer.Option("300,400,500", help="In K, in turn for the bursts."),
    ensemble: str = typer.Option(
        "nve", help="nve to learn from; langevin for thermostatted runs to compare with."
    ),
    engine: str = typer.Option(
        "gfn2", help="gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE calculator as MODULE:CLASS."
    ),
    engine_options: str = typer.Option("{}", help="Keyword arguments of the calculator as JSON."),
    timestep: float = typer.Option(0.5, help="Time step in fs."),
    interval: float | None = typer.Option(
        None, help="Time between frames in fs. [default: 1, with langevin 10]"
    ),
    friction: float = typer.Option(0.01, help="Of the langevin ensemble, in 1/fs."),
    thermalise: float = typer.Option(600.0, help="Langevin dynamics before a burst in fs."),
    thermal_timestep: float = typer.Option(1.0, help="Time step meanwhile in fs."),
    thermal_friction: float = typer.Option(0.02, help="Friction meanwhile in 1/fs."),
    relax_steps: int = typer.Option(30, min=0, help="Steps that relax the conformer first."),
    max_energy_error: float = typer.Option(
        0.01, help="Largest departure of a burst's total energy, in eV per atom."
    ),
    seed: int = typer.Option(0, min=0, help="Root of all bursts' seeds."),
    workers: int | None = typer.Option(
        None, min=1, help="Processes, one thread each. [default: one for each core]"
    ),
    data: Path | None = typer.Option(
        None, help="Data folder. [default: $ASE_ATOM_DATA, else the user's data folder]"
    ),
) -> int:
    """Run reference molecular dynamics and keep it for learning.

    The same command resumes a run that was stopped or killed; more --bursts extend it.
    """
    if context.invoked_subcommand is not None:
        return 0
    if preset is not None:
        return _collection(get_preset(preset, bursts), data or data_folder(), workers or _cores())
    bursts = bursts or 100
    settings = _settings(
        engine=engine,
        engine_options=engine_options,
        ensemble=ensemble,
        duration=duration,
        timestep=timestep,
        interval=interval if interval is not None else (10.0 if ensemble == "langevin" else 1.0),
        temperatures=_numbers(temperatures),
        friction=friction,
        thermalise=thermalise,
        thermal_timestep=thermal_timestep,
        thermal_friction=thermal_friction,
        relax_steps=relax_steps,
        max_energy_error=max_energy_error,
        seed=seed,
    )
    molecules = _molecules(smiles, structure, name)
    theory = get_engine(settings.engine, settings.engine_options).theory
    folder = data or data_folder()
    title = f"{theory}, {len(molecules)} × {bursts} bursts of {duration:g} fs in {folder}"
    with _Bar(title) as bar:
        outcome = run_campaign(folder, molecules, settings, bursts, workers or _cores(), bar.report)
    return _conclude(outcome)


@app.command("export")
def export(
    data: Path = typer.Argument(help="A file or folder of bursts, or a name in the data folder."),
    output: Path = typer.Option(..., "--output", "-o", help="File to write."),
    format: str = typer.Option(..., help="md17 (npz, kcal/mol) or extxyz."),
    every: int = typer.Option(1, min=1, help="Take every so-manieth frame."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> int:
    """Write bursts in a format that other programs read."""
    frames = export_bursts(find_data(data), output, format, every, overwrite)
    console.print(f"{output}: {frames} frames", markup=False)
    return 0


def _collection(parts: Sequence[Part], folder: Path, workers: int) -> int:
    result = 0
    for part in parts:
        molecules = read_compounds(part.compounds)
        title = (
            f"{len(molecules)} × {part.bursts} {part.settings.ensemble} bursts of "
            f"{part.settings.duration:g} fs in {folder / part.folder}"
        )
        with _Bar(title) as bar:
            outcome = run_campaign(
                folder / part.folder, molecules, part.settings, part.bursts, workers, bar.report
            )
        result = max(result, _conclude(outcome))
        if outcome.stopped is not None:
            break
    return result


class _Bar:
    """A title and a progress bar on a terminal, a line for each burst in a log file."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress = Progress(
            TextColumn("bursts"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, done: int, total: int, line: str) -> None:
        """Show how far it is; the first call, after all checks, starts the display."""
        if self._title:
            console.print(self._title, markup=False)
            self._title = ""
            self._progress.start()
        latest = line.partition(":")[0]  # the whole line would push the bar off a narrow terminal
        self._progress.update(self._task, completed=done, total=total, description=latest)
        if not console.is_terminal:
            console.print(f"[{done}/{total}] {line}", markup=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settings(**values: object) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "--" + str(first["loc"][0]).replace("_", "-") + ": " if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        given = f", not {first['input']}" if first["loc"] else ""
        raise ConfigError(f"{where}{message[0].lower()}{message[1:]}{given}") from error


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--temperatures {text!r} should be numbers with commas between, such as 300,400"
        ) from error


def _molecules(
    smiles: Sequence[str], structures: Sequence[Path], names: Sequence[str]
) -> list[Molecule]:
    count = len(smiles) + len(structures)
    if not count:
        raise ConfigError("no molecule: give --smiles, such as --smiles CCO, or --structure FILE")
    if names and len(names) != count:
        raise ConfigError(f"{len(names)} names for {count} molecules: give --name once for each")
    given: list[str | None] = list(names) or [None] * count
    molecules = [from_smiles(s, n) for s, n in zip(smiles, given, strict=False)]
    molecules += [
        from_structure(path, n) for path, n in zip(structures, given[len(smiles) :], strict=True)
    ]
    seen = [molecule.name for molecule in molecules]
    for twice in sorted({name for name in seen if seen.count(name) > 1}):
        raise ConfigError(f"two molecules are named {twice}: give each a --name of its own")
    return molecules


def _conclude(outcome: Outcome) -> int:
    if outcome.stopped is not None:
        which = signal.Signals(outcome.stopped).name
        console.print(
            f"stopped by {which} after {len(outcome.finished)} bursts; the same command goes on"
        )
        return 128 + outcome.stopped
    for path in outcome.merged:
        console.print(f"{path}\n  fingerprint {fingerprint(path)}", markup=False)
    by_reason: dict[str, list[str]] = {}
    for key, reason in sorted(outcome.failed.items()):
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        console.print(f"failed: {', '.join(keys[:3])}{more}: {reason}", markup=False)
    return FAILED if outcome.failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 for success, 1 if some bursts failed, 2 for bad input."""
    try:
        result = app(
            args=None if arguments is None else list(arguments),
            prog_name="python -m training.generate",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on", 128 + signal.SIGINT)
    except WorkerError as error:
        return _complain(str(error), FAILED)
    except AtomError as error:
        return _complain(str(error), BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", BAD_INPUT)
    except TyperException as error:
        return _complain(f"{error.format_message()} (see --help)", BAD_INPUT)


def _complain(message: str, code: int) -> int:
    print(f"generate: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
