"""What ``python -m training.benchmark run`` does with its options."""

from __future__ import annotations

from pathlib import Path

import torch

from ase_atom.errors import ConfigError
from ase_atom.operator.torch_settings import set_threads
from training.benchmarks.running import Options, run_suite, tables_only
from training.benchmarks.suites import Budget, load_rows, load_suite


def run_suites(
    suite: str,
    lists: dict[str, str],
    *,
    minutes: float | None,
    published: bool,
    data: Path | None,
    output: Path | None,
    device: str,
    threads: int,
    table_only: bool,
) -> None:
    """Run a suite, or write its tables; options as the command line's.

    Raises
    ------
    ConfigError, DataError
        For options, settings or data that do not fit.
    """
    loaded = load_suite(suite)
    rows = load_rows(loaded, _words(lists["rows"]))
    if published and minutes is not None:
        raise ConfigError("--published and --minutes exclude each other")
    if published and loaded.published is None:
        raise ConfigError(f"suite {loaded.name} has no published schedule")
    budget = loaded.published if published else None
    if minutes is not None:
        if minutes <= 0:
            raise ConfigError(f"--minutes takes a number above 0, not {minutes:g}")
        budget = Budget(minutes=minutes, batch_size=loaded.budget.batch_size)
    if device != "cpu":
        _check_device(device)
    options = Options(
        molecules=_words(lists["molecules"]),
        deltas=_numbers(lists["deltas"], "--deltas"),
        seeds=_numbers(lists["seeds"], "--seeds"),
        budget=budget,
        data=data,
        output=output,
        device=device,
        threads=threads,
    )
    set_threads(threads)
    table = tables_only(loaded, rows, options) if table_only else run_suite(loaded, rows, options)
    print(table.read_text())
    print(f"{table}\n{table.with_suffix('.json')}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise ConfigError(f"{option} takes whole numbers with commas, not {text!r}") from None


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device {device} is not there: {str(error).splitlines()[0]}"
        ) from error
