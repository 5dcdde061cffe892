"""ASE scripts that are killed and started again: the run is the run undisturbed."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixCom
from ase.io import read
from ase_dynamics import FS, Counting, thermal
from springs import SpringOperator

from ase_atom import ATOMLangevin, ATOMPropagator, ATOMVerlet, propagate_replicas
from ase_atom.ase.settings import NumpyNoise
from ase_atom.errors import AtomError, ConfigError, FileFormatError, TrajectoryError
from ase_atom.propagation.stochastic import SerialisableNoise

LANGEVIN = {"temperature_K": 300, "friction": 0.02 / FS, "seed": 4}
ENSEMBLES = {
    "NVE": {},
    "Langevin": LANGEVIN,
    "Bussi": {"temperature_K": 300, "taut": 40 * FS, "seed": 4},
}


def killed(life) -> bool:
    """Live a life in a process of its own, and say whether it was killed; else it went well."""
    child = os.fork()
    if child == 0:
        try:
            life()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def same_files(one: Path, other: Path, ending: str) -> None:
    names = sorted(file.name for file in other.glob(f"*.{ending}"))
    assert names == sorted(file.name for file in one.glob(f"*.{ending}"))
    assert names
    for name in names:
        if ending in ("dcd", "xyz"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
            continue
        left, right = read(one / name, ":"), read(other / name, ":")
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.get_momenta(), b.get_momenta())
            assert a.info == b.info
            if b.calc is not None:
                assert a.get_potential_energy() == b.get_potential_energy()


# -- one molecule ----------------------------------------------------------------------------------


class Script:
    """A script as users write it, in a folder of its own."""

    def __init__(self, folder: Path, molecule: Atoms, springs: SpringOperator, ending: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.molecule, self.springs, self.ending = folder, molecule, springs, ending

    def make(self, **settings) -> ATOMPropagator:
        atoms = thermal(self.molecule.copy())
        atoms.calc = Counting(self.springs)
        given = {
            "stride": 8 * FS,
            "operator": self.springs,
            "trajectory": self.folder / f"run.{self.ending}",
            "logfile": str(self.folder / "run.log"),
            "loginterval": 3,
            "restart": self.folder / "run.restart",
            "restart_interval": 2,
        } | settings
        kind = ATOMVerlet if "temperature_K" not in given else ATOMPropagator
        return kind(atoms, 0.5 * FS, **given)

    def run(self, steps: int, die_at: int | None = None, **settings) -> ATOMPropagator:
        with self.make(**settings) as dynamics:
            if die_at is not None:
                dynamics.attach(lambda: dynamics.nsteps == die_at and die())
            dynamics.run(steps - dynamics.nsteps)
        return dynamics


def same_atoms(one: ATOMPropagator, other: ATOMPropagator) -> None:
    assert one.nsteps == other.nsteps
    np.testing.assert_array_equal(one.atoms.positions, other.atoms.positions)
    np.testing.assert_array_equal(one.atoms.get_momenta(), other.atoms.get_momenta())


@pytest.mark.parametrize("ending", ["dcd", "xyz", "traj", "h5"])
@pytest.mark.parametrize("settings", ENSEMBLES.values(), ids=ENSEMBLES)
def test_a_script_that_is_killed_goes_on_to_the_same_run(
    ethanol, springs, tmp_path, settings, ending
):
    whole = Script(tmp_path / "whole", ethanol, springs, ending)
    cut = Script(tmp_path / "cut", ethanol, springs, ending)
    plain = Script(tmp_path / "plain", ethanol, springs, ending)
    expected = whole.run(150, **settings)
    # Before the first jump, ahead of the restart file twice over, and between two frames.
    for step in (3, 90, 76, 118):
        assert killed(lambda step=step: cut.run(150, die_at=step, **settings))
    same_atoms(cut.run(150, **settings), expected)
    same_atoms(plain.run(150, restart=None, restart_interval=500, **settings), expected)
    # Without restart= ASE writes .traj itself, with momenta that were not velocities in between.
    for other in (cut, plain) if ending != "traj" else (cut,):
        if ending != "h5":
            same_files(other.folder, whole.folder, ending)
        else:
            same_frames_of_hdf5(other.folder, whole.folder)
        assert (other.folder / "run.log").read_text() == (whole.folder / "run.log").read_text()


def same_frames_of_hdf5(one: Path, other: Path) -> None:
    from ase_atom.io import read_trajectory

    with read_trajectory(one / "run.h5") as left, read_trajectory(other / "run.h5") as right:
        (a,), (b,) = left, right
    np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_array_equal(a.times, b.times)


@pytest.mark.parametrize("ending", ["dcd", "xyz", "traj"])
def test_half_a_frame_is_cut_off(ethanol, springs, tmp_path, ending):
    whole = Script(tmp_path / "whole", ethanol, springs, ending)
    cut = Script(tmp_path / "cut", ethanol, springs, ending)
    expected = whole.run(100, **LANGEVIN)
    assert killed(lambda: cut.run(100, die_at=60, **LANGEVIN))
    file = cut.folder / f"run.{ending}"
    file.write_bytes(file.read_bytes()[:-7] if ending != "traj" else file.read_bytes() + b"half")
    same_atoms(cut.run(100, **LANGEVIN), expected)
    same_files(cut.folder, whole.folder, ending)


def test_a_finished_run_is_prolonged_and_cut_as_one_likes(ethanol, springs, tmp_path):
    whole = Script(tmp_path / "whole", ethanol, springs, "xyz")
    parts = Script(tmp_path / "parts", ethanol, springs, "xyz")
    expected = whole.run(100, **LANGEVIN)
    for steps in (0, 7, 16, 50, 51, 100, 100):
        dynamics = parts.run(steps, **LANGEVIN)
        assert dynamics.nsteps == steps
    same_atoms(dynamics, expected)
    same_files(parts.folder, whole.folder, "xyz")


def test_what_a_script_did_to_the_run_is_kept(ethanol, springs, tmp_path):
    """A ramp of the temperature, atoms pushed by an observer, steps by hand, numpy's own noise."""

    def script(folder: Path, cut: bool) -> ATOMPropagator:
        folder.mkdir()
        np.random.seed(7)
        settings = LANGEVIN | {"seed": None}
        script = Script(folder, ethanol, springs, "xyz")
        for end in (40, 55, 70) if cut else (70,):
            if cut:
                np.random.seed(end)  # the restart file holds numpy's state
            with script.make(**settings) as dynamics:
                if dynamics.nsteps < 20 and cut:
                    np.random.seed(7)

                def ramp(dynamics=dynamics) -> None:
                    if dynamics.nsteps == 20:
                        dynamics.set_temperature(350)
                        dynamics.set_friction(0.03 / FS)
                    if dynamics.nsteps == 40:
                        dynamics.atoms.positions[0] += 0.01

                dynamics.attach(ramp)
                dynamics.run(end - dynamics.nsteps)
                assert dynamics.ensemble.temperature_K == 350
        return dynamics

    same_atoms(script(tmp_path / "cut", True), script(tmp_path / "whole", False))
    same_files(tmp_path / "cut", tmp_path / "whole", "xyz")


