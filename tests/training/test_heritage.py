"""An operator that knows more elements and charges starts from one that knows fewer."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule
from potentials import random_potential

from ase_atom.errors import ConfigError
from ase_atom.operator import build_operator
from ase_atom.operator.spectral import SpectralConfig
from ase_atom.state import PhaseState
from training.learning.heritage import inherit

SIZE = {
    "horizon": 16,
    "segment": 8,
    "width": 16,
    "pair_width": 8,
    "heads": 2,
    "vector_channels": 8,
    "blocks": 1,
    "energy_blocks": 1,
    "pair_vectors": 4,
    "radial_channels": 4,
    "modes": 8,
}
PARENT = SpectralConfig(elements=(1, 6, 7, 8, 17), **SIZE)


def small(seed: int, **changes: object):
    torch.manual_seed(seed)
    return build_operator(PARENT.model_copy(update=changes))


def path(operator, name: str, charge: int = 0) -> torch.Tensor:
    atoms = molecule(name)
    atoms.info["charge"] = charge
    atoms.set_velocities(torch.linspace(-1e-2, 1e-2, 3 * len(atoms)).reshape(-1, 3).numpy())
    with torch.no_grad():
        return operator(PhaseState.from_atoms([atoms]), torch.tensor([3.0, 8.0, 16.0]))[0]


def test_molecules_of_the_parent_move_as_before_and_new_ones_as_their_relatives() -> None:
    parent = small(0)
    child = small(1, elements=(1, 9, 8, 7, 6, 15, 17, 35, 5), charges=(1, 0, -1), horizon=8)
    with pytest.raises(ConfigError, match="refit_energies: true"):
        inherit(child, parent, "parent", refitted=False)
    inherit(child, parent, "parent", refitted=True)
    child.horizon = 16
    torch.testing.assert_close(path(child, "CH3CH2OH"), path(parent, "CH3CH2OH"))
    # A charge begins without effect.
    torch.testing.assert_close(path(child, "NH3", 1), path(parent, "NH3"))
    for old, new in (("Cl", "Br"), ("Cl", "F"), ("N", "P")):
        own, taken = (
            network.lift.embedding.weight[1 + network.config.elements.index(number)]
            for network, number in (
                (parent, {"Cl": 17, "N": 7}[old]),
                (child, {"Br": 35, "F": 9, "P": 15}[new]),
            )
        )
        torch.testing.assert_close(own, taken)
    # Boron has no relative among the parent's elements, and keeps what it drew.
    drawn = small(1, elements=child.config.elements, charges=(1, 0, -1)).lift.embedding.weight[9]
    torch.testing.assert_close(child.lift.embedding.weight[9], drawn)


def test_charges_that_the_parent_knows_are_kept() -> None:
    parent = small(0, charges=(0, 1))
    with torch.no_grad():
        for name, value in parent.named_parameters():
            if name.endswith("embedding.charge"):
                value.normal_()
    child = small(1, charges=(-1, 1, 0))
    inherit(child, parent, "parent", refitted=True)
    for charge in (0, 1):
        torch.testing.assert_close(path(child, "NH3", charge), path(parent, "NH3", charge))
    moved = path(parent, "NH3", 1) - path(parent, "NH3", 0)
    assert moved.abs().max() > 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"elements": (1, 6, 8)}, r"operator\.elements: \[1, 6, 7, 8, 17\] → \[1, 6, 8\]"),
        ({"charges": (1,)}, r"operator\.charges: \[0\] → \[1\]"),
        ({"blocks": 2}, r"operator\.blocks: 1 → 2"),
    ],
)
def test_an_operator_that_knows_less_or_is_built_otherwise_is_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        inherit(small(1, **changes), small(0), "parent", refitted=True)


def test_a_child_may_hear_forces_that_its_parent_does_not() -> None:
    parent, child = small(0), small(1, force_input=True)
    inherit(child, parent, "parent", refitted=False)
    child.lift.force_gate.weight.data.zero_()
    child.potential = random_potential(PARENT.elements)
    torch.testing.assert_close(path(child, "CH3CH2OH"), path(parent, "CH3CH2OH"))
    with pytest.raises(ConfigError, match="force_input: True → False"):
        inherit(parent, child, "child", refitted=False)


def test_a_child_may_go_in_shorter_pieces() -> None:
    parent, child = small(0), small(1, segment=4)
    inherit(child, parent, "parent", refitted=False)
    atoms = molecule("CH3CH2OH")
    atoms.set_velocities(torch.linspace(-1e-2, 1e-2, 27).reshape(-1, 3).numpy())
    state = PhaseState.from_atoms([atoms])
    with torch.no_grad():
        first, whole = (each(state, torch.tensor([4.0, 8.0])) for each in (child, parent))
        torch.testing.assert_close(first[0][:, 0], whole[0][:, 0])
        halfway = state.replace(positions=whole[0][:, 0], velocities=whole[1][:, 0])
        expected = parent(halfway, torch.tensor([4.0]))[0][:, 0]
    torch.testing.assert_close(first[0][:, 1], expected)
