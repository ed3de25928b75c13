"""The chain of snapshots: does what lies at a target follow from what was known before?

Each manifest names the one before it, with its hash. A prune takes links out of the middle, so
a link that is gone proves nothing; a link that has another hash does. That the newest snapshots
were taken away (a rollback) shows only against something else: another target, or what this
host remembers to have written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.store.catalog import Catalog
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS
from runner.store.view import Snapshot


@dataclass(frozen=True)
class Link:
    """A snapshot as something outside the target remembers it."""

    id: str
    sequence: int
    sha256: str  # of its manifest


@dataclass(frozen=True)
class Gap:
    """Something that does not follow, or cannot be told."""

    target: str
    snapshot: str  # where it shows
    verdict: str  # FAIL: replaced or taken away; COULD-NOT-VERIFY: nothing to compare with
    reason: str


def chain_gaps(catalog: Catalog, target: str, *, remembered: Link | None) -> tuple[Gap, ...]:
    """What is wrong or unknown about the snapshots at a target; empty when all follows.

    `remembered` is the newest snapshot that this host knows to have been at the target and not
    to have been deleted by a person.
    """
    here = catalog.at_target(target)
    gaps = [*_replaced(catalog, here, target), *_taken_away(catalog, here, target)]
    if remembered is not None:
        gaps += _against(remembered, here, target)
    elif here and not gaps and not _another_is_as_new(catalog, here[0], target):
        reason = "neither another target nor this host knows what came after it"
        gaps.append(Gap(target, here[0].id, COULD_NOT_VERIFY, reason))
    return tuple(gaps)


@dataclass(frozen=True)
class Guard:
    """What would show at a target that its newest snapshots were taken away or replaced."""

    target: str
    verdict: str  # PASS: compared, and all is there; COULD-NOT-VERIFY; FAIL
    reason: str


def guard(catalog: Catalog, target: str, *, remembered: Link | None) -> Guard:
    """How sure one can be that a target was not set back to an older state."""
    gaps = chain_gaps(catalog, target, remembered=remembered)
    for verdict in (FAIL, COULD_NOT_VERIFY):
        reasons = [f"{one.snapshot}: {one.reason}" for one in gaps if one.verdict == verdict]
        if reasons:
            return Guard(target, verdict, "; ".join(reasons))
    here = catalog.at_target(target)
    if not here:
        return Guard(target, COULD_NOT_VERIFY, "it holds no snapshot, and nobody knows of one")
    seconds = sorted(
        {
            name
            for one in catalog.snapshots
            if one.sequence >= here[0].sequence
            for name in one.targets
            if name != target
        }
    )
    known = [] if remembered is None else ["this host remembers nothing newer that it wrote there"]
    known += [f"{name} has nothing newer" for name in seconds]
    return Guard(target, PASS, "; ".join(known))


def _replaced(catalog: Catalog, here: list[Snapshot], target: str) -> Iterator[Gap]:
    """Manifests that are not those which their successors, or other targets, know."""
    differing = {one[:2]: one[2] for one in catalog.damaged}
    for (name, snapshot), reason in differing.items():
        if name == target:
            yield Gap(target, snapshot, FAIL, reason)
    for one in here:
        if one.predecessor is None:
            continue
        snapshot, sha256 = one.predecessor
        before = catalog.by_id.get(snapshot)
        if before is not None and before.manifest_sha256 != sha256:
            reason = f"its predecessor {snapshot} has another manifest than it had then"
            yield Gap(target, one.id, FAIL, reason)


def _taken_away(catalog: Catalog, here: list[Snapshot], target: str) -> Iterator[Gap]:
    """Snapshots newer than all that is here, which were verified here once."""
    newest = here[0].sequence if here else 0
    policies = {one.policy for one in here}
    for one in catalog.snapshots:
        if one.sequence <= newest:
            return
        if target in catalog.unreachable or target in one.targets:
            continue
        seen = [each for each in one.proofs if each.target == target and each.verdict == PASS]
        if seen:
            reason = f"it was verified here at {seen[0].at:%Y-%m-%d %H:%M} UTC, and is gone"
            yield Gap(target, one.id, FAIL, reason)
        elif one.policy in policies:
            reason = f"{', '.join(one.targets)} has it: never copied here, or taken away"
            yield Gap(target, one.id, COULD_NOT_VERIFY, reason)


def _against(remembered: Link, here: list[Snapshot], target: str) -> Iterator[Gap]:
    there = next((one for one in here if one.id == remembered.id), None)
    if there is not None and there.manifest_sha256 != remembered.sha256:
        reason = "its manifest is not the one that was written"
        yield Gap(target, remembered.id, FAIL, reason)
    if there is None and (not here or here[0].sequence < remembered.sequence):
        reason = "it was the newest here, and is gone"
        yield Gap(target, remembered.id, FAIL, reason)


def _another_is_as_new(catalog: Catalog, newest: Snapshot, target: str) -> bool:
    return any(
        one.sequence >= newest.sequence and set(one.targets) - {target} for one in catalog.snapshots
    )
