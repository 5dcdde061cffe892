"""Many molecules in one batch: the same physics as one by one, a file each, and what breaks."""

import re

import mdtraj
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixCom
from ase.io import read
from conftest import CALM, ETHANOL, make_card, make_operator

from ase_atom import ATOMPropagator, propagate_replicas
from ase_atom.ase.replicas import numbered_files
from ase_atom.cli import main
from ase_atom.errors import ConfigError, CoverageError, TrajectoryError
from ase_atom.operator import save_operator

FS = units.fs


def thermal(atoms: Atoms, count: int, temperature: float = 300.0) -> list[Atoms]:
    copies = []
    for seed in range(count):
        copy = atoms.copy()
        noise = np.random.default_rng(seed).standard_normal((len(atoms), 3))
        copy.set_momenta(noise * np.sqrt(copy.get_masses()[:, None] * units.kB * temperature))
        copies.append(copy)
    return copies


def tear(atoms: Atoms, speed: float = 0.4) -> None:
    """Send the hydroxyl hydrogen flying, with a speed in Å/fs."""
    bond = atoms.positions[3] - atoms.positions[2]
    momenta = atoms.get_momenta()
    momenta[3] = speed * atoms.get_masses()[3] * bond / np.linalg.norm(bond) / FS
    atoms.set_momenta(momenta)


@pytest.mark.parametrize(("steps", "interval"), [(64, 8), (50, 8), (7, 3), (5, 20)])
def test_a_batch_moves_as_its_members_do_alone(ethanol, springs, tmp_path, steps, interval):
    replicas = thermal(ethanol, 3)
    alone = thermal(ethanol, 3)
    run = propagate_replicas(
        replicas,
        0.5 * FS,
        steps,
        stride=8 * FS,
        operator=springs,
        trajectory=tmp_path / "t.extxyz",
        interval=interval,
    )
    assert [file.name for file in run.files] == ["t-0.extxyz", "t-1.extxyz", "t-2.extxyz"]
    for atoms, single, file in zip(replicas, alone, run.files, strict=True):
        seen = []
        dynamics = ATOMPropagator(single, 0.5 * FS, stride=8 * FS, operator=springs)
        dynamics.attach(
            lambda single=single, seen=seen: seen.append(single.get_positions()), interval
        )
        dynamics.run(steps)
        np.testing.assert_allclose(atoms.positions, single.positions, atol=1e-10)
        np.testing.assert_allclose(atoms.get_momenta(), single.get_momenta(), atol=1e-9)
        frames = read(file, ":")
        assert run.frames[0] == len(frames) == len(seen) == steps // interval + 1
        for frame, positions in zip(frames, seen, strict=True):
            np.testing.assert_allclose(frame.positions, positions, atol=1e-7)
        times = [frame.info["time_fs"] for frame in frames]
        np.testing.assert_allclose(times, np.arange(len(frames)) * interval * 0.5)


@pytest.mark.parametrize("timestep", [20 * units._aut * units.s, 0.483776843 * FS, FS / 3])
def test_time_steps_that_are_no_decimal_numbers(ethanol, springs, tmp_path, timestep):
    (atoms,), (single,) = thermal(ethanol, 1), thermal(ethanol, 1)
    settings = {"stride": 32 * timestep, "operator": springs, "temperature_K": 300}
    settings["friction"] = 0.02 / FS
    run = propagate_replicas(
        [atoms],
        timestep,
        128,
        rng=np.random.default_rng(1),
        trajectory=tmp_path / "t.traj",
        **settings,
    )
    ATOMPropagator(single, timestep, rng=np.random.default_rng(1), **settings).run(128)
    assert run.frames == [129]
    np.testing.assert_allclose(atoms.positions, single.positions, atol=1e-8)
    np.testing.assert_allclose(atoms.get_momenta(), single.get_momenta(), atol=1e-7)


def test_different_molecules_of_one_operator(ethanol, tmp_path):
    operator = make_operator(strength=0.003)
    operator.card = make_card(smiles=["CCO", "CO", "O"])
    replicas = [
        thermal(atoms, 1, 1.0)[0] for atoms in (ethanol, molecule("H2O"), molecule("CH3OH"))
    ]
    starts = [atoms.copy() for atoms in replicas]
    run = propagate_replicas(
        replicas,
        2 * FS,
        8,
        stride=8 * FS,
        operator=operator,
        energy_correction=False,
        trajectory=tmp_path / "t.dcd",
        interval=4,
    )
    for file, atoms, start in zip(run.files, replicas, starts, strict=True):
        loaded = mdtraj.load(file, top=file.with_suffix(".pdb"))
        assert (loaded.n_frames, loaded.n_atoms) == (3, len(atoms))
        np.testing.assert_allclose(10 * loaded.xyz[-1], atoms.positions, atol=1e-5)
        ATOMPropagator(
            start, 2 * FS, stride=8 * FS, operator=operator, energy_correction=False
        ).run(8)
        np.testing.assert_allclose(atoms.positions, start.positions, atol=1e-6)


def test_replicas_have_noise_of_their_own_and_seeds_repeat_it(ethanol, springs):
    def run(seed: int) -> list[np.ndarray]:
        replicas = [thermal(ethanol, 1)[0] for _ in range(2)]
        propagate_replicas(
            replicas,
            2 * FS,
            32,
            operator=springs,
            temperature_K=300,
            friction=0.02 / FS,
            rng=np.random.default_rng(seed),
        )
        return [atoms.positions for atoms in replicas]

    one, other = run(1)
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(run(1), [one, other])


