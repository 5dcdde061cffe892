"""Readers other than the package's own agree on what is in each file, with and without a cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write as ase_write
from io_files import (
    BINARY,
    ENDINGS,
    INTERVAL,
    TOLERANCE,
    by_ase,
    by_chemfiles,
    by_cp2k_reader,
    by_mdanalysis,
    by_mdtraj,
    by_openmm,
    make_frames,
    write,
)
from MDAnalysis import Universe

from ase_atom.errors import TrajectoryError
from ase_atom.io import open_trajectory, read_trajectory
from ase_atom.io.cells import lengths_and_angles
from ase_atom.molecules.topology import perceive_bonds

READERS = {"mdtraj": by_mdtraj, "MDAnalysis": by_mdanalysis, "chemfiles": by_chemfiles}
OTHERS = {"ASE": by_ase, "OpenMM": by_openmm}
SIZES = ["ir", "e", "box", "vir", "pres", "top", "sym", "x", "v", "f"]
CASES = [(ending, reader) for ending in BINARY for reader in READERS]
# ASE reads these through the package itself, and the rest on its own.
CASES += [(ending, "ASE") for ending in (".dcd", ".xtc", ".trr", ".xyz", ".extxyz", ".traj")]
CASES += [(".h5", "mdtraj"), (".xtc", "OpenMM")]


@pytest.fixture(params=["ethanol", "benzene", "salt"])
def atoms(request, ethanol) -> Atoms:
    """Nine atoms and more, since XTC packs larger molecules only; a crystal that is not cubic."""
    if request.param != "salt":
        return ethanol if request.param == "ethanol" else molecule("C6H6")
    salt = bulk("NaCl", "rocksalt", a=5.64).repeat(2)
    standard, _ = salt.cell.standard_form()
    salt.set_cell(standard, scale_atoms=True)
    return salt


@pytest.mark.parametrize(("ending", "reader"), CASES)
def test_positions_times_and_cells(tmp_path, atoms, ending, reader):
    path = tmp_path / f"t{ending}"
    positions, _, times = write(path, atoms)
    found, found_times, cell = (READERS | OTHERS)[reader](path)
    np.testing.assert_allclose(found, positions, rtol=0, atol=TOLERANCE[ending])
    if found_times is not None:
        np.testing.assert_allclose(found_times, times, rtol=1e-5)
    assert cell == atoms.pbc.any()


def test_a_dcd_by_a_reader_of_ase_itself(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    positions, _, _ = write(tmp_path / "t.dcd", atoms)
    found = by_cp2k_reader(tmp_path / "t.dcd")
    np.testing.assert_allclose(found, positions, rtol=0, atol=TOLERANCE[".dcd"])


@pytest.mark.parametrize("ending", BINARY)
def test_mdanalysis_sees_bonds_elements_and_the_box(tmp_path, atoms, ending):
    path = tmp_path / f"t{ending}"
    write(path, atoms)
    universe = Universe(str(path.with_suffix(".pdb")), str(path))
    assert universe.trajectory.dt == pytest.approx(INTERVAL / 1000, rel=1e-5)
    assert list(universe.atoms.elements) == atoms.get_chemical_symbols()
    if atoms.pbc.any():
        lengths, angles = lengths_and_angles(atoms.cell.array[None])
        box = [*lengths[0], *angles[0]]
        np.testing.assert_allclose(universe.trajectory[5].dimensions, box, rtol=1e-4)
    else:
        bonds = sorted(tuple(sorted(map(int, bond.indices))) for bond in universe.atoms.bonds)
        assert bonds == perceive_bonds(atoms.numbers, atoms.positions)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cell_that_changes(tmp_path, ending):
    path = tmp_path / f"t{ending}"
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    positions, velocities, times = make_frames(atoms, 4)
    cells = atoms.cell.array * (1.0 + 0.01 * np.arange(4))[:, None, None]
    with open_trajectory(path, atoms) as writer:
        writer.write_frames(positions[:3], velocities[:3], times[:3], cells=cells[:3])
        atoms.set_cell(cells[3], scale_atoms=False)
        atoms.positions = positions[3]
        atoms.set_velocities(np.zeros((8, 3)))
        writer.write(time=times[3])
    with read_trajectory(path) as reader:
        (block,) = reader
        assert reader.atoms.pbc.all()
    np.testing.assert_allclose(block.cells, cells, rtol=1e-6, atol=1e-6)


def test_partly_periodic_atoms_stay_so(tmp_path, ethanol):
    ethanol.set_cell([10, 10, 10])
    ethanol.pbc = [True, True, False]
    for ending in (".xyz", ".traj"):
        write(tmp_path / f"t{ending}", ethanol)
        with read_trajectory(tmp_path / f"t{ending}") as reader:
            assert reader.atoms.pbc.tolist() == [True, True, False]


def test_cells_that_a_format_cannot_hold(tmp_path, ethanol):
    ethanol.set_cell([[8.0, 0, 0], [0, 8.0, 0], [1.0, 0, 8.0]])
    ethanol.pbc = True
    write(tmp_path / "good.dcd", ethanol)
    ethanol.rotate(20, "z", rotate_cell=True)
    for ending in (*BINARY, ".h5"):
        with pytest.raises(TrajectoryError, match="how its cell is turned: the first vector"):
            write(tmp_path / f"t{ending}", ethanol)
    write(tmp_path / "t.extxyz", ethanol)
    ethanol.set_cell([10.0, 10.0, 0.0])
    with pytest.raises(TrajectoryError, match="no volume"):
        write(tmp_path / "u.dcd", ethanol)


def test_an_isolated_molecule_in_a_box_that_nothing_repeats(tmp_path, ethanol):
    ethanol.center(vacuum=5.0)  # a cell, but no periodic boundary
    for ending in ENDINGS:
        write(tmp_path / f"t{ending}", ethanol, mode="w")
        with read_trajectory(tmp_path / f"t{ending}") as reader:
            assert next(iter(reader)).cells is None, ending


def test_a_large_system_gets_its_bonds(tmp_path):
    water = molecule("H2O", vacuum=1.0)
    water.pbc = True
    box = water.repeat((4, 4, 8))
    write(tmp_path / "t.dcd", box, 8)
    bonds = Universe(str(tmp_path / "t.pdb")).atoms.bonds.indices
    assert sorted(map(tuple, np.sort(bonds, axis=1).tolist())) == sorted(
        pair for i in range(0, len(box), 3) for pair in ((i, i + 1), (i, i + 2))
    )


def test_slices(tmp_path, ethanol):
    positions, _, times = make_frames(ethanol, 50)
    for ending in ENDINGS:
        path = tmp_path / f"t{ending}"
        write(path, ethanol, 50, mode="w")
        with read_trajectory(path) as reader:
            for part in (
                slice(None),
                slice(10, 40, 7),
                slice(-3, None),
                slice(2, 2),
                slice(45, 99),
                slice(None, None, 11),
                slice(0, 1),
            ):
                blocks = list(reader[part])
                found = [time for block in blocks for time in block.times]
                np.testing.assert_allclose(found, times[part], rtol=1e-5, err_msg=ending)
                found = [frame for block in blocks for frame in block.positions]
                expected = positions[part]
                assert len(found) == len(expected)
                if found:
                    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[ending])
            with pytest.raises(TypeError, match="by a slice"):
                reader[3]
            with pytest.raises(TypeError, match="forwards"):
                reader[::-1]


def test_blocks_of_many_atoms_are_small(tmp_path):
    atoms = Atoms("H30000", positions=np.random.default_rng(1).uniform(0, 300, (30000, 3)))
    path = tmp_path / "t.trr"
    with open_trajectory(path, atoms, frame_interval=1.0) as writer:
        for _ in range(7):
            writer.write()
    with read_trajectory(path) as reader:
        assert [len(block) for block in reader] == [2, 2, 2, 1]
        assert [block.times.tolist() for block in reader[1::3]] == [[1.0], [4.0]]


def test_elements_from_a_topology(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, ethanol)
    (tmp_path / "t.pdb").rename(tmp_path / "other.pdb")
    with read_trajectory(path) as reader:  # positions are read without
        assert len(next(iter(reader))) == 20
        with pytest.raises(TrajectoryError, match=r"t\.dcd does not say which elements.* t\.pdb"):
            _ = reader.atoms
    for topology in (ethanol, tmp_path / "other.pdb"):
        with read_trajectory(path, topology) as reader:
            assert list(reader.atoms.symbols) == list(ethanol.symbols)
    with pytest.raises(TrajectoryError, match="topology given of 12 atoms is not that of"):
        read_trajectory(path, molecule("C6H6"))
    with pytest.raises(TrajectoryError, match=r"none\.pdb does not exist"):
        read_trajectory(path, tmp_path / "none.pdb")
    write(tmp_path / "t.xyz", ethanol)
    with pytest.raises(TrajectoryError, match="of other elements"):
        read_trajectory(tmp_path / "t.xyz", ethanol[::-1])


def test_elements_from_a_psf(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, ethanol)
    (tmp_path / "t.pdb").unlink()
    lines = [
        f"{i:8d} MOL  1    MOL  {a.symbol}{i:<3d} {a.symbol:4s} {0:10.6f} {a.mass:13.4f}{0:12d}"
        for i, a in enumerate(ethanol, 1)
    ]
    psf = ["PSF", "", f"{1:8d} !NTITLE", " REMARKS by hand", "", f"{9:8d} !NATOM", *lines, ""]
    psf += [f"{0:8d} !NBOND: bonds", "", ""]
    (tmp_path / "t.psf").write_text("\n".join(psf))
    with read_trajectory(path) as reader:
        assert list(reader.atoms.symbols) == list(ethanol.symbols)
    for index, mass, symbol in ((0, 2.014, "H"), (2, 35.45, "Cl"), (2, 79.904, "Br")):
        other = [
            f"{row[:50]}{mass:14.4f}{row[64:]}" if i == index else row
            for i, row in enumerate(lines)
        ]
        (tmp_path / "t.psf").write_text("\n".join([*psf[:6], *other, "", f"{0:8d} !NBOND: bonds"]))
        with read_trajectory(path) as reader:
            assert reader.atoms.symbols[index] == symbol
            assert reader.masses[index] == pytest.approx(mass, abs=1e-2)
    for mass in (3.024, 0.0, 0.4):  # repartitioned; a lone pair; a Drude particle
        other = [f"{row[:50]}{mass:14.4f}{row[64:]}" for row in lines]
        (tmp_path / "t.psf").write_text("\n".join([*psf[:6], *other, ""]))
        with (
            read_trajectory(path) as reader,
            pytest.raises(TrajectoryError, match=r"atom 1 of .* amu, that of no element"),
        ):
            _ = reader.atoms
    (tmp_path / "t.psf").write_text("PSF\n\nrubbish\n")
    with read_trajectory(path) as reader, pytest.raises(TrajectoryError, match="no PSF file"):
        _ = reader.atoms


def test_pdb_models(tmp_path, ethanol):
    import mdtraj

    write(tmp_path / "t.xtc", ethanol)
    frames = mdtraj.load(str(tmp_path / "t.xtc"), top=str(tmp_path / "t.pdb"))
    frames.save_pdb(str(tmp_path / "m.pdb"))
    with read_trajectory(tmp_path / "m.pdb") as reader:
        (block,) = reader
        assert len(reader) == len(block) == 20
        assert list(reader.atoms.symbols) == list(ethanol.symbols)
        assert block.times is None
    np.testing.assert_allclose(block.positions, 10.0 * frames.xyz, rtol=0, atol=0.0011)


@pytest.mark.parametrize("double", [False, True])
def test_trr_of_gromacs_kinds(tmp_path, ethanol, double):
    """Frames with and without velocities in one file; those of a double precision build."""
    path = tmp_path / "t.trr"
    positions, velocities, times = make_frames(ethanol, 9)
    with open_trajectory(path, ethanol) as writer:
        for frame in range(9):
            part = slice(frame, frame + 1)
            writer.write_frames(
                positions[part], velocities[part] if frame % 3 == 0 else None, times[part]
            )
    if double:
        double_trr(path)
    with read_trajectory(path) as reader:
        assert len(reader) == 9
        blocks = list(reader.blocks(step=1))
        (last,) = reader[8:]
    np.testing.assert_allclose(np.concatenate([b.positions for b in blocks]), positions, atol=1e-6)
    assert [len(b) for b in blocks] == [1, 2] * 3
    assert [b.velocities is not None for b in blocks] == [True, False] * 3
    np.testing.assert_allclose(last.times, times[8:], rtol=1e-6)


def double_trr(path) -> None:
    """Write a TRR file anew in double precision, frame by frame."""
    from ase_atom.io.trr import frame_type, read_type

    data = b""
    with path.open("rb") as file:
        end = 0
        while (file.seek(end), kind := read_type(file))[1] is not None:
            file.seek(end)
            frame = np.fromfile(file, kind, 1)
            end += kind.itemsize
            wide = np.zeros(1, frame_type(9, dict(zip(SIZES, frame["sizes"][0] * 2, strict=True))))
            for name in kind.names:
                wide[name] = frame[name] * 2 if name == "sizes" else frame[name]
            data += wide.tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize("ending", [*ENDINGS, ".pdb"])
@pytest.mark.parametrize("content", [b"dear diary, today\n", bytes(range(256)) * 3])
def test_files_that_are_no_trajectories(tmp_path, ending, content):
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=rf"t\{ending} "), read_trajectory(path) as reader:
        _ = reader.atoms
    with pytest.raises(TrajectoryError, match="is a folder"):
        (tmp_path / f"u{ending}").mkdir()
        read_trajectory(tmp_path / f"u{ending}")
    with pytest.raises(TrajectoryError, match="does not exist"):
        read_trajectory(tmp_path / f"v{ending}")


@pytest.mark.parametrize("ending", [".extxyz", ".traj"])
@pytest.mark.parametrize(
    ("mass", "reason"),
    [(2.014, "frame 2 has other masses"), (0.0, "atom H6 of frame 2 has a mass of 0 amu")],
)
def test_frames_of_other_masses(tmp_path, ethanol, ending, mass, reason):
    other = ethanol.copy()
    other.set_masses([*ethanol.get_masses()[:-1], mass])
    ase_write(tmp_path / f"t{ending}", [ethanol, other])
    with (
        read_trajectory(tmp_path / f"t{ending}") as reader,
        pytest.raises(TrajectoryError, match=reason),
    ):
        list(reader)
