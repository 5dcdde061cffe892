"""The path of a jump, and that its grid belongs to the dynamics, not to who counts the steps."""

import math

import numpy as np
import pytest
import torch
from ase_dynamics import FS, record, thermal
from springs import SpringOperator

from ase_atom import Bussi, Langevin, PhaseState
from ase_atom.ase.propagator import ATOMPropagator
from ase_atom.errors import BrokenStateError, StateError
from ase_atom.propagation import NVE, Path, torch_noise
from ase_atom.propagation.restart import read_restart, write_restart

THERMOSTATS = {
    "NVE": {},
    "Langevin": {"temperature_K": 300, "friction": 0.02 / FS},
    "Bussi": {"temperature_K": 300, "taut": 40 * FS},
}


def _walk(path: Path, state: PhaseState, steps: int, noise) -> list[torch.Tensor]:
    seen = []
    for _ in range(steps):
        if path.is_used_up:
            path.begin(state, noise)
        index = path.frame()
        state = state.replace(
            positions=path.positions[index][None], velocities=path.velocities[index][None]
        )
        path.take()
        seen.append(torch.cat([state.positions, state.velocities]))
    return seen


def _by_hand(dynamics: ATOMPropagator, steps: int) -> None:
    for _ in range(steps):
        dynamics.step()


def _mixed(dynamics: ATOMPropagator, steps: int) -> None:
    dynamics.run(5)
    _by_hand(dynamics, 7)
    dynamics.run(31)
    dynamics.nsteps = 3  # the counter is its owner's
    _by_hand(dynamics, 9)
    dynamics.nsteps = 0
    dynamics.run(steps - 52)


def _irun(dynamics: ATOMPropagator, steps: int) -> None:
    for _ in dynamics.irun(steps):
        dynamics.nsteps += 0


@pytest.mark.parametrize("settings", THERMOSTATS.values(), ids=THERMOSTATS)
@pytest.mark.parametrize("way", [_by_hand, _mixed, _irun])
def test_steps_by_hand_are_the_dynamics_of_run(ethanol, springs, settings, way):
    def moved(go) -> np.ndarray:
        atoms = thermal(ethanol.copy())
        rng = np.random.default_rng(5)
        dynamics = ATOMPropagator(
            atoms, 0.5 * FS, operator=springs, stride=8 * FS, rng=rng, **settings
        )
        go(dynamics)
        return np.concatenate([atoms.positions, atoms.get_momenta(), rng.standard_normal((1, 3))])

    expected = moved(lambda dynamics: dynamics.run(70))
    np.testing.assert_array_equal(moved(lambda dynamics: way(dynamics, 70)), expected)


def test_a_step_that_is_refused_or_breaks_leaves_the_place_as_it_was(ethanol, springs):
    atoms, other = thermal(ethanol.copy()), thermal(ethanol)
    dynamics = ATOMPropagator(atoms, 0.5 * FS, operator=springs, stride=8 * FS)
    seen = record(dynamics)
    dynamics.run(5)
    good = atoms.get_positions()
    atoms.positions[0, 0] = np.nan
    with pytest.raises(StateError, match=r"position of atom C\d is not finite"):
        dynamics.step()
    atoms.positions[:] = good
    dynamics.run(45)
    assert [step for step, *_ in seen] == list(range(51))
    ATOMPropagator(other, 0.5 * FS, operator=springs, stride=8 * FS).run(50)
    np.testing.assert_array_equal(other.positions, atoms.positions)


def test_a_broken_molecule_breaks_at_one_time_however_often_it_is_asked(ethanol, springs):
    atoms = thermal(ethanol)
    bond = atoms.positions[3] - atoms.positions[2]
    momenta = atoms.get_momenta()
    momenta[3] = 2.0 * bond / np.linalg.norm(bond) / FS
    atoms.set_momenta(momenta)
    dynamics = ATOMPropagator(
        atoms, 0.1 * FS, operator=springs, stride=8 * FS, energy_correction=False
    )
    said = []
    for _ in range(3):
        with pytest.raises(BrokenStateError) as caught:
            for _ in range(1000):
                dynamics.step()
        said.append((str(caught.value), caught.value.time))
    assert len(set(said)) == 1


@pytest.mark.parametrize(
    "ensemble",
    [NVE(True, True), Langevin(300.0, 0.02), Bussi(300.0, 40.0, energy_correction=True)],
    ids=["NVE", "Langevin", "Bussi"],
)
@pytest.mark.parametrize("piece", [math.inf, 4.0])  # one pass of the network, or two in a jump
@pytest.mark.parametrize("steps", [0, 5, 16, 21])
def test_a_path_goes_on_from_a_file_to_the_last_bit(ethanol, tmp_path, ensemble, steps, piece):
    """Also inside a jump, and one that was changed from outside, with the noise kept beside."""
    start = ensemble.prepare(PhaseState.from_atoms(thermal(ethanol)))
    operator = SpringOperator(ethanol, heating=1e-4, piece=piece)

    def path() -> Path:
        return Path(operator, ensemble, start, 0.5, 16)

    one, noise = path(), torch_noise(3)
    _walk(one, start, steps, noise)
    now = one.left(one.place) or start
    if steps:
        now = now.replace(velocities=1.01 * now.velocities)
        one.begin(now, noise, changed=True)
    write_restart(tmp_path / "run.restart", one.state_dict() | {"noise": noise.state_dict()})

    saved = read_restart(tmp_path / "run.restart")
    other, same_noise = path(), torch_noise(99)
    same_noise.load_state_dict(saved.pop("noise"))
    other.load_state_dict(saved)
    for a, b in zip(_walk(one, now, 40, noise), _walk(other, now, 40, same_noise), strict=True):
        assert torch.equal(a, b)
    assert (one.steps, one.place) == (other.steps, other.place)
    with pytest.raises(StateError, match="another molecule, stride or time step"):
        Path(operator, ensemble, start, 1.0, 8).load_state_dict(one.state_dict())
