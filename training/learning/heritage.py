"""The weights that an operator begins with when its training starts from another operator."""

from __future__ import annotations

import torch
from rdkit import Chem

from ase_atom.errors import ConfigError
from ase_atom.operator import Operator
from ase_atom.operator.trunk.lifting import AtomEmbedding
from training.learning.config import differences, listed

_FREE = {"horizon", "segment", "elements", "charges", "force_input"}


def inherit(operator: Operator, parent: Operator, source: str, refitted: bool) -> None:
    """Set the weights of an operator to those of one that it starts from.

    The operator may know more elements and charges than its parent, and hear forces that its parent
    does not. A new element begins with the
    embedding of the parent's element that has as many outer electrons and the nearest atomic
    number, if there is one, else with the random one that it has. A new charge begins without
    effect.

    Parameters
    ----------
    operator
        New, with random weights.
    parent
        Trained.
    source
        Name or path of the parent, for messages.
    refitted
        Whether the energies of atoms will be fitted to the data. Those of new elements and charges
        must be.

    Raises
    ------
    ConfigError
        If the architectures differ in anything but the horizon, the segment and what is new.
    """
    changed = differences(
        parent.config.model_dump(exclude=_FREE), operator.config.model_dump(exclude=_FREE)
    )
    embeddings = {
        name: module
        for name, module in operator.named_modules()
        if isinstance(module, AtomEmbedding)
    }
    hears = [getattr(each.config, "force_input", False) for each in (parent, operator)]
    if hears[0] and not hears[1]:
        changed["force_input"] = "True → False"
    grown = False
    for name in ("elements", "charges"):
        before, now = getattr(parent.config, name), getattr(operator.config, name)
        if before != now and (not embeddings or set(before) - set(now)):
            changed[name] = f"{list(before)} → {list(now)}"
        grown |= before != now
    if changed:
        raise ConfigError(
            f"{source} is another operator than the config's ({listed(changed, 'operator.')})"
        )
    if grown and operator.has_energy and not refitted:
        raise ConfigError(
            f"{source} has no energies of atoms for the elements and charges that are new: "
            "set refit_energies: true"
        )
    state = dict(parent.state_dict())
    for name, module in embeddings.items():
        state.update(_embedding(f"{name}.", module, state, operator, parent))
    if grown:
        for name in ("energy_offsets", "charge_offsets"):
            state.pop(name, None)
            if (own := getattr(operator, name)) is not None:
                state[name] = own
    operator.load_state_dict(state)


def _embedding(
    prefix: str,
    module: AtomEmbedding,
    state: dict[str, torch.Tensor],
    operator: Operator,
    parent: Operator,
) -> dict[str, torch.Tensor]:
    """Vectors of elements and charges by name in the operator's state."""
    weight = module.weight.detach().clone()
    known = state.get(f"{prefix}weight")
    if known is None:  # the parent hears no forces
        return {f"{prefix}{name}": each.detach() for name, each in module.named_parameters()}
    weight[0] = known[0]
    for row, number in enumerate(operator.config.elements, start=1):
        relative = relative_of(number, parent.config.elements)
        if relative is not None:
            weight[row] = known[1 + parent.config.elements.index(relative)]
    found = {f"{prefix}weight": weight}
    if module.charge is not None:
        of_charge = torch.zeros_like(module.charge)
        before = state.get(f"{prefix}charge")
        if before is not None:
            for row, charge in enumerate(operator.config.charges):
                if charge in parent.config.charges:
                    of_charge[row] = before[parent.config.charges.index(charge)]
        found[f"{prefix}charge"] = of_charge
    return found


def relative_of(number: int, known: tuple[int, ...]) -> int | None:
    """The element itself, or the nearest with as many outer electrons."""
    if number in known:
        return number
    outer = Chem.GetPeriodicTable().GetNOuterElecs
    alike = [other for other in known if other > 1 and outer(other) == outer(number)]
    return min(alike, key=lambda other: (abs(other - number), other), default=None)
