"""Where the public files come from, where they belong, and which file a task reads."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import digest_of, replace_file
from training.benchmarks.md17like import MOLECULES
from training.benchmarks.trajectories import READERS, Trajectory, check_fingerprint
from training.data.store import data_folder

MD17_ADDRESS = "http://www.quantum-machine.org/gdml/data/npz/"
MD17_FILES = {
    "aspirin": "md17_aspirin.npz",
    "benzene": "md17_benzene2017.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "salicylic": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
}
MD22_FILES = {
    "Ac-Ala3-NHMe": "md22_Ac-Ala3-NHMe.npz",
    "DHA": "md22_DHA.npz",
    "stachyose": "md22_stachyose.npz",
}
RMD17_ADDRESS = "https://figshare.com/ndownloader/files/23950376"
RMD17_ARCHIVE = "rmd17.tar.bz2"
RMD17_SHA256 = "cddeea2ec2c4"
"""First digits of the archive's SHA-256, as the package load-atoms records them."""

TG80_HOME = "https://github.com/luke-a-thompson/ATOM"


def find_file(layout: str, molecule: str, data: Path | None = None) -> Path:
    """The file of a molecule: the public one if it is there, else a generated one.

    Parameters
    ----------
    layout
        ``md17``, ``rmd17``, ``md22`` or ``tg80``.
    molecule
        Its name there.
    data
        Folder in place of the data folder.

    Raises
    ------
    DataError
        If there is neither; says what to put where.
    """
    folder = data or data_folder()
    # Another run of it lies in a folder: seed-1/uracil.
    names = [str(Path(molecule).with_name(f"{layout}_{Path(molecule).name}.npz"))]
    public = (MD17_FILES | MD22_FILES).get(molecule, "")
    if public.startswith(f"{layout}_"):
        names.insert(0, public)
    places = [folder / layout / name for name in names]
    places += [folder / f"{layout}like" / names[-1], folder / "md17like" / names[-1]]
    if layout == "tg80":
        places.append(folder / "tg80" / "thermostatted" / f"{molecule}.h5")
    for place in places:
        if place.is_file():
            return place
    there = f" --data {data}" if data else ""
    makes = ""
    if layout == "tg80":
        which = "--preset tg80" if Path(molecule).name == molecule else "as docs/benchmarks.md says"
        makes = f", or make one with python -m training.generate {which}{there}"
    elif molecule in MOLECULES:
        # That command takes the folder of the files, the others the folder above it.
        inside = f" --data {data / 'md17like'}" if data else ""
        command = f"make-md17like {molecule} --suite {layout}{inside}"
        makes = f", or make one with python -m training.benchmark {command}"
    raise DataError(
        f"there is no trajectory of {molecule}: put the public file at {places[0]} "
        f"(python -m training.benchmark download {layout}{there} does){makes}"
    )


def is_public(path: Path) -> bool:
    """Whether a file stands where the public ones do."""
    return path.suffix == ".npz" and path.parent.name in READERS


def load_trajectory(
    layout: str, molecule: str, heavy: bool, data: Path | None = None
) -> Trajectory:
    """Read a molecule's trajectory; errors as of `find_file` and the readers."""
    trajectory = READERS[layout](find_file(layout, molecule, data), molecule)
    return trajectory.heavy() if heavy else trajectory


def download(
    layout: str, molecules: tuple[str, ...], data: Path | None, say: Callable[[str], None]
) -> None:
    """Fetch public files into the data folder and check them.

    MD17 and MD22 carry an MD5 over their contents; of rMD17 the archive's SHA-256 is known.

    Raises
    ------
    ConfigError
        For an unknown layout or molecule.
    DataError
        If a file cannot be fetched, with what to put where, or is damaged.
    """
    folder = (data or data_folder()) / layout
    if layout in ("md17", "md22"):
        files = MD17_FILES if layout == "md17" else MD22_FILES
        for name in molecules or tuple(files):
            if name not in files:
                raise ConfigError(f"{layout} has no {name!r}: there are {', '.join(files)}")
            path = folder / files[name]
            if path.exists():
                check_fingerprint(path)
            else:
                _fetch(MD17_ADDRESS + files[name], path, check_fingerprint)
            say(f"{path}: checked")
    elif layout == "rmd17":
        archive = folder / RMD17_ARCHIVE
        if archive.exists():
            check_archive(archive)
        else:
            _fetch(RMD17_ADDRESS, archive, check_archive)
        for path in unpack(archive, folder, molecules):
            say(f"{path}: checked")
    elif layout == "tg80":
        raise DataError(
            f"TG80 has no fixed address: take it from {TG80_HOME} and put each molecule's file at "
            f"{folder}/tg80_NAME.npz"
        )
    else:
        raise ConfigError(f"unknown layout {layout!r}: there are {', '.join(READERS)}")


def check_archive(path: Path) -> None:
    """Compare rMD17's archive with its known checksum.

    Raises
    ------
    DataError
        If it differs.
    """
    found = digest_of(path)
    if not found.startswith(RMD17_SHA256):
        raise DataError(
            f"{path} is damaged or another version: its SHA-256 is {found}, not {RMD17_SHA256}…"
        )


def unpack(archive: Path, folder: Path, molecules: tuple[str, ...] = ()) -> list[Path]:
    """Take the files of molecules, by default of all, and nothing else out of rMD17's archive.

    Raises
    ------
    ConfigError
        If one of the molecules is not in it.
    DataError
        If the archive is damaged.
    """
    there: list[str] = []
    written: list[Path] = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                molecule = name.removeprefix("rmd17_").removesuffix(".npz")
                if not member.isfile() or name != f"rmd17_{molecule}.npz":
                    continue
                there.append(molecule)
                if not molecules or molecule in molecules:
                    source = tar.extractfile(member)
                    replace_file(folder / name, lambda path, s=source: path.write_bytes(s.read()))
                    written.append(folder / name)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}): remove it and fetch it again") from error
    for name in molecules:
        if name not in there:
            raise ConfigError(f"rmd17 has no {name!r}: there are {', '.join(sorted(there))}")
    return written


def _fetch(address: str, path: Path, check: Callable[[Path], None]) -> None:
    def fetch(to: Path) -> None:
        with urllib.request.urlopen(address, timeout=60) as answer, open(to, "wb") as file:
            while piece := answer.read(1 << 20):
                file.write(piece)
        check(to)

    try:
        replace_file(path, fetch)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"{address} cannot be reached ({error}): fetch it elsewhere and put it at {path}"
        ) from error
