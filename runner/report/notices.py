"""Telling people how a command ended. A notice that fails changes nothing but what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from runner.errors import HoldfastError, ObjectiveMissed
from runner.execute.telling import send
from runner.report.outcome import Outcome, stamp
from runner.report.repeats import Repeats, failures_of, key_of
from runner.report.text import printed
from runner.spec.model import DEFAULT_PROFILE, Notice, Spec

MOST_CHARACTERS = 3000  # chats refuse long messages


def tell(spec: Spec, command: str, outcome: Outcome, *, tries_again: bool = False) -> list[str]:
    """Tell everybody who is to know how `command` ended; return who could not be told, and why.

    With `tries_again` it is called again soon whatever becomes of it: who was told of its failures
    is told of the same ones only after a while.
    """
    repeats, now = Repeats(spec.state), datetime.now(UTC)
    failures = failures_of(outcome) if outcome.exit_code else []
    said, unheard = _said(spec, command, outcome), []
    for place, one in enumerate(spec.notices):
        if not _concerns(one, command, outcome):
            continue
        who, again = _who(spec, one), timedelta(seconds=one.again)
        known = repeats.since(who, failures) if tries_again else None
        if known is not None and not repeats.is_news(who, failures, again, now):
            continue
        try:
            _send(spec, place, one, _reminding(said, known))
        except (HoldfastError, OSError) as error:
            why = error.message if isinstance(error, HoldfastError) else str(error)
            unheard.append(f"Nobody was told by notify[{place}]: {why}")
        else:
            if failures and tries_again:
                repeats.note(who, failures, again, now)
    if command == "backup" and not failures and _made(outcome):
        repeats.forget(_who(spec, one) for one in spec.notices)
    return unheard


def _concerns(notice: Notice, command: str, outcome: Outcome) -> bool:
    ended = "success" if outcome.exit_code == 0 else "failure"
    idle = command == "backup" and ended == "success" and not _made(outcome)
    return command in notice.of and notice.when in (ended, "always") and not idle


def _made(outcome: Outcome) -> bool:
    return bool(outcome.data.get("snapshots") or outcome.data.get("completed"))


def _said(spec: Spec, command: str, outcome: Outcome) -> dict[str, str]:
    profile = "" if spec.profile == DEFAULT_PROFILE else f" ({spec.profile})"
    status = _status(outcome)
    found, mended = printed(outcome)
    errors = len(mended) - bool(outcome.data.get("next"))
    first = f"{spec.project}{profile}: {command} {status}."
    lines = [first, *mended[:errors], *found, *mended[errors:]]
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


def _who(spec: Spec, notice: Notice) -> str:
    """What tells a notice from others, also once the spec has more of them."""
    way = notice.way
    return key_of(f"{spec.profile} {way.run} {way.post} {notice.when} {notice.of}")


def _reminding(said: Mapping[str, str], since: datetime | None) -> dict[str, str]:
    if since is None:
        return dict(said)
    return {**said, "text": f"{said['text']}\nIt was told first at {stamp(since)}."}


def _send(spec: Spec, place: int, notice: Notice, said: dict[str, str]) -> None:
    first = f"{notice.way.text}\n" if notice.way.text else ""
    spec.require(f"notify[{place}]")
    send(
        notice.way,
        {**said, "text": first + said["text"]},
        folder=spec.folder,
        environment=spec.environment,
    )
