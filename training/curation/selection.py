"""Selection from a file of any length: streamed, in parallel, resumable.

The file is read once, in chunks of records that worker processes judge one by one; what passes of
each chunk is a small file in ``<output>.work/``. A killed run finds them there and reads past what
they cover. Those that passed are then compared with one another, in the order of the file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from ase_atom.errors import AtomError, ConfigError
from ase_atom.files import replace_text, replacing
from ase_atom.io.library import Record, read_records
from training.curation.candidates import chunks, parse
from training.curation.criteria import Accepted, Criteria, Judge, Passed

CHUNK = 5000
"""Records judged at a time; about a second's work."""

Seeds = Sequence[tuple[str, str]]


class CurationError(AtomError):
    """A worker process that died."""


@dataclass
class Selection:
    """What a run selected.

    Attributes
    ----------
    read
        Number of candidates read.
    removed
        Number of candidates by the reason for their removal.
    accepted
        Those selected, in the order of the file.
    """

    read: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    accepted: list[Passed] = field(default_factory=list)


def select(
    path: Path,
    seeds: Seeds,
    criteria: Criteria,
    output: Path,
    *,
    held_out: Sequence[str] = (),
    limit: int | None = None,
    workers: int = 1,
    chunk: int = CHUNK,
    report: Callable[[int, int], None] = lambda read, passed: None,
) -> Selection:
    """Select candidates.

    Parameters
    ----------
    path
        File of candidates, see `read_records`.
    seeds
        Names and SMILES.
    output
        Its name with ``.work`` added is the folder of the unfinished run.
    held_out
        SMILES of compounds that are kept out with their scaffolds, see `Judge`.
    limit
        Accept no more than this; the file is judged to its end all the same.
    workers
        Number of processes.
    report
        Called now and then with the number of candidates judged and of those that passed.

    Raises
    ------
    ConfigError
        If the unfinished run is another one's, or nothing could pass.
    DataError
        If the file cannot be read.
    CurationError
        If a worker dies.
    """
    judge = Judge(criteria, seeds, held_out)
    records = read_records(path)
    first = next(records, None)  # a file that cannot be read is found before anything is written
    work = output.with_name(f"{output.name}.work")
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.with_name(f".{work.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"another run is working on {output}: wait for it") from error
    try:
        _open(work, path, [list(seeds), list(held_out)], criteria, chunk)
        if first is not None:
            given = (criteria, list(seeds), list(held_out))
            _judge_all(chain([first], records), work, given, workers, chunk, report)
        selection = _gather(work, judge, limit)
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
    return selection


def write_selection(
    path: Path, selection: Selection, seeds: Seeds | None = None, source: str = ""
) -> None:
    """Write a CSV with ``name``, ``smiles`` and ``source``; with seeds, these come first.

    Only then is the folder of the run that made the selection removed.

    A compound without a name is named after its formula and the first letters of its InChIKey.
    """
    rows = [(name, smiles, "seed") for name, smiles in seeds or ()]
    rows += [
        (
            passed.name or formula_name(passed.smiles),
            passed.smiles,
            f"{source or 'candidate'}; {passed.similarity:.2f} to {passed.seed}",
        )
        for passed in selection.accepted
    ]
    with replacing(path) as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "smiles", "source"))
        writer.writerows(rows)
    shutil.rmtree(path.with_name(f"{path.name}.work"), ignore_errors=True)


def formula_name(smiles: str) -> str:
    """Return a name that can name a file: formula and the first six letters of the InChIKey."""
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    molecule = Chem.MolFromSmiles(smiles)
    return f"{CalcMolFormula(molecule)}-{Chem.MolToInchiKey(molecule)[:6]}"


def _open(work: Path, path: Path, given: list, criteria: Criteria, chunk: int) -> None:
    state = path.stat()
    description = {
        "candidates": [str(path.resolve()), state.st_size, state.st_mtime_ns],
        "seeds": hashlib.sha256(json.dumps(given).encode()).hexdigest(),
        "criteria": criteria.model_dump(mode="json"),
        "chunk": chunk,
    }
    record = work / "run.json"
    if record.exists() and json.loads(record.read_text()) != description:
        raise ConfigError(
            f"{work} holds an unfinished run with another file, other seeds or other limits: "
            "finish that, or remove the folder"
        )
    work.mkdir(exist_ok=True)
    replace_text(record, json.dumps(description))


def _judge_all(
    records: Iterator[Record],
    work: Path,
    given: tuple[Criteria, Seeds, Sequence[str]],
    workers: int,
    chunk: int,
    report: Callable[[int, int], None],
) -> None:
    read = passed = 0
    pending: dict[Future, Path] = {}
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=given,
    )

    def collect(until: int) -> None:
        nonlocal read, passed
        while len(pending) > until:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                result = future.result()
                replace_text(pending.pop(future), json.dumps(result))
                read, passed = read + result["read"], passed + len(result["passed"])
                report(read, passed)

    try:
        for number, lines in enumerate(chunks(records, chunk)):
            part = work / f"{number:07d}.json"
            if part.exists():
                result = json.loads(part.read_text())
                read, passed = read + result["read"], passed + len(result["passed"])
                continue
            pending[pool.submit(_judge_chunk, lines)] = part
            collect(2 * workers)  # bounds what is in memory
        collect(0)
    except BrokenProcessPool as error:
        raise CurationError(
            "a worker died, perhaps for want of memory: the same command goes on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_judge: Judge | None = None


def _start(criteria: Criteria, seeds: Seeds, held_out: Sequence[str]) -> None:
    global _judge
    _judge = Judge(criteria, seeds, held_out)


def _judge_chunk(records: list[Record]) -> dict:
    removed: Counter[str] = Counter()
    passed = []
    for record in records:
        verdict = _judge.judge(record.name, parse(record))
        if isinstance(verdict, str):
            removed[verdict] += 1
        else:
            passed.append(asdict(verdict))
    return {"read": len(records), "removed": removed, "passed": passed}


def _gather(work: Path, judge: Judge, limit: int | None) -> Selection:
    selection, accepted = Selection(), Accepted(judge)
    for part in sorted(work.glob("[0-9]*.json")):
        result = json.loads(part.read_text())
        selection.read += result["read"]
        selection.removed.update(result["removed"])
        for fields in result["passed"]:
            if limit is not None and len(selection.accepted) >= limit:
                selection.removed[f"past the first {limit}"] += 1
                continue
            reason = accepted.consider(fields["smiles"])
            if reason is None:
                selection.accepted.append(Passed(**fields))
            else:
                selection.removed[reason] += 1
    return selection
