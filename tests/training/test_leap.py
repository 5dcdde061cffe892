"""Training of leaps: the teacher's runs, pairs, the loss, the command, and what judges them."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import ROOT
from leaping import SMALL, untrained_leaps

from ase_atom.errors import ConfigError, DataError
from ase_atom.molecules.atoms import total_charge
from ase_atom.operator import load_operator, save_operator
from ase_atom.operator.leap import LeapConfig, LeapNetwork
from ase_atom.state import PhaseState
from training.leap import futures, samples
from training.leap.command import Schedule, assignments, compounds, read_list, train_leaps
from training.leap.config import LeapTrainingConfig
from training.leap.evaluate import frames_of
from training.leap.flexible import HELD_OUT, Flexible, chosen
from training.leap.judge import Judge
from training.leap.learning import LeapModule, take_over
from training.leap.measures import (
    Coordinates,
    axes_after,
    divergence,
    implied_time,
    legendre,
    states,
    transitions,
)
from training.leap.pairs import PairSampler, laid
from training.leap.reweight import log_density
from training.leap.teacher import Assignment, TeacherRun, make_runs, read_run


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle so many frames only as make the settling's time a number."""
    monkeypatch.setattr("training.leap.command.FRAMES", 64)


def random_run(temperature: float = 300.0, frames: int = 40, seed: int = 0) -> TeacherRun:
    atoms = molecule("CH3CH2OH")
    noise = torch.randn(4, frames, 9, 3, generator=torch.Generator().manual_seed(seed))
    positions = torch.tensor(atoms.positions, dtype=torch.float32) + 0.05 * noise
    masses = torch.tensor(atoms.get_masses())
    numbers = torch.tensor(atoms.numbers).long()
    return TeacherRun("CCO", numbers, masses, positions, 64.0, temperature, 0.01, "none")


def test_pairs_are_a_lag_apart_and_laid_on_each_other():
    run = random_run()
    sampler = PairSampler([run, random_run(500.0)], (1, 6, 8), (320.0, 16000.0), 64, 3)
    pairs = sampler.draw(7)
    assert set(pairs.temperatures.tolist()) == {300.0, 500.0}
    assert bool((pairs.lags >= 320).all())
    assert bool((pairs.lags <= 39 * 64).all())
    for side in (pairs.start, pairs.end):
        assert side.mean(1).abs().max() < 1e-5
    again = sampler.draw(7)
    assert torch.equal(pairs.end, again.end)
    assert not torch.equal(pairs.end, sampler.draw(8).end)


def test_a_turned_structure_is_laid_back():
    atoms = molecule("CH3CH2OH")
    start = atoms.positions[None]
    atoms.rotate(70, (1, 1, 0))
    one, other = laid(start, atoms.positions[None] + 3.0, atoms.get_masses())
    assert np.abs(one - other).max() < 1e-9


def test_runs_that_are_too_short_are_refused():
    with pytest.raises(DataError, match="no more than the shortest lag"):
        PairSampler([random_run(frames=4)], (1, 6, 8), (320.0, 16000.0), 64, 0)


def test_the_loss_is_that_of_the_networks_own_output():
    # A network that says nothing guesses x_s, which is off by s (x_noise - x_1): over scale s,
    # spread² / scale² of noise and the difference of the structures.
    network = LeapNetwork(SMALL)
    with torch.no_grad():
        for layer in (network.vector_out, network.pair_out):
            for weight in layer.parameters():
                weight.zero_()
    config = LeapTrainingConfig(network=SMALL, batch_size=4000)
    sampler = PairSampler([random_run()], (1, 6, 8), config.lags, 4000, 0)
    pairs = sampler.draw(0)
    module = LeapModule(network, config, sampler, None)
    with torch.no_grad():
        loss = float(module.loss(pairs, torch.Generator().manual_seed(0)))
    apart = float((pairs.start - pairs.end).square().mean())
    expected = (SMALL.spread**2 * 8 / 9 + apart) / SMALL.scale**2
    assert loss == pytest.approx(expected, rel=0.02)


