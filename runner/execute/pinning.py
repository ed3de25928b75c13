"""Pins: a person's word that a snapshot stays, as records at every target that holds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.execute.session import Session, who
from runner.store.catalog import Catalog
from runner.store.records import Pin, Unpin, body_of, write_record


def pin_snapshot(session: Session, wanted: str, seconds: float | None) -> dict[str, Any]:
    """Pin a snapshot for some seconds, or until it is unpinned."""
    catalog = session.catalog()
    one = catalog.find(wanted)
    now = _after_all(catalog, one.id)
    until = None if seconds is None else session.facts.now + timedelta(seconds=seconds)
    _write(session, one.targets, "pin", Pin(one.id, now, who(), until))
    shown = None if until is None else until.isoformat().replace("+00:00", "Z")
    return {"id": one.id, "pinned": True, "until": shown, "targets": list(one.targets)}


def unpin_snapshot(session: Session, wanted: str) -> dict[str, Any]:
    """Take all pins of a snapshot back."""
    catalog = session.catalog()
    one = catalog.find(wanted)
    _write(session, one.targets, "unpin", Unpin(one.id, _after_all(catalog, one.id), who()))
    return {"id": one.id, "pinned": False, "targets": list(one.targets)}


def _after_all(catalog: Catalog, snapshot: str) -> datetime:
    """Now, or right after the last word on that snapshot where a clock says it comes later: the
    latest word counts.
    """
    words: list[Pin | Unpin] = []
    for records in catalog.records.values():
        words += [*records.pins, *records.unpins]
    said = [one.at + timedelta(microseconds=1) for one in words if one.snapshot == snapshot]
    return max([datetime.now(UTC), *said])


def _write(session: Session, targets: tuple[str, ...], kind: str, record: Pin | Unpin) -> None:
    spec = session.spec
    for name in targets:
        target = session.targets[name]
        write_record(target, spec.project, spec.profile, kind, body_of(record), record.at)