def test_a_file_that_was_appended_to_keeps_what_it_held(ethanol, springs, tmp_path):
    folders = [tmp_path / name for name in ("whole", "cut")]
    settings = LANGEVIN | {"append_trajectory": True, "loginterval": 4}
    for folder in folders:
        Script(folder, ethanol, springs, "xyz").run(16, loginterval=4)
        (folder / "run.restart").unlink()
    whole, cut = (Script(folder, ethanol, springs, "xyz") for folder in folders)
    for step in (9, 44):
        assert killed(lambda step=step: cut.run(60, die_at=step, **settings))
    same_atoms(cut.run(60, **settings), whole.run(60, **settings))
    same_files(cut.folder, whole.folder, "xyz")
    assert len(read(cut.folder / "run.xyz", ":")) == 5 + 15


def test_a_fixed_centre_of_mass_and_a_moved_folder(ethanol, springs, tmp_path):
    ethanol.set_constraint(FixCom())
    whole = Script(tmp_path / "whole", ethanol, springs, "dcd")
    expected = whole.run(60, **LANGEVIN)
    Script(tmp_path / "cut", ethanol, springs, "dcd").run(33, **LANGEVIN)
    (tmp_path / "cut").rename(tmp_path / "elsewhere")
    same_atoms(
        Script(tmp_path / "elsewhere", ethanol, springs, "dcd").run(60, **LANGEVIN), expected
    )
    same_files(tmp_path / "elsewhere", whole.folder, "dcd")


