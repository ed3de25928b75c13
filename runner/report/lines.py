"""What every text for a terminal is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.spec.units import format_duration

Lines = Iterable[str]
Row = Mapping[str, Any]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Aligned columns under their heads."""
    everything = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    line = "  ".join(f"{{:{width}}}" for width in widths).format
    for row in everything:
        yield line(*row).rstrip()


def seconds(value: float | None) -> str:
    """A time as an objective is written; `-` for none."""
    return "-" if value is None else format_duration(round(value, 1))


def met(value: bool | None) -> str:
    """Whether an objective is met; `-` where nobody knows."""
    return {True: "met", False: "MISSED", None: "-"}[value]
