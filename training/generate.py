"""Reference data by molecular dynamics: ``python -m training.generate --smiles CCO ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import ValidationError

from ase_atom.cluster.jobs import Progress
from ase_atom.cluster.workers import WorkerError, cores
from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError, DataError
from training.data.export import export_bursts, find_data
from training.data.molecules import Molecule, from_smiles, from_structure
from training.data.store import data_folder
from training.engines.factory import Engine, get_engine
from training.generation.campaign import Outcome, run_campaign
from training.generation.dynamics import Settings
from training.generation.presets import Part, get_preset, read_compounds
from training.generation.progress import (
    FAILED,
    conclude,
    conclude_collection,
    console,
    list_refused,
)

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
    compounds: Path | None = typer.Option(
        None, help="Many molecules: CSV with the columns name and smiles."
    ),
    part: str | None = typer.Option(
        None,
        help="Of --compounds, only those with this in their column part; of tg80 and wb97m, the "
        "part of their split: train, validation or test.",
    ),
    preset: str | None = typer.Option(
        None, help="A collection, tg80, tg80-plus or wb97m, in place of molecules and settings."
    ),
    bursts: int | None = typer.Option(
        None,
        min=1,
        help="Bursts of each molecule; with a preset, only its first so many. [default: 100]",
    ),
    duration: float = typer.Option(1000.0, help="Length of a burst in fs."),
    temperatures: str = typer.Option("300,400,500", help="In K, in turn for the bursts."),
    ensemble: str = typer.Option(
        "nve",
        help="nve to learn from; langevin for thermostatted runs to compare with; displaced for "
        "energies and forces beside a start, no path.",
    ),
    engine: str = typer.Option(
        "gfn2",
        help="gfn2, gfn1, aimnet2, pyscf:FUNCTIONAL/BASIS, or any ASE calculator as "
        "MODULE:CALLABLE.",
    ),
    engine_options: str = typer.Option("{}", help="Keyword arguments of the calculator as JSON."),
    timestep: float = typer.Option(0.5, help="Time step in fs."),
    interval: float | None = typer.Option(
        None, help="Time between frames in fs. [default: 1, with langevin 10]"
    ),
    friction: float = typer.Option(0.01, help="Of the langevin ensemble, in 1/fs."),
    force_field: float = typer.Option(
        0.0, help="Langevin dynamics with a force field before the engine's in fs."
    ),
    thermalise: float = typer.Option(600.0, help="Langevin dynamics before a burst in fs."),
    thermal_engine: str | None = typer.Option(
        None, help="Cheaper engine that relaxes and thermalises. [default: the engine]"
    ),
    settle: float = typer.Option(
        0.0, help="Langevin dynamics with the engine itself after another --thermal-engine in fs."
    ),
    thermal_timestep: float = typer.Option(1.0, help="Time step meanwhile in fs."),
    thermal_friction: float = typer.Option(0.02, help="Friction meanwhile in 1/fs."),
    relax_steps: int = typer.Option(
        30, min=0, help="Steps that relax the conformer first; a force field relaxes it wholly."
    ),
    max_energy_error: float = typer.Option(
        0.01, help="Largest departure of a burst's total energy, in eV per atom."
    ),
    bond_changes: str = typer.Option(
        "drop", help="What becomes of a burst in which a bond breaks or forms: drop or keep."
    ),
    precision: str = typer.Option(
        "double", help="Of what is stored but energies: double, or single at half the size."
    ),
    displacement: float = typer.Option(
        0.08, help="Of the displaced ensemble: widest normal deviate of a coordinate in Å."
    ),
    seed: int = typer.Option(0, min=0, help="Root of all bursts' seeds."),
    workers: int | None = typer.Option(
        None, min=1, help="Processes, one thread each. [default: one for each core]"
    ),
    scheduler: str | None = typer.Option(
        None,
        help="Dask cluster in place of processes: its address, its scheduler file, or "
        "jobqueue:slurm and the like, with --workers jobs.",
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
    run = _Run(data or data_folder(), workers or cores(), scheduler)
    if preset is not None:
        _only_with_preset(context)
        return _collect(run, get_preset(preset, bursts, part))
    settings = _settings(
        engine=engine,
        engine_options=engine_options,
        ensemble=ensemble,
        duration=duration,
        timestep=timestep,
        interval=interval if interval is not None else (10.0 if ensemble == "langevin" else 1.0),
        temperatures=_numbers(temperatures),
        friction=friction,
        force_field=force_field,
        thermalise=thermalise,
        thermal_engine=thermal_engine,
        settle=settle,
        thermal_timestep=thermal_timestep,
        thermal_friction=thermal_friction,
        relax_steps=relax_steps,
        max_energy_error=max_energy_error,
        bond_changes=bond_changes,
        precision=precision,
        displacement=displacement,
        seed=seed,
    )
    if compounds is not None:
        if smiles or structure or name:
            raise ConfigError("--compounds names all molecules: leave the other options out")
        where = {"part": part} if part else {}
        return _collect(run, [Part("", (compounds,), settings, bursts or 100, where)])
    if part is not None:
        raise ConfigError("--part chooses among the --compounds: give them too")
    chosen = get_engine(settings.engine, settings.engine_options)
    molecules = _molecules(smiles, structure, name, chosen)
    outcome = run.make(run.folder, molecules, settings, bursts or 100)
    return conclude(outcome)


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


class _Run:
    """Where the data goes and who makes it."""

    def __init__(self, folder: Path, workers: int, scheduler: str | None) -> None:
        self.folder, self._workers, self._scheduler = folder, workers, scheduler

    def make(
        self, folder: Path, molecules: list[Molecule], settings: Settings, bursts: int
    ) -> Outcome:
        theory = get_engine(settings.engine, settings.engine_options).theory
        title = (
            f"{theory}, {len(molecules)} × {bursts} {settings.ensemble} bursts of "
            f"{settings.duration:g} fs in {folder}"
        )
        with Progress(title, "bursts") as progress:
            return run_campaign(
                *(folder, molecules, settings, bursts, self._workers, progress.report),
                self._scheduler,
            )


def _collect(run: _Run, parts: Sequence[Part]) -> int:
    """Make the parts of a collection in turn, each with a table of contents."""
    results = []
    for part in parts:
        refused: dict[str, str] = {}
        engine = get_engine(part.settings.engine, part.settings.engine_options)
        molecules = read_compounds(part.compounds, refused.__setitem__, part.where, engine)
        if not molecules:
            list_refused(refused)
            raise DataError(f"{part.compounds[0]}: holds no compound that can be simulated")
        folder = run.folder / part.folder
        outcome = run.make(folder, molecules, part.settings, part.bursts)
        results.append(conclude_collection(folder, molecules, outcome, refused))
        if outcome.stopped is not None:
            break
    return max(results)


def _only_with_preset(context: typer.Context) -> None:
    free = {"preset", "part", "bursts", "workers", "scheduler", "data"}
    for name in context.params.keys() - free:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{option} is for the preset to decide: leave one of the two out")


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
    smiles: Sequence[str], structures: Sequence[Path], names: Sequence[str], engine: Engine
) -> list[Molecule]:
    count = len(smiles) + len(structures)
    if not count:
        raise ConfigError("no molecule: give --smiles, such as --smiles CCO, or --structure FILE")
    if names and len(names) != count:
        raise ConfigError(f"{len(names)} names for {count} molecules: give --name once for each")
    given: list[str | None] = list(names) or [None] * count
    charges = engine.charges
    molecules = [from_smiles(s, n, charges) for s, n in zip(smiles, given, strict=False)]
    molecules += [
        from_structure(path, n, charges)
        for path, n in zip(structures, given[len(smiles) :], strict=True)
    ]
    for molecule in molecules:
        engine.check(molecule)
    seen = [molecule.name for molecule in molecules]
    for twice in sorted({name for name in seen if seen.count(name) > 1}):
        raise ConfigError(f"two molecules are named {twice}: give each a --name of its own")
    return molecules


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 for success, 1 if some bursts failed, 2 for bad input."""
    return run_command(
        app,
        "python -m training.generate",
        arguments,
        name="generate",
        stopped="the same command goes on",
        codes={WorkerError: FAILED},
    )


if __name__ == "__main__":
    sys.exit(main())