def test_a_trained_operator_goes_on(ethanol, tmp_path):
    def live(folder: Path, die_at: int | None = None) -> ATOMLangevin:
        folder.mkdir(exist_ok=True)
        atoms = thermal(ethanol.copy())
        with ATOMLangevin(
            atoms,
            0.5 * FS,
            operator="ethanol-gfn2",
            trajectory=folder / "run.dcd",
            restart=folder / "run.restart",
            restart_interval=2,
            **LANGEVIN,
        ) as dynamics:
            dynamics.attach(lambda: dynamics.nsteps == die_at and die())
            dynamics.run(150 - dynamics.nsteps)
        return dynamics

    expected = live(tmp_path / "whole")
    for step in (70, 100):
        assert killed(lambda step=step: live(tmp_path / "cut", step))
    same_atoms(live(tmp_path / "cut"), expected)
    same_files(tmp_path / "cut", tmp_path / "whole", "dcd")


# -- many molecules --------------------------------------------------------------------------------


class Deadly(SpringOperator):
    """Springs that kill their process at a call."""

    fingerprint = "springs"

    def __init__(self, reference: Atoms, calls: float = float("inf"), **settings) -> None:
        super().__init__(reference, **settings)
        self.calls = calls

    def __call__(self, state, times):
        self.calls -= 1
        if self.calls < 0:
            die()
        return super().__call__(state, times)


def batch(folder: Path, molecule: Atoms, ending: str | None, steps: int = 200, **settings):
    """Run three replicas, and return them and what became of the run."""
    folder.mkdir(exist_ok=True)
    replicas = [thermal(molecule.copy(), seed) for seed in range(3)]
    given = {
        "stride": 8 * FS,
        "restart": folder / "run.restart",
        "restart_interval": 3,
        "trajectory": None if ending is None else folder / f"run.{ending}",
    } | settings
    given.setdefault("operator", Deadly(molecule))
    return replicas, propagate_replicas(replicas, 0.5 * FS, steps, **given)


def same_replicas(one, other) -> None:
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.get_momenta(), b.get_momenta())
    assert one[1].frames == other[1].frames
    assert [str(error) for error in one[1].broken] == [str(error) for error in other[1].broken]


@pytest.mark.parametrize("ending", ["dcd", "xyz", "traj"])
@pytest.mark.parametrize("settings", ENSEMBLES.values(), ids=ENSEMBLES)
@pytest.mark.filterwarnings("ignore:the structure is near a minimum")
def test_replicas_that_are_killed_go_on_to_the_same_run(ethanol, tmp_path, settings, ending):
    given = settings | {"interval": 5}
    expected = batch(tmp_path / "whole", ethanol, ending, **given)
    plain = batch(tmp_path / "plain", ethanol, ending, restart=None, restart_interval=500, **given)
    # Passes of the operator: before the first jump is made, and ahead of the restart file twice.
    for calls in (0, 8, 2, 5):
        operator = Deadly(ethanol, calls)
        assert killed(
            lambda operator=operator: batch(
                tmp_path / "cut", ethanol, ending, operator=operator, **given
            )
        )
    cut = batch(tmp_path / "cut", ethanol, ending, **given)
    for other, folder in ((cut, "cut"), (plain, "plain")):
        same_replicas(other, expected)
        same_files(tmp_path / folder, tmp_path / "whole", ending)
    again = batch(tmp_path / "cut", ethanol, ending, overwrite=True, **given)  # there is no more
    same_replicas(again, expected)
    same_files(tmp_path / "cut", tmp_path / "whole", ending)


@pytest.mark.parametrize("ending", ["xyz", None])
def test_more_steps_prolong_replicas(ethanol, tmp_path, ending):
    given = LANGEVIN | ({"interval": 5} if ending else {})
    expected = batch(tmp_path / "whole", ethanol, ending, steps=200, **given)
    for steps in (40, 40, 75, 200) if ending else (40, 40, 72, 200):
        parts = batch(tmp_path / "parts", ethanol, ending, steps=steps, **given)
    same_replicas(parts, expected)
    if ending:
        same_files(tmp_path / "parts", tmp_path / "whole", ending)


