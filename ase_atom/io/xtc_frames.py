"""The frames of an XTC file: where they lie, and whether they can be unpacked without harm.

The layout is that of GROMACS' xdr3dfcoord. Its unpacking in C, which mdtraj's reader is, goes where
the file's numbers lead it, out of its arrays too: so each frame is followed once before.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import numpy as np

from ase_atom.io.reader import meant
from ase_atom.units import ps_to_fs

HEAD = 92
"""Bytes before the packed positions."""

PLAIN = 9
"""Up to so many atoms, positions follow as they are."""

_MAGIC = 1995
_HEADER = struct.Struct(">iiif36xi")  # magic, atoms, step, time, box, atoms again
_PACKING = struct.Struct(">3i3iii")  # lowest and highest numbers, index of the small size, length
_SMALLEST, _LARGEST = 9, 72  # index of the small size, which is also its number of bits


def frame_ends(file: BinaryIO) -> tuple[int, int, int, list[float]]:
    """Walk through the frames of an XTC file.

    Returns
    -------
    Number of whole frames, where the last of them ends, number of atoms, and the times in fs of
    the first, the second and the last.

    Raises
    ------
    ValueError
        If it does not begin with a frame, or frames differ in their number of atoms.
    """
    size = os.fstat(file.fileno()).st_size
    end, frames, atoms = 0, 0, 0
    times: list[float] = []
    while end < size:
        file.seek(end)
        head = file.read(HEAD)
        if len(head) < _HEADER.size:
            break
        magic, count, _, time, again = _HEADER.unpack_from(head)
        if magic != _MAGIC or count != again or count < 1 or (frames and count != atoms):
            raise ValueError(_damaged(frames) if frames else "it does not begin with a frame")
        length = frame_length(head, count)
        if length is None or end + length > size:
            break
        atoms = count
        times = [*times[:2], time] if len(times) > 1 else [*times, time]
        frames, end = frames + 1, end + length
    return frames, end, atoms, ps_to_fs(meant(np.array(times, np.float32))).tolist()


def frame_length(head: bytes, atoms: int) -> int | None:
    """Return how long a frame says that it is, None if its head is not whole.

    Raises
    ------
    ValueError
        If it says what cannot be.
    """
    if atoms <= PLAIN:
        return _HEADER.size + 12 * atoms
    if len(head) < HEAD:
        return None
    packed: int = _PACKING.unpack_from(head, HEAD - _PACKING.size)[-1]
    # An atom takes two bits or more, and no more than mdtraj has room for.
    if not (atoms <= 4 * packed and packed + 12 <= 4 * int(3.6 * atoms)):
        raise ValueError(f"a frame of {atoms} atoms in {packed} bytes is damaged")
    return HEAD + -(-packed // 4) * 4


def check_frames(file: BinaryIO, begin: int, first: int, count: int, atoms: int) -> int:
    """Check that frames can be unpacked.

    Parameters
    ----------
    file
        An XTC file of whole frames.
    begin, first
        Where the first of them begins, and its index, for messages.
    count, atoms
        How many of them, and of how many atoms.

    Returns
    -------
    Where the last of them ends.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    for frame in range(first, first + count):
        file.seek(begin)
        head = file.read(HEAD)
        length = frame_length(head, atoms)
        if length is None or (
            atoms > PLAIN and not _can_be_unpacked(head, file.read(length - HEAD), atoms)
        ):
            raise ValueError(_damaged(frame))
        begin += length
    return begin


def _damaged(frame: int) -> str:
    return f"frame {frame + 1} is damaged"


def _can_be_unpacked(head: bytes, data: bytes, atoms: int) -> bool:
    """Follow a frame's packed positions, without reading the positions themselves.

    An atom's position is packed as a whole. A bit behind it says whether there is news on how many
    atoms follow as small differences, five bits long: three times their number, and whether the
    size of differences then falls, stays or grows.
    """
    *corners, small, packed = _PACKING.unpack_from(head, HEAD - _PACKING.size)
    sizes = [high - low + 1 for low, high in zip(corners[:3], corners[3:], strict=True)]
    if min(sizes) < 1 or not _SMALLEST <= small <= _LARGEST:
        return False
    if max(sizes) > 0xFFFFFF:  # each on its own
        whole = sum(min(size.bit_length(), 32) for size in sizes)
    else:
        whole = (sizes[0] * sizes[1] * sizes[2]).bit_length()
    data = data + bytes(2)
    done = place = run = 0
    end = 8 * packed
    while done < atoms:
        place += whole
        if place >= end:
            return False
        byte = place >> 3
        news = (data[byte] << 8 | data[byte + 1]) >> 10 - (place & 7)
        place += 1
        change = 0
        if news & 32:
            place += 5
            run, change = divmod(news & 31, 3)
            change -= 1
        done += 1 + run
        place += run * small
        small += change
        if not _SMALLEST <= small <= _LARGEST:
            return False
    return done == atoms and place <= end
