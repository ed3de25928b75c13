"""Some of a server's databases: what projects that share one Redis server keep apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Numbers of databases; None: the whole server, with its functions.
Chosen = frozenset[int] | None


def chosen_of(options: Mapping[str, Any]) -> Chosen:
    """The databases that a source's options name."""
    return from_list(None if options.get("databases") == "all" else options.get("databases"))


def from_list(numbers: Iterable[int] | None) -> Chosen:
    """Databases as they are noted."""
    return None if numbers is None else frozenset(numbers)


def as_list(chosen: Chosen) -> list[int] | None:
    """Databases as they can be noted."""
    return None if chosen is None else sorted(chosen)


def both(one: Chosen, other: Chosen) -> Chosen:
    """The databases that two choices have in common."""
    return other if one is None else one if other is None else one & other


def among(numbers: Iterable[int], chosen: Chosen) -> list[int]:
    """Those of some databases that are chosen, in order."""
    return sorted(one for one in numbers if chosen is None or one in chosen)


def named(numbers: Iterable[int]) -> str:
    """For a person: `database 0`, `databases 0, 3`."""
    words = [str(one) for one in sorted(numbers)]
    return f"database{'s' * (len(words) != 1)} {', '.join(words)}"
