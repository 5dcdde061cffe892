"""Leaps from somebody else's trajectory: what is read, what is refused, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from leaping import SMALL

from ase_atom.errors import AtomError, CheckpointError, ConfigError, DataError
from ase_atom.io import open_trajectory
from ase_atom.io.topology import write_pdb
from ase_atom.operator import load_leaps, load_operator, save_leaps, save_operator
from training.leap.__main__ import run as command
from training.leap.config import LeapTrainingConfig
from training.leap.teacher import read_run
from training.leap.trajectory import Source, read_source, train_on

ETHANOL = molecule("CH3CH2OH")
FRAMES, INTERVAL = 900, 250.0


def shaken(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Ethanol near where it starts, ``[T, N, 3]``, which turns and moves as a whole."""
    rng = np.random.default_rng(seed)
    x = ETHANOL.positions + rng.normal(0.0, 0.03, (frames, len(ETHANOL), 3))
    angle = np.linspace(0.0, 9.0, frames)
    turn = np.zeros((frames, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0], turn[:, 2, 2] = -np.sin(angle), np.sin(angle), 1.0
    return x @ turn + np.linspace(0.0, 5.0, frames)[:, None, None]


def written(
    path: Path, x: np.ndarray, atoms: Atoms = ETHANOL, interval: float = INTERVAL, times=None
) -> Path:
    start = atoms.copy()
    start.positions = x[0]
    with open_trajectory(path, start, "w", frame_interval=interval) as writer:
        writer.write_frames(x, times=times)
    return path


def source(*files: Path, **told) -> Source:
    return Source(files, **{"temperatures": [300.0], "friction": 0.01, **told})


@pytest.mark.parametrize("ending", ["dcd", "xtc", "nc", "h5", "extxyz", "traj"])
def test_all_formats_teach_the_same(tmp_path, ending):
    x = shaken()
    found = read_source(source(written(tmp_path / f"a.{ending}", x)))
    (run,), (held,) = found.runs, found.held_out
    assert run.smiles == "CCO"
    assert run.interval == pytest.approx(INTERVAL, rel=1e-4)
    assert run.positions.shape == (1, 750, 9, 3)
    assert np.abs(run.positions[0].numpy() - x[:750]).max() < 0.006  # .xtc rounds
    # The end is held out, whole and in its order.
    end = held.positions.flatten(0, 1).numpy()
    assert np.abs(end - x[750 : 750 + len(end)]).max() < 0.006
    assert len(end) > 140
    low, high = found.lags
    assert (low, high) == (500.0, pytest.approx(749 * INTERVAL / 20, rel=1e-4))


def test_several_files_have_temperatures_of_their_own(tmp_path):
    files = [written(tmp_path / f"{seed}.xtc", shaken(600, seed)) for seed in range(2)]
    found = read_source(source(*files, temperatures=[300.0, 400.0]))
    assert [run.temperature_K for run in found.runs] == [300.0, 400.0]
    assert found.lags[1] == pytest.approx(2 * 499 * INTERVAL / 20)
    assert [run.temperature_K for run in read_source(source(*files)).runs] == [300.0, 300.0]


def test_weak_friction_makes_the_shortest_lag_longer(tmp_path):
    file = written(tmp_path / "a.xtc", shaken(), interval=1000.0)
    assert read_source(source(file, friction=0.002)).lags[0] == pytest.approx(2500.0)
    assert read_source(source(file)).lags[0] == pytest.approx(1000.0)  # frames are no denser


def replaced(frame: int, change) -> np.ndarray:
    x = shaken()
    x[frame] = change(x[frame])
    return x


def stretched(x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(x))[:, None] == 3, x + 1.5, x)


def mirrored(x: np.ndarray) -> np.ndarray:
    return x * [1, 1, -1]


def brought_near(x: np.ndarray) -> np.ndarray:
    """Hydrogen of the O-H group laid on where it would be bonded to the methyl carbon."""
    x = x.copy()
    hydrogen, carbon = 3, 0
    apart = x[hydrogen] - x[carbon]
    x[hydrogen] = x[carbon] + apart / np.linalg.norm(apart)
    return x


GAP = np.delete(np.arange(FRAMES + 1) * INTERVAL, 400)

