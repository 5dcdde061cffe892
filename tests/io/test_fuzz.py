"""A short run of tests/fuzz/run.py: damaged files are read, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz.run import Child, fuzz
from fuzz.targets import TARGETS


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """One process for all readers."""
    with Child() as process:
        yield process


@pytest.mark.parametrize("reader", TARGETS)
def test_damaged_files_are_read_or_refused(reader, child, tmp_path):
    few = 8 if reader == "operator" else 25  # half a second each
    found = fuzz(reader, few, child, seed=7, keep=tmp_path)
    assert set(found) <= {"read", "refused"}, (tmp_path / "answers.txt").read_text()
    assert found["refused"] > 0
