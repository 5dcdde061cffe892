"""Step-to-step noise: none in exact paths, the known amount where it was put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_masses

from ase_atom.units import AMU_A2_FS2_IN_EV
from training.data.burst import Burst
from training.data.export import export_bursts
from training.data.store import write_burst
from training.importing.reading import Frames
from training.stability import energy_noise, main, path_noise, read_paths

OMEGA, MASS = 0.2, float(atomic_masses[6])


def oscillator(noise: float = 0.0, frames: int = 2000) -> Frames:
    """Two atoms on springs of their own about the origin, with noisy positions."""
    times = np.arange(frames)
    positions = np.zeros((frames, 2, 3))
    positions[:, 0, 0], positions[:, 1, 2] = np.cos(OMEGA * times), np.sin(OMEGA * times)
    stiffness = MASS * AMU_A2_FS2_IN_EV * OMEGA**2
    energies = 0.5 * stiffness * (positions**2).sum((1, 2))
    forces = -stiffness * positions
    shaken = positions + noise * np.random.default_rng(0).normal(size=positions.shape)
    atoms = np.full(2, 6), np.full(2, MASS)
    return Frames("springs", *atoms, shaken, forces, energies, interval=1.0)


def test_a_smooth_path_has_no_noise() -> None:
    """Cowell's rule leaves (ωh)⁶/240 of the amplitude, a difference velocity (ωh)⁴/30."""
    piece = oscillator()
    rms = np.sqrt(path_noise(piece).mean())
    assert 0 < rms < OMEGA**6 / 240
    kinetic = 0.5 * MASS * AMU_A2_FS2_IN_EV * OMEGA**2
    assert np.sqrt(energy_noise(piece).mean()) < OMEGA * kinetic * OMEGA**4 / 15


def test_noise_put_in_is_found() -> None:
    """Positions enter a step with 1, -2 and 1, so that white noise grows by the root of six."""
    rms = np.sqrt(path_noise(oscillator(noise=1e-4)).mean())
    assert rms == pytest.approx(np.sqrt(6) * 1e-4, rel=0.05)
    assert energy_noise(oscillator(noise=1e-4)).mean() > 100 * energy_noise(oscillator()).mean()


@pytest.fixture
def burst_file(tmp_path: Path) -> Path:
    piece = oscillator(frames=50)
    burst = Burst(
        *("springs/00000", "C", np.array([6, 6]), piece.masses, piece.positions),
        *(np.zeros_like(piece.positions), piece.energies, piece.forces, 1.0, 300.0, 0),
    )
    write_burst(tmp_path / "springs.h5", burst)
    return tmp_path / "springs.h5"


def test_bursts_and_md17_files_are_measured_alike(burst_file: Path, tmp_path: Path) -> None:
    export_bursts(burst_file, tmp_path / "springs.npz", "md17")
    (one,) = read_paths(burst_file, 0.5)
    (other,) = read_paths(tmp_path / "springs.npz", 1.0)
    np.testing.assert_allclose(other.forces, one.forces, rtol=1e-12)
    np.testing.assert_allclose(other.energies, one.energies, rtol=1e-12)
    np.testing.assert_allclose(path_noise(other), path_noise(one), rtol=0.01)


def test_the_command_draws_and_prints(
    burst_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.png"
    assert main([str(burst_file), "-o", str(output)]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert "springs" in capsys.readouterr().out
    assert main([str(tmp_path / "none.npz"), "-o", str(output)]) == 2
    np.savez(tmp_path / "odd.npz", coords=np.zeros(3))
    assert main([str(tmp_path / "odd.npz"), "-o", str(output)]) == 2
    assert "no arrays R, z, E and F" in capsys.readouterr().err
    assert main([str(burst_file), "-o", str(output), "--label", "a", "--label", "b"]) == 2


def test_files_that_are_no_trajectories_are_one_line(
    burst_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_bursts(burst_file, tmp_path / "whole.npz", "md17")
    whole = (tmp_path / "whole.npz").read_bytes()
    with np.load(tmp_path / "whole.npz") as file:
        arrays = {name: file[name] for name in ("R", "z", "E", "F")}
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "altered.npz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with open(tmp_path / "array.npz", "wb") as stream:
        np.save(stream, arrays["R"])
    np.savez(tmp_path / "short.npz", **arrays | {"E": arrays["E"][1:]})
    messages = dict.fromkeys(("text", "empty", "cut", "altered", "array"), "damaged or no npz file")
    for name, message in (messages | {"short": "R and F should be [T, N, 3]"}).items():
        assert main([str(tmp_path / f"{name}.npz"), "-o", str(tmp_path / "x.png")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"{name}.npz: " in line
        assert message in line


def test_the_kind_of_image_is_checked_before_anything_is_measured(
    burst_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(burst_file), "-o", str(tmp_path / "x.foo")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert "x.foo: figures end in" in line
    assert main([str(burst_file), "-o", str(tmp_path / "x.PNG")]) == 0


def test_md17s_layout_is_found_in_the_data_folder(
    burst_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "md17like").mkdir(parents=True)
    export_bursts(burst_file, tmp_path / "data" / "md17like" / "md17_springs.npz", "md17")
    for named in ("md17like", "md17like/md17_springs.npz"):
        (piece,) = read_paths(Path(named), 1.0)
        assert piece.name == "md17_springs"
