"""The mean of an operator's weights and those that its training began with."""

import sys

import pytest
import torch
from conftest import make_card, make_operator
from safetensors.torch import load_file

from ase_atom.errors import ConfigError
from ase_atom.operator import build_operator, load_operator, save_operator
from ase_atom.operator.trust import Calibration
from training.mix import main, mixed


def test_the_mean_of_two_files(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = make_operator(0), make_operator(1)
    new.card = make_card(training_command="trained", calibration=Calibration(
        offset=0.0, weights=(1.0, 0.0, 0.0, 0.0), margin=1.0, strides_fs=[16.0],
        trained=[(0.01, 0.02)], windows=1, molecules=1, command="none",
    ))  # fmt: skip
    save_operator(old, "old.safetensors")
    save_operator(new, "new.safetensors")

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mix", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0

    words = ["old.safetensors", "new.safetensors", "-o", "mean.safetensors", "--share", "0.25"]
    assert run(*words) == 0
    sides = [load_file(f"{name}.safetensors") for name in ("old", "new", "mean")]
    for name, mean in sides[2].items():
        torch.testing.assert_close(mean, 0.75 * sides[0][name] + 0.25 * sides[1][name])
    card = load_operator("mean.safetensors").card
    assert card.calibration is None
    assert card.training_command == f"trained; python -m training.mix {' '.join(words)}"
    assert run(*words) == 2
    assert "mean.safetensors" in capsys.readouterr().err


def test_operators_that_do_not_mix() -> None:
    wider = make_operator().config.model_copy(update={"pair_width": 16})
    other = build_operator(wider)
    other.card = make_card()
    with pytest.raises(ConfigError, match=r"operator\.pair_width: 8 → 16"):
        mixed(make_operator(), other, 0.5)
    other = make_operator()
    other.card = make_card(level_of_theory="GFN2-xTB")
    with pytest.raises(ConfigError, match="tiny of GFN2-xTB: their energies do not mix"):
        mixed(make_operator(), other, 0.5)
