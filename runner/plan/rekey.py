"""Compiles a rekey: which snapshots others can open than the declared recipients, and how each is
replaced by one that exactly these can open.

A snapshot is never changed. One of the same content is written beside it, copied, read back at
each target, and only there the old one is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from runner.errors import UsageError
from runner.plan.facts import Facts
from runner.plan.families import Family, choose_families, families
from runner.plan.model import TARGET_LOCK, Plan, Step
from runner.plan.outstanding import whole_at
from runner.spec.model import VERIFY_LEVELS, Spec
from runner.store.catalog import Catalog, Snapshot


@dataclass(frozen=True)
class Wanted:
    """What the user asked a rekey for."""

    snapshots: Collection[str] = ()  # as typed; none: all
    targets: Collection[str] = ()  # none: all
    opens: bool = False  # an identity at hand opens what is encrypted to the declared recipients


def not_as_declared(spec: Spec, catalog: Catalog) -> list[Snapshot]:
    """The snapshots that others can open than the declared recipients, or not all of these."""
    declared = set(spec.encryption.recipients if spec.encryption else ())
    return [one for one in catalog.snapshots if set(one.recipients) != declared]


def compile_rekey(spec: Spec, facts: Facts, catalog: Catalog, wanted: Wanted) -> Plan:
    """The plan of a rekey. Pure. Raises UsageError where the spec declares no recipients."""
    if spec.encryption is None:
        raise UsageError(
            "The spec declares no recipients, so there is nothing to encrypt to.",
            remedy="Declare encryption.recipients; `holdfast keygen` makes a key.",
        )
    for name in wanted.targets:
        spec.target(name)
    ids = {catalog.find(name).id for name in wanted.snapshots}
    chosen = choose_families(families(catalog), spec.encryption.recipients, facts, ids)
    places = [name for name in spec.targets if not wanted.targets or name in wanted.targets]
    chosen = [one for one in chosen if one.at(places)]
    making = _Making(spec, facts, catalog, places, chosen)
    return Plan(
        "rekey",
        spec.project,
        spec.profile,
        spec.digest,
        tuple(step for one in chosen for step in making.steps_of(one)),
        facts={
            "recipients": list(spec.encryption.recipients),
            "opens": wanted.opens,
            "snapshots": [_told(spec, one, places) for one in chosen],
            "unread": dict(catalog.unreachable),
            "known": _known(catalog) if chosen else [],
        },
    )


def _known(catalog: Catalog) -> list[str]:
    """The ids that were looked at, also of what cannot be read."""
    return [*(one.id for one in catalog.snapshots), *(name for _, name, _ in catalog.damaged)]


def _told(spec: Spec, family: Family, places: Sequence[str]) -> dict[str, Any]:
    """What a person and the report need to know of one."""
    assert spec.encryption is not None
    declared = set(spec.encryption.recipients)
    before = {name for one in family.going for name in one.recipients}
    return {
        "id": family.new,
        "targets": family.at(places),
        "going": [
            {"id": one.id, "target": name}
            for one in family.going
            for name in places
            if name in one.targets
        ],
        "bytes": family.head.bytes if family.rewritten else 0,
        "plain": not all(one.encrypted for one in family.going),
        "lose": sorted(before - declared),
        "gain": sorted(declared - before),
    }


class _Making:
    """Makes the steps of each family of a plan."""

    def __init__(
        self,
        spec: Spec,
        facts: Facts,
        catalog: Catalog,
        places: Sequence[str],
        chosen: Sequence[Family],
    ) -> None:
        assert spec.encryption is not None
        self._declared = set(spec.encryption.recipients)
        self._spec = spec
        self._facts = facts
        self._places = places
        self._of = {each.id: one for one in chosen for each in one.going}
        self._naming: dict[str, list[Snapshot]] = {}
        for one in catalog.snapshots:
            for name in one.needs & self._of.keys():
                # What claims to need something newer is forged, and would make a circle.
                if self._of[name].head.sequence < one.sequence:
                    self._naming.setdefault(name, []).append(one)

    def steps_of(self, family: Family) -> Iterator[Step]:
        """Write what will stay, bring it everywhere, read it back, remove what is old."""
        targets = family.at(self._places)
        writing = self._write(family, targets) if family.rewritten else None
        if writing is not None:
            yield writing
        for target in targets:
            arriving = self._arrive(family, target, targets, writing)
            if arriving is not None:
                yield from (arriving,) if arriving is not writing else ()
                yield _sweep(family.new, target, arriving)
            yield _verify(family, target, arriving)
            for old in family.going:
                if target in old.targets:
                    removing = self._remove(family, old, target)
                    rest = replace(_sweep(old.id, target, removing), action="rekey.sweep")
                    yield from (removing, rest)

    def _write(self, family: Family, targets: Sequence[str]) -> Step:
        head = family.head
        last = head.created_at if head.rekeyed is None else head.rekeyed[1]
        at = max(self._facts.now, last + timedelta(seconds=1))
        before = None if head.predecessor is None else self._of.get(head.predecessor[0])
        if before is not None and before.head.sequence >= head.sequence:
            before = None  # forged, and would make a circle
        step = f"{before.head.id}.rekey" if before is not None and before.rewritten else None
        return Step(
            id=f"{head.id}.rekey",
            action="rekey.write",
            title=f"Encrypt {head.id} anew as {family.new}, at {targets[0]}",
            params={
                "snapshot": family.new,
                "old": head.id,
                "manifest_sha256": head.manifest_sha256,
                "targets": list(targets),
                "from": _holders(self._spec, head),
                "ids": {
                    old: self._of[old].new
                    for old in sorted({head.id, *head.needs} & self._of.keys())
                },
                "before": step,
                "predecessor": None if before is None or step else _link(before.head),
                "at": _stamp(at),
            },
            after=() if step is None else (step,),
            effect="writes",
            reason=self._why(head),
        )

    def _why(self, head: Snapshot) -> str:
        if not head.encrypted:
            return "it is not encrypted"
        there = set(head.recipients)
        lose, gain = len(there - self._declared), len(self._declared - there)
        parts = [f"recipients declared no more: {lose}"] if lose else []
        parts += [f"declared recipients that cannot open it: {gain}"] if gain else []
        return "; ".join(parts) or "it names snapshots that are encrypted anew"

    def _arrive(
        self, family: Family, target: str, targets: Sequence[str], writing: Step | None
    ) -> Step | None:
        """The step after which what will stay lies at a target; None where it does already."""
        if writing is not None and len(targets) == 1:
            return writing
        if writing is None and whole_at(family.head, target):
            locks = self._spec.target(target).options.get("lock") is not None
            return _hold(family, target) if locks else None
        origins = _holders(self._spec, family.head) if writing is None else targets
        return Step(
            id=f"{family.new}.copy.{target}",
            action="snapshot.copy",
            title=f"Copy {family.new} to {target}, unless it was written there",
            params={
                "snapshot": family.new,
                "from": [name for name in origins if name != target],
                "publish": None if writing is None else writing.id,
                "manifest_sha256": family.head.manifest_sha256 if writing is None else "",
                "target": target,
            },
            needs=() if writing is None else (writing.id,),
            effect="writes",
            retries=2,
            locks=(f"{TARGET_LOCK}{target}",),
            reason="the same bytes at every target",
        )

    def _remove(self, family: Family, old: Snapshot, target: str) -> Step:
        # What it names has to be there as well, and what names it must be gone.
        named = [self._of[name] for name in sorted(family.head.needs & self._of.keys())]
        named = [one for one in named if target in one.at([target])]
        naming = [
            one
            for one in self._naming.get(old.id, ())
            if target in one.targets and one.id in self._of
        ]
        return Step(
            id=f"{old.id}.remove.{target}",
            action="rekey.remove",
            title=f"Remove {old.id} from {target}: {family.new} stands for it",
            params={
                "snapshot": family.new,
                "old": old.id,
                "target": target,
                "written": f"{family.head.id}.rekey" if family.rewritten else None,
                "manifest_sha256": "" if family.rewritten else family.head.manifest_sha256,
            },
            needs=(
                f"{family.new}.verify.{target}",
                *(f"{one.new}.verify.{target}" for one in named),
                *(f"{one.id}.remove.{target}" for one in naming),
            ),
            effect="destroys",
            locks=(f"{TARGET_LOCK}{target}", "snapshots"),
            reason="what stands for it is there, and was read back",
        )


def _link(one: Snapshot) -> Mapping[str, str]:
    return {"id": one.id, "sha256": one.manifest_sha256}


def _stamp(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _holders(spec: Spec, one: Snapshot) -> list[str]:
    """The targets that hold a snapshot, those first of which nobody knows that they damaged it."""
    there = [name for name in spec.targets if name in one.targets]
    return sorted(there, key=lambda name: not whole_at(one, name))


def _hold(family: Family, target: str) -> Step:
    return Step(
        id=f"{family.new}.hold.{target}",
        action="rekey.hold",
        title=f"Lock {family.new} at {target}",
        params={"snapshot": family.new, "target": target},
        effect="writes",
        locks=(f"{TARGET_LOCK}{target}",),
        reason="an earlier run wrote it, and may have been stopped before it was locked",
    )


def _sweep(snapshot: str, target: str, step: Step) -> Step:
    return Step(
        id=f"{snapshot}.sweep.{target}",
        action="snapshot.sweep",
        title=f"Remove what is left of {snapshot} at {target}, if it has no manifest",
        params={"snapshot": snapshot, "target": target},
        after=(step.id,),
        effect="writes",
        when="failure",
        locks=(f"{TARGET_LOCK}{target}",),
        reason=f"runs only if {step.id} was not finished",
    )


def _verify(family: Family, target: str, arriving: Step | None) -> Step:
    step = Step(
        id=f"{family.new}.verify.{target}",
        action="snapshot.verify",
        title=f"Verify {family.new} at {target} ({VERIFY_LEVELS[0]})",
        params={
            "snapshot": family.new,
            "target": target,
            "level": VERIFY_LEVELS[0],
            "sources": [],
            "sample": 1.0,
            **({} if family.rewritten else family.head.last_word(target)),
        },
        locks=(f"{TARGET_LOCK}{target}",),
        reason="nothing is removed before what replaces it was read back",
    )
    return step if arriving is None else replace(step, needs=(arriving.id,))
