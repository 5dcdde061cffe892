"""Settings of a training run: defaults, overrides, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from ase_atom.errors import ConfigError
from training import train
from training.learning.config import differences, load_config

CONFIGS = sorted((ROOT / "training" / "configs").glob("*.yaml"))
MINIMAL = "name: small\ndata:\n  paths: [water.h5]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    assert load_config(path).data.paths


def test_window_is_the_operators_segment_by_default(file: Path) -> None:
    assert load_config(file, ["operator.segment=8"]).window == 8
    assert load_config(file, ["operator.segment=8", "loss.window=4"]).window == 4


def test_overrides_replace_what_the_file_says(file: Path) -> None:
    config = load_config(
        file, ["trainer.steps=7", "optimiser.lr=1e-3", "data.paths=[a.h5, b.h5]", "notes='x: y'"]
    )
    assert config.trainer.steps == 7
    assert config.optimiser.lr == 1e-3
    assert config.data.paths == ("a.h5", "b.h5")
    assert config.notes == "x: y"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.step=3", ("unknown key trainer.step", "did you mean trainer.steps?")),
        ("operator.horison=3", ("operator.horison", "did you mean operator.horizon?")),
        ("optimizer.lr=1", ("unknown key optimizer", "did you mean optimiser?")),
        ("trainer.xyzzy=1", ("trainer.xyzzy", "known: ", "batch_size")),
        ("trainer.steps=0", ("trainer.steps", "greater than or equal to 1", "0")),
        ("trainer.steps=many", ("trainer.steps", "integer", "'many'")),
        ("optimiser.name=sgd", ("optimiser.name", "'adamw' or 'muon'", "'sgd'")),
        ("loss.window=17", ("loss.window (17 fs)", "operator.segment (16 fs)")),
        ("stride=65", ("stride (65 fs)", "operator.horizon (64 fs)")),
        ("operator.segment=100", ("operator", "segment (100.0 fs) is longer than the horizon")),
        ("data.test=1.5", ("fraction below 1 or a whole number", "1.5")),
        ("data.validation=0.95", ("nothing to train on",)),
        ("data.paths=[]", ("data.paths", "at least 1")),
        ("name=a/b", ("name", "'a/b'")),
        ("trainer", ("section.key=value", "'trainer'")),
        ("trainer.steps=[", ("not YAML",)),
    ],
)
def test_mistakes_are_named_in_one_line(file: Path, override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_message_names_the_file(file: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{file}: unknown key colour"):
        load_config(file, ["colour=blue"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("a: [1", "not YAML"),
        ("- 1\n- 2\n", "must hold sections"),
        ("name: x\n", "data: field required"),
        (MINIMAL + "trainer: 5\n", "trainer"),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_differences_are_listed_by_dotted_key() -> None:
    old = {"a": 1, "b": {"c": 2, "d": [3]}}
    new = {"a": 1, "b": {"c": 4, "d": [3]}, "e": 5}
    assert differences(old, new) == {"b.c": "2 → 4", "e": "None → 5"}


def test_command_line_says_it_in_one_line_and_exits_2(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", str(file), "--set", "trainer.stepz=1"])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "did you mean trainer.steps?" in captured.err
