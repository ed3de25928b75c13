"""Telling people how a command ended. A notice that fails changes nothing but what is printed."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import HoldfastError, ObjectiveMissed
from runner.execute.telling import send
from runner.report.outcome import Outcome
from runner.report.text import printed
from runner.spec.model import DEFAULT_PROFILE, Notice, Spec

MOST_CHARACTERS = 3000  # chats refuse long messages


def tell(spec: Spec, command: str, outcome: Outcome) -> list[str]:
    """Tell everybody who is to know how `command` ended; return who could not be told, and why."""
    said = _said(spec, command, outcome)
    return [
        f"Nobody was told by notify[{place}]: {why}"
        for place, one in enumerate(spec.notices)
        if _concerns(one, command, outcome)
        for why in _told(spec, place, one, said)
    ]


def _concerns(notice: Notice, command: str, outcome: Outcome) -> bool:
    ended = "success" if outcome.exit_code == 0 else "failure"
    made = outcome.data.get("snapshots") or outcome.data.get("completed")
    idle = command == "backup" and ended == "success" and not made
    return command in notice.of and notice.when in (ended, "always") and not idle


def _said(spec: Spec, command: str, outcome: Outcome) -> dict[str, str]:
    profile = "" if spec.profile == DEFAULT_PROFILE else f" ({spec.profile})"
    status = _status(outcome)
    found, mended = printed(outcome)
    lines = [f"{spec.project}{profile}: {command} {status}.", *mended[:1], *found, *mended[1:]]
    text = "\n".join(lines).encode("utf-8", "backslashreplace").decode()
    return {
        "text": text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…",
        "project": spec.project,
        "command": command,
        "status": status,
        "run": outcome.data.get("run") or "",
    }


def _status(outcome: Outcome) -> str:
    """As the JSON says it, but never `done` of what was not well."""
    said = str(outcome.data.get("status") or "done")
    if outcome.exit_code == ObjectiveMissed.exit_code:
        return "missed"
    return "failed" if outcome.exit_code and said == "done" else said


def _told(spec: Spec, place: int, notice: Notice, said: dict[str, str]) -> Iterator[str]:
    first = f"{notice.way.text}\n" if notice.way.text else ""
    try:
        spec.require(f"notify[{place}]")
        send(
            notice.way,
            {**said, "text": first + said["text"]},
            folder=spec.folder,
            environment=spec.environment,
        )
    except (HoldfastError, OSError) as error:
        yield error.message if isinstance(error, HoldfastError) else str(error)
