"""Which copies are still to be made: snapshots that a target lacks and another one has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from runner.spec.model import Policy, Spec
from runner.store.catalog import Catalog, Snapshot
from runner.store.chain import Link
from runner.store.records import FAIL, PASS
from runner.store.retention import decide
from runner.store.view import by_age


@dataclass(frozen=True)
class Outstanding:
    """A copy that is still to be made."""

    snapshot: Snapshot
    target: str  # can be read, and lacks it
    origins: tuple[str, ...]  # never empty: the targets that have it whole, as far as is known

    @property
    def reason(self) -> str:
        """Why the copy is made."""
        seen = any(
            one.target == self.target and one.verdict == PASS for one in self.snapshot.proofs
        )
        words = "has lost" if seen else "lacks"
        if self.target in self.snapshot.targets:
            words = "has a damaged copy of"
        return f"{self.target} {words} {self.snapshot.id}: copied from {self.origins[0]}"


def whole_at(snapshot: Snapshot, target: str) -> bool:
    """Whether a target has a snapshot, and no later look at its bytes said that it is damaged."""
    return target in snapshot.targets and damage(snapshot, target) is None


def whole_first(snapshot: Snapshot, targets: Iterable[str]) -> list[str]:
    """These targets in their order; last those whose copy of a snapshot is not whole."""
    return sorted(targets, key=lambda name: not whole_at(snapshot, name))


def damage(snapshot: Snapshot, target: str) -> str | None:
    """What the last look at the bytes of a copy found wrong with it; None: nothing."""
    looks = [one for one in snapshot.proofs if one.target == target]
    # A check that failed on what was restored says nothing of the copy.
    fails = [one for one in looks if one.verdict == FAIL and one.basis == "stored"]
    passes = [one for one in looks if one.verdict == PASS]
    return next(
        (
            bad.reason
            for bad in fails
            if not any(
                good.place > bad.place and bad.source in ("", good.source) for good in passes
            )
        ),
        None,
    )


def behind(spec: Spec, catalog: Catalog, target: str) -> list[Snapshot]:
    """The snapshots of each policy that are newer than its newest whole one at a target."""
    return [
        one
        for policy in spec.policies.values()
        if target in policy.targets
        for one in _newer(catalog, policy, target)
    ]


@dataclass(frozen=True)
class Waiting:
    """A copy that waits for a target that cannot be read."""

    snapshot: str
    target: str
    reason: str  # why it cannot be read


def waiting(
    policies: Iterable[Policy], catalog: Catalog, remembered: Mapping[str, Link]
) -> tuple[Waiting, ...]:
    """The newest snapshot of each policy, at targets that cannot be read and are not `remembered`
    to have got it.
    """
    found = []
    for policy in policies if remembered else ():
        newest = next((one for one in catalog.snapshots if one.policy == policy.name), None)
        if newest is None:
            continue
        for target in policy.targets:
            link = remembered.get(target)
            got = link is not None and link.sequence >= newest.sequence
            if target in catalog.unreachable and not got:
                found.append(Waiting(newest.id, target, catalog.unreachable[target]))
    return tuple(found)


def outstanding(
    spec: Spec, catalog: Catalog, policy: Policy, now: datetime
) -> tuple[Outstanding, ...]:
    """The copies of a policy's snapshots that are to be made, for each target the oldest first.

    A target gets what holds the newest content of each source, and what it missed since its own
    newest snapshot, as far as its retention keeps that.
    """
    return tuple(
        one
        for target in policy.targets
        if target not in catalog.unreachable
        for one in _at_target(spec, catalog, policy, target, now)
    )


def awaited(
    spec: Spec, catalog: Catalog, policy: Policy, target: str, now: datetime
) -> Mapping[str, str]:
    """The snapshots that a target must not lose before others got them: by id, and why."""
    found: dict[str, list[str]] = {}
    for one in outstanding(spec, catalog, policy, now):
        if one.origins[0] == target:
            found.setdefault(one.snapshot.id, []).append(one.target)
    return {name: _why_awaited(catalog, others) for name, others in found.items()}


def _why_awaited(catalog: Catalog, targets: Iterable[str]) -> str:
    """Of a target that nobody asked, nothing is known."""
    lacking = [name for name in targets if name in catalog.records]
    unasked = [name for name in targets if name not in catalog.records]
    words = [f"still to be copied to {', '.join(lacking)}"] if lacking else []
    words += [f"nobody asked {' or '.join(unasked)} for it"] if unasked else []
    return " and ".join(words)


def _at_target(
    spec: Spec, catalog: Catalog, policy: Policy, target: str, now: datetime
) -> Iterator[Outstanding]:
    # A manifest that is another one is for a person to look at: nothing overwrites it.
    strange = {name for where, name, _ in catalog.damaged if where == target}
    wanted = {**_content(catalog, policy), **_missed(spec, catalog, policy, target, now)}
    for one in sorted(wanted.values(), key=by_age):
        if whole_at(one, target) or one.id in strange:
            continue
        names = [*policy.targets, *(name for name in one.targets if name not in policy.targets)]
        origins = tuple(name for name in names if whole_at(one, name))
        if origins:
            yield Outstanding(one, target, origins)


def _content(catalog: Catalog, policy: Policy) -> dict[str, Snapshot]:
    """The policy's newest snapshot, and those that hold the newest content of its sources."""
    own = (one for one in catalog.snapshots if one.policy == policy.name)
    newest = next(own, None)
    holders = [catalog.newest(source, policy=policy.name) for source in policy.sources]
    return {one.id: one for one in (newest, *holders) if one is not None}


def _missed(
    spec: Spec, catalog: Catalog, policy: Policy, target: str, now: datetime
) -> dict[str, Snapshot]:
    """What came after the target's own newest snapshot and would stay there."""
    newer = {one.id: one for one in _newer(catalog, policy, target)}
    there = [one for one in catalog.at_target(target) if one.id not in newer]
    if not newer or not any(one.policy == policy.name for one in there):
        return {}  # a new target begins with what is new
    decisions = decide(
        [*there, *(replace(one, targets=(*one.targets, target)) for one in newer.values())],
        spec.keep_at(policy, target),
        now=now,
        timezone=spec.timezone,
        policy=policy.name,
        target=target,
        unverified=False,
    )
    return {one.id: newer[one.id] for one in decisions if one.keep and one.id in newer}


def _newer(catalog: Catalog, policy: Policy, target: str) -> Iterator[Snapshot]:
    """The policy's snapshots, newest first, down to the newest that is whole at a target, with
    what it calls unchanged.
    """
    for one in catalog.snapshots:
        if one.policy == policy.name:
            holders = [catalog.holder(one, source) for source in one.unchanged]
            if all(each is not None and whole_at(each, target) for each in (one, *holders)):
                return
            yield one
