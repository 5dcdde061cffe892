"""``ase-atom sample``: a calculator's canonical ensemble, with an operator to find the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ase_atom.cli.options import check_positive
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms

    from ase_atom.operator import OperatorLike


def sample(
    structure: Path | None = typer.Argument(None, help="Structure file.", show_default=False),
    smiles: str | None = typer.Option(None, help="The molecule as SMILES."),
    correct: str = typer.Option(
        ...,
        help="What is sampled: gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE calculator as "
        "MODULE:CLASS.",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Trajectory: a frame a proposal."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    operator: str | None = typer.Option(
        None, help="Name or file of an operator.", show_default="the one for the molecule"
    ),
    proposals: int = typer.Option(1000, min=1, help="Calls of the calculator."),
    chain: int = typer.Option(10, min=1, help="Moves of hybrid Monte Carlo in a proposal."),
    steps: int = typer.Option(20, min=1, help="Steps of velocity Verlet in a move."),
    timestep: float = typer.Option(0.5, help="Of these, fs."),
    temperature: float = typer.Option(300.0, help="K."),
    discard: float = typer.Option(
        0.2, min=0.0, max=0.9, help="Part of the proposals that the means leave out."
    ),
    harvest: Path | None = typer.Option(
        None,
        help="Extended XYZ file for every accepted geometry with the calculator's energy and "
        "forces: data for a fine-tuning.",
    ),
    seed: int = typer.Option(0, min=0, help="Of all that is drawn."),
) -> None:
    """Sample the canonical ensemble of a calculator exactly, at one call a proposal.

    Proposals are chains of hybrid Monte Carlo on the operator's own potential. What that lacks
    costs acceptance, and nothing else.
    """
    from ase_atom.ase.conformer import from_smiles
    from ase_atom.ase.relaxation import relax
    from ase_atom.io import check_output, read_structure
    from ase_atom.io.registry import check_free
    from ase_atom.molecules.catalogue import operator_for

    check_positive("--temperature", temperature, "K")
    check_positive("--timestep", timestep, "fs")
    if (structure is None) == (smiles is None):
        raise ConfigError("give one molecule, as a structure file or as --smiles")
    atoms = read_structure(structure) if structure is not None else from_smiles(smiles or "", seed)
    atoms.set_constraint()
    model = operator_for(atoms, operator, engine="auto")
    if not model.has_energy:
        raise ConfigError("the operator has no energy head, and no proposals can be made with it")
    check_output(output, overwrite, () if structure is None else (structure,), atoms)
    if harvest is not None:
        check_free(harvest, overwrite)
    if smiles is not None:
        relax(atoms, model)
    settings = (correct, proposals, chain, steps, timestep, temperature, discard, seed)
    _sample(atoms, model, output, overwrite, harvest, *settings)


def _sample(
    atoms: Atoms,
    model: OperatorLike,
    output: Path,
    overwrite: bool,
    harvest: Path | None,
    correct: str,
    proposals: int,
    chain: int,
    steps: int,
    timestep: float,
    temperature: float,
    discard: float,
    seed: int,
) -> None:
    """Sample to the files, and print what it came to."""
    import numpy as np
    import torch
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    from ase_atom.analysis.reference_engines import make_calculator
    from ase_atom.analysis.statistics import correlated_mean
    from ase_atom.cli.report import print_table
    from ase_atom.io import open_trajectory
    from ase_atom.operator.torch_settings import own_torch
    from ase_atom.propagation import Fallback, Guard
    from ase_atom.propagation.nested import NestedMonteCarlo, walled
    from ase_atom.state import PhaseState

    reference = Fallback(make_calculator(correct, "--correct"), correct)
    state = PhaseState.from_atoms([atoms])
    reference.check(state)
    last = torch.zeros(0)

    def energy(asked: PhaseState) -> torch.Tensor:
        nonlocal last
        found, last = reference.forces(asked)
        return found

    energies = []
    if harvest is not None:
        harvest.unlink(missing_ok=True)
    with own_torch(1), torch.no_grad():
        surrogate = walled(model.energy_and_forces, Guard.watch(state))
        sampler = NestedMonteCarlo(
            surrogate, energy, state, temperature, chain, steps, timestep, seed
        )
        with open_trajectory(output, atoms, "w" if overwrite else "x", frame_interval=1.0) as file:
            for _ in range(proposals):
                taken = bool(sampler.step()[0])
                x = sampler.state.about_center()[0].numpy()
                energies.append(float(sampler.energies[0]))
                held = np.array(energies[-1:]) if file.holds_energies else None
                file.write_frames(x[None], None, energies=held)
                if taken and harvest is not None:
                    frame = atoms.copy()
                    frame.set_positions(x)
                    frame.calc = SinglePointCalculator(
                        frame, energy=energies[-1], forces=last[0].numpy()
                    )
                    write(harvest, frame, format="extxyz", append=True)
    counts = sampler.counts
    kept = np.array(energies[int(discard * proposals) :])
    mean = correlated_mean([kept])
    accepted = f"{counts.accepted} of {counts.proposed}, {counts.accepted / counts.proposed:.0%}"
    inner = counts.inner_accepted / counts.inner_proposed
    rows = [
        ("sampled", f"{correct} at {temperature:g} K, {proposals} proposals"),
        ("accepted", f"{accepted}; {inner:.0%} of the moves in chains of {chain}"),
        ("calls", f"{reference.calls} of {correct}, {mean.samples / reference.calls:.2g} "
         "effective samples of the energy each"),
        ("mean energy", f"{mean.value:.4f} ± {mean.error:.4f} eV"),
        ("trajectory", str(output)),
    ]  # fmt: skip
    if harvest is not None:
        rows.append(("accepted geometries", str(harvest)))
    print_table(rows)
