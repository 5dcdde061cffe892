"""Whether an operator and the data that it is measured on are of one method."""

from __future__ import annotations

import re
from collections.abc import Collection

_PROGRAM = re.compile(r"\s*\([^()]*\)$")
_ACCURACY = re.compile(r",\s*accuracy=[^,]*")
_UNKNOWN = "unknown"


def method(theory: str) -> str:
    """A level of theory without the program and its version, and without tblite's accuracy.

    ``GFN2-xTB, accuracy=1.0 (tblite 0.8.0)`` and ``GFN2-xTB (tblite 0.7.1)`` are one method, to be
    compared with others and not to be read.
    """
    found = _PROGRAM.sub("", theory.strip())
    if "(tblite" in theory:
        found = _ACCURACY.sub("", found)
    return found.casefold()


def difference(name: str, taught: str, measured: Collection[str]) -> str | None:
    """A line of warning if an operator's method is not that of all data, or None.

    Parameters
    ----------
    name
        Of the operator.
    taught
        Level of theory on its card, several with ``; `` between.
    measured
        Levels of theory of the bursts.
    """
    known = {method(each) for each in taught.split("; ")}
    strange = sorted(each for each in measured if method(each) not in known)
    if not strange:
        return None
    if taught == _UNKNOWN:
        return f"{name} does not state its level of theory: it may be another than the bursts'"
    if strange == [_UNKNOWN]:
        return f"bursts here do not state their level of theory: it may be another than {name}'s"
    return (
        f"{name} was trained on {taught}, and bursts here are of {'; '.join(strange)}: how far the "
        "two methods differ counts as its error"
    )
