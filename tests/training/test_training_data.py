"""Division, windows and losses of training, against motion known in closed form."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from harmonic_bursts import WATER, Springs, hydrogen_bursts, water_bursts

from ase_atom.errors import DataError
from ase_atom.operator import SpectralConfig, build_operator
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.data.frames import EnergyOffsets, FrameData, Sampler, energy_offsets, select_states
from training.data.split import split_bursts
from training.learning.losses import Scales, energy_losses, path_losses


def make_sampler(data: FrameData, **changes: int | None) -> Sampler:
    settings = {"window": 8, "batch_size": 32, "state_batch_size": 4, "seed": 3}
    return Sampler(data, **(settings | changes))


def test_split_is_by_burst_and_stratified() -> None:
    bursts = water_bursts(40) + hydrogen_bursts(20)
    split = split_bursts(bursts, 0.1, 0.2, seed=5)
    keys = [key for part in split.values() for key in part]
    assert sorted(keys) == sorted(burst.key for burst in bursts)
    assert [len(split[part]) for part in ("train", "validation", "test")] == [42, 6, 12]
    kind = {burst.key: (burst.smiles, burst.temperature_K) for burst in bursts}
    assert set(Counter(kind[key] for key in split["test"]).values()) == {4}
    assert set(Counter(kind[key] for key in split["validation"]).values()) == {2}


def test_split_follows_from_seed_and_bursts_alone() -> None:
    bursts = water_bursts(20)
    split = split_bursts(bursts, 0.2, 0.2, seed=5)
    assert split_bursts(bursts[::-1], 0.2, 0.2, seed=5) == split
    assert split_bursts(bursts, 0.2, 0.2, seed=6) != split


def test_split_keeps_an_earlier_division_where_it_was() -> None:
    bursts = water_bursts(40)
    before = split_bursts(bursts[:20], 0.2, 0.2, seed=5)
    after = split_bursts(bursts, 0.2, 0.2, seed=9, given=before)
    for part, keys in before.items():
        assert set(keys) < set(after[part])
    assert sum(map(len, after.values())) == 40


def test_split_needs_something_to_train_on() -> None:
    with pytest.raises(DataError, match="2 bursts leave none to train on"):
        split_bursts(water_bursts(2), 1, 1, seed=0)


def test_windows_follow_from_seed_rank_and_step_alone() -> None:
    data = FrameData.from_bursts(water_bursts(3))
    first, second = make_sampler(data), make_sampler(data)
    second.windows(second.generator(0))
    again = second.windows(second.generator(7))
    assert torch.equal(first.windows(first.generator(7)).positions, again.positions)
    for other in (make_sampler(data, seed=4), make_sampler(data, rank=1)):
        assert not torch.equal(other.windows(other.generator(7)).positions, again.positions)
    assert not torch.equal(first.windows(first.generator(8)).positions, again.positions)


@pytest.mark.parametrize("lags", [None, 3])
@pytest.mark.parametrize("chain", [1, 2])
def test_every_window_is_a_trajectory_forward_or_backward(chain: int, lags: int | None) -> None:
    """Half of the windows run backwards: negated velocities make that a solution too."""
    springs = Springs(WATER)
    data = FrameData.from_bursts(water_bursts(4))
    sampler = make_sampler(data, chain=chain, lags_per_jump=lags)
    windows = sampler.windows(sampler.generator(0))
    assert len(windows.lags) == chain * (lags or 8)
    if chain == 2:
        assert {8, 16} <= set(windows.lags.tolist())
    weights = springs.masses / springs.masses.sum()
    centre = weights @ springs.minimum
    for x, v in zip(windows.positions, windows.velocities, strict=True):
        x, v = x.double().numpy(), v.double().numpy()
        true_x, true_v = springs.propagate(x[0] + centre, v[0], windows.lags.numpy())
        np.testing.assert_allclose(x[1:] + centre, true_x, atol=2e-6)
        np.testing.assert_allclose(v[1:], true_v, atol=2e-7)


def test_about_half_of_the_windows_are_reversed() -> None:
    data = FrameData.from_bursts(water_bursts(1))
    sampler = make_sampler(data, batch_size=400)
    windows = sampler.windows(sampler.generator(0))
    forward = (windows.velocities[:, None, 0] == data.velocities[None]).all((-1, -2)).any(1)
    assert 150 < int(forward.sum()) < 250


def test_windows_reach_every_frame_and_never_cross_bursts() -> None:
    bursts = water_bursts(2, frames=12) + hydrogen_bursts(1, frames=20)
    data = FrameData.from_bursts(bursts)
    # Mark each frame by its number in place of its coordinates.
    mark = torch.arange(44.0).view(-1, 1, 1).expand(-1, 3, 3)
    data = FrameData(**(vars(data) | {"positions": mark}))
    sampler = make_sampler(data, batch_size=2000)
    frames = sampler.windows(sampler.generator(0)).positions[:, :, 0, 0]
    edges = torch.bucketize(frames.contiguous(), torch.tensor([12.0, 24.0]), right=True)
    assert torch.equal(edges.min(1).values, edges.max(1).values)
    assert set(frames.flatten().tolist()) == set(range(44))


def test_frames_are_about_a_centre_of_mass_at_rest() -> None:
    bursts = water_bursts(1)
    bursts[0].positions = bursts[0].positions + 50
    bursts[0].velocities = bursts[0].velocities + 0.01
    data = FrameData.from_bursts(bursts)
    weights = (data.masses / data.masses.sum(1, keepdim=True))[0, :, None]
    assert (weights * data.positions).sum(1).abs().max() < 1e-6
    assert (weights * data.velocities).sum(1).abs().max() < 1e-9


def test_times_must_fit_frames_and_bursts() -> None:
    data = FrameData.from_bursts(water_bursts(1))
    assert data.frames_of(16.0, "window") == 16
    with pytest.raises(DataError, match=r"window \(2.5 fs\) is no multiple .* \(1 fs\)"):
        data.frames_of(2.5, "window")
    with pytest.raises(DataError, match=r"horizon \(64 fs\) is longer than .* \(59 fs\)"):
        data.frames_of(64.0, "horizon")


def test_energy_offsets_hit_the_mean_energy_of_one_molecule() -> None:
    bursts = water_bursts(6)
    offsets = energy_offsets(bursts)
    mean = np.mean([burst.energies for burst in bursts])
    assert offsets.elements[8] + 2 * offsets.elements[1] == pytest.approx(mean, abs=1e-9)
    energies = FrameData.from_bursts(bursts, offsets).energies
    assert abs(float(energies.mean())) < 1e-4


def all_windows(data: FrameData, lags: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    starts = torch.cat(
        [
            first + torch.arange(length - lags)
            for first, length in zip(data.first.tolist(), data.length.tolist(), strict=True)
        ]
    )
    frames = starts[:, None] + torch.arange(lags + 1)
    return data.positions[frames], data.velocities[frames], data.masses[data.burst[starts]]


def test_staying_put_scores_one_in_positions() -> None:
    data = FrameData.from_bursts(water_bursts(8, frames=400))
    scales = Scales.from_data(data, 8, 400.0)
    x, v, masses = all_windows(data, 8)
    still = (x[:, :1].expand_as(x[:, 1:]), torch.zeros_like(v[:, 1:]))
    loss, _ = path_losses(still, (x[:, 1:], v[:, 1:]), masses, scales.displacement, 400.0)
    assert float(loss) == pytest.approx(1.0, abs=0.01)


def test_standing_still_scores_the_temperature_in_velocities() -> None:
    data = FrameData.from_bursts(water_bursts(8, frames=400))
    x, v, masses = all_windows(data, 8)
    true = (x[:, 1:], v[:, 1:])
    still = (true[0], torch.zeros_like(true[1]))
    position, velocity = path_losses(still, true, masses, torch.ones(8), 350.0)
    kinetic = 0.5 * AMU_A2_FS2_IN_EV * (masses[:, None, :, None] * true[1] ** 2).sum((-1, -2))
    assert float(position) == 0
    assert float(velocity) == pytest.approx(float(2 * kinetic.mean() / (9 * KB * 350)), rel=1e-5)


@pytest.mark.parametrize("measure", ["square", "length"])
def test_padding_enters_no_loss(measure: str) -> None:
    """Two molecules in one batch: the loss is their mean by number of atoms."""
    small, large = (FrameData.from_bursts(b) for b in (hydrogen_bursts(2), water_bursts(2)))
    both = FrameData.from_bursts(hydrogen_bursts(2) + water_bursts(2))

    def losses(data: FrameData) -> torch.Tensor:
        x, v, masses = all_windows(data, 8)
        rough = (x[:, 1:] + 0.1 * x[:, :1], 0.5 * v[:, 1:])
        true = (x[:, 1:], v[:, 1:])
        return torch.stack(path_losses(rough, true, masses, torch.ones(8), 400.0, measure))

    expected = (2 * losses(small) + 3 * losses(large)) / 5
    torch.testing.assert_close(losses(both), expected, rtol=1e-5, atol=1e-8)


def test_lengths_count_a_far_error_once() -> None:
    """One of eight atoms' places off by 3 of the scale: 9/8 by squares, 3/8 by lengths."""
    x, masses = torch.zeros(2, 1, 4, 3), torch.ones(2, 4)
    wrong = x.clone()
    wrong[0, 0, 0] = torch.tensor([0.4, 0.4, 0.2]) * 3 / 0.6
    found = [
        float(path_losses((wrong, x), (x, x), masses, torch.ones(1), 400.0, measure)[0])
        for measure in ("square", "length")
    ]
    assert found == pytest.approx([9 / 8, 3 / 8], rel=1e-3)


