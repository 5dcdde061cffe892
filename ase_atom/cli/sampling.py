"""What ``ase-atom sample`` does: proposals to files, a restart file, and what it came to."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from ase_atom.analysis.reference_engines import make_calculator, makes_anew
from ase_atom.analysis.statistics import correlated_mean
from ase_atom.cli.messages import is_quiet, say
from ase_atom.cli.report import print_table
from ase_atom.errors import CheckpointError, ConfigError, FallbackError, TrajectoryError
from ase_atom.files import is_same_file
from ase_atom.interruption import Interrupted
from ase_atom.io import check_output, open_trajectory, read_structure
from ase_atom.io.continuing import cut_to_whole_frames
from ase_atom.io.guard import check_file, reading
from ase_atom.io.output import lock_output
from ase_atom.io.registry import check_free, output_files
from ase_atom.operator import OperatorLike, load_operator
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Fallback, Guard
from ase_atom.propagation.nested import NestedMonteCarlo, walled
from ase_atom.propagation.restart import read_restart, write_restart
from ase_atom.state import PhaseState

SAVED_EVERY = 1.0
"""s between restart files. A call of a density functional takes longer, and each is kept."""

_STRUCTURE = ("numbers", "masses", "positions", "velocities", "charge")


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """The options of one ``ase-atom sample``; temperatures in K, the time step in fs."""

    output: Path
    harvest: Path | None
    restart: Path | None
    correct: str
    operator: str | None
    proposals: int
    chain: int
    steps: int
    timestep: float
    temperature: float
    discard: float
    seed: int


def begin(
    request: SampleRequest,
    structure: Path | None,
    smiles: str | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Sample a molecule from the beginning.

    Raises
    ------
    AtomError
        For what cannot be sampled, before anything is written.
    """
    from ase_atom.ase.conformer import from_smiles
    from ase_atom.ase.relaxation import relax
    from ase_atom.molecules.catalogue import operator_for

    if structure is not None:
        atoms = read_structure(structure)
    else:
        assert smiles is not None
        atoms = from_smiles(smiles, request.seed)
    atoms.set_constraint()
    model = operator_for(atoms, request.operator, engine="auto")
    if not model.has_energy:
        raise ConfigError("the operator has no energy head, and no proposals can be made with it")
    taken: list[Path] = [] if structure is None else [structure]
    check_output(request.output, overwrite, tuple(taken), atoms)
    taken += output_files(request.output)
    if request.harvest is not None and request.harvest.suffix not in (".xyz", ".extxyz"):
        raise ConfigError(f"--harvest {request.harvest} should end in .extxyz or .xyz")
    for file in (request.harvest, request.restart):
        if file is None:
            continue
        if any(is_same_file(file, other) for other in taken):
            raise ConfigError(f"{file} is named for two files of the run: give it another name")
        taken.append(file)
        check_free(file, overwrite)
    if smiles is not None:
        relax(atoms, model)
    sampling = _Sampling(request, PhaseState.from_atoms([atoms]), model)
    name = "the operator" if model.card is None else model.card.name
    say(
        f"{atoms.get_chemical_formula()}: {request.proposals} proposals of {request.chain} moves "
        f"with {name}, accepted by {request.correct} at {request.temperature:g} K"
    )
    return sampling.run(atoms, "w" if overwrite else "x", as_json)


