"""Reading runs no code that a file brings along, whatever reads it and whatever it is called."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import ROOT
from io_files import make_frames

from ase_atom.analysis.inputs.archives import read_npz
from ase_atom.io import FORMATS, open_trajectory
from training.data.burst import Burst
from training.data.store import write_burst

ENDINGS = [ending for one in FORMATS for ending in one.endings]
MORE = [".npz", ".ckpt", ".safetensors", ".psf", ".db", ".json", ".pckl", ".gpw"]


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def burst(ethanol: Atoms) -> Burst:
    """A burst of three frames that do not move."""
    frames = np.repeat(ethanol.positions[None], 3, axis=0)
    return Burst(
        "ethanol/00000",
        "CCO",
        ethanol.numbers,
        ethanol.get_masses(),
        frames,
        np.zeros_like(frames),
        np.zeros(3),
        np.zeros_like(frames),
        interval=1.0,
        temperature_K=300.0,
        seed=0,
        attrs={"theory": "none"},
    )


@pytest.fixture
def planted(tmp_path: Path, ethanol: Atoms) -> list[Path]:
    """Files with a pickle in every place that some library would unpickle."""
    mark = tmp_path / "RAN"
    code = pickle.dumps(Touch(mark), protocol=0)
    made = []

    def plant(name: str) -> Path:
        made.append(tmp_path / name)
        return made[-1]

    good = tmp_path / "good.h5"
    with open_trajectory(good, ethanol) as writer:
        writer.write_frames(*make_frames(ethanol, 3))
    places = ["attribute", "array attribute", "group", "topology", "objects", "foreign attribute"]
    for place in places:
        path = plant(f"{place.replace(' ', '-')}.h5")
        shutil.copy(good, path)
        with h5py.File(path, "r+") as file:
            if place == "attribute":
                for name in ("conventions", "title", "CLASS", "TITLE", "format"):
                    file.attrs[name] = np.bytes_(code)
            elif place == "array attribute":
                file["coordinates"].attrs["units"] = np.bytes_(code)
            elif place == "group":
                file.create_group("group").attrs["CLASS"] = np.bytes_(code)
            elif place == "topology":
                del file["topology"]
                file["topology"] = np.array([code])
            elif place == "objects":  # PyTables' arrays of objects: pickles in bytes
                del file["velocities"]
                kind = h5py.vlen_dtype(np.uint8)
                array = file.create_dataset("velocities", (1,), kind)
                array[0] = np.frombuffer(code, np.uint8)
                array.attrs["PSEUDOATOM"] = np.bytes_("object")
            else:
                file["coordinates"].attrs["anything"] = np.bytes_(code)
    path = plant("burst.h5")
    write_burst(path, burst(ethanol))
    with h5py.File(path, "r+") as file:
        file["ethanol/00000"].attrs["theory"] = np.bytes_(code)
    with h5py.File(plant("format.h5"), "w") as file:
        file.attrs["format"] = np.bytes_(code)
    objects = np.array([Touch(mark)], dtype=object)
    np.savez(plant("numbers.npz"), numbers=objects, positions=np.zeros((1, 1, 3)))
    np.savez(plant("stray.npz"), numbers=[1], positions=np.zeros((1, 1, 3)), stray=objects)
    np.save(tmp_path / "array.npy", objects)
    (tmp_path / "array.npy").rename(plant("array.npz"))
    torch.save({"state_dict": {}, "extra": Touch(mark)}, plant("step=1.ckpt"))
    plant("pickle.pckl").write_bytes(pickle.dumps(Touch(mark)))
    # What ASE wrote in versions of long ago: a tag, and pickles.
    plant("old.traj").write_bytes(b"PickleTrajectory" + pickle.dumps(Touch(mark)))
    return made


READ = """
    import sys, warnings
    from pathlib import Path
    seen = []
    # Of pickle, and of programs that are started.
    NAMES = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
    sys.addaudithook(lambda name, what: name in NAMES and seen.append((name, str(what)[:60])))
    from ase_atom.analysis.inputs.sources import load_trajectory
    from ase_atom.errors import AtomError
    from ase_atom.io import open_trajectory, read_structure, read_trajectory
    from ase_atom.operator import load_operator
    from ase_atom.propagation.restart import read_restart
    from training.learning.checkpoints import load_plain
    from training.finetune import read_data
    from training.importing.reading import read_frames
    from training.stability import read_paths
    from training.data.store import read_bursts
    from ase import Atoms

    warnings.simplefilter("ignore")
    readers = {
        "trajectory": lambda path: [list(reader) for reader in [read_trajectory(path)]],
        "topology": lambda path: read_trajectory(path).numbers,
        "structure": read_structure,
        "append": lambda path: open_trajectory(path, Atoms("CCOH6"), "a").close(),
        "compare": load_trajectory,
        "bursts": read_bursts,
        "operator": load_operator,
        "restart": read_restart,
        "checkpoint": load_plain,
        "finetune": lambda path: read_data(path),
        "import": read_frames,
        "stability": lambda path: list(read_paths(path, 1.0)),
    }
    seen.clear()
    for path in map(Path, sys.argv[1:]):
        for name, reader in readers.items():
            try:
                reader(path)
            except AtomError as error:
                assert len(str(error).splitlines()) == 1, (name, path, error)
            assert not seen, (name, path, seen)
            assert not Path("RAN").exists(), (name, path)
"""


def test_no_reader_runs_what_is_planted(tmp_path: Path, planted: list[Path]) -> None:
    """Each file under each ending to each reader, in a process that hears of every unpickling."""
    files = []
    for file in planted:
        others = [".traj", ".hdf5"] if file.suffix == ".h5" else [*ENDINGS, *MORE]
        for number, ending in enumerate(others):
            files.append(tmp_path / f"{file.stem}-{number}{ending}")
            shutil.copy(file, files[-1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), *map(str, [*planted, *files])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "RAN").exists()


def test_a_stray_array_of_objects_leaves_the_numbers_readable(tmp_path, planted) -> None:
    assert read_npz(tmp_path / "stray.npz").numbers.tolist() == [1]


def test_the_planted_files_would_run(tmp_path: Path, planted: list[Path]) -> None:
    """What the readers are kept from: without it the tests above could not fail."""
    pickle.loads((tmp_path / "pickle.pckl").read_bytes())
    assert (tmp_path / "RAN").exists()
    (tmp_path / "RAN").unlink()
    torch.load(tmp_path / "step=1.ckpt", weights_only=False)
    assert (tmp_path / "RAN").exists()


def test_nothing_in_the_package_unpickles() -> None:
    words = r"\bpickle\b|HDF5TrajectoryFile|import tables|weights_only=False|allow_pickle=True"
    words += r"|mdtraj\.load\b|\bload_hdf5\b|\bjoblib\b|yaml\.(?:unsafe_)?load\("
    for folder in ("ase_atom", "training"):
        for file in (ROOT / folder).rglob("*.py"):
            if file == ROOT / "ase_atom" / "sending.py":
                continue  # what a process sends to its own children, and no file
            found = re.search(words, re.sub(r'""".*?"""|#.*', "", file.read_text(), flags=re.S))
            assert found is None, (file, found)
