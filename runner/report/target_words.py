"""What is told of a target, in words: how it answers, what lies there, what would go with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.spec.units import format_duration, format_size

Row = Mapping[str, Any]
MOST_NAMES = 3  # ids or names in one line


def answer_words(target: Row) -> Iterator[str]:
    """How it answers: latency, throughput, free space."""
    yield f"answers in {format_latency(target['latency'])}"
    speed = target["throughput"]
    if speed is not None:
        yield (
            f"takes {format_size(speed['upload'])}/s and gives {format_size(speed['download'])}/s"
        )
    free = target["free"]
    yield "nobody knows what is free" if free is None else f"{format_size(free)} free"


def holding_words(target: Row) -> Iterator[str]:
    """What lies there."""
    count = target["snapshots"]
    if not count:
        yield "no snapshot yet"
        return
    ids = sorted({target["oldest"], target["newest"]})
    yield f"{counted(count, 'snapshot')}, {' to '.join(ids)}"


def loss_words(target: Row) -> str | None:
    """What would be lost if this target burned; None where it holds nothing."""
    if not target.get("snapshots"):
        return None
    lost = target["if_lost"]
    parts = []
    if lost["snapshots"]:
        count = len(lost["snapshots"])
        parts.append(
            f"{counted(count, 'snapshot')} that {'is' if count == 1 else 'are'} only there"
        )
    if lost["sources"]:
        parts.append(f"every copy of {some(lost['sources'])}")
    words = f"{' and '.join(parts)} would be lost" if parts else "nothing would be lost"
    back = [f"{name} by {format_age(seconds)}" for name, seconds in lost["set_back"].items()]
    if back:
        words += f", and the newest copy would be older: {some(back)}"
    if lost["unknown"]:
        words += f" (what {some(lost['unknown'])} holds is not known)"
    return words


def format_latency(seconds: float | None) -> str:
    """A short time, in milliseconds below a second; `?` where it is not known."""
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def format_age(seconds: float) -> str:
    """An age to two figures' worth: nobody needs the seconds of two days."""
    for unit in (86400, 3600, 60):
        if seconds >= 10 * unit:
            return format_duration(seconds // unit * unit)
    return format_duration(round(seconds))


def counted(count: int, word: str) -> str:
    """A number of things, in words."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def some(names: Sequence[str], most: int = MOST_NAMES, comma: str = ", ") -> str:
    """Names in one line: the first, and how many more there are."""
    more = len(names) - most
    return comma.join(names[:most]) + (f" and {more} more" if more > 0 else "")
