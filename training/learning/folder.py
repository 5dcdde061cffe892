"""Where a training run keeps what it needs to resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only

from ase_atom.errors import ConfigError
from ase_atom.files import replace_text
from ase_atom.io.guard import reading
from ase_atom.operator import load_operator
from training.data.split import Split
from training.learning.config import TrainingConfig, differences, listed

# What may change between the two sides of an interruption: nothing that changes what is learned,
# but for the number of steps, which stretches or cuts the schedule, and the precision, which is
# the machine's.
_FREE = (
    "notes",
    "stride",
    "largest_molecule",
    "trainer.steps",
    "trainer.precision",
    "trainer.threads",
    "trainer.compile",
    "trainer.accelerator",
    "trainer.checkpoint_every",
    "trainer.validate_every",
    "trainer.validate_starts",
    "trainer.log_every",
)


class RunFolder:
    """Where a run keeps its settings, division of the data, checkpoints, logs and operator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.yaml").exists()

    def begin(self, config: TrainingConfig, split: Split, fingerprint: str) -> None:
        """Write what defines the run; the settings come last and mark it as begun."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        facts = {"fingerprint": fingerprint, "parent": _parent(config), **split}
        _replace(self.path / "split.json", json.dumps(facts, indent=1))
        _replace(self.path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json")))

    def discard(self) -> None:
        """Remove what a run has left here, and nothing else."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for branch in self.path.glob("decay-*"):
            shutil.rmtree(branch)
        marks = ("config.yaml", "split.json")
        for pattern in (*marks, "metrics.csv", "events.out.*", "hparams.yaml", "*-unfinished.*"):
            for file in self.path.glob(pattern):
                file.unlink()

    def check_same(self, config: TrainingConfig) -> None:
        """Refuse to go on with other settings.

        Raises
        ------
        ConfigError
            If a setting that changes what is learned differs from the folder's run, or the operator
            that it started from is another one by now.
        """
        stored = self.settings().model_dump(mode="json")
        changed = differences(stored, config.model_dump(mode="json"))
        changed = {key: change for key, change in changed.items() if key not in _FREE}
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with other settings ({listed(changed)}): choose another "
                "--output, or discard that run with --restart"
            )
        if config.start_from and self._facts().get("parent") not in (None, _parent(config)):
            raise ConfigError(
                f"{self.path} holds a run that started from another {config.start_from} than "
                "there is now: put that back, or discard the run with --restart"
            )

    def settings(self) -> TrainingConfig:
        """Settings of the run that was begun here. One that came after it has its default."""
        path = self.path / "config.yaml"
        with reading(path, ConfigError):
            return TrainingConfig.model_validate(yaml.safe_load(path.read_text()))

    def split(self) -> tuple[Split, str]:
        """Division of the data and fingerprint of the run that was begun here."""
        facts = self._facts()
        facts.pop("parent", None)
        return facts, facts.pop("fingerprint")

    def _facts(self) -> dict[str, Any]:
        path = self.path / "split.json"
        with reading(path, ConfigError):
            facts: dict[str, Any] = json.loads(path.read_text())
            return facts

    def last_checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if there is one."""
        found = self.checkpoints.glob("step=*.ckpt")
        with reading(self.checkpoints, ConfigError):
            return max(found, key=lambda path: int(path.stem.partition("=")[2]), default=None)


def _parent(config: TrainingConfig) -> str | None:
    """What tells the operator that a run starts from from all others."""
    return load_operator(config.start_from).fingerprint if config.start_from else None


@rank_zero_only
def _replace(path: Path, text: str) -> None:
    replace_text(path, text)