REFUSED = {
    "short": (lambda: shaken(60), {}, "too short: of 14.75 ps"),
    "gap": (shaken, {}, "frames 399 and 400 are 500 fs apart"),
    "break": (lambda: replaced(7, stretched), {}, "in frame 7 the bond"),
    "reaction": (lambda: replaced(8, brought_near), {}, "in frame 8 the (bond|atoms)"),
    "unit": (lambda: shaken() / 10, {}, "positions seem to be in nm"),
    "mirror": (lambda: replaced(5, mirrored), {}, "in frame 5 a stereocentre"),
    "interval": (shaken, {"interval": 500.0}, "250 fs apart, not 500 fs"),
    "hot": (shaken, {"temperatures": []}, "give --temperature"),
    "cold": (shaken, {"temperatures": [-1.0]}, "--temperature is -1"),
    "many": (shaken, {"temperatures": [1.0, 2.0]}, "2 times --temperature"),
    "slippery": (shaken, {"friction": 0.0}, "--friction is 0"),
    "slow": (shaken, {"friction": 1e-4}, "too short"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_from_is_refused(tmp_path, name):
    made, told, message = REFUSED[name]
    file = written(tmp_path / "a.nc", made(), times=GAP if name == "gap" else None)
    with pytest.raises(DataError, match=message):
        read_source(source(file, **told))


def test_molecules_that_are_not_whole_are_refused(tmp_path):
    for frame, name in ((0, "first.nc"), (6, "later.nc")):
        boxed = ETHANOL.copy()
        boxed.set_cell([12.0, 12.0, 12.0])
        boxed.pbc = True
        x = replaced(frame, lambda x: np.where(np.arange(len(x))[:, None] == 2, x + [12, 0, 0], x))
        file = written(tmp_path / name, x, boxed)
        with pytest.raises(DataError, match=f"in frame {frame} the molecule is split across"):
            read_source(source(file))


def test_heavy_atoms_alone_and_several_molecules_are_refused(tmp_path):
    heavy = ETHANOL.numbers > 1
    file = written(tmp_path / "heavy.xtc", shaken()[:, heavy], ETHANOL[heavy])
    with pytest.raises(DataError, match="it has no hydrogens, and leaps need all atoms"):
        read_source(source(file))
    pair = ETHANOL + ETHANOL
    x = np.concatenate([shaken(), shaken() + [9.0, 0.0, 0.0]], axis=1)
    with pytest.raises(DataError, match="holds 2 molecules"):
        read_source(source(written(tmp_path / "pair.xtc", x, pair)))


def test_files_of_unlike_molecules_are_refused(tmp_path):
    one = written(tmp_path / "a.xtc", shaken())
    order = [1, 0, *range(2, 9)]
    other = written(tmp_path / "b.xtc", shaken()[:, order], ETHANOL[order])
    with pytest.raises(DataError, match=r"b\.xtc holds other (atoms|bonds) than"):
        read_source(source(one, other))
    turned = written(tmp_path / "c.xtc", mirrored(shaken()))
    with pytest.raises(DataError, match="another stereoisomer"):
        read_source(source(one, turned))
    with pytest.raises(DataError, match="is given twice"):
        source(one, one)


def test_a_trajectory_without_times_needs_an_interval(tmp_path):
    path = tmp_path / "a.xyz"
    images = [Atoms(ETHANOL.numbers, x) for x in shaken(600)]
    write(path, images, format="xyz")
    with pytest.raises(DataError, match="give --interval"):
        read_source(source(path))
    assert read_source(source(path, interval=300.0)).runs[0].interval == 300.0


def test_leaps_are_trained_and_travel_with_an_operator_or_alone(tmp_path):
    told = source(written(tmp_path / "a.xtc", shaken()), thermostat="Nosé-Hoover chains, 0.1 ps")
    config = LeapTrainingConfig(network=SMALL, steps=2, batch_size=8, checkpoint_every=1)
    leaps = train_on(told, read_source(told), config, tmp_path / "work", "by hand")
    assert leaps.card.lags_fs[0] == 500.0
    assert leaps.card.friction == 0.01
    assert leaps.card.temperature_range_K == (300.0, 300.0)
    assert "a.xtc by Nosé-Hoover chains, 0.1 ps; the molecule as a whole" in leaps.card.notes
    (held,) = (tmp_path / "work" / "held-out").iterdir()
    assert read_run(held).positions.shape[0] >= 2
    operator = load_operator("ethanol-gfn2")
    operator.leaps = leaps
    both = save_operator(operator, tmp_path / "both.safetensors")
    alone = save_leaps(leaps, tmp_path / "alone.safetensors")
    for file in (both, alone):
        assert load_leaps(file).fingerprint == leaps.fingerprint
    with pytest.raises(CheckpointError, match="holds leaps alone"):
        load_operator(alone)
    with pytest.raises(CheckpointError, match="has no leaps"):
        load_leaps("ethanol-pbe")
    damaged = bytearray(alone.read_bytes())
    damaged[-1] ^= 1
    alone.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="altered"):
        load_leaps(alone)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"temperature": [300.0]}, "give --friction"),
        ({"friction": 10.0}, "give --temperature"),
        ({"friction": 10.0, "temperature": [300.0], "first": 3}, "takes no molecules"),
        ({"friction": 10.0, "temperature": [300.0], "operator": "aspirin-gfn2"}, "aspirin"),
        ({"trajectory": None, "friction": 10.0}, "--friction describes a --trajectory"),
        ({"trajectory": None, "operator": None}, "name an operator"),
    ],
)
def test_the_command_refuses_before_it_writes(tmp_path, told, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "a.xtc", shaken())
    before = set(tmp_path.iterdir())
    asked = {"operator": "ethanol-gfn2", "trajectory": [file], "folder": tmp_path / "work"}
    with pytest.raises(AtomError, match=message):
        command(**{**asked, **told})
    assert set(tmp_path.iterdir()) == before


def test_a_molecule_that_the_operator_is_not_for_is_refused(tmp_path):
    atoms = molecule("CH3OH")
    x = atoms.positions + np.random.default_rng(0).normal(0.0, 0.03, (FRAMES, len(atoms), 3))
    file = written(tmp_path / "a.xtc", x, atoms)
    with pytest.raises(AtomError, match="was not trained for CO"):
        command(
            operator="ethanol-gfn2",
            trajectory=[file],
            temperature=[300.0],
            friction=10.0,
            output=tmp_path / "out.safetensors",
        )
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(ConfigError, match="--start ethanol-pbe"):
        command(operator="ethanol-gfn2", trajectory=[file], start="ethanol-pbe")


def test_a_topology_names_the_elements_of_formats_that_have_none(tmp_path):
    file = written(tmp_path / "a.dcd", shaken())
    other = tmp_path / "names.pdb"
    (tmp_path / "a.pdb").rename(other)
    with pytest.raises(AtomError, match="does not say which elements"):
        read_source(source(file))
    assert read_source(source(file, topology=other)).runs[0].smiles == "CCO"
    wrong = tmp_path / "wrong.pdb"
    write_pdb(wrong, molecule("CH3OH"))
    with pytest.raises(AtomError):
        read_source(source(file, topology=wrong))