def go_on(path: Path, proposals: int | None, as_json: bool) -> int:
    """Go on from a restart file.

    Raises
    ------
    AtomError
        If it is none, or what it needs is gone or another.
    """
    saved = read_restart(path)
    folder = Path(os.path.realpath(path)).parent
    with reading(path, what="is no restart file of ase-atom sample"):
        request = _request(saved["sampling"], folder)
        state = PhaseState(**{name: saved["structure"][name] for name in _STRUCTURE})
        kept, operator = saved["sampler"], saved["operator"]
        done = len(saved["energies"])
    model = load_operator(operator["name"], engine=operator["engine"])
    if model.fingerprint != operator["fingerprint"]:
        raise CheckpointError(
            f"{operator['name']} is not the operator that {path} began with: it was trained anew "
            "or changed since"
        )
    if proposals is not None:
        if proposals < done:
            raise ConfigError(f"--proposals {proposals} are fewer than the {done} of {path}")
        request = replace(request, proposals=proposals)
    sampling = _Sampling(request, state, model, kept, saved)
    atoms = state.to_atoms()[0]
    cut_to_whole_frames(request.output, atoms, done)
    say(f"{path}: going on at {done} of {request.proposals} proposals")
    return sampling.run(atoms, "a", as_json)


def _request(plain: dict[str, Any], folder: Path) -> SampleRequest:
    files = {
        name: None if plain[name] is None else folder / plain[name]
        for name in ("output", "harvest", "restart")
    }
    return SampleRequest(**{**plain, **files})


