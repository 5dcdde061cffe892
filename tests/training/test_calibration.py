"""The line and the bound of expected errors."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import make_card, make_operator
from harmonic_bursts import water_bursts

from ase_atom.operator import build_operator, save_operator
from ase_atom.state import PhaseState
from ase_atom.units import velocities_to_ase
from training.auditing import trust
from training.calibrate import main
from training.data.store import write_bursts


def windows(rng: np.random.Generator, names: list[str], scatter: float) -> trust.Windows:
    """Errors about the square root of what positions miss, of forty windows a molecule."""
    count = 40 * len(names)
    features = np.exp(rng.uniform(-4, 0, (count, 4)))
    errors = 0.5 * np.sqrt(features[:, 0]) * np.exp(scatter * rng.standard_normal(count))
    return trust.Windows(np.repeat(names, 40), np.full(count, 16.0), errors, features)


def test_the_bound_is_that_of_molecules_that_were_not_trained_on():
    rng = np.random.default_rng(0)
    trained, others = [f"C{n}" for n in range(20)], [f"N{n}" for n in range(20)]
    both = trust.joined([windows(rng, trained, 0.05), windows(rng, others, 0.5)])
    found = trust.fit(both, trained)
    assert found.weights[0] == pytest.approx(0.5, abs=0.05)
    assert found.margin == pytest.approx(np.exp(1.28 * 0.5), rel=0.1)
    fresh = windows(rng, [f"O{n}" for n in range(20)], 0.5)
    below = fresh.errors <= found.margin * trust.estimates(found, fresh)
    assert below.mean() == pytest.approx(0.9, abs=0.03)


def test_few_other_molecules_leave_the_bound_to_all():
    rng = np.random.default_rng(1)
    trained, others = [f"C{n}" for n in range(40)], [f"N{n}" for n in range(trust.UNKNOWN - 1)]
    both = trust.joined([windows(rng, trained, 0.1), windows(rng, others, 1.0)])
    assert trust.fit(both, trained).margin < np.exp(1.28 * 0.5)


def test_the_charge_of_ions_is_heard():
    torch.manual_seed(0)
    config = make_operator().config.model_copy(update={"charges": (0, 1)})
    operator = build_operator(config).eval().requires_grad_(False)
    operator.lift.embedding.charge.normal_()
    neutral = water_bursts(2)
    ions = [replace(burst, charge=1) for burst in neutral]
    errors = [trust.measure(operator, bursts, [8.0], 4).errors for bursts in (neutral, ions)]
    start = PhaseState.from_atoms(atoms_of(ions[0]))
    end = operator.positions(start, torch.tensor([8.0], dtype=torch.float64))[:, 0]
    at = round(8.0 / ions[0].interval)
    reference = torch.from_numpy(ions[0].positions[at].astype(np.float64))
    moved = (reference - start.positions[0]).norm()
    assert errors[1][0] == pytest.approx(float((end[0] - reference).norm() / moved), rel=1e-2)
    assert abs(errors[0][0] / errors[1][0] - 1) > 0.05


def atoms_of(burst) -> Atoms:
    atoms = Atoms(burst.numbers, burst.positions[0], info={"charge": burst.charge})
    atoms.set_velocities(velocities_to_ase(burst.velocities[0]))
    return atoms


def test_a_part_of_the_tables_compounds_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = make_operator(strength=0.003)
    operator.card = make_card(name="tiny", smiles=["CCO"])
    file = save_operator(operator, tmp_path / "tiny.safetensors")
    for n, (name, smiles) in enumerate({"water": "O", "amine": "CN"}.items()):
        bursts = [
            replace(burst, key=f"{name}/{k:05d}", smiles=smiles)
            for k, burst in enumerate(water_bursts(4)[2 * n : 2 * n + 2])
        ]
        write_bursts(tmp_path / "data" / f"{name}.h5", bursts)
    table = tmp_path / "parts.csv"
    table.write_text("name,smiles,part,set\nwater,O,test,small\nmethylamine,NC,train,small\n")
    words = ["calibrate", str(file), "--fit", str(tmp_path / "data"), "--strides", "4,8"]
    words += ["--starts", "8", "--table", str(table)]
    for more, count in ([], "2 molecules"), (["--part", "test"], "1 molecules"):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        assert count in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--part", "validation"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "no compounds of part 'validation'" in capsys.readouterr().err
