"""Readers of the public layouts, windows, and how they are divided."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import atomic_masses
from benchmark_files import ETHANOL, wobble, write_md17, write_rmd17
from harmonic_bursts import water_bursts

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import digest_of
from training.benchmarks import sources
from training.benchmarks.samples import (
    Samples,
    Window,
    block_split,
    make_samples,
    random_split,
    split_starts,
    valid_starts,
)
from training.benchmarks.sources import download, find_file, load_trajectory
from training.benchmarks.trajectories import (
    Trajectory,
    check_fingerprint,
    read_md17,
    read_md22,
    read_rmd17,
    read_tg80,
)
from training.data.store import write_burst


def trajectory(frames: int = 400, missing: tuple[int, ...] = ()) -> Trajectory:
    kept = np.setdiff1d(np.arange(frames), missing)
    return Trajectory("ethanol", ETHANOL, wobble(frames)[kept], kept, 0.5, "nowhere")


# -- readers ---------------------------------------------------------------------------------------


def test_md17_and_md22_are_read_as_distributed(tmp_path: Path) -> None:
    x = write_md17(tmp_path / "md17_ethanol.npz")
    found = read_md17(tmp_path / "md17_ethanol.npz", "ethanol")
    assert np.array_equal(found.positions, x)
    assert found.numbers.tolist() == ETHANOL.tolist()
    assert found.interval == 0.5
    assert read_md22(tmp_path / "md17_ethanol.npz", "ethanol").interval == 1.0
    heavy = found.heavy()
    assert heavy.numbers.tolist() == [6, 6, 8]
    assert np.array_equal(heavy.positions, x[:, :3])
    assert found.masses[2] == pytest.approx(15.999)


def test_rmd17_is_put_back_in_order_of_time(tmp_path: Path) -> None:
    kept = np.setdiff1d(np.arange(400), [7, 8, 200])
    x = write_rmd17(tmp_path / "r.npz", kept=kept)
    found = read_rmd17(tmp_path / "r.npz", "ethanol")
    assert np.array_equal(found.frames, kept)
    assert np.array_equal(found.positions, x[kept])
    assert found.places(np.array([6, 7, 9, 399, 400])).tolist() == [6, -1, 7, 396, -1]


def test_rmd17_without_its_order_is_refused(tmp_path: Path) -> None:
    write_rmd17(tmp_path / "r.npz")
    arrays = dict(np.load(tmp_path / "r.npz"))
    np.savez(tmp_path / "twice.npz", **(arrays | {"old_indices": np.zeros(400, int)}))
    with pytest.raises(DataError, match="time order is lost"):
        read_rmd17(tmp_path / "twice.npz", "ethanol")
    del arrays["old_indices"]
    np.savez(tmp_path / "none.npz", **arrays)
    with pytest.raises(DataError, match="cannot be restored"):
        read_rmd17(tmp_path / "none.npz", "ethanol")
    # Taken for TG80, whose frames are in order, shuffled ones are seen to be not.
    with pytest.raises(DataError, match="no time order"):
        read_tg80(tmp_path / "none.npz", "ethanol")


def test_tg80_is_read_from_its_own_files_and_from_bursts(tmp_path: Path) -> None:
    x = wobble(400)
    np.savez(tmp_path / "t.npz", coords=x, nuclear_charges=ETHANOL, energies=0, forces=0)
    found = read_tg80(tmp_path / "t.npz", "ethanol")
    assert np.array_equal(found.positions, x)
    assert found.interval == 1.0
    (burst,) = water_bursts(1)
    drifting = burst.positions + np.linspace(0, 5, len(burst.positions))[:, None, None]
    write_burst(tmp_path / "water.h5", replace(burst, positions=drifting))
    found = read_tg80(tmp_path / "water.h5", "water")
    centre = np.average(found.positions, axis=1, weights=atomic_masses[[8, 1, 1]])
    assert np.abs(centre).max() < 1e-6
    moved = found.positions - burst.positions
    assert np.allclose(moved, moved[:, :1], atol=1e-6)
    assert found.numbers.tolist() == [8, 1, 1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"R": wobble(400)[:, :8]}, "shape"),
        ({"z": np.zeros(9, np.uint8)}, "atomic numbers"),
        ({"R": wobble(400) * np.nan}, "finite"),
        ({"R": np.random.default_rng(0).permutation(wobble(400))}, "no time order"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, changes: dict, word: str) -> None:
    write_md17(tmp_path / "x.npz", **changes)
    with pytest.raises(DataError, match=word):
        read_md17(tmp_path / "x.npz", "ethanol")


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_rmd17(tmp_path / "r.npz")
    with pytest.raises(DataError, match="has no z, R; it holds nuclear_charges"):
        read_md17(tmp_path / "r.npz", "ethanol")
    (tmp_path / "x.npz").write_bytes((tmp_path / "r.npz").read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        read_rmd17(tmp_path / "x.npz", "ethanol")
    with pytest.raises(DataError, match="no file"):
        read_rmd17(tmp_path / "none.npz", "ethanol")


def test_fingerprints_are_those_of_the_public_files(tmp_path: Path) -> None:
    x = write_md17(tmp_path / "x.npz")
    digest = hashlib.md5()
    for array in (ETHANOL.astype(np.uint8), x, np.zeros((400, 1)), np.zeros_like(x)):
        digest.update(hashlib.md5(array.ravel()).digest())
    write_md17(tmp_path / "x.npz", md5=digest.hexdigest())
    check_fingerprint(tmp_path / "x.npz")
    write_md17(tmp_path / "x.npz", md5=digest.hexdigest().encode())
    check_fingerprint(tmp_path / "x.npz")
    write_md17(tmp_path / "x.npz", md5=digest.hexdigest(), E=np.ones((400, 1)))
    with pytest.raises(DataError, match="damaged"):
        check_fingerprint(tmp_path / "x.npz")


def test_bonds_and_pairs_two_bonds_apart() -> None:
    hops = trajectory().heavy().hops()
    assert hops.tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


# -- where files come from -------------------------------------------------------------------------


def test_public_files_come_before_generated_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"md17_benzene2017.npz.*download md17.*make-md17like"):
        find_file("md17", "benzene", tmp_path)
    with pytest.raises(DataError, match=r"md22_DHA.npz") as caught:
        find_file("md22", "DHA", tmp_path)
    assert "make-md17like" not in str(caught.value)  # which cannot make it
    write_md17(tmp_path / "md17like" / "md17_ethanol.npz")
    assert find_file("md17", "ethanol", tmp_path).parent.name == "md17like"
    write_md17(tmp_path / "md17" / "md17_ethanol.npz")
    assert find_file("md17", "ethanol", tmp_path).parent.name == "md17"
    assert load_trajectory("md17", "ethanol", True, tmp_path).positions.shape == (400, 3, 3)


def test_downloads_are_checked_and_unreachable_ones_explained(tmp_path, monkeypatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(sources, "MD17_ADDRESS", elsewhere.as_uri() + "/")
    with pytest.raises(DataError, match=r"put it at .*md17_ethanol.npz"):
        download("md17", ("ethanol",), tmp_path, print)
    write_md17(elsewhere / "md17_ethanol.npz", md5="0" * 32)
    with pytest.raises(DataError, match="damaged"):
        download("md17", ("ethanol",), tmp_path, print)
    assert not list((tmp_path / "md17").glob("*"))
    write_md17(tmp_path / "md17" / "md17_ethanol.npz", md5="0" * 32)
    with pytest.raises(DataError, match="damaged"):
        download("md17", ("ethanol",), tmp_path, print)
    with pytest.raises(ConfigError, match="has no 'water'"):
        download("md17", ("water",), tmp_path, print)
    with pytest.raises(DataError, match=r"tg80_NAME\.npz"):
        download("tg80", (), tmp_path, print)


def test_rmd17s_archive_is_checked_and_unpacked(tmp_path, monkeypatch) -> None:
    write_rmd17(tmp_path / "r.npz")
    archive = tmp_path / "rmd17" / "rmd17.tar.bz2"
    archive.parent.mkdir()
    content = (tmp_path / "r.npz").read_bytes()
    with tarfile.open(archive, "w:bz2") as tar:
        inside = "rmd17/npz_data/rmd17_"
        for name in (f"{inside}ethanol.npz", f"{inside}uracil.npz", "rmd17/../../evil.npz"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="SHA-256"):
        download("rmd17", (), tmp_path, print)
    monkeypatch.setattr(sources, "RMD17_SHA256", digest_of(archive))
    said: list[str] = []
    download("rmd17", ("ethanol",), tmp_path, said.append)
    there = sorted(path.name for path in archive.parent.iterdir())
    assert there == [archive.name, "rmd17_ethanol.npz"]
    assert len(said) == 1
    with pytest.raises(ConfigError, match=r"no 'water': there are ethanol, uracil"):
        download("rmd17", ("water",), tmp_path, print)
    download("rmd17", (), tmp_path, said.append)
    assert (archive.parent / "rmd17_uracil.npz").exists()
    assert len(read_rmd17(archive.parent / "rmd17_ethanol.npz", "ethanol").positions) == 400


# -- windows and splits ----------------------------------------------------------------------------


def test_samples_hold_the_frames_they_should() -> None:
    whole, window = trajectory(), Window(delta=20, timesteps=8)
    assert window.offsets().tolist() == [2, 5, 7, 10, 12, 15, 17, 20]
    starts = np.array([30, 3, 77])
    samples = make_samples(whole, starts, window)
    x = whole.positions
    assert torch.allclose(samples.positions[1], torch.tensor(x[3]).float())
    assert torch.allclose(samples.velocities[1], torch.tensor((x[4] - x[3]) / 0.5).float())
    assert torch.allclose(samples.targets[2, 1], torch.tensor(x[82]).float())
    assert torch.allclose(samples.targets[2, 7], torch.tensor(x[97]).float())
    assert samples.start.tolist() == [30, 3, 77]


def test_windows_with_missing_frames_are_left_out() -> None:
    window = Window(delta=20, timesteps=4)
    starts = valid_starts(trajectory(missing=(100,)), window, margin=50)
    lost = {100, 99, 95, 90, 85, 80}
    assert set(range(50, 400 - 50 - 20)) - set(starts.tolist()) == lost
    few = trajectory(missing=tuple(range(0, 400, 2)))
    with pytest.raises(DataError, match=r"frames are missing.*too few"):
        split_starts(few, window, 10, (5, 5, 5), "random")


def test_the_random_split_is_the_published_draw() -> None:
    starts = np.arange(1000, 9000)
    parts = random_split(starts, (500, 300, 200))
    np.random.seed(100)
    expected = np.random.choice(np.arange(8000), size=800, replace=False)
    assert np.array_equal(parts[0], starts[expected[:500]])
    left = np.setdiff1d(np.arange(8000), expected)
    assert np.array_equal(parts[1], starts[np.random.choice(left, size=400, replace=False)[:300]])
    assert [len(part) for part in parts] == [500, 300, 200]
    assert len(np.unique(np.concatenate(parts))) == 1000
    assert np.array_equal(parts[2], random_split(starts, (500, 300, 200))[2])


@pytest.mark.parametrize("delta", [8, 50, 300, 1200])
def test_blocks_keep_the_windows_of_the_parts_apart(delta: int) -> None:
    starts = np.arange(1000, 9000)
    parts = block_split(starts, (400, 200, 200), delta)
    owner = np.full(10_000 + delta, -1)
    for index, part in enumerate(parts):
        assert len(part) == len(np.unique(part)) > 50
        for start in part:
            window = owner[start : start + delta + 1]
            assert set(np.unique(window)) <= {-1, index}, "windows of two parts overlap"
            window[:] = index
    ends = {index: np.flatnonzero(owner == index) for index in range(3)}
    for index in range(3):
        for other in range(index):
            gap = np.abs(ends[index][:, None] - ends[other][None, ::7]).min()
            assert gap >= delta - 7


def test_random_frames_do_overlap_where_blocks_do_not() -> None:
    starts, delta = np.arange(0, 20_000), 500
    near = {}
    for name, parts in (
        ("random", random_split(starts, (200, 100, 100))),
        ("blocks", block_split(starts, (200, 100, 100), delta)),
    ):
        near[name] = np.abs(parts[2][:, None] - parts[0][None]).min(1)
    assert np.median(near["random"]) < delta / 4
    assert near["blocks"].min() >= 2 * delta


def test_too_short_a_trajectory_is_refused() -> None:
    with pytest.raises(DataError, match="too few for blocks"):
        block_split(np.arange(100), (10, 10, 10), 50)


def test_molecules_are_padded_when_joined() -> None:
    window = Window(delta=16, timesteps=4)
    large = make_samples(trajectory(), np.arange(3), window, molecule=0)
    small = make_samples(trajectory().heavy(), np.arange(2), window, molecule=1)
    both = Samples.join([small, large])
    assert both.targets.shape == (5, 4, 9, 3)
    assert both.numbers[0].tolist() == [6, 6, 8, 0, 0, 0, 0, 0, 0]
    assert both.mask.sum(1).tolist() == [3, 3, 9, 9, 9]
    assert torch.equal(both.targets[2:], large.targets)
    assert both.hops[0].sum() == small.hops[0].sum()
    assert both.molecule.tolist() == [1, 1, 0, 0, 0]
