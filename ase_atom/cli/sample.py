"""``ase-atom sample``: a calculator's canonical ensemble, with an operator to find the way."""

from __future__ import annotations

from pathlib import Path

import typer

from ase_atom.cli.messages import be_quiet
from ase_atom.cli.options import check_positive, check_resumed, given_options
from ase_atom.errors import ConfigError

PROPOSALS = 1000


def sample(
    context: typer.Context,
    structure: Path | None = typer.Argument(None, help="Structure file.", show_default=False),
    smiles: str | None = typer.Option(None, help="The molecule as SMILES."),
    correct: str | None = typer.Option(
        None,
        help="What is sampled: gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE calculator as "
        "MODULE:CLASS.",
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Trajectory: a frame a proposal."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    operator: str | None = typer.Option(
        None, help="Name or file of an operator.", show_default="the one for the molecule"
    ),
    proposals: int = typer.Option(PROPOSALS, min=1, help="Calls of the calculator."),
    chain: int = typer.Option(10, min=1, help="Moves of hybrid Monte Carlo in a proposal."),
    steps: int = typer.Option(20, min=1, help="Steps of velocity Verlet in a move."),
    timestep: float = typer.Option(0.5, help="Of these, fs."),
    temperature: float = typer.Option(300.0, help="K."),
    discard: float = typer.Option(
        0.2, min=0.0, max=0.9, help="Part of the proposals that the means leave out."
    ),
    harvest: Path | None = typer.Option(
        None,
        help="Extended XYZ file (.extxyz) for every geometry that the calculator is asked about, "
        "accepted or not, with its energy and forces: data for ase-atom finetune --harvest.",
    ),
    seed: int = typer.Option(0, min=0, help="Of all that is drawn."),
    restart: Path | None = typer.Option(
        None, help="Restart file, replaced every second, from which --resume continues."
    ),
    resume: Path | None = typer.Option(
        None, help="Go on from a restart file, with its settings; only --proposals may be more."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print warnings and errors alone."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON."),
) -> int:
    """Sample the canonical ensemble of a calculator exactly, at one call a proposal.

    Proposals are chains of hybrid Monte Carlo on the operator's own potential. What that lacks
    costs acceptance, and nothing else.

    \b
    Examples:
      ase-atom sample ethanol.xyz --correct gfn2 -o ethanol.extxyz
      ase-atom sample --smiles CCO --correct pyscf:pbe/def2-svp -o pbe.extxyz \\
          --operator ethanol-pbe --restart pbe.restart --harvest asked.extxyz
      ase-atom sample --resume pbe.restart --proposals 2000
    """
    be_quiet(quiet or as_json)
    if resume is not None:
        check_resumed(context, resume, "structure", {"proposals"})
        from ase_atom.cli.sampling import go_on

        return go_on(resume, proposals if "proposals" in given_options(context) else None, as_json)
    for option, given in (("--correct CALCULATOR", correct), ("--output FILE", output)):
        if given is None:
            raise ConfigError(f"{option} is missing")
    assert correct is not None
    assert output is not None
    check_positive("--temperature", temperature, "K")
    check_positive("--timestep", timestep, "fs")
    if (structure is None) == (smiles is None):
        raise ConfigError("give one molecule, as a structure file or as --smiles")
    from ase_atom.cli.sampling import SampleRequest, begin

    request = SampleRequest(
        output=output,
        harvest=harvest,
        restart=restart,
        correct=correct,
        operator=operator,
        proposals=proposals,
        chain=chain,
        steps=steps,
        timestep=timestep,
        temperature=temperature,
        discard=discard,
        seed=seed,
    )
    return begin(request, structure, smiles, overwrite, as_json)
