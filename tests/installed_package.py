"""A package that is installed beside this one, with entry points of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    code: str,
    entries: Mapping[str, Mapping[str, str]],
) -> None:
    """Make a module ``elsewhere`` of some code importable, with entry points by group and name."""
    folder.mkdir()
    (folder / "elsewhere.py").write_text(code)
    facts = folder / "elsewhere-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    lines = [
        line
        for group, values in entries.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in values.items()))
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