def test_one_command_makes_runs_trains_and_goes_on(tmp_path):
    operator = load_operator("ethanol-gfn2")
    jobs = [Assignment("CCO", [molecule("CH3CH2OH")], 300.0, 3, 1280.0, seed=4)]
    folder = tmp_path / "work"
    config = LeapTrainingConfig(network=SMALL, steps=2, batch_size=8, checkpoint_every=1)
    leaps = train_leaps(operator, operator, jobs, config, folder, "by hand")
    (file,) = (folder / "teacher").iterdir()
    made = file.stat().st_mtime_ns
    assert read_run(file).positions.shape == (3, 21, 9, 3)
    assert leaps.card.lags_fs == (500.0, pytest.approx(0.8 * 1280.0))
    assert leaps.card.temperature_range_K == (300.0, 300.0)
    longer = config.model_copy(update={"steps": 3})
    more = train_leaps(operator, operator, jobs, longer, folder, "by hand")
    assert file.stat().st_mtime_ns == made
    assert more.fingerprint != leaps.fingerprint
    operator.leaps = more
    found = load_operator(save_operator(operator, tmp_path / "both.safetensors"))
    assert found.leaps.fingerprint == more.fingerprint
    with pytest.raises(ConfigError, match="batch_size: 8 → 16"):
        other = config.model_copy(update={"batch_size": 16})
        train_leaps(operator, operator, jobs, other, folder, "by hand")
    with pytest.raises(DataError, match="another operator"):
        list(make_runs(load_operator("ethanol-pbe"), jobs, folder / "teacher"))


def test_molecules_are_those_of_the_card_or_those_named(tmp_path):
    operator = load_operator("ethanol-gfn2")
    (found,) = compounds(operator, [])
    assert found.smiles == "CCO"
    assert len(found.structures) == 8
    molecule("CH3CH2OH").write(tmp_path / "a.xyz")
    (given,) = compounds(operator, [str(tmp_path / "a.xyz")])
    assert given.smiles == "CCO"
    with pytest.raises(ConfigError, match="name those to learn leaps of"):
        list(compounds(load_operator("tg80-gfn2"), []))
    jobs = assignments([found], [Schedule(300.0, 2, 1e3), Schedule(400.0, 2, 1e3)], 0.01, 0)
    assert len({job.file for job in jobs}) == 2


def test_ions_are_named_with_their_charge(tmp_path):
    """As SMILES and as a file that states it."""
    operator = load_operator("organic-wb97m")
    (acetate,) = compounds(operator, ["CC(=O)[O-]"])
    acetate.structures[0].write(tmp_path / "a.extxyz")
    (again,) = compounds(operator, [str(tmp_path / "a.extxyz")])
    (ammonium,) = compounds(operator, ["C[NH3+]"])
    assert [each.smiles for each in (acetate, again)] == ["CC(=O)[O-]"] * 2
    assert ammonium.smiles == "C[NH3+]"
    assert all(total_charge(atoms) == 1 for atoms in ammonium.structures)


def test_lists_are_read_as_far_as_they_are_to_be_learned_from(tmp_path):
    operator = load_operator("tg80-gfn2")
    table = tmp_path / "a.csv"
    table.write_text("name,smiles,part\na,CCO,train\nb,CCOC,test\nc,CCS,train\n")
    assert [each.smiles for each in compounds(operator, [str(table)])] == ["CCO", "CCS"]
    assert [each.smiles for each in compounds(operator, [str(table)], first=1)] == ["CCO"]
    lines = tmp_path / "b.smi"
    lines.write_text("# small\nCCN amine\n\n")
    assert [each.smiles for each in compounds(operator, [str(lines)])] == ["CCN"]
    lines.write_text("# none\n")
    with pytest.raises(ConfigError, match="lists no molecule"):
        list(compounds(operator, [str(lines)]))
    table.write_text("name,formula\na,C2H6O\n")
    with pytest.raises(ConfigError, match="needs a column smiles"):
        list(compounds(operator, [str(table)]))
    with pytest.raises(ConfigError, match=r"c\.csv: No such file"):
        list(compounds(operator, [str(tmp_path / "c.csv")]))


