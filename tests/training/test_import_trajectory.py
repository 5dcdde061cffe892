"""Trajectories of other programs: read to the same data, refused where they cannot be right."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from harmonic_bursts import WATER, Springs

from ase_atom.errors import ConfigError, DataError, TrajectoryWarning
from ase_atom.units import velocities_to_ase
from training import import_trajectory as command
from training.data.store import Burst, read_bursts
from training.import_trajectory import import_all
from training.importing.bursts import import_trajectory

STEP = 0.5


def reference(interval: float = STEP, duration: float = 200.0, index: int = 0) -> Burst:
    """Motion of springs in closed form."""
    springs = Springs(WATER)
    start = springs.burst(index, 400.0, 2, "water")
    times = np.arange(0, duration + 1e-9, interval)
    x, v = springs.propagate(start.positions[0], start.velocities[0], times)
    energies, forces = springs.energy_and_forces(x)
    arrays = {"positions": x, "velocities": v, "energies": energies, "forces": forces}
    return replace(start, interval=interval, **arrays)


def frames_of(burst: Burst, velocities: bool = True) -> list[Atoms]:
    frames = []
    for n, (x, v) in enumerate(zip(burst.positions, burst.velocities, strict=True)):
        atoms = Atoms(burst.numbers, x)
        if velocities:
            atoms.set_velocities(velocities_to_ase(v))
        atoms.calc = SinglePointCalculator(atoms, energy=burst.energies[n], forces=burst.forces[n])
        frames.append(atoms)
    return frames


def save(path: Path, frames: Sequence[Atoms]) -> Path:
    write(path, frames)
    return path


@pytest.fixture
def burst() -> Burst:
    return reference()


@pytest.mark.parametrize("ending", ["extxyz", "traj"])
def test_a_trajectory_becomes_the_burst_that_it_was(
    burst: Burst, tmp_path: Path, ending: str
) -> None:
    path = save(tmp_path / f"md.{ending}", frames_of(burst))
    found = import_trajectory(path, name="water", interval=STEP, theory="springs")
    assert (found.smiles, found.interval, found.attrs["theory"]) == ("O", 1.0, "springs")
    weights = (burst.masses / burst.masses.sum())[:, None]
    for what in ("positions", "velocities"):
        values = getattr(burst, what)
        wanted = (values - (weights * values).sum(1, keepdims=True))[1:-1:2]
        np.testing.assert_allclose(getattr(found, what), wanted, atol=2e-7)
    np.testing.assert_allclose(found.forces, burst.forces[1:-1:2], atol=2e-7)
    np.testing.assert_allclose(found.energies, burst.energies[1:-1:2], atol=1e-6)


def test_velocities_follow_from_positions_and_forces(burst: Burst, tmp_path: Path) -> None:
    path = save(tmp_path / "md.extxyz", frames_of(burst, velocities=False))
    found = import_trajectory(path, name="water", interval=STEP)
    right = burst.velocities[1:-1:2]
    size = np.sqrt(np.mean(right**2))
    plain = (burst.positions[2:] - burst.positions[:-2])[::2] / (2 * STEP)
    assert np.sqrt(np.mean((found.velocities - right) ** 2)) < 2e-3 * size
    assert np.sqrt(np.mean((plain - right) ** 2)) > 1e-2 * size


def test_another_time_step_is_brought_onto_the_grid(tmp_path: Path) -> None:
    """As of 20 atomic units, Q-Chem's and CP2K's habit."""
    interval = 20 * 0.02418884
    burst = reference(interval)
    path = save(tmp_path / "md.extxyz", frames_of(burst))
    found = import_trajectory(path, name="water", interval=interval)
    springs = Springs(WATER)
    times = interval + np.arange(len(found.energies))
    x, v = springs.propagate(burst.positions[0], burst.velocities[0], times)
    energies, forces = springs.energy_and_forces(x)
    weights = (burst.masses / burst.masses.sum())[:, None]
    np.testing.assert_allclose(found.positions, x - (weights * x).sum(1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found.velocities, v, atol=1e-4 * np.abs(v).max())
    np.testing.assert_allclose(found.energies, energies, atol=1e-3)
    np.testing.assert_allclose(found.forces, forces, atol=1e-2 * np.abs(forces).max())


def test_a_molecule_cut_by_its_cell_is_made_whole(burst: Burst, tmp_path: Path) -> None:
    frames = frames_of(burst)
    for n, atoms in enumerate(frames):
        atoms.set_cell([6, 7, 8])
        atoms.pbc = True
        atoms.positions += [0.002 * n, 0, 7.9]
        atoms.wrap()
    assert max(np.ptp(atoms.positions, axis=0).max() for atoms in frames) > 5
    found = import_trajectory(save(tmp_path / "md.extxyz", frames), name="w", interval=STEP)
    plain = import_trajectory(
        save(tmp_path / "a.extxyz", frames_of(burst)), name="w", interval=STEP
    )
    np.testing.assert_allclose(found.positions, plain.positions, atol=1e-6)


def test_cp2ks_files_are_read_in_its_units(burst: Burst, tmp_path: Path) -> None:
    velocity = units.Bohr / (units._hbar / units._e / units.Hartree * 1e15)
    sets = {
        "pos": burst.positions,
        "frc": burst.forces * units.Bohr / units.Hartree,
        "vel": burst.velocities / velocity,
    }
    for kind, values in sets.items():
        with (tmp_path / f"w-{kind}-1.xyz").open("w") as file:
            for n, block in enumerate(values):
                energy = burst.energies[n] / units.Hartree
                file.write(f"3\n i = {n:8d}, time = {n * STEP:12.3f}, E = {energy:20.10f}\n")
                for symbol, (x, y, z) in zip("OHH", block, strict=True):
                    file.write(f"{symbol:>3} {x:19.10f} {y:19.10f} {z:19.10f}\n")
    found = import_trajectory(tmp_path / "w-pos-1.xyz", name="water")
    np.testing.assert_allclose(found.forces, burst.forces[1:-1:2], atol=1e-6)
    np.testing.assert_allclose(found.energies, burst.energies[1:-1:2], atol=1e-6)
    np.testing.assert_allclose(found.velocities, burst.velocities[1:-1:2], atol=1e-5)
    (tmp_path / "w-frc-1.xyz").unlink()
    with pytest.raises(DataError, match=r"needs w-frc-1\.xyz beside it"):
        import_trajectory(tmp_path / "w-pos-1.xyz", name="water")


def cp2k(folder: Path, burst: Burst, labels: Sequence[str]) -> Path:
    """Write positions and forces as CP2K does, and return the file of positions."""
    bohr, hartree = units.Bohr, units.Hartree
    for kind, values in (("pos", burst.positions), ("frc", burst.forces * bohr / hartree)):
        lines = []
        for step, frame in enumerate(values):
            head = (
                f"i = {step}, time = {step * STEP:.3f}, E = {burst.energies[step] / hartree:.10f}"
            )
            rows = [
                f"{label:>3} {x:.10f} {y:.10f} {z:.10f}"
                for label, (x, y, z) in zip(labels, frame, strict=True)
            ]
            lines += [str(len(labels)), f" {head}", *rows]
        (folder / f"w-{kind}-1.xyz").write_text("\n".join([*lines, ""]))
    return folder / "w-pos-1.xyz"


@pytest.mark.parametrize("labels", [["O1", "H", "H"], ["O_w", "H_w", "H2"], ["8", "1", "h"]])
def test_kinds_of_cp2k_are_their_elements(burst: Burst, tmp_path: Path, labels: list) -> None:
    found = import_trajectory(cp2k(tmp_path, burst, labels), name="water")
    assert found.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(found.forces, burst.forces[1:-1:2], atol=1e-6)


@pytest.mark.parametrize("label", ["OW", "X", "Gh"])
def test_kinds_that_are_no_elements_are_refused(burst: Burst, tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match=rf"w-pos-1\.xyz: atom 1 is called '{label}'"):
        import_trajectory(cp2k(tmp_path, burst, [label, "H", "H"]), name="water")


@pytest.mark.parametrize(("time", "prefix"), [("{} fs", ""), ("{}", "REF_"), ("{:.4f}ps", "dft_")])
def test_times_as_text_and_names_of_training_sets(
    burst: Burst, tmp_path: Path, time: str, prefix: str
) -> None:
    frames = frames_of(burst, velocities=False)
    for step, frame in enumerate(frames):
        value = step * STEP / (1000 if "ps" in time else 1)
        frame.info["time_fs"] = time.format(value)
        frame.info[f"{prefix}energy"] = frame.get_potential_energy()
        frame.set_array(f"{prefix}forces", frame.get_forces())
        frame.calc = None
    found = import_trajectory(save(tmp_path / "md.extxyz", frames), name="water")
    assert found.attrs["source_interval_fs"] == pytest.approx(STEP)
    np.testing.assert_allclose(found.energies, burst.energies[1:-1:2], atol=1e-6)


@pytest.mark.parametrize("time", ["soon", None])
def test_a_time_that_is_none_is_one_line(burst: Burst, tmp_path: Path, time: str | None) -> None:
    frames = frames_of(burst)
    for step, frame in enumerate(frames):
        frame.info["time_fs"] = step * STEP
    del frames[5].info["time_fs"]
    if time:
        frames[5].info["time_fs"] = time
    message = "frame 6 .*'soon', and should be" if time else "frame 5 has no time, and others have"
    with pytest.raises(DataError, match=message):
        import_trajectory(save(tmp_path / "md.extxyz", frames), name="water")


def vasprun(burst: Burst, edge: float = 20.0) -> str:
    """Return a run as VASP writes it, as far as anybody reads it."""

    def rows(name: str, values: np.ndarray) -> str:
        lines = "".join("<v> {:.10f} {:.10f} {:.10f} </v>\n".format(*row) for row in values)
        return f'<varray name="{name}">\n{lines}</varray>\n'

    def structure(positions: np.ndarray, name: str = "") -> str:
        cell = f"<crystal>{rows('basis', edge * np.eye(3))}</crystal>"
        return f"<structure{name}>{cell}{rows('positions', positions / edge + 0.5)}</structure>\n"

    atoms = "".join(f"<rc><c>{s}</c><c>1</c></rc>" for s in ("O", "H", "H"))
    text = '<?xml version="1.0"?>\n<modeling>\n<incar><i name="POTIM"> 0.5</i></incar>\n'
    text += '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray>'
    text += '<varray name="weights"><v>1</v></varray></kpoints>'
    text += f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
    text += structure(burst.positions[0], ' name="initialpos"')
    for x, f, e in zip(burst.positions, burst.forces, burst.energies, strict=True):
        energy = "".join(f'<i name="{n}"> {e:.8f} </i>' for n in ("e_fr_energy", "e_0_energy"))
        text += f"<calculation>\n<scstep><energy>{energy}</energy></scstep>\n{structure(x)}"
        text += f"{rows('forces', f)}<energy>{energy}</energy>\n</calculation>\n"
    return f"{text}</modeling>\n"


def test_a_vasprun_that_is_cut_gives_its_whole_steps(burst: Burst, tmp_path: Path) -> None:
    text = vasprun(burst)
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    whole = import_trajectory(path, name="water")
    np.testing.assert_allclose(whole.energies, burst.energies[1:-1:2], atol=1e-7)
    last = text.rindex("<calculation>")
    steps = len(burst.energies) - 1
    end = text.rindex("</calculation>")
    for place in range(last + 14, end, (end - last) // 5):
        path.write_text(text[:place])
        with pytest.warns(TrajectoryWarning, match=f"in the next step: its {steps} whole steps"):
            found = import_trajectory(path, name="water")
        np.testing.assert_allclose(found.energies, whole.energies[: len(found.energies)])
        assert len(found.energies) >= len(whole.energies) - 1


def test_a_vasprun_without_a_whole_step_is_one_line(burst: Burst, tmp_path: Path) -> None:
    text = vasprun(burst)
    (tmp_path / "vasprun.xml").write_text(text[: text.index("</calculation>")])
    with pytest.raises(DataError, match=r"vasprun\.xml"):
        import_trajectory(tmp_path / "vasprun.xml", name="water")


def test_a_run_shorter_than_a_jump_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "md.traj", frames_of(reference(duration=8.0)))
    with pytest.raises(DataError, match="17 frames span 8 fs, hardly one jump"):
        import_trajectory(path, name="water", interval=STEP)


def bohr(frames: list[Atoms]) -> None:
    for atoms in frames:
        atoms.positions /= units.Bohr


def rescale(energy: float = 1.0, force: float = 1.0) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        for atoms in frames:
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=energy * atoms.get_potential_energy(),
                forces=force * atoms.get_forces(),
            )

    return change


def missing(frames: list[Atoms]) -> None:
    del frames[100:102]


def swapped(frames: list[Atoms]) -> None:
    for atoms in frames[1::2]:
        atoms.positions[[1, 2]] = atoms.positions[[2, 1]]


def fast(frames: list[Atoms]) -> None:
    for atoms in frames:
        atoms.set_velocities(2 * atoms.get_velocities())


def heavy(frames: list[Atoms]) -> None:
    for atoms in frames:
        atoms.set_masses([15.999, 2.014, 2.014])


def nothing(frames: list[Atoms]) -> None:
    for atoms in frames:
        atoms.calc = None


def charged(value: object) -> Callable[[list[Atoms]], None]:
    return lambda frames: frames[0].info.update(charge=value)


def magnetic(frames: list[Atoms]) -> None:
    """What a spin-polarised calculation finds of a radical."""
    for atoms in frames:
        atoms.calc.results["magmom"] = 1.0


def thermostat(frames: list[Atoms]) -> None:
    """Energies that change by more than the motion accounts for."""
    rng = np.random.default_rng(0)
    strayed = np.cumsum(rng.normal(size=len(frames))) * 0.01
    for atoms, change in zip(frames, strayed, strict=True):
        energy = atoms.get_potential_energy() + change
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=atoms.get_forces())


@pytest.mark.parametrize(
    ("change", "interval", "message"),
    [
        (lambda frames: None, None, "does not say how far frames are apart"),
        (lambda frames: None, 1.0, r"by its forces frames are 0.5\d* fs apart, not 1"),
        (lambda frames: None, 5.0, "do not resolve how hydrogens move"),
        (bohr, STEP, "seem to be in bohr"),
        (rescale(energy=1 / units.Hartree), STEP, "energies .* seem to be in hartree"),
        (rescale(force=units.Bohr / units.Hartree), STEP, "seem to be in hartree/bohr"),
        (rescale(force=-1), STEP, "do not drive its motion"),
        (missing, STEP, r"jumps by .* frames are missing"),
        (swapped, STEP, "do not drive its motion"),
        (fast, STEP, "velocities are 2 times those of its positions"),
        (heavy, STEP, "mass of 2.014"),
        (charged(-1), STEP, "total charge of -1; only neutral"),
        (charged(np.nan), STEP, r"md\.extxyz: .* total charge .* is nan, not a whole number"),
        (charged("one"), STEP, "total charge is 'one', not a number"),
        (lambda frames: charged(0)(frames) or charged(1)(frames[9:]), STEP, r"differs .* 0, \+1"),
        (
            lambda frames: frames[7].info.update(spin=3),
            STEP,
            r"frame 7 has .*spin.* = 3: .* closed",
        ),
        (magnetic, STEP, "frame 0 has a magnetic moment of 1 μB: .* closed"),
        (nothing, STEP, "frame 0 has no forces|frame 0 has no energy"),
        (thermostat, STEP, "thermostat's kicks cannot be learned"),
        (lambda frames: frames.__delitem__(slice(2, None)), STEP, "holds 2 frames"),
    ],
)
def test_what_cannot_be_right_is_named_and_refused(
    burst: Burst,
    tmp_path: Path,
    change: Callable[[list[Atoms]], None],
    interval: float | None,
    message: str,
) -> None:
    frames = frames_of(burst)
    change(frames)
    with pytest.raises(DataError, match=message):
        import_trajectory(save(tmp_path / "md.extxyz", frames), name="w", interval=interval)


def test_a_share_divides_up_to_three_trajectories(burst: Burst, tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"md-{n}.extxyz", frames_of(reference(duration=400, index=n)))
        for n in range(4)
    ]
    lengths = []
    for share in (None, 0.4):
        pieces = import_all(paths[:3], "w", held_out=share, interval=STEP)
        assert [piece.attrs["part"] for piece in pieces] == 3 * ["train", "validation"]
        lengths.append(len(pieces[1].energies) / 400)
    assert lengths == pytest.approx([0.25, 0.4], abs=0.01)
    assert not any("part" in one.attrs for one in import_all(paths, "w", interval=STEP))
    with pytest.raises(ConfigError, match=r"0\.4 divides up to 3 .* of 4, whole ones are held out"):
        import_all(paths, "w", held_out=0.4, interval=STEP)


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    """Under whatever name and in whatever format: a copy would be held out of what is learned."""
    runs = [frames_of(reference(duration=400, index=n)) for n in range(2)]
    paths = [save(tmp_path / f"md-{n}.extxyz", run) for n, run in enumerate(runs)]
    copy = save(tmp_path / "copy.traj", runs[0])
    for files in ([*paths, copy], [copy, *paths], [copy, copy]):
        with pytest.raises(DataError, match=r"copy\.traj.* hold the same frames"):
            import_all(files, "w", interval=STEP)
    with pytest.raises(DataError, match=r"md-0\.extxyz and .*copy\.traj hold"):
        import_all([*paths, copy], "w", interval=STEP)
    assert len(import_all(paths, "w", interval=STEP)) == 4


def test_the_command_writes_data_and_says_what_is_held_out(
    burst: Burst, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = save(tmp_path / "md.extxyz", frames_of(reference(duration=400)))
    output = tmp_path / "water.h5"
    words = ["import", str(path), "-o", str(output), "--interval", str(STEP)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "held out" in printed
    assert [one.attrs["part"] for one in read_bursts(output)] == ["train", "validation"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert "exists: give another --output" in capsys.readouterr().err
