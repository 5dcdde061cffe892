"""Commands of `training` end with one line and exit code 2 where they cannot begin."""

from __future__ import annotations

import errno
import importlib

import pytest
import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("train", [], "Missing argument 'CONFIG'"),
        ("train", ["a.yaml", "--stesp", "3"], "No such option: --stesp"),
        ("train", ["a.yaml", "--decay", "0"], "Invalid value for '--decay'"),
        ("finetune", ["a"], "Missing argument 'DATA'"),
        ("finetune", ["a", "b.h5", "--steps", "0"], "Invalid value for '--steps'"),
        ("finetune", ["a", "b.h5", "--rate", "fast"], "Invalid value for '--rate'"),
        ("audit", ["a"], "Missing argument 'DATA"),
        ("audit", ["a", "b", "--starts", "0"], "Invalid value for '--starts'"),
        ("audit", ["a", "b", "--teh"], "No such option: --teh"),
        ("import_trajectory", ["a"], "Missing option '--output'"),
        ("import_trajectory", ["-o", "a.h5"], "Missing argument 'FILES"),
    ],
)
def test_a_word_that_is_wrong_or_missing_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.argv", [module, *words])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"training.{module}").main()
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.lower().startswith(f"error: {message.lower()}")
    assert printed.err.endswith("(see --help)\n")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (None, 0, ""),
        (typer.Exit(3), 3, ""),
        (ConfigError("use\n --restart"), 2, "error: use --overwrite\n"),
        (ZeroDivisionError("no"), 2, "error: no\n"),
        (
            OSError(errno.ENOSPC, "No space", "a.h5"),
            2,
            "error: a.h5: No space; free some space and give the same command to go on\n",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "a"), 2, "error: a: File exists\n"),
        (KeyboardInterrupt(), 130, "\nstopped; come again\n"),
    ],
)
def test_a_command_ends_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException | None,
    code: int,
    printed: str,
) -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    def command() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("sys.argv", ["command"])
    found = run_command(
        app,
        "command",
        stopped="come again",
        codes={ZeroDivisionError: 2},
        reword=lambda message: message.replace("--restart", "--overwrite"),
    )
    assert (found, capsys.readouterr().err) == (code, printed)
