"""Can leaps be reweighted? ``python -m training.leap.reweight OPERATOR RUN.safetensors``.

Samples of a lag beyond all memory should be those of equilibrium. Their weights are exp(-βE)/p,
with p the density that the decoder draws them with: that of the noise over the determinant of the
derivative of sample by noise, all passes together. How many samples the weights leave says whether
reweighting is of use.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from ase_atom.commandline import run_command
from ase_atom.operator import load_leaps, load_operator
from ase_atom.operator.leap.flow import centred, sampled
from ase_atom.operator.leap.network import conditions_of
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import KB
from training.leap.judge import Judge
from training.leap.teacher import read_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    operator: Annotated[str, typer.Argument(help="Name or file of an operator with leaps.")],
    teacher: Annotated[Path, typer.Argument(help="Run of its teacher.")],
    count: Annotated[int, typer.Option("--samples", min=8)] = 96,
    lag: Annotated[float, typer.Option(help="In ps.")] = 16.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Print the effective number of samples, with and without the density."""
    set_threads(1)
    found, leaps = load_operator(operator), load_leaps(operator).to("cpu")
    judge = Judge(found, read_run(teacher), count, seed)
    kelvin = judge.run.temperature_K
    state = judge.state(judge.drawn(1), 1)
    weight = next(leaps.network.parameters())
    species = leaps.species(state)
    mask = (species > 0).unsqueeze(-1).to(weight)
    start = centred(state.positions.to(weight), mask)
    conditions = conditions_of(
        weight.new_full((count,), 1000.0 * lag), weight.new_full((count,), kelvin)
    )
    generator = torch.Generator().manual_seed(seed)
    spread = leaps.config.spread
    noise = centred(torch.randn(start.shape, generator=generator), mask).requires_grad_(True)
    end = sampled(
        leaps.guess_of(species, start, conditions), start + spread * noise, mask, leaps.card.passes
    )
    rows = [
        torch.autograd.grad(column.sum(), noise, retain_graph=True)[0].flatten(1)
        for column in end.flatten(1).unbind(1)
    ]
    slope = torch.stack(rows, dim=1).double()
    end = end.detach().double()
    density = log_density(noise.detach().double(), slope, end)
    energy = torch.from_numpy(judge.energy(end.numpy())) / (KB * kelvin)
    print(f"energy as drawn: {float(energy.std()):.2f} k_BT of spread")
    print(f"log density of shapes: spread {float(density.std()):.2f}")
    for name, logs in (("exp(-βE)/p", -energy - density), ("unweighted", energy * 0)):
        w = torch.softmax(logs, 0)
        left = 1 / float(w.square().sum())
        print(
            f"{name}: log weights spread over {float(logs.std()):.2f}, {left:.1f} of {count} left"
        )
        mean, of_run = float((w * energy).sum()), judge.energies.mean() / (KB * kelvin)
        error = float((w * (energy - mean)).square().sum().sqrt())
        print(f"{name}: mean energy {mean - of_run:+.2f} ± {error:.2f} k_BT above the run's")


def log_density(noise: Tensor, slope: Tensor, end: Tensor) -> Tensor:
    """Log density of shapes at samples, but for a constant, ``[B]``.

    Samples are laid on their start, and turn about that by what the network errs, which is no part
    of a shape. Noise that turns a sample and leaves its shape is integrated out, along the straight
    line that the derivative gives.

    Parameters
    ----------
    noise
        Standard normal, about the centroid, ``[B, N, 3]``.
    slope
        Derivative of samples by noise, ``[B, 3 N, 3 N]``.
    end
        Samples about their centroids, ``[B, N, 3]``.
    """
    atoms = noise.shape[1]
    # An orthonormal basis of what has its centroid at the origin.
    inside = torch.linalg.svd(torch.eye(atoms) - 1 / atoms)[0][:, : atoms - 1].double().contiguous()
    basis = torch.kron(inside, torch.eye(3, dtype=torch.float64))
    small = basis.T @ slope @ basis
    turns = torch.stack(
        [torch.linalg.cross(axis.expand_as(end), end) for axis in torch.eye(3).double()], dim=-1
    ).flatten(1, 2)
    turning = torch.linalg.solve(small, torch.linalg.qr(basis.T @ turns)[0])
    directions, sizes = torch.linalg.qr(turning)
    along = directions.transpose(1, 2) @ (basis.T @ noise.flatten(1).unsqueeze(-1))
    size = sizes.diagonal(dim1=1, dim2=2).abs().log().sum(1)
    rest = noise.square().sum((1, 2)) - along.square().sum((1, 2))
    return -0.5 * rest - torch.linalg.slogdet(small)[1] - size


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.leap.reweight"))


if __name__ == "__main__":
    main()