def test_the_flexible_compounds_turn_and_those_held_out_are_not_learned_from():
    path = ROOT / "training" / "data" / "flexible.csv"
    with path.open() as stream:
        rows = [Flexible(*row) for row in list(csv.reader(stream))[1:]]
    learned = read_list(path)
    assert len(learned) >= 300
    assert {row.smiles for row in rows if row.part == "test"} == set(HELD_OUT)
    assert not set(learned) & set(HELD_OUT)
    assert len({row.smiles for row in rows}) == len(rows)
    assert all(8 <= int(row.atoms) <= 20 and int(row.rotors) for row in rows)
    again = chosen(["CC", "CC#C", "C1CCCCC1", "CCCC", "CCO", "CCCC"], 0)
    assert [row.smiles for row in again if row.part == "train"] in (
        ["CCCC", "CCO"],
        ["CCO", "CCCC"],
    )


def test_general_leaps_learn_from_several_molecules_and_begin_with_others(tmp_path, monkeypatch):
    operator = load_operator("tg80-gfn2")
    found = compounds(operator, ["CO", "CCO"])
    jobs = assignments(list(found), [Schedule(300.0, 2, 640.0, 32.0)], 0.01, 0)
    network = SMALL.model_copy(update={"elements": (1, 6, 7, 8, 16, 17)})
    config = LeapTrainingConfig(network=network, steps=1, batch_size=32, checkpoint_every=1)
    leaps = train_leaps(
        operator, operator, jobs, config, tmp_path, "by hand", untrained_leaps(0.5, 0.7)
    )
    assert leaps.config.elements == tuple(operator.config.elements)
    assert leaps.card.largest_molecule is None  # two are too few to know of others
    assert leaps.card.smiles == ["CCO", "CO"]
    monkeypatch.setattr("training.leap.command.ENOUGH", 2)
    again = train_leaps(operator, operator, jobs, config, tmp_path, "by hand")
    assert again.card.largest_molecule == 9
    bare = LeapConfig.model_validate(SMALL.model_dump() | {"width": 24})
    with pytest.raises(ConfigError, match="width: 24 → 16"):
        take_over(LeapNetwork(SMALL), LeapNetwork(bare))


def test_weights_are_taken_over_element_by_element():
    parent = untrained_leaps(0.5, 0.7).network
    network = LeapNetwork(SMALL.model_copy(update={"elements": (1, 6, 7, 8)}))
    take_over(network, parent)
    generator = torch.Generator().manual_seed(0)
    start, noise = torch.randn(2, 1, 5, 3, generator=generator)
    level, conditions = torch.tensor([0.5]), torch.tensor([[0.0, -1.0]])
    ours, theirs = torch.tensor([[1, 2, 4, 1, 0]]), torch.tensor([[1, 2, 3, 1, 0]])
    with torch.no_grad():
        found = network(ours, start + noise, start, level, conditions)
        expected = parent(theirs, start + noise, start, level, conditions)
    assert torch.equal(found, expected)


# -- measures --------------------------------------------------------------------------------------


def test_states_and_transitions_of_a_known_chain():
    rng = np.random.default_rng(0)
    truth = np.array([[0.2, 0.4, 0.4], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]])
    before = rng.integers(3, size=60_000)
    after = (rng.random(len(before))[:, None] > truth.cumsum(1)[before]).sum(1)
    assert np.abs(transitions(before, after) - truth).max() < 0.01
    assert states(np.radians([180.0, 60.0, -60.0, -179.0, 119.0, 121.0])).tolist() == [
        *(0, 1, 2, 0, 1, 0)
    ]


