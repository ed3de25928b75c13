"""Markdown that stays what it is, whatever stands in the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_ESCAPED = str.maketrans({one: f"\\{one}" for one in "\\`*_{}[]<>|#"})


def text(value: object) -> str:
    """A value as plain words on one line."""
    return " ".join(str(value).split()).translate(_ESCAPED)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table; every cell is plain words."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(text(cell) for cell in row) + " |" for row in rows]


def fence(lines: Sequence[str], language: str = "sh") -> list[str]:
    """A block of code that nothing inside can close."""
    longest = max((_run_of_ticks(line) for line in lines), default=0)
    ticks = "`" * max(3, longest + 1)
    return [f"{ticks}{language}", *lines, ticks]


def _run_of_ticks(line: str) -> int:
    stripped = line.lstrip()
    return len(stripped) - len(stripped.lstrip("`"))