def test_steps_that_end_between_frames_end_there_again(ethanol, tmp_path):
    given = LANGEVIN | {"interval": 6, "steps": 75}
    expected = batch(tmp_path / "whole", ethanol, "xyz", **given)
    operator = Deadly(ethanol, 3)
    assert killed(lambda: batch(tmp_path / "cut", ethanol, "xyz", operator=operator, **given))
    same_replicas(batch(tmp_path / "cut", ethanol, "xyz", **given), expected)
    longer = batch(tmp_path / "cut", ethanol, "xyz", **(given | {"steps": 150}))
    assert longer[1].frames == [26] * 3
    assert [len(read(tmp_path / "cut" / f"run-{n}.xyz", ":")) for n in range(3)] == [26] * 3


def test_broken_replicas_stay_broken(ethanol, tmp_path):
    given = {"steps": 4000, "energy_correction": False, "reversible": False, "interval": 10}

    def hot(calls: float = float("inf")) -> Deadly:
        return Deadly(ethanol, calls, heating=3e-3)

    expected = batch(tmp_path / "whole", ethanol, "xyz", operator=hot(), **given)
    assert expected[1].broken
    for calls in (20, 60):
        assert killed(
            lambda calls=calls: batch(
                tmp_path / "cut", ethanol, "xyz", operator=hot(calls), **given
            )
        )
    for _ in range(2):
        cut = batch(tmp_path / "cut", ethanol, "xyz", operator=hot(), **given)
        same_replicas(cut, expected)
        same_files(tmp_path / "cut", tmp_path / "whole", "xyz")


def test_replicas_of_another_run_are_refused_by_name(ethanol, tmp_path):
    given = LANGEVIN | {"interval": 5}
    batch(tmp_path / "run", ethanol, "xyz", **given)
    before = contents(tmp_path / "run")
    for changes, named in (
        ({"temperature_K": 310}, "ensemble was Langevin(temperature_K=300.0"),
        ({"stride": 4 * FS}, "stride was 8.0 fs and is now 4.0 fs"),
        ({"interval": 10}, "interval was 5 steps and is now 10 steps"),
        ({"operator": SpringOperator(ethanol)}, "operator was unnamed (fingerprint springs)"),
        ({"ending": "dcd"}, "trajectory was run.xyz and is now run.dcd"),
        ({"ending": None, "interval": 1}, "trajectory was run.xyz and is now none"),
        ({"steps": 190}, "steps were 200 and are now 190, and a run can only be extended"),
        ({"steps": 204}, "steps were 200 and are now 204, which is no multiple of 5"),
        ({"seed": None, "rng": np.random.RandomState(1)}, "noise came from numpy's PCG64"),
        ({"restart": tmp_path / "run" / "run-1.xyz"}, "two files of the run"),
    ):
        with pytest.raises(ConfigError) as caught:
            batch(tmp_path / "run", ethanol, **({"ending": "xyz"} | given | changes))
        assert named in str(caught.value)
        assert contents(tmp_path / "run") == before
    with pytest.raises(ConfigError, match="replicas were 3 and are now 2"):
        propagate_replicas(
            [thermal(ethanol.copy(), seed) for seed in range(2)],
            0.5 * FS,
            200,
            operator=Deadly(ethanol),
            restart=tmp_path / "run" / "run.restart",
        )
    (tmp_path / "run" / "run-2.xyz").write_bytes(before["run-2.xyz"][:5000])
    with pytest.raises(TrajectoryError, match=r"run-2\.xyz holds \d+ whole frames of the 41"):
        batch(tmp_path / "run", ethanol, "xyz", **given)
    (tmp_path / "run" / "run.restart").write_bytes(before["run.restart"][:-9])
    with pytest.raises(FileFormatError, match=r"run\.restart"):
        batch(tmp_path / "run", ethanol, "xyz", **given)


def test_replicas_without_a_restart_file_replace_nothing(ethanol, tmp_path):
    batch(tmp_path / "run", ethanol, "xyz", interval=5)
    (tmp_path / "run" / "run.restart").unlink()
    before = contents(tmp_path / "run")
    with pytest.raises(TrajectoryError, match="exists and is kept"):
        batch(tmp_path / "run", ethanol, "xyz", interval=5)
    assert contents(tmp_path / "run") == before
    batch(tmp_path / "run", ethanol, "xyz", interval=5, overwrite=True)
    assert (tmp_path / "run" / "run.restart").exists()


