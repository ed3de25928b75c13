"""Live reporters over the one event stream: plain lines, or progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from runner.report.outcome import visible

Event = Mapping[str, Any]
Listener = Callable[[Event], None]

MARKS = {
    "done": "ok",
    "skipped": "skip",
    "blocked": "skip",
    "failed": "FAIL",
    "interrupted": "stop",
    "undone": "undo",
}

# What hangs on a step that could not run either: the one that broke is told, and what needed it.
ON_THE_WAY = (", which did not run", "the run was interrupted")

# Compensation that had nothing to do is no news.
QUIET_REASONS = ("nothing to take back",)


def reporter() -> Listener:
    """The reporter that suits standard error: progress on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        from runner.report.console import console_reporter

        return console_reporter()
    return plain


def plain(event: Event) -> None:
    """One line for each thing that happened."""
    line = line_of(event)
    if line is not None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def line_of(event: Event) -> str | None:
    """The line of an event; None for one that is no news."""
    line = _line_of(event)
    return None if line is None else visible(line)


def _line_of(event: Event) -> str | None:
    kind = event["event"]
    if kind == "note":
        return f"note  {event['message']}"
    if kind == "started" and event.get("attempt", 1) > 1:
        return f"again {event['step']} (attempt {event['attempt']})"
    if kind != "ended":
        return None
    return _ended(event)


def _ended(event: Event) -> str | None:
    status, reason = event["status"], event.get("reason") or ""
    if status == "skipped" and (reason in QUIET_REASONS or reason.endswith("was not started")):
        return None
    if status == "blocked" and reason.endswith(ON_THE_WAY):
        return None
    words = reason
    # What ended with an interrupt says why it did, and not what was wrong.
    if event.get("error") and status != "interrupted":
        words = event["error"]["message"]
    seconds = event.get("seconds") or 0
    took = f"  {seconds:.1f} s" if seconds >= 0.1 else ""
    mark = MARKS[status]
    if (event.get("error") or {}).get("kind") == "person" and status == "failed":
        mark = "WAIT"
    return f"{mark:5} {event['step']}{took}{'  ' + words if words else ''}"
