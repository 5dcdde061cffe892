"""One molecule of a library: its folder, its own ``ase-atom run`` in a worker, and its record."""

from __future__ import annotations

import json
import socket
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase_atom.cli.request import ResumeRequest, RunRequest
from ase_atom.commandline import run_command
from ase_atom.errors import BrokenStateError
from ase_atom.files import replace_text

BROKEN = 3

LEDGER = "library.json"
"""In the folder of a library: what it was begun with."""

_ALONE = threading.Lock()
"""Standard output and error are one for a process: its threads run one molecule after another."""


@dataclass(frozen=True)
class Member:
    """One molecule of a library.

    Parameters
    ----------
    name
        As the list has it.
    folder
        Where its files are, absolute; they begin with the folder's own name.
    kind, text
        ``smiles`` and the SMILES, or ``mol`` and the block of a mol file with the structure.
    ending
        Of its trajectory.
    """

    name: str
    folder: Path
    kind: str
    text: str
    ending: str

    def file(self, ending: str) -> Path:
        """One of its files."""
        return self.folder / f"{self.folder.name}{ending}"

    def record(self) -> dict[str, Any]:
        """What became of it, by its record; empty before its first run."""
        try:
            found: dict[str, Any] = json.loads(self.file(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_done(self, time: float) -> bool:
        """Whether it has been run for so many fs."""
        record = self.record()
        return record.get("state") == "done" and record.get("time_fs", 0.0) >= time - 1e-6

    def note(self, code: int, reason: str) -> None:
        """Write into its record that it failed, and why."""
        record = {"state": "failed", **self.record(), "exit_code": code, "reason": reason}
        if record["state"] == "running":
            record["state"] = "failed"
        replace_text(self.file(".json"), json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def forget(self) -> None:
        """Take away what a run would go on from."""
        for ending in (".restart", ".json"):
            self.file(ending).unlink(missing_ok=True)

    def run(self, whole: RunRequest) -> int:
        """Run it as the library's options say, or go on, and return the exit code."""
        from ase_atom.cli.simulation import go_on, simulate

        restart = self.file(".restart")
        if restart.is_file():
            return go_on(ResumeRequest(restart, whole.time))
        # What lies there without a restart file was begun a moment before a kill.
        return simulate(
            replace(
                whole,
                structures=() if self.kind == "smiles" else (self.file(".sdf"),),
                smiles=(self.text,) if self.kind == "smiles" else (),
                output=self.file(self.ending),
                log=self.file(".csv"),
                restart=restart,
                overwrite=True,
                quiet=False,
                as_json=False,
            )
        )


def sees(folder: str) -> bool:
    """Whether a worker sees the folder of a library."""
    return (Path(folder) / LEDGER).is_file()


def run_member(member: Member, whole: RunRequest, command: list[str]) -> str:
    """Run a molecule in this process, and return why it failed, or nothing.

    What the run says goes to the text file of the molecule.

    Parameters
    ----------
    member
        The molecule.
    whole
        The options of the library's command.
    command
        Its words, for the record.
    """
    if not sees(str(member.folder.parent)):
        return f"the worker on {socket.gethostname()} does not see {member.folder.parent}"
    member.folder.mkdir(exist_ok=True)
    if member.kind == "mol":
        replace_text(member.file(".sdf"), member.text)
    said = member.file(".txt")
    with _ALONE, said.open("a", buffering=1, encoding="utf-8") as stream:
        begin = stream.tell()
        before, sys.argv = sys.argv, command
        try:
            with redirect_stdout(stream), redirect_stderr(stream):
                code = run_command(
                    lambda **_: member.run(whole),
                    "ase-atom",
                    name="ase-atom",
                    codes={BrokenStateError: BROKEN},
                )
        finally:
            sys.argv = before
    if code == 0:
        return ""
    with said.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    mark, warning = "ase-atom: ", "ase-atom: warning"
    reasons = [line for line in lines if line.startswith(mark) and not line.startswith(warning)]
    reason = reasons[0].removeprefix(mark) if reasons else f"exit code {code}, see {said}"
    member.note(code, reason)
    return reason