# -- refusals --------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused(script: Script, error: type[AtomError], **settings) -> str:
    before = contents(script.folder)
    state = np.random.get_state()[1].copy()
    with pytest.raises(error) as caught:
        script.make(**(LANGEVIN | settings))
    assert contents(script.folder) == before
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def begun(ethanol, springs, tmp_path) -> Script:
    script = Script(tmp_path / "run", ethanol, springs, "xyz")
    script.run(40, **LANGEVIN)
    return script


class OtherSprings(SpringOperator):
    """Springs by another name."""


def test_other_settings_are_refused_by_name(begun, ethanol):
    for settings, named in (
        ({"temperature_K": 310}, "temperature_K=300.0"),
        ({"friction": 0.03 / FS}, "ensemble was Langevin"),
        ({"friction": None, "taut": 40 * FS}, "is now Bussi"),
        ({"stride": 4 * FS}, "stride was 8.0 fs and is now 4.0 fs"),
        ({"energy_correction": False}, "energy_correction"),
        ({"operator": OtherSprings(ethanol)}, "operator was unnamed"),
        ({"loginterval": 4}, "loginterval was 3 steps and is now 4 steps"),
        ({"trajectory": begun.folder / "other.xyz"}, "trajectory was run.xyz and is now other.xyz"),
        ({"trajectory": None}, "trajectory was run.xyz and is now none"),
        ({"seed": None, "rng": np.random.RandomState(0)}, "numpy's PCG64 and now comes from MT"),
    ):
        assert named in refused(begun, ConfigError, **settings)


def test_other_molecules_are_refused_by_name(begun, ethanol, springs):
    for change, named in (
        (lambda a: a.set_atomic_numbers([*a.numbers[:-1], 9]), "was C2H6O and is now C2H5FO"),
        (lambda a: a.set_atomic_numbers(a.numbers[::-1]), "atoms in another order"),
        (lambda a: a.set_masses([*a.get_masses()[:-1], 2.0]), "masses of the molecule"),
        (lambda a: a.info.update(charge=1), "charge of the molecule was +0 and is now +1"),
    ):
        other = ethanol.copy()
        change(other)
        assert named in refused(Script(begun.folder, other, springs, "xyz"), ConfigError)
    begun.molecule = ethanol
    with pytest.raises(ConfigError, match=r"timestep was 0\.5 fs and is now 1\.0 fs"):
        ATOMPropagator(
            thermal(ethanol.copy()),
            FS,
            stride=8 * FS,
            operator=springs,
            restart=begun.folder / "run.restart",
            **LANGEVIN,
        )


