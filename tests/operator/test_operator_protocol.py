"""The interface of operators: what has it, who registers, and charges."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from pydantic import TypeAdapter, ValidationError
from springs import SpringOperator

from ase_atom import plugins
from ase_atom.errors import ConfigError, CoverageError, StateError
from ase_atom.molecules.coverage import as_covered, check_state
from ase_atom.operator import (
    AnyConfig,
    Architecture,
    OperatorBase,
    OperatorCard,
    architectures,
    build_operator,
    check_operator,
    load_operator,
    parse_config,
    read_card,
    registry,
    save_operator,
)
from ase_atom.operator.checkpoint import find_operator
from ase_atom.operator.spectral import SpectralConfig, SpectralOperator
from ase_atom.propagation import Frames, Propagator
from ase_atom.state import PhaseState


class Rotor(OperatorBase):
    """Turns nothing."""

    horizon = 8.0

    def __call__(self, state, times):
        return state.positions[:, None], state.velocities[:, None]


class NamedConfig(SpectralConfig):
    """An architecture from elsewhere."""

    architecture: str = "named"
    extra: int = 3


class NamedOperator(SpectralOperator):
    """The same network under another name."""


NAMED = Architecture(NamedConfig, NamedOperator)
TINY = {"width": 16, "pair_width": 8, "vector_channels": 8, "blocks": 1, "energy_blocks": 1}


def test_networks_and_analytic_operators_have_the_interface(tiny_operator, ethanol) -> None:
    for operator in (tiny_operator, SpringOperator(ethanol), Rotor()):
        check_operator(operator)
        assert operator.error_estimate is None
        assert operator.leaps is None
    assert SpringOperator(ethanol).has_energy
    assert not Rotor().has_energy
    with pytest.raises(ConfigError, match="Rotor has no energy"):
        Rotor().energy_and_forces(PhaseState.from_atoms(ethanol))


@pytest.mark.parametrize("thing", [3, None, object(), lambda state, times: None, [Rotor()]])
def test_what_lacks_the_interface_is_named(thing, ethanol) -> None:
    with pytest.raises(ConfigError, match="is no operator, it lacks horizon, piece, card"):
        Propagator(thing, PhaseState.from_atoms(ethanol))


def test_forces_of_any_operator_are_the_gradient(ethanol) -> None:
    springs = SpringOperator(ethanol)
    state = PhaseState.from_atoms(ethanol)
    moved = state.replace(positions=state.positions + 0.01 * torch.randn_like(state.positions))
    energy, forces = springs.energy_and_forces(moved)
    step = torch.zeros_like(moved.positions)
    step[0, 3, 1] = 1e-5
    after = springs.energy(moved.replace(positions=moved.positions + step))
    before = springs.energy(moved.replace(positions=moved.positions - step))
    assert float(forces[0, 3, 1]) == pytest.approx(float(before - after) / 2e-5, rel=1e-6)
    assert float(energy) == pytest.approx(float(springs.energy(moved)))


def test_fingerprints_tell_maps_apart_and_are_the_same_elsewhere(tiny_operator, tmp_path) -> None:
    before = tiny_operator.fingerprint
    found = save_operator(tiny_operator, tmp_path / "operator.safetensors")
    code = f"from ase_atom import load_operator; print(load_operator({str(found)!r}).fingerprint)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == before
    renamed = load_operator(found)
    renamed.card = renamed.card.model_copy(update={"name": "another"})
    assert renamed.fingerprint == before
    next(iter(renamed.parameters())).view(-1)[0] += 1e-3
    assert renamed.fingerprint != before


def test_double_precision_is_a_copy(tiny_operator, ethanol) -> None:
    double = tiny_operator.in_double_precision()
    assert next(double.parameters()).dtype == torch.float64
    assert next(tiny_operator.parameters()).dtype == torch.float32
    springs = SpringOperator(ethanol)
    assert springs.in_double_precision() is springs


# -- architectures -------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch):
    shipped = {name: registry._KNOWN[name] for name in ("spectral", "paper")}
    monkeypatch.setattr(registry, "_KNOWN", shipped)
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


def test_a_registered_architecture_is_parsed_built_saved_and_loaded(
    known, tiny_operator, tmp_path
) -> None:
    registry.register("named", NAMED)
    registry.register("named", NAMED)  # twice is no harm
    config = parse_config({"architecture": "named", "extra": 4, **TINY})
    assert isinstance(config, NamedConfig)
    assert config.extra == 4
    assert json.loads(TypeAdapter(AnyConfig).dump_json(config))["extra"] == 4
    assert parse_config(config.model_dump_json()) == config
    operator = build_operator(config)
    operator.card = tiny_operator.card
    again = load_operator(save_operator(operator, tmp_path / "named.safetensors"))
    assert isinstance(again, NamedOperator)
    assert "named" in architectures()
    with pytest.raises(ConfigError, match="an architecture named 'spectral' already"):
        registry.register("spectral", NAMED)


def test_a_package_adds_an_architecture_by_an_entry_point(known, monkeypatch) -> None:
    entries = [
        importlib.metadata.EntryPoint(name, value, registry.GROUP)
        for name, value in (
            ("named", f"{__name__}:NAMED"),
            ("gone", "no_such_package:X"),
            ("wrong", f"{__name__}:TINY"),
        )
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    assert architectures() == ["spectral", "paper", "named", "gone", "wrong"]
    assert isinstance(parse_config({"architecture": "named"}), NamedConfig)
    with pytest.raises(ValidationError, match="'gone' of no_such_package:X cannot be loaded"):
        parse_config({"architecture": "gone"})
    with pytest.raises(ValidationError, match="is a dict: the entry point 'wrong'"):
        parse_config({"architecture": "wrong"})
    with pytest.raises(ValidationError, match="one of spectral, paper, named, gone, wrong"):
        parse_config({"architecture": "nmaed"})


def test_settings_that_left_the_spectral_architecture_are_read_where_they_did_nothing() -> None:
    written = {"carrier": "ballistic", "carrier_time": 100.0, "rest": "none", "rest_numbers": []}
    assert parse_config(json.dumps(written | {"modes": 8})) == SpectralConfig(modes=8)
    for name, value in (("carrier", "bounded"), ("rest_terms", 2), ("rest_numbers", [8, 1])):
        with pytest.raises(ValidationError, match=f"{name}: .* architecture long_lag"):
            parse_config({name: value})


# -- charges -------------------------------------------------------------------------------------


def ion(charge: int) -> Atoms:
    atoms = molecule("H2O")
    atoms.info["charge"] = charge
    return atoms


def test_a_state_carries_charges_through_everything() -> None:
    state = PhaseState.from_atoms([ion(-1), molecule("CH4"), ion(2)])
    assert state.charge.tolist() == [-1, 0, 2]
    assert [atoms.info.get("charge", 0) for atoms in state.to_atoms()] == [-1, 0, 2]
    assert PhaseState.from_atoms(state.to_atoms()).charge.tolist() == [-1, 0, 2]
    assert state.select(torch.tensor([2, 0])).charge.tolist() == [2, -1]
    assert state.repeat(2).charge.tolist() == [-1, 0, 2, -1, 0, 2]
    assert PhaseState.cat([state, state.select(torch.tensor([2]))]).charge.tolist()[-1] == 2
    assert state.to(torch.float32).charge.tolist() == [-1, 0, 2]
    assert state.to("cpu").without_drift().charge.tolist() == [-1, 0, 2]
    frames = Frames.single(state)
    assert frames.state(0).charge.tolist() == [-1, 0, 2]
    assert frames.flat().charge.tolist() == [-1, 0, 2]
    uncharged = PhaseState(state.numbers, state.masses, state.positions, state.velocities)
    assert uncharged.charge.tolist() == [0, 0, 0]


def test_charges_of_atoms_count_where_none_is_stated() -> None:
    atoms = molecule("H2O")
    atoms.set_initial_charges([-1.02, 0.01, 0.01])
    assert PhaseState.from_atoms(atoms).charge.tolist() == [-1]
    atoms.info["charge"] = 0.4
    with pytest.raises(CoverageError, match=r"0\.4, not a whole number"):
        PhaseState.from_atoms(atoms)


@pytest.mark.parametrize("charge", [torch.zeros(1), torch.zeros(2, dtype=torch.int64)])
def test_charges_of_another_kind_are_refused(charge) -> None:
    state = PhaseState.from_atoms(molecule("H2O"))
    with pytest.raises(StateError, match=r"charge must be int64 \[1\]"):
        state.replace(charge=charge)


def test_operators_without_charges_refuse_any_but_none(tiny_operator, ethanol) -> None:
    atoms = ethanol.copy()
    atoms.info["charge"] = 1
    state = PhaseState.from_atoms([ethanol, atoms])
    bare = build_operator(SpectralConfig(**TINY))
    for operator in (tiny_operator, bare):
        with pytest.raises(CoverageError, match=r"of total charge 0, not \+1"):
            operator(state, torch.ones(1))
        with pytest.raises(CoverageError, match=r"of total charge 0, not \+1"):
            operator.energy_and_forces(state)
    with pytest.raises(CoverageError, match=r"a molecule has a total charge of \+1, but tiny"):
        Propagator(tiny_operator, state)


def test_a_card_may_list_charges(tiny_operator, ethanol) -> None:
    card = tiny_operator.card.model_copy(update={"charges": [-1, 0]})
    atoms = ethanol.copy()
    atoms.info["charge"] = -1
    check_state(PhaseState.from_atoms([ethanol, atoms]), card)
    atoms.info["charge"] = -2
    state = PhaseState.from_atoms([ethanol, atoms])
    with pytest.raises(CoverageError, match=r"trained for -1, 0"):
        check_state(state, card)
    assert as_covered(state, card).charge.tolist() == [0, -1]


def test_cards_of_one_charge_are_read() -> None:
    card = read_card(find_operator("ethanol-gfn2"))
    assert card.charges == [0]
    facts = card.model_dump() | {"charge": -1}
    del facts["charges"]
    assert OperatorCard.model_validate(facts).charges == [-1]
