"""One settings file for each published experiment: all are read by the benchmarks and built."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_atom.operator import PaperConfig, parse_config
from training.benchmarks.suites import load_rows, load_suite

FOLDER = Path(__file__).parent.parent / "training" / "configs" / "paper"
FILES = sorted(FOLDER.rglob("*.yaml"))
PUBLISHED = PaperConfig(horizon=1500.0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_experiment_is_one_the_benchmarks_can_run(path: Path) -> None:
    suite = load_suite(str(path))
    rows = load_rows(suite)
    assert suite.published is not None
    assert suite.tasks()
    for name, row in rows.items():
        config = parse_config({"horizon": 1500.0, "elements": (6, 7, 8)} | row.settings)
        assert isinstance(config, PaperConfig), name


def test_each_ablation_changes_one_setting_of_the_published_model() -> None:
    found = {}
    for path in sorted((FOLDER / "ablations").glob("*.yaml")):
        rows = load_rows(load_suite(str(path)))
        base = next(iter(rows.values()))
        start = PUBLISHED.model_dump() | base.settings
        for name, row in list(rows.items())[1:]:
            changed = PaperConfig(**({"horizon": 1500.0} | row.settings)).model_dump()
            found[name] = {key for key, value in changed.items() if value != start[key]}
            assert row.optimiser == base.optimiser, name
            assert row.batch_size == base.batch_size, name
    both = found.pop("self-attention-no-rope")
    assert both == {"attention", "positional"}
    assert all(len(keys) == 1 for keys in found.values()), found
    # Every switch of the published study is tried somewhere.
    tried = set.union(*found.values())
    expected = {"lift", "positional", "rope_base", "attention", "value_residual", "update", "noise"}
    expected |= {"activation", "trunk", "attention_scale", "walks", "output_heads"}
    assert tried == expected


def test_no_compound_stands_on_two_sides_of_the_honest_divisions() -> None:
    for name in ("tg80-multitask", "scaling"):
        for division in load_suite(str(FOLDER / f"{name}.yaml")).divisions.values():
            parts = [getattr(division["blocks"], part) for part in ("train", "validation", "test")]
            stems = [{compound.rstrip("0123456789") for compound in part} for part in parts]
            assert not stems[0] & stems[1]
            assert not stems[0] & stems[2]
            assert not stems[1] & stems[2]