def test_damaged_restart_files_are_one_line(begun):
    file = begun.folder / "run.restart"
    whole = file.read_bytes()
    for damaged in (b"", whole[:60], whole[: len(whole) // 2], b"\0" * 300, whole[8:]):
        file.write_bytes(damaged)
        assert "run.restart" in refused(begun, FileFormatError)
    from ase_atom.propagation.restart import read_restart, write_restart

    file.write_bytes(whole)
    good = read_restart(file)
    for name in good:
        write_restart(file, {key: value for key, value in good.items() if key != name})
        refused(begun, AtomError)
    for name in ("positions", "left_momenta"):
        for bad in (good[name][:-1], good[name].float(), good[name] * float("nan")):
            write_restart(file, good | {name: bad})
            assert "are not of this molecule" in refused(begun, FileFormatError)
    file.write_text("my notes\n" * 100)
    assert "run.restart" in refused(begun, FileFormatError)


def test_restart_files_of_other_kinds_are_refused(begun, ethanol, springs, tmp_path):
    replicas = [thermal(ethanol.copy())]
    settings = {"stride": 8 * FS, "operator": springs, "restart": begun.folder / "run.restart"}
    with pytest.raises(FileFormatError, match="is a restart file of ATOMPropagator"):
        propagate_replicas(replicas, 0.5 * FS, 64, **settings, **LANGEVIN)


def test_lost_files_are_one_line(begun):
    trajectory, log = begun.folder / "run.xyz", begun.folder / "run.log"
    kept = {file: file.read_bytes() for file in (trajectory, log)}
    for file, named in ((trajectory, "does not exist"), (log, "run.log of the run is gone")):
        file.unlink()
        assert named in refused(begun, TrajectoryError)
        file.write_bytes(kept[file])
    trajectory.write_bytes(kept[trajectory][: len(kept[trajectory]) // 2])
    assert "whole frames of the 14 that the run had given it" in refused(begun, TrajectoryError)
    trajectory.write_bytes(kept[trajectory])
    for other in (kept[log][:100], b"somebody's notes\n" * 500):
        log.write_bytes(other)
        assert "is not the log" in refused(begun, TrajectoryError)
    log.write_bytes(kept[log])
    begun.run(50, **LANGEVIN)


@pytest.mark.parametrize("spoil", ["positions", "atoms"])
def test_what_no_run_could_go_on_from_is_not_kept(ethanol, springs, tmp_path, spoil):
    """An observer spoils the atoms at the very step at which the file is due."""
    restart = tmp_path / "run.restart"
    atoms = thermal(ethanol.copy())
    dynamics = ATOMVerlet(atoms, 0.5 * FS, operator=springs, restart=restart)
    dynamics.run(32)
    kept = restart.read_bytes()

    def spoiled() -> None:
        if dynamics.nsteps == 64 and spoil == "atoms":
            del atoms[-1]
        elif dynamics.nsteps == 64:
            atoms.positions[0] = np.nan

    dynamics.attach(spoiled, interval=32)
    with pytest.raises(AtomError, match=r"has become|is not finite"):
        dynamics.run(32)
    assert restart.read_bytes() == kept
    assert ATOMVerlet(thermal(ethanol), 0.5 * FS, operator=springs, restart=restart).nsteps == 32


def test_what_cannot_be_kept_is_refused_at_once(ethanol, springs, tmp_path):
    class Own:
        def standard_normal(self, shape):
            return np.zeros(shape)

    script = Script(tmp_path / "run", ethanol, springs, "xyz")
    for settings, named in (
        ({"rng": Own(), "seed": None}, "give seed="),
        ({"restart": None}, "restart_interval has no effect without restart="),
        ({"restart_interval": 0}, "from 1 on, not 0"),
        ({"restart_interval": 2.5}, "whole number from 1 on, not 2.5"),
        ({"restart_interval": float("nan")}, "from 1 on, not nan"),
        ({"restart": tmp_path / "run" / "run.xyz"}, "two files of the run"),
        ({"restart": tmp_path / "run" / "run.log"}, "two files of the run"),
    ):
        assert named in refused(script, ConfigError, **settings)
    settings = {"trajectory": tmp_path / "run" / "run.dcd", "restart": tmp_path / "run" / "run.pdb"}
    assert "two files of the run" in refused(script, ConfigError, **settings)
    for path, named in ((tmp_path / "none" / "r", "does not exist"), (tmp_path, "is a folder")):
        assert named in refused(script, TrajectoryError, restart=path)
    assert not contents(script.folder)


# -- noise -----------------------------------------------------------------------------------------


GENERATORS = {
    "PCG64": lambda seed: np.random.Generator(np.random.PCG64(seed)),
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "SFC64": lambda seed: np.random.Generator(np.random.SFC64(seed)),
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
    "RandomState": np.random.RandomState,
    "numpy.random": lambda seed: np.random.seed(seed) or np.random,
}


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_noise_goes_on_from_plain_values(make, tmp_path):
    from ase_atom.propagation.restart import read_restart, write_restart

    noise, shape = NumpyNoise(make(3)), torch.Size([3, 5])
    assert isinstance(noise, SerialisableNoise)
    noise(shape)  # an odd number: legacy generators have the second of a pair left
    write_restart(tmp_path / "n", {"noise": noise.state_dict()})
    expected = noise(shape)
    other = NumpyNoise(make(99))
    other.load_state_dict(read_restart(tmp_path / "n")["noise"])
    torch.testing.assert_close(other(shape), expected, rtol=0, atol=0)


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_damaged_states_of_noise_change_nothing(make):
    noise = NumpyNoise(make(3))
    before = noise.state_dict()
    for damage in (
        {},
        {"bit_generator": "PCG65"},
        before | {"state": {}},
        before | {"state": 3},
        before | {"state": "3"},
        before | {"state": dict.fromkeys(before["state"], "x")},
        before | {"state": dict.fromkeys(before["state"], -(2**200))},
    ):
        with pytest.raises(ConfigError):
            noise.load_state_dict(damage)
        assert noise.state_dict() == before