def _bar() -> Progress:
    """A progress bar on a terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    disable = is_quiet() or not console.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=disable)


class _Sampling:
    """A sampler with its files."""

    def __init__(
        self,
        request: SampleRequest,
        start: PhaseState,
        model: OperatorLike,
        sampler: dict[str, Any] | None = None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self.request, self.start, self._model = request, start, model
        self.reference = self._calculator()
        self._kept = sampler
        self._energies: list[float] = [] if saved is None else saved["energies"].tolist()
        self._harvested = 0 if saved is None else int(saved["harvested"])
        self._asked, self._answer, self._forces = start, 0.0, torch.zeros(0)
        self._saved_at = time.monotonic()

    def run(self, atoms: Atoms, mode: str, as_json: bool) -> int:
        """Make the proposals that are missing, print what it came to, and return the exit code."""
        request, before = self.request, len(self._energies)
        with own_torch(1), torch.no_grad():
            first = self._kept is None
            sampler = NestedMonteCarlo(
                walled(self._model.energy_and_forces, Guard.watch(self.start)),
                self._ask,
                self.start,
                request.temperature,
                request.chain,
                request.steps,
                request.timestep,
                request.seed,
                self._kept,
            )
            self._open_harvest(mode)  # once the calculator has given its first answer
            with (
                open_trajectory(request.output, atoms, mode, frame_interval=1.0) as file,
                _bar() as bar,
            ):
                task = bar.add_task("", total=request.proposals, completed=before)
                if first:
                    self._harvest(atoms, 0, True)
                    self._save(sampler)
                try:
                    for number in range(before + 1, request.proposals + 1):
                        taken = bool(sampler.step()[0])
                        self._energies.append(float(sampler.energies[0]))
                        if number > file.frames:  # a life before may have written more
                            x = sampler.state.about_center().numpy()
                            held = np.array(self._energies[-1:]) if file.holds_energies else None
                            file.write_frames(x, None, energies=held)
                        self._harvest(atoms, number, taken)
                        told = f"{sampler.counts.accepted} accepted"
                        bar.update(task, completed=number, description=told)
                        if time.monotonic() - self._saved_at > SAVED_EVERY:
                            self._save(sampler)
                except (KeyboardInterrupt, FallbackError) as error:
                    done = len(self._energies)
                    text = f"{request.output} holds {done} of {request.proposals} proposals"
                    if request.restart is not None:
                        text += f"; ase-atom sample --resume {request.restart} goes on"
                    if isinstance(error, KeyboardInterrupt):
                        raise Interrupted(text) from error
                    raise FallbackError(f"{error}; {text}") from error
                self._save(sampler)
        self._report(sampler, as_json)
        return 0

    def _calculator(self) -> Fallback:
        return Fallback(make_calculator(self.request.correct, "--correct"), self.request.correct)

    def _ask(self, state: PhaseState) -> Tensor:
        """Energies of the calculator in double precision: total ones are thousands of eV."""
        if makes_anew(self.request.correct):
            # Iterations that begin at the geometry before leave a trace of it in the last digits.
            self.reference = self._calculator()
        self._asked = state
        found, self._forces = self.reference.forces(state.to(torch.float64))
        self._answer = float(found[0])
        return found

    def _open_harvest(self, mode: str) -> None:
        """Make the file anew, or cut it to what the restart file knows of."""
        path = self.request.harvest
        if path is None:
            return
        if mode == "a":
            check_file(path, "harvest")
            if path.stat().st_size < self._harvested:
                raise TrajectoryError(
                    f"{path} is shorter than the run had left it: it cannot go on"
                )
        with lock_output(path, new=mode == "x") as file:
            file.truncate(self._harvested)

    def _harvest(self, atoms: Atoms, number: int, taken: bool) -> None:
        path = self.request.harvest
        if path is None:
            return
        frame = atoms.copy()
        frame.set_positions(self._asked.about_center()[0].numpy())
        frame.set_momenta(None)
        frame.info |= {
            "proposal": number,
            "accepted": taken,
            "calculator": self.request.correct,
            "temperature_K": self.request.temperature,
        }
        frame.calc = SinglePointCalculator(
            frame, energy=self._answer, forces=self._forces[0].numpy()
        )
        write(path, frame, format="extxyz", append=True)
        self._harvested = path.stat().st_size

    def _save(self, sampler: NestedMonteCarlo) -> None:
        self._saved_at = time.monotonic()
        path = self.request.restart
        if path is None:
            return
        folder = Path(os.path.realpath(path)).parent
        plain = asdict(self.request)
        for name in ("output", "harvest", "restart"):
            if plain[name] is not None:
                plain[name] = os.path.relpath(plain[name], folder)
        card, named = self._model.card, self.request.operator
        name = card.name if card is not None and named is None else str(named)
        if Path(name).is_file():
            name = str(Path(name).resolve())
        write_restart(
            path,
            {
                "sampling": plain,
                "structure": {name: getattr(self.start, name) for name in _STRUCTURE},
                "operator": {
                    "name": name,
                    "engine": "onnx" if self._model.engine == "onnx" else "torch",
                    "fingerprint": self._model.fingerprint,
                },
                "sampler": sampler.state_dict(),
                "energies": torch.tensor(self._energies, dtype=torch.float64),
                "harvested": self._harvested,
            },
        )

    def _report(self, sampler: NestedMonteCarlo, as_json: bool) -> None:
        """Print what the proposals came to."""
        request, counts = self.request, sampler.counts
        kept: NDArray[Any] = np.array(self._energies[int(request.discard * request.proposals) :])
        mean = correlated_mean([kept])
        calls = counts.proposed + 1
        inner = counts.inner_accepted / counts.inner_proposed
        if as_json:
            facts = {
                "sampled": request.correct,
                "temperature_K": request.temperature,
                "proposals": counts.proposed,
                "accepted": counts.accepted,
                "accepted_in_chains": inner,
                "calls": calls,
                "energy_eV": {"mean": mean.value, "error": mean.error, "samples": mean.samples},
                "trajectory": str(request.output),
                "harvest": None if request.harvest is None else str(request.harvest),
            }
            typer.echo(json.dumps(facts, indent=1))
            return
        if is_quiet():
            return
        share = f"{counts.accepted / counts.proposed:.0%}"
        rows = [
            ("sampled", f"{request.correct} at {request.temperature:g} K, {counts.proposed} "
             "proposals"),
            ("accepted", f"{counts.accepted} of {counts.proposed}, {share}; {inner:.0%} of the "
             f"moves in chains of {request.chain}"),
            ("calls", f"{calls} of {request.correct}, {mean.samples / calls:.2g} effective samples "
             "of the energy each"),
            ("mean energy", f"{mean.value:.4f} ± {mean.error:.4f} eV"),
            ("trajectory", str(request.output)),
        ]  # fmt: skip
        if request.harvest is not None:
            rows.append(("harvest", f"{request.harvest}, {calls} geometries"))
        print_table(rows)