def test_the_divergence_of_equal_distributions_is_none_in_the_mean():
    rng = np.random.default_rng(1)
    equal = [divergence(*(rng.uniform(-np.pi, np.pi, 500) for _ in range(2))) for _ in range(300)]
    assert abs(np.mean(equal)) < 3 * np.std(equal) / np.sqrt(300) + 3e-4
    apart = divergence(rng.uniform(-np.pi, 0, 5000), rng.uniform(0, np.pi, 5000))
    assert apart == pytest.approx(np.log(2), abs=0.01)


def test_torsions_have_the_angles_that_ase_finds():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=2)
    coordinates = Coordinates.of(atoms)
    found = np.degrees(coordinates.angles(atoms.positions[None])[0])
    for angle, torsion in zip(found, coordinates.torsions, strict=True):
        assert angle % 360 == pytest.approx(atoms.get_dihedral(*torsion) % 360, abs=1e-6)
    assert len(coordinates.bonds) == 8


def test_torsions_are_turned_to_what_they_are_to_be_and_nothing_else_changes():
    atoms = molecule("CH3CH2OH")
    coordinates = Coordinates.of(atoms)
    x = np.repeat(atoms.positions[None], 5, axis=0)
    x = x + np.random.default_rng(4).normal(0.0, 0.03, x.shape)
    wanted = np.random.default_rng(5).uniform(-np.pi, np.pi, (5, len(coordinates.torsions)))
    turned = coordinates.with_angles(x, wanted)
    assert np.abs(coordinates.angles(turned) - wanted).max() < 1e-9
    assert np.abs(coordinates.lengths(turned) - coordinates.lengths(x)).max() < 1e-12
    assert np.abs(coordinates.valence(turned) - coordinates.valence(x)).max() < 1e-8
    for value, corner in zip(coordinates.valence(x[0]), coordinates.corners, strict=True):
        atoms.positions = x[0]
        assert value == pytest.approx(atoms.get_angle(*corner), abs=1e-9)
    assert len(coordinates.corners) == 6 + 6 + 1


def test_the_implied_time_is_that_of_the_chain():
    rate = np.array([[-0.2, 0.1, 0.1], [0.05, -0.1, 0.05], [0.05, 0.05, -0.1]])
    slowest = -1 / np.sort(np.linalg.eigvals(rate).real)[-2]
    values, vectors = np.linalg.eig(rate)
    for lag in (0.5, 4.0):
        chain = (vectors * np.exp(values * lag)) @ np.linalg.inv(vectors)
        assert implied_time(chain.real, lag) == pytest.approx(slowest, rel=1e-9)
    assert implied_time(np.full((3, 3), 1 / 3), 1.0) == 0.0


def test_leaps_are_judged_beside_a_run(tmp_path):
    operator = load_operator("ethanol-gfn2", "auto")
    job = Assignment("CCO", [molecule("CH3CH2OH")], 300.0, 4, 1280.0, seed=5)
    (run,) = make_runs(operator, [job], tmp_path)
    operator.leaps = untrained_leaps()
    judge = Judge(operator, run, 8, 0)
    lines = dict(
        [*samples.at(judge, 8), *futures.baseline(judge), *futures.diversity(judge, 8, 2, 4)]
    )
    assert not any("nan" in value for value in lines.values())
    assert "of 8; 0 lost" in lines["512 fs: drawn again"]
    # What has learned nothing leaves torsions where they are but for settling.
    said = lines["512 fs: torsion 0-1-2-3, in all"]
    hops, of_run = (float(text) for text in re.match(r"hops (\S+) \(run (\S+)\)", said).groups())
    assert hops < 0.5 * of_run
    with pytest.raises(ConfigError, match=r"the run is 1\.28 ps long"):
        frames_of("4", run)
    with pytest.raises(ConfigError, match="give numbers"):
        frames_of("a", run)


