"""Where each value of a spec stands in its file, and the problems told about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str | int, ...]  # keys and list positions from the root: ("policies", "nightly")


@dataclass(frozen=True, order=True)
class Mark:
    """A position in a text; both count from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Problem:
    """Something wrong or doubtful, where it stands, and what to do about it."""

    file: str
    line: int
    column: int
    path: str  # "policies.nightly.sources[0]"; empty: the file as a whole
    message: str  # ends with the remedy

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}"

    def as_json(self) -> dict[str, Any]:
        """The object of the JSON contract."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
        }


@dataclass(frozen=True)
class Marks:
    """The positions of all keys and values. What a profile overrides stands in the profile."""

    file: str = "backup.yaml"
    keys: Mapping[Place, Mark] = field(default_factory=dict)
    values: Mapping[Place, Mark] = field(default_factory=dict)
    profile: str | None = None  # whose overrides win

    def at(self, place: Place, *, key: bool = False) -> Mark:
        """The mark of a value (or of its key); of the nearest thing around it if it has none."""
        overridden: Place = ("profiles", self.profile) if self.profile else ()
        marks = self.keys if key else self.values
        for length in range(len(place), 0, -1):
            for start in (overridden, ()) if overridden else ((),):
                mark = marks.get(start + place[:length])
                if mark is not None:
                    return mark
            marks = self.keys  # what is missing is told at the name of what lacks it
        return Mark()

    def problem(self, place: Place, message: str, *, key: bool = False) -> Problem:
        """A problem with the value (or the key) at `place`."""
        mark = self.at(place, key=key)
        return Problem(self.file, mark.line, mark.column, written(place), message)


def written(place: Place) -> str:
    """`policies.nightly.sources[0]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean …?` if one of the known names is near; empty otherwise."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean `{found[0]}`?" if found else ""
