"""How a row is trained to its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.benchmarks import fitting
from training.benchmarks.fitting import Fit, Trained
from training.benchmarks.samples import Samples
from training.benchmarks.suites import Budget, Optimiser, Row


class Shift(nn.Module):
    """Moves every atom by one learned vector."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(3))

    def forward(self, samples: Samples) -> Tensor:
        return (samples.positions + self.by)[:, None]


def moved(by: float) -> Samples:
    zeros = torch.zeros(4, 2, 3)
    numbers, places = torch.ones(4, 2, dtype=torch.long), torch.arange(4)
    hops = torch.zeros(4, 2, 2, dtype=torch.long)
    return Samples(
        numbers, numbers.float(), zeros, zeros, zeros[:, None] + by, hops, places, places, zeros
    )


def fitted(checkpoint: Path, schedule: str | None, steps: int = 240) -> Trained:
    """Training that wants a shift of 1 Å, validated on one of 0.27 Å."""
    row = Row(model="egno", optimiser=Optimiser(lr=0.02, schedule=schedule))
    fit = Fit(Shift(), moved(1.0), moved(0.27), row, Budget(steps=steps), 0, checkpoint)
    return fit.run()


def best(trained: Trained) -> float:
    return min(error for _, error in trained.history)


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "LOOKS", 24)


def test_on_a_plateau_training_goes_back_to_the_best_and_takes_smaller_steps(tmp_path) -> None:
    # Ten steps of 0.02 Å lie between two looks: past the best of them there is a better one.
    far, near = (best(fitted(tmp_path / "c.pt", name)) for name in ("constant", "plateau"))
    assert far > 0.06**2
    assert near < 0.01**2


def test_a_budget_of_steps_leaves_the_published_schedule_alone(tmp_path) -> None:
    alone, named = (fitted(tmp_path / "c.pt", name) for name in (None, "constant"))
    assert alone.history == named.history


def test_a_budget_may_have_a_size_of_batches_of_its_own(tmp_path) -> None:
    sizes = []

    class Watched(Shift):
        def forward(self, samples: Samples) -> Tensor:
            if self.training:
                sizes.append(len(samples))
            return super().forward(samples)

    for budget in (Budget(steps=3), Budget(steps=3, batch_size=2)):
        row = Row(model="egno", batch_size=3)
        Fit(Watched(), moved(1.0), moved(1.0), row, budget, 0, tmp_path / "c.pt").run()
        (tmp_path / "c.pt").unlink(missing_ok=True)
    assert sizes == [3, 3, 3, 2, 2, 2]


def test_a_row_may_learn_from_heavy_atoms_alone(tmp_path) -> None:
    given = moved(1.0)
    numbers = torch.tensor([[6, 1]]).expand(4, 2)
    targets = given.targets.clone()
    targets[:, :, 1] = -5.0
    given = replace(given, numbers=numbers, targets=targets)
    row = Row(model="egno", optimiser=Optimiser(lr=0.02))
    for heavy, error in ((True, 0.0), (False, 9.0)):
        model = Shift()
        fit = Fit(model, given, given, row, Budget(steps=400), 0, tmp_path / "c.pt", heavy)
        assert best(fit.run()) == pytest.approx(error, abs=0.02)


def test_a_plateau_is_remembered_over_an_interruption(tmp_path, monkeypatch) -> None:
    whole = fitted(tmp_path / "whole.pt", "plateau")
    look, count = Fit._look, 0

    def interrupted(self: Fit) -> None:
        nonlocal count
        count += 1
        if count in (5, 12):  # between a look without a better one and the next, and after it
            raise KeyboardInterrupt
        look(self)

    monkeypatch.setattr(Fit, "_look", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "cut.pt", "plateau")
    cut = fitted(tmp_path / "cut.pt", "plateau")
    assert cut == replace(whole, minutes=cut.minutes)
