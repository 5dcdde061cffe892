"""Commands of `training` end with one line and exit code 2 where they cannot begin."""

from __future__ import annotations

import errno
import importlib
import os
from pathlib import Path

import pytest
import typer
from conftest import ETHANOL

from ase_atom.cli import main
from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.files import replace_file, replace_text


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
    assert printed.err.endswith(f"(see python -m training.{module} --help)\n")


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


@pytest.mark.parametrize(
    ("words", "see"),
    [
        (["run", "--nonsense"], "ase-atom run"),
        (["run", "x.xyz", "--log"], "ase-atom run"),
        (["convert"], "ase-atom convert"),
        (["finetune", "a", "b", "--rate"], "ase-atom finetune"),
        (["leap-train", "--nonsense"], "ase-atom leap-train"),
        (["import", "a"], "ase-atom import"),
        (["frobnicate"], "ase-atom"),
        (["--nonsense"], "ase-atom"),
    ],
)
def test_the_help_that_is_named_is_that_of_the_command(
    capsys: pytest.CaptureFixture[str], words: list[str], see: str
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"(see {see} --help)")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", ""], "the word after run"),
        (["run", "ethanol.xyz", "--log", " "], "the word after --log"),
        (["run", "ethanol.xyz", "--log="], "the value of --log"),
        (["compare", "", "b.xyz", "--report", "r"], "the word after compare"),
        (["compare", "a.xyz", "b.xyz", "--report", ""], "the word after --report"),
        (["import", "a.xyz", "-o", "a.h5", "--theory", ""], "the word after --theory"),
        (["finetune", "tg80-gfn2", "a.xyz", "--theory="], "the value of --theory"),
    ],
)
def test_an_empty_word_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    named: str,
) -> None:
    """A path would be the working folder: shells leave an empty word of a variable not set."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"ase-atom: {named} is empty; is it a shell variable that is not set?"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", [".", "/", "..", "there"])
@pytest.mark.parametrize(
    "words",
    [
        ["run", str(ETHANOL), "--time", "16fs", "--no-equilibration", "-o", "t.dcd", "--log"],
        ["run", str(ETHANOL), "--time", "16fs", "--no-equilibration", "-o", "t.dcd", "--restart"],
        ["run", str(ETHANOL), "-o"],
        ["run", "list.smi", "-o"],
        ["run", "--resume"],
        ["run"],
        ["estimate"],
        ["spectrum"],
        ["spectrum", "t.dcd", "-o"],
        ["convert", str(ETHANOL)],
        ["finetune", "ethanol-gfn2"],
        ["finetune", "ethanol-gfn2", str(ETHANOL), "--output"],
        ["import", str(ETHANOL), "--output"],
    ],
)
def test_a_folder_in_the_place_of_a_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    folder: str,
) -> None:
    """The root and the working folder have no name, of which names of other files are made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").touch()
    (tmp_path / "list.smi").write_text("CCO ethanol\n")
    assert main([*words, folder]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["list.smi", "there"]
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["kept"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "record.json"
    link.symlink_to(tmp_path / "real" / "record.json")
    replace_text(link, "1")
    assert link.is_symlink()
    assert link.read_text() == "1"

    def full(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    for write in (full, lambda unfinished: None):
        with pytest.raises(OSError, match=r"record\.json") as caught:
            replace_file(link, write)
        assert caught.value.filename == str(link)
    for device in (Path(os.devnull), tmp_path):
        with pytest.raises(OSError, match="not a regular file") as caught:
            replace_text(device, "1")
        assert caught.value.filename == str(device)
    assert link.read_text() == "1"
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["record.json"]