def test_the_energy_scale_is_of_each_molecule_by_itself() -> None:
    """Isomers share their atoms and not their mean energy."""
    bursts = water_bursts(4)
    alike = Scales.from_data(FrameData.from_bursts(bursts), 2, 400.0)
    isomers = [
        replace(burst, smiles="[H]O[H].isomer", energies=burst.energies + 7.0)
        if number % 2
        else burst
        for number, burst in enumerate(bursts)
    ]
    apart = Scales.from_data(FrameData.from_bursts(isomers), 2, 400.0)
    assert 0 < apart.energy <= alike.energy * 1.001


def test_energy_losses_are_errors_of_the_operators_energy_and_forces() -> None:
    bursts = hydrogen_bursts(2) + water_bursts(2)
    operator = build_operator(
        SpectralConfig(width=16, pair_width=8, vector_channels=8, blocks=1, energy_blocks=1)
    )
    operator.set_energy_scale({1: -3.0, 8: -1990.0}, 2.0)
    data = FrameData.from_bursts(bursts, EnergyOffsets({1: -3.0, 8: -1990.0}, {}))
    scales = Scales.from_data(data, 2, 400.0)
    frames = torch.tensor([3, 70, 130, 200])
    states = select_states(data, frames)
    force, energy = energy_losses(operator, states, scales)
    assert force.requires_grad
    assert energy.requires_grad

    state = PhaseState(
        states.numbers, states.masses, states.positions, torch.zeros_like(states.positions)
    )
    predicted, forces = operator.energy_and_forces(state)
    wrong = predicted - torch.tensor(
        [bursts[f // 60].energies[f % 60] for f in frames.tolist()], dtype=torch.float64
    )
    atoms = int((states.numbers > 0).sum())
    assert energy.item() == pytest.approx(float(wrong.square().mean()) / scales.energy**2, rel=1e-4)
    expected = float((forces - states.forces).square().sum()) / (3 * atoms) / scales.force**2
    assert force.item() == pytest.approx(expected, rel=1e-4)

    # The force loss reaches the weights: compare with a backward pass through a backward pass.
    positions = states.positions.clone().requires_grad_(True)
    output = operator.energy_output(operator.species_of[states.numbers], states.masses, positions)
    (gradient,) = torch.autograd.grad(output.sum(), positions, create_graph=True)
    same = (-2.0 * gradient - states.forces).square().sum() / (3 * atoms) / scales.force**2
    weights = [operator.lift.pair_in.weight, operator.energy_pairs.weight]
    for one, other in zip(
        torch.autograd.grad(force, weights), torch.autograd.grad(same, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