def test_an_ion_is_judged_as_an_ion():
    operator = load_operator("organic-wb97m")
    one = Atoms("CO2H", [[0, 0.11, 0], [1.13, -0.42, 0], [-1.13, -0.42, 0], [0, 1.24, 0]])
    noise = torch.randn(2, 20, 4, 3, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor(one.positions, dtype=torch.float32) + 0.02 * noise
    masses, numbers = torch.tensor(one.get_masses()), torch.tensor(one.numbers).long()
    run = TeacherRun("O=C[O-]", numbers, masses, positions, 64.0, 300.0, 0.01, "none")
    judge = Judge(operator, run, 2, 0)
    one.positions = judge.flat[0]
    one.info["charge"] = -1
    expected = float(operator.energy(PhaseState.from_atoms(one)))
    assert judge.energies[0] == pytest.approx(expected, abs=1e-3)
    assert judge.state(judge.flat[:1]).charge.tolist() == [-1]


def test_a_chains_slope_is_found_within_its_interval():
    rng = np.random.default_rng(6)
    drift, span = 0.3, np.linspace(-0.5, 0.5, 200)
    inside = 0
    for _ in range(100):
        values = 2.0 + drift * span + rng.normal(0.0, 0.5, (8, 200))
        _, said = futures._slope("a", values, "Å")
        slope, interval = re.search(r"chain (\S+) ± (\S+) Å", said).groups()
        inside += abs(float(slope) - drift) <= float(interval)
    assert 88 <= inside <= 100  # of 100 intervals of 95 %
    assert said.startswith("mean 2.0")


def test_a_chain_that_goes_nowhere_does_not_drift(tmp_path):
    operator = load_operator("ethanol-gfn2", "auto")
    job = Assignment("CCO", [molecule("CH3CH2OH")], 300.0, 4, 640.0, seed=5)
    (run,) = make_runs(operator, [job], tmp_path)
    operator.leaps = untrained_leaps()
    lines = dict(futures.chain(Judge(operator, run, 8, 0), 1000.0, 8, 4))
    start = "chain of 8 leaps of 1 ps, 4 replicas: "
    assert "of 32 drawn again, 0 lost" in lines[f"{start}second half"]
    mean, slope, interval = map(float, re.findall(r"[-+]?\d+\.\d+", lines[f"{start}bond C0-C1"]))
    assert mean == pytest.approx(1.53, abs=0.03)
    assert abs(slope) <= 2 * interval


def test_the_density_of_shapes_leaves_out_how_samples_are_turned():
    # Normal noise about a structure: to first order the density of what is laid on it.
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 9, 3, generator=rng).double()
    noise = noise - noise.mean(1, keepdim=True)
    structure = torch.tensor(molecule("CH3CH2OH").positions)
    structure = structure - structure.mean(0)
    end = structure + 0.02 * noise
    slope = 0.02 * torch.eye(27).double().expand(3, 27, 27)
    on = torch.from_numpy(laid(structure.expand(3, 9, 3).numpy(), end.numpy(), np.ones(9))[1])
    found = log_density(noise, slope, end)
    expected = -0.5 * ((on - structure) / 0.02).square().sum((1, 2))
    assert float((found - expected).std()) < 0.1
    assert float(expected.std()) > 0.5


def test_axes_of_a_turned_molecule_are_its_own():
    atoms = molecule("CH3CH2OH")
    start = atoms.positions[None].copy()
    arms = atoms.positions - atoms.get_center_of_mass()
    squares = np.einsum("n,nx,ny->xy", atoms.get_masses(), arms, arms)
    axis = np.linalg.eigh(squares)[1][:, 0]
    atoms.rotate(30, axis)
    cosines = axes_after(start, atoms.positions[None], atoms.get_masses())[0]
    assert cosines == pytest.approx([1.0, np.sqrt(0.75), np.sqrt(0.75)], abs=1e-6)
    assert legendre(np.array([1.0]))[1][0] == 1.0
