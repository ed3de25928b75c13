"""Compiles a person's word that a snapshot stays, or that retention may have it again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from runner.plan.facts import Facts
from runner.plan.model import Plan, Step
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.records import Pin, Unpin


def compile_pin(
    spec: Spec, facts: Facts, catalog: Catalog, wanted: str, seconds: float | None
) -> Plan:
    """The plan of a pin for so many seconds, or until it is taken back. Pure."""
    until = None if seconds is None else facts.now + timedelta(seconds=seconds)
    shown = _shown(until)
    title = "Keep {snapshot} at {target}" + ("" if shown is None else f" until {shown}")
    return _plan("pin", spec, facts, catalog, wanted, title, {"until": shown})


def compile_unpin(spec: Spec, facts: Facts, catalog: Catalog, wanted: str) -> Plan:
    """The plan that takes all pins of a snapshot back. Pure."""
    title = "Leave {snapshot} at {target} to retention"
    return _plan("unpin", spec, facts, catalog, wanted, title, {})


def _plan(
    kind: str,
    spec: Spec,
    facts: Facts,
    catalog: Catalog,
    wanted: str,
    title: str,
    more: dict[str, Any],
) -> Plan:
    one = catalog.find(wanted)
    # A disk that is not mounted shows no more than its empty folder.
    emptied = {name for name in facts.remembered if not catalog.at_target(name)}
    missed = sorted(emptied.intersection(spec.targets).union(catalog.unreachable))
    behind = _last_word(catalog, one.id)
    said = None if behind is None else behind.isoformat()
    steps = tuple(
        Step(
            id=f"{one.id}.{kind}.{target}",
            action=f"record.{kind}",
            title=title.format(snapshot=one.id, target=target),
            params={"snapshot": one.id, "target": target, "behind": said, **more},
            effect="writes",
            reason="asked for",
        )
        for target in one.targets
    )
    told = {
        "snapshot": one.id,
        "targets": list(one.targets),
        # How it stands, and goes on to stand where no target takes the word.
        "pinned": one.pinned,
        "pinned_until": _shown(one.pinned_until),
        **({"missed": missed} if missed else {}),
        **more,
    }
    return Plan(kind, spec.project, spec.profile, spec.digest, steps, facts=told)


def _last_word(catalog: Catalog, snapshot: str) -> datetime | None:
    """When a pin of it was last given or taken back: a later word must say a later time."""
    words: list[Pin | Unpin] = []
    for records in (catalog.said, *catalog.records.values()):
        words += [*records.pins, *records.unpins]
    return max((one.at for one in words if one.snapshot == snapshot), default=None)


def _shown(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
