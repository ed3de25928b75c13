"""What a command says at its end: on the streams, and to a CI server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import HoldfastError, Interrupted, StepFailed, lacking, refused
from runner.report.outcome import Outcome
from runner.secret import SCRUBBER
from runner.streams import put, speak_utf8


def outcome_of(error: BaseException) -> Outcome:
    """What is told of an error: one that can happen to anybody, or one that nobody foresaw, which
    is a bug, or a machine that is too small.
    """
    if isinstance(error, HoldfastError):
        return Outcome("error", {}, error.exit_code, error.as_json())
    if isinstance(error, KeyboardInterrupt):
        return outcome_of(Interrupted("Interrupted before anything was begun."))
    if isinstance(error, OSError):
        return outcome_of(refused(error))
    lack = lacking(error)
    if lack is not None:
        return outcome_of(lack)
    message = (
        f"Unexpected {type(error).__name__}: {error} This is a bug in Holdfast: "
        "HOLDFAST_DEBUG=1 shows where; please report it."
    )
    return Outcome("error", {}, 1, {"kind": "bug", "message": message})


def print_outcome(outcome: Outcome, *, wants_json: bool, quiet: bool) -> int:
    """Print an outcome; return the exit code, which is a failure's where stdout did not take it."""
    found, mended = _texts(outcome, wants_json=wants_json, quiet=quiet)
    if wants_json:
        speak_utf8(sys.stdout)
    unread = put(sys.stdout, found) if found else None
    if unread is not None:
        mended += f"Error: Standard output takes nothing: {unread.strerror}.\n"
    put(sys.stderr, mended)
    return outcome.exit_code or (0 if unread is None else StepFailed.exit_code)


def _texts(outcome: Outcome, *, wants_json: bool, quiet: bool) -> tuple[str, str]:
    """What stdout and what stderr are to say."""
    if wants_json:
        return SCRUBBER.clean(
            json.dumps(outcome.as_json(), indent=1, ensure_ascii=False)
        ) + "\n", ""
    if quiet and "line" in outcome.data:
        return outcome.data["line"] + "\n", ""
    if quiet and outcome.exit_code == 0:
        return "", ""
    from runner.report.text import printed

    found, mended = printed(outcome)
    return "".join(f"{line}\n" for line in found), "".join(f"{line}\n" for line in mended)


def write_junit_file(outcome: Outcome, command: str, values: Mapping[str, Any]) -> None:
    """For a CI server. That it cannot be written changes nothing of what is to be told."""
    if not values.get("junit") or outcome.command == "plan":
        return
    from runner.report.junit import write_junit

    try:
        write_junit(outcome, command, Path(values["junit"]).expanduser().absolute())
    except OSError as error:
        sys.stderr.write(f"The JUnit file cannot be written: {error}\n")
