"""Answers to the questions that are asked of what was restored, and what counts as a yes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.spec.model import Probe
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS, SKIP

LONGEST = 500
_NO = ("", "0", "f", "false", "n", "no", "off")


# A kind (`sql` or `redis`), the text, and the seconds it may take; see `Source.ask`.
Question = Callable[[str, str, float], Any]


@dataclass(frozen=True)
class Asked:
    """What is asked."""

    path: Path | None = None  # what was restored, staged or live; None: it is no file or folder
    source: Question | None = None  # asks its content; None when no source is asked
    environment: Mapping[str, str] = field(default_factory=dict)  # declared for commands
    isolated: bool = False  # nothing of the live system may be reached: a drill, a verification


@dataclass(frozen=True)
class Reply:
    """What came of asking once. `expected` and `actual` are JSON values."""

    verdict: str  # PASS | FAIL | SKIP | COULD-NOT-VERIFY
    expected: Any
    actual: Any


@dataclass(frozen=True)
class Answer:
    """The last reply to a named question."""

    name: str
    kind: str
    verdict: str
    expected: Any
    actual: Any


def could_not(expected: Any, reason: str) -> Reply:
    """The question could not be asked."""
    return Reply(COULD_NOT_VERIFY, expected, reason[:LONGEST])


def refused(expected: Any, reason: Any) -> Reply:
    """It was asked, and the answer is no."""
    return Reply(FAIL, expected, reason[:LONGEST] if isinstance(reason, str) else reason)


def passed(expected: Any, actual: Any) -> Reply:
    """It was asked, and the answer is yes."""
    return Reply(PASS, expected, actual[:LONGEST] if isinstance(actual, str) else actual)


def skipped(expected: Any, reason: str) -> Reply:
    """It is not to be asked here."""
    return Reply(SKIP, expected, reason)


def expectation(probe: Probe) -> Any:
    """What a value must be, for a person: `true`, `3`, `at least 1`."""
    least = None if probe.at_least is None else f"at least {probe.at_least:g}"
    if probe.expect is None:
        return True if least is None else least
    return probe.expect if least is None else f"{probe.expect}, {least}"


def judge(probe: Probe, value: Any) -> Reply:
    """Hold a value, as a database gives it, against what the probe expects."""
    expected = expectation(probe)
    shown = value.hex() if isinstance(value, bytes) else value
    holds = True
    if probe.expect is not None:
        holds = _same(value, probe.expect)
    if probe.at_least is not None:
        holds = holds and _number(value) >= probe.at_least
    if probe.expect is None and probe.at_least is None:
        holds = _is_true(value)
    return passed(expected, shown) if holds else refused(expected, shown)


def _same(value: Any, expected: Any) -> bool:
    if isinstance(expected, bool):
        # NULL, or no row at all, says neither.
        return value is not None and _is_true(value) == expected
    # A spec's `3`, a database's 3 and its '3' are the same to whoever wrote the check.
    return bool(value == expected) or (value is not None and str(value) == str(expected))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("-inf")


def _is_true(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NO
    return bool(value)
