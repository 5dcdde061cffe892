"""Damaged copies of files: what disks, networks, editors and ill will make of them."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zipfile

_NUMBERS = [
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, values in (
        ("i", (0, 1, -1, 3, 2**31 - 1, -(2**31), 2**24, 10**6)),
        ("q", (0, -1, 2**63 - 1, -(2**63), 2**40)),
        ("f", (float("nan"), float("inf"), 3e38, -1e-45)),
        ("d", (float("nan"), float("-inf"), 1e308)),
        ("h", (-1, 32767)),
    )
    for value in values
]
_WORDS = [
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"1e-999", b"9" * 30, b"9" * 5000, b"0x10", b"None"),
    *(
        b"\xff\xfe",
        b"\x00",
        b'"',
        b"'",
        b"[[[[",
        b"{" * 2000,
        b"Lattice=",
        b"Properties=",
        b"=",
        b"\n",
    ),
    *("å²".encode(), b"1_000", b"1,5", b"***", b"-", b"\r", b"\t" * 100, b"True"),
]
_VALUES = [0, -1, 1, 2**31, 2**63, 10**30, 1e-300, 1e308, "", "a", None, [], {}, [0], True, -0.5]
_VALUES += [[1, 6, 8, 200], "\n", "x" * 70000, [10**12], float("nan"), {"a": {"b": []}}]


def flip(data: bytearray, chance: random.Random) -> None:
    """Flip one to eight bits."""
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    """End early."""
    del data[chance.randrange(len(data)) :]


def insert(data: bytearray, chance: random.Random) -> None:
    """Put bytes in between."""
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 7, 64)))


def delete(data: bytearray, chance: random.Random) -> None:
    """Take bytes out."""
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 4, 7, 64, 500))]


def extreme(data: bytearray, chance: random.Random) -> None:
    """Put an extreme number in place of another, mostly near the beginning."""
    for _ in range(chance.randint(1, 3)):
        number = chance.choice(_NUMBERS)
        limit = len(data) if chance.random() < 0.3 else min(len(data), 512)
        at = chance.randrange(0, max(1, limit - len(number)))
        at -= at % chance.choice((1, 4, 4))
        data[at : at + len(number)] = number


def swap(data: bytearray, chance: random.Random) -> None:
    """Exchange two blocks."""
    size = chance.randint(1, max(1, len(data) // 4))
    a, b = (chance.randrange(0, max(1, len(data) - size)) for _ in "ab")
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def repeat(data: bytearray, chance: random.Random) -> None:
    """Write a block twice."""
    size = chance.randint(1, max(1, len(data) // 2))
    at = chance.randrange(0, max(1, len(data) - size))
    data[at:at] = data[at : at + size]


def zeros(data: bytearray, chance: random.Random) -> None:
    """Put a run of zeros, as a disk does that was not written to."""
    size = chance.choice((4, 8, 64, 512, 4096))
    at = chance.randrange(len(data))
    data[at : at + size] = bytes(len(data[at : at + size]))


def word(data: bytearray, chance: random.Random) -> None:
    """Put another word in place of one."""
    words = bytes(data).split(b" ")
    words[chance.randrange(len(words))] = chance.choice(_WORDS)
    data[:] = b" ".join(words)


KINDS = (flip, cut, insert, delete, extreme, swap, repeat, zeros)


def mutant(data: bytes, ending: str, chance: random.Random) -> bytes:
    """Return a damaged copy of a file.

    Parameters
    ----------
    data
        The file.
    ending
        Of its name. Text gets other words, too, and what a checksum guards is changed beneath it.
    chance
        Source of randomness.
    """
    if ending == ".npz" and chance.random() < 0.6:
        return _within_archive(data, chance)
    if ending == ".safetensors" and chance.random() < 0.8:
        return _other_settings(data, chance)
    made = bytearray(data)
    text = ending in (".xyz", ".extxyz", ".pdb", ".psf", ".cif", ".sdf")
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if made:
            chance.choice((*KINDS, word, word, word) if text else KINDS)(made, chance)
    return bytes(made)


def _within_archive(data: bytes, chance: random.Random) -> bytes:
    """Damage an array of an archive whose directory is right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        damaged = chance.choice(names)
        for name in names:
            member = bytearray(old.read(name))
            if name == damaged:
                if chance.random() < 0.5:  # the array's description
                    head = member[:128]
                    (word if chance.random() < 0.5 else flip)(head, chance)
                    member[:128] = head
                else:
                    chance.choice(KINDS)(member, chance)
            kind = zipfile.ZIP_DEFLATED if chance.random() < 0.5 else zipfile.ZIP_STORED
            new.writestr(name, bytes(member), kind)
    return made.getvalue()


def _other_settings(data: bytes, chance: random.Random) -> bytes:
    """Change a fact in the header of an operator's file, and its checksum with it."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    facts = header["__metadata__"]
    part = chance.choice([name for name in facts if facts[name].startswith("{")])
    settings = json.loads(facts[part])
    place = settings
    while True:
        key = chance.choice(list(place)) if place else "new"
        if isinstance(place.get(key), dict) and place[key] and chance.random() < 0.8:
            place = place[key]
        else:
            break
    if chance.random() < 0.15:
        place.pop(key, None)
    else:
        place[key] = chance.choice(_VALUES)
    facts[part] = json.dumps(settings)
    if "checksum" in facts:
        facts["checksum"] = _checksum(header, data[8 + length :])
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


def _checksum(header: dict, body: bytes) -> str:
    """As `ase_atom.operator.base.checksum` has it, of tensors that are all single precision."""
    digest = hashlib.sha256()
    facts = {k: v for k, v in header["__metadata__"].items() if k != "checksum"}
    for key in sorted(facts):
        digest.update(json.dumps([key, facts[key]]).encode())
    kinds = {"F32": "torch.float32", "F64": "torch.float64", "I64": "torch.int64"}
    for key in sorted(header):
        if key != "__metadata__":
            tensor = header[key]
            about = [key, kinds[tensor["dtype"]], tensor["shape"]]
            digest.update(json.dumps(about).encode())
            begin, end = tensor["data_offsets"]
            digest.update(body[begin:end])
    return digest.hexdigest()