def test_the_others_go_on_without_one_that_breaks(ethanol, springs, tmp_path):
    replicas, healthy = thermal(ethanol, 3), thermal(ethanol, 3)
    tear(replicas[1])
    settings = {"stride": 8 * FS, "operator": springs, "energy_correction": False, "interval": 1}
    run = propagate_replicas(replicas, 0.5 * FS, 200, trajectory=tmp_path / "t.xtc", **settings)
    propagate_replicas(healthy, 0.5 * FS, 200, **settings)
    assert [error.replica for error in run.broken] == [1]
    for index in (0, 2):
        np.testing.assert_allclose(replicas[index].positions, healthy[index].positions, atol=1e-9)
    assert run.frames[0] == run.frames[2] == 201
    assert 1 < run.frames[1] < 201
    last = mdtraj.load(run.files[1], top=run.files[1].with_suffix(".pdb"))
    assert last.n_frames == run.frames[1]
    # What is left of it is the last point of the grid before it broke.
    grid = (run.frames[1] - 1) // 16 * 16
    np.testing.assert_allclose(replicas[1].positions, 10 * last.xyz[grid], atol=0.006)
    assert np.isfinite(replicas[1].get_momenta()).all()


def test_all_of_them_breaking_is_told_too(ethanol, springs):
    replicas = thermal(ethanol, 2)
    for atoms in replicas:
        tear(atoms, speed=4.0)
    run = propagate_replicas(replicas, 0.5 * FS, 1000, operator=springs, stride=8 * FS)
    assert sorted(error.replica for error in run.broken) == [0, 1]


def test_bad_batches(ethanol, springs, tmp_path):
    def go(replicas: list[Atoms], error: type[Exception], message: str, **settings) -> None:
        with pytest.raises(error, match=message):
            propagate_replicas(
                replicas,
                settings.pop("timestep", FS),
                settings.pop("steps", 10),
                operator=settings.pop("operator", springs),
                **settings,
            )

    go([], ConfigError, "no replicas")
    go([ethanol], ConfigError, "steps is a whole number from 1 on, not 0", steps=0)
    go([ethanol, ethanol], ConfigError, "same Atoms object is there twice")
    go([ethanol, ethanol.copy()], ConfigError, "replicas 0 and 1 start alike")
    go([ethanol], ConfigError, "no multiple of the time step", timestep=0.7 * FS)
    go([ethanol, molecule("CH3OCH3")], CoverageError, "COC", operator="ethanol-gfn2")
    held = ethanol.copy()
    held.set_constraint(FixCom())
    go([ethanol, held], ConfigError, "FixCom must be on all replicas, or on none")
    (tmp_path / "t-1.dcd").write_text("mine")
    go(
        thermal(ethanol, 2),
        TrajectoryError,
        r"t-1\.dcd exists",
        trajectory=tmp_path / "t.dcd",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["t-1.dcd"]


def test_names_sort_as_they_count():
    names = [file.name for file in numbered_files("a/run.dcd", 64)]
    assert (names[0], names[9], names[63]) == ("run-00.dcd", "run-09.dcd", "run-63.dcd")
    assert names == sorted(names)


# -- on the command line ---------------------------------------------------------------------------


def test_run_replicas(go, out):
    code, text, notes = go(*CALM, "--replicas", "3")
    assert (code, notes[-1].split(" with ")[0]) == (0, "3 replicas of C2H6O")
    assert re.search(r"simulated +3 × 80 fs in 41 frames each\n", text)
    assert re.search(rf"trajectory +{out}/t-0\.dcd to t-2\.dcd\n", text)
    last = [mdtraj.load(out / f"t-{n}.dcd", top=out / f"t-{n}.pdb").xyz[-1] for n in range(3)]
    assert np.abs(last[0] - last[1]).max() > 1e-5
    assert np.abs(last[1] - last[2]).max() > 1e-5


def test_run_several_molecules(tmp_path, capsys):
    operator = make_operator(strength=0.003)
    operator.card = make_card(smiles=["CCO", "O"])
    checkpoint = save_operator(operator, tmp_path / "two.safetensors")
    molecule("H2O").write(tmp_path / "water.xyz")
    arguments = ["run", ETHANOL, tmp_path / "water.xyz", "-o", tmp_path / "t.xtc", *CALM]
    arguments += [
        "--operator",
        checkpoint,
        "--uncorrected",
        "--replicas",
        "2",
        "--ensemble",
        "bussi",
        "--no-equilibration",
    ]
    assert main([str(each) for each in arguments]) == 0
    heading, ethanol, water = capsys.readouterr().out.strip().splitlines()[-3:]
    assert heading.split()[:2] == ["molecule", "N_f"]
    assert re.match(r"ethanol\.xyz +24 +\d\S* ± \d\S* K, .* t-0\.xtc to t-1\.xtc$", ethanol)
    assert re.match(r"water\.xyz +6 +\d\S* ± \d\S* K, .* t-2\.xtc to t-3\.xtc$", water)
    sizes = [
        mdtraj.load(tmp_path / f"t-{n}.xtc", top=tmp_path / f"t-{n}.pdb").n_atoms for n in range(4)
    ]
    assert sizes == [9, 9, 3, 3]


def test_copies_that_would_not_differ_are_refused(go, ethanol, tmp_path, out):
    start = tmp_path / "moving.extxyz"
    thermal(ethanol, 1)[0].write(start)
    code, _, notes = go("--ensemble", "nve", "--replicas", "2", structure=start)
    assert code == 2
    assert "would give one trajectory 2 times" in notes[-1]
    assert not list(out.iterdir())


def test_broken_replicas_give_exit_code_3_at_the_end(go, out):
    code, _, notes = go(
        "--time", "2ps", "--temperature", "400", "--replicas", "2", "--frame-interval", "1fs"
    )
    assert code == 3
    assert re.search(r"(2 of 2 replicas|replica \d) broke", notes[-1])
    assert "t-0.dcd to t-1.dcd hold the good frames" in notes[-1]
