"""Unknown keywords are refused, with the nearest known one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import ParamSpec, TypeVar

from ase_atom.errors import UnknownKeywordError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=type)


def known_keywords(
    *others: str,
    refused: Mapping[str, str] | None = None,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Make a function or an ``__init__`` refuse keywords that it does not have.

    Parameters
    ----------
    others
        Keywords that it hands on by ``**kwargs``, beside the parameters that it names.
    refused
        Keywords of its kin that it cannot have, and why.

    Raises
    ------
    UnknownKeywordError
        When the function is called with any other.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(function).parameters.values()
        named = [each.name for each in parameters if each.kind in kinds]
        known = dict.fromkeys([*named, *others])
        known.pop("self", None)
        reasons = refused or {}

        @wraps(function)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if not kwargs.keys() <= known.keys():
                method = function.__name__ == "__init__"
                name = type(args[0]).__name__ if method else function.__name__
                for keyword, reason in reasons.items():
                    if keyword in kwargs:
                        raise UnknownKeywordError(f"{name} takes no {keyword!r}: {reason}")
                refuse_unknown(name, kwargs, known)
            return function(*args, **kwargs)

        return checked

    return decorate


def known_fields(made: Kind) -> Kind:
    """Make a data class refuse keywords that it does not have, as `known_keywords` does."""
    made.__init__ = known_keywords()(made.__init__)  # type: ignore[misc]
    return made


def refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise an error for the first keyword given that is not known.

    Parameters
    ----------
    what
        Whose keywords they are, for the message.
    given, known
        Keywords.

    Raises
    ------
    UnknownKeywordError
        With the nearest known keyword, or all where none is near.
    """
    known = list(known)
    for keyword in given:
        if keyword not in known:
            hint = nearest_keyword(keyword, known)
            raise UnknownKeywordError(f"{what} takes no {keyword!r}: {hint}")


def nearest_keyword(keyword: str, known: Iterable[str]) -> str:
    """Return what to say to one who gave an unknown keyword: the nearest, or all there are."""
    lower = {each.lower(): each for each in known}
    given = keyword.lower()
    near = (
        get_close_matches(given, lower, n=1, cutoff=0.9)
        or [each for each in lower if given.endswith(f"_{each}")]
        or get_close_matches(given, lower, n=1, cutoff=0.7)
        or [each for each in lower if each.startswith(given)]
    )
    return f"did you mean {lower[near[0]]!r}?" if near else f"it takes {', '.join(lower.values())}"
