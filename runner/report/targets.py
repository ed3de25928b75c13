"""What is asked of each target: does it answer, how fast, what is there, and what if it burned.

Targets are asked at the same time, and a silent one is not waited for longer than said.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes
from runner.errors import HoldfastError
from runner.execute.session import Session
from runner.plan.outstanding import whole_at
from runner.report.outcome import stamp
from runner.spec.model import Spec
from runner.store.catalog import Catalog, Snapshot
from runner.store.records import FOLDER
from runner.store.snapshot import folder_of
from runner.store.together import Unanswered, ask_each
from runner.target import Target

STATUS_SECONDS = 30.0  # a status that comes later is no status
DOCTOR_SECONDS = 90.0

# What is sent there and back to see how fast that goes, under a name beside the projects.
PROBE = "holdfast-throughput"
PROBE_BYTES = 1024 * 1024

# What is said of what lies at a target that cannot be read.
NOT_KNOWN: Mapping[str, Any] = dict.fromkeys(
    ("snapshots", "oldest", "oldest_age", "newest", "newest_age", "if_lost")
)


@dataclass(frozen=True)
class Throughput:
    """How fast a small object went there and came back, the last time that was measured."""

    upload: float  # bytes a second, with all that a request takes
    download: float  # bytes a second
    at: str  # RFC 3339


@dataclass(frozen=True)
class Answers:
    """How a target answers now."""

    latency: float  # seconds of one small request
    free: int | None  # bytes; None where nobody knows


@dataclass(frozen=True)
class Examination:
    """What a look at a target found."""

    answers: Answers
    skew: float  # seconds between its clock and this machine's
    throughput: Throughput | None  # None where a probe could not be removed again for long


def answers(session: Session, names: Iterable[str]) -> Mapping[str, Answers | HoldfastError]:
    """How these targets answer, by name."""
    asked = {name: partial(_answer, session.spec, session.targets[name]) for name in names}
    return ask_each(asked, STATUS_SECONDS)


def examinations(session: Session) -> list[dict[str, Any]]:
    """Whether one can read and write at each target, how fast that is, and what lies there."""
    asked = {name: partial(_examine, session, name) for name in session.spec.targets}
    found = ask_each(asked, DOCTOR_SECONDS)
    measured = {
        name: one.throughput
        for name, one in found.items()
        if isinstance(one, Examination) and one.throughput is not None
    }
    if measured:
        _remember(session.spec, {**last_measured(session.spec), **measured})
    catalog = session.catalog(patience=STATUS_SECONDS, needed=())
    return [_row(session, catalog, name, one) for name, one in found.items()]


def _row(
    session: Session, catalog: Catalog, name: str, found: Examination | HoldfastError
) -> dict[str, Any]:
    if isinstance(found, HoldfastError):
        known = {**NOT_KNOWN, "latency": None, "free": None, "throughput": None, "clock_skew": None}
        error = f"{found.message} {found.remedy}".strip()
        reachable = None if isinstance(found, Unanswered) else False
        return {"target": name, "reachable": reachable, **known, "error": error}
    speed = found.throughput
    return {
        "target": name,
        "reachable": True,
        **(NOT_KNOWN if name in catalog.unreachable else holding(session, catalog, name)),
        **asdict(found.answers),
        "throughput": None if speed is None else asdict(speed),
        "clock_skew": round(found.skew, 3),
        "error": None,
    }


def last_measured(spec: Spec) -> dict[str, Throughput]:
    """The throughput of each target as it was measured last; what cannot be read is no memory."""
    try:
        document = json.loads(_path(spec).read_bytes())
        return {name: Throughput(**one) for name, one in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def holding(session: Session, catalog: Catalog, name: str) -> dict[str, Any]:
    """What lies at a target, and what would be lost with it, as far as the others are known."""
    own = catalog.at_target(name)
    return {
        "snapshots": len(own),
        "oldest": own[-1].id if own else None,
        "oldest_age": _age(session, own[-1]) if own else None,
        "newest": own[0].id if own else None,
        "newest_age": _age(session, own[0]) if own else None,
        "if_lost": {
            "snapshots": [one.id for one in own if not _elsewhere(one, name)],
            "sources": [
                source
                for source in session.spec.sources
                if catalog.newest(source, target=name) is not None
                and _newest_elsewhere(catalog, source, name) is None
            ],
            "set_back": _set_back(session, catalog, name),
            "unknown": list(catalog.unreachable),
        },
    }


def _answer(spec: Spec, target: Target) -> Answers:
    began = time.monotonic()
    target.folders(f"{folder_of(spec.project, spec.profile)}/{FOLDER}")
    return Answers(round(time.monotonic() - began, 4), target.free())


def _examine(session: Session, name: str) -> Examination:
    target = session.targets[name]
    target.check()
    skew = abs((target.now() - datetime.now(session.facts.now.tzinfo)).total_seconds())
    options = session.spec.target(name).options
    # Nobody could take the probe away again where each object is locked.
    locked = options.get("lock") is not None
    size = min(PROBE_BYTES, int(options.get("bandwidth") or PROBE_BYTES))
    throughput = None if locked else _measure(target, size, session.facts.now)
    return Examination(_answer(session.spec, target), skew, throughput)


def _measure(target: Target, size: int, now: datetime) -> Throughput:
    data = secrets.token_bytes(size)
    began = time.monotonic()
    target.put(PROBE, [data])
    put = time.monotonic()
    try:
        for _ in target.get(PROBE):
            pass
        got = time.monotonic()
    finally:
        # Credentials that may not delete are a safe choice: one object stays, and is written again.
        with suppress(HoldfastError):
            target.delete(PROBE)
    upload, download = (round(size / max(took, 1e-6)) for took in (put - began, got - put))
    return Throughput(upload, download, stamp(now) or "")


def _age(session: Session, snapshot: Snapshot) -> float:
    return max(0.0, (session.facts.now - snapshot.created_at).total_seconds())


def _elsewhere(snapshot: Snapshot, name: str) -> bool:
    return any(whole_at(snapshot, other) for other in snapshot.targets if other != name)


def _newest_elsewhere(catalog: Catalog, source: str, name: str) -> datetime | None:
    """The instant of the newest content of a source that lies whole at another target."""
    for one in catalog.snapshots:
        holder = catalog.holder(one, source)
        if holder is not None and _elsewhere(holder, name):
            return one.covers[source]
    return None


def _set_back(session: Session, catalog: Catalog, name: str) -> dict[str, float]:
    """By how many seconds older the newest copy of a source would be."""
    found = {}
    for source in session.spec.sources:
        fresh = catalog.fresh_at(source)
        rest = _newest_elsewhere(catalog, source, name)
        if fresh is not None and rest is not None and rest < fresh:
            found[source] = (fresh - rest).total_seconds()
    return found


def _remember(spec: Spec, measured: Mapping[str, Throughput]) -> None:
    path = _path(spec)
    with suppress(OSError):  # the doctor says of the state folder what is wrong with it
        make_folder(path.parent)
        document = {name: asdict(one) for name, one in measured.items()}
        write_bytes(path, json.dumps(document, indent=1, sort_keys=True).encode())


def _path(spec: Spec) -> Path:
    return spec.state / "throughput" / f"{spec.project}.{spec.profile}.json"
