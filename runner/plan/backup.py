"""Compiles a backup: capture, publish, copy, verify, prune; once for each policy. Then the copies
that earlier backups could not make.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.plan.facts import Facts
from runner.plan.model import TARGET_LOCK, Plan, Step
from runner.plan.outstanding import Outstanding, outstanding
from runner.plan.prune import prune_step
from runner.spec.model import VERIFY_LEVELS, Policy, Spec
from runner.store.catalog import Catalog, Snapshot, SourceView, next_sequence, predecessor
from runner.store.snapshot import SnapshotId


@dataclass(frozen=True)
class Due:
    """A policy that is to run, and why."""

    policy: Policy
    reason: str
    sources: Sequence[str]  # those to capture


@dataclass(frozen=True)
class Wanted:
    """What the user asked a backup for."""

    due: Sequence[Due]
    sources: Collection[str] = ()  # empty: all of each policy
    prune: bool = True
    last_marks: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # (mark, snapshot id)
    complete: Sequence[Policy] = ()  # whose missing copies are made, due or not


def compile_backup(spec: Spec, facts: Facts, catalog: Catalog, wanted: Wanted) -> Plan:
    """The plan of a backup. Pure. Raises SpecError where the recipients wait for a variable."""
    spec.require("encryption")
    steps: list[Step] = []
    earlier: tuple[str, ...] = ()
    for offset, due in enumerate(wanted.due):
        place = _Link(
            snapshot=str(SnapshotId(facts.now, due.policy.name, facts.token)),
            sequence=_sequence(facts, catalog) + offset,
            predecessor=_predecessor(facts, catalog),
            earlier=earlier,
        )
        steps += _policy_steps(spec, facts, catalog, wanted, due, place)
        earlier = (f"{due.policy.name}.publish",)
    known = {step.id for step in steps}
    for policy in wanted.complete:
        for copy in outstanding(spec, catalog, policy, facts.now):
            steps += _completing(policy, copy, known)
    return Plan(
        kind="backup",
        project=spec.project,
        profile=spec.profile,
        spec_digest=spec.digest,
        steps=tuple(steps),
        facts={
            "newest": catalog.snapshots[0].id if catalog.snapshots else None,
            "resolved": spec.resolved,
        },
    )


@dataclass(frozen=True)
class _Link:
    """Where a new snapshot stands in the chain of snapshots."""

    snapshot: str
    sequence: int
    predecessor: Mapping[str, str] | None  # the newest one that is published already
    earlier: tuple[str, ...]  # the publishing step before this one in the same plan


def _sequence(facts: Facts, catalog: Catalog) -> int:
    """One more than the highest number there is, also at a target that is out of reach."""
    known = (link.sequence for link in facts.remembered.values())
    return max([next_sequence(catalog) - 1, *known]) + 1


def _predecessor(facts: Facts, catalog: Catalog) -> Mapping[str, str] | None:
    """The newest snapshot: the one known to lie at a target out of reach, if that is it."""
    away = [link for name, link in facts.remembered.items() if name in catalog.unreachable]
    newest = max(away, key=lambda link: link.sequence, default=None)
    if newest is not None and newest.sequence >= next_sequence(catalog):
        return {"id": newest.id, "sha256": newest.sha256}
    return predecessor(catalog)


def _policy_steps(
    spec: Spec, facts: Facts, catalog: Catalog, wanted: Wanted, due: Due, link: _Link
) -> list[Step]:
    policy, snapshot = due.policy, link.snapshot
    names = [name for name in due.sources if not wanted.sources or name in wanted.sources]
    # What cannot even be read now is tried last.
    places = sorted(policy.targets, key=lambda name: name in catalog.unreachable)
    captures = [
        _capture(spec, facts, catalog, wanted, due, snapshot, name, places) for name in names
    ]
    publish = _publish(facts, due.policy, link, captures, places, catalog)
    steps = [*captures, publish]
    for target in policy.targets:
        arrived = publish.id
        if len(places) > 1:
            copy = _copy(policy, snapshot, places, target, publish.id)
            steps.append(copy)
            arrived = copy.id
        verify = _verify(policy, snapshot, target, arrived)
        steps += [_sweep(policy, snapshot, target, arrived), verify]
        if wanted.prune and not spec.keep_at(policy, target).forever:
            fresh = _expected(policy, link, facts, names, target)
            steps.append(prune_step(spec, facts, catalog, policy, target, fresh, (verify.id,)))
    return steps


def _publish(
    facts: Facts,
    policy: Policy,
    link: _Link,
    captures: Sequence[Step],
    places: Sequence[str],
    catalog: Catalog,
) -> Step:
    over = policy.targets[: policy.targets.index(places[0])]
    yields = "".join(
        f"; {name} cannot be read, so {places[0]} takes its place: {catalog.unreachable[name]}"
        for name in over
    )
    return Step(
        id=f"{policy.name}.publish",
        action="snapshot.publish",
        title=f"Publish the snapshot {link.snapshot} at {places[0]}",
        params={
            "policy": policy.name,
            "snapshot": link.snapshot,
            "targets": list(places),
            "sequence": link.sequence,
            "created_at": facts.now.isoformat().replace("+00:00", "Z"),
            "host": facts.host,
            "predecessor": link.predecessor,
            "earlier": list(link.earlier),
            "captures": {step.params["source"]: step.id for step in captures},
        },
        after=(*(step.id for step in captures), *link.earlier),
        effect="writes",
        reason=f"a snapshot is visible once its manifest is written{yields}",
    )


def _capture(
    spec: Spec,
    facts: Facts,
    catalog: Catalog,
    wanted: Wanted,
    due: Due,
    snapshot: str,
    name: str,
    places: Sequence[str],
) -> Step:
    policy = due.policy
    params = {
        "policy": policy.name,
        "source": name,
        "snapshot": snapshot,
        "targets": list(places),
        "mark": facts.marks.get(name),
    }
    mark, known = wanted.last_marks.get(name, (None, None))
    if policy.skip_unchanged and mark is not None and facts.marks.get(name) == mark:
        return Step(
            id=f"{policy.name}.{name}.capture",
            action="source.unchanged",
            title=f"Record that {name} is unchanged",
            params={**params, "unchanged": known},
            reason=f"skipped: unchanged since {known}",
        )
    source, last = spec.source(name), catalog.newest(name)
    expected_bytes = 0 if last is None else last.sources[name].bytes
    return Step(
        id=f"{policy.name}.{name}.capture",
        action="source.capture",
        title=f"Capture {name} ({source.type})",
        params={**params, "expected_bytes": expected_bytes},
        effect="writes",
        timeout=policy.timeout,
        expected=policy.expected,
        locks=(f"source:{name}",),
        reason=due.reason,
    )


def _copy(policy: Policy, snapshot: str, places: Sequence[str], target: str, publish: str) -> Step:
    first = target == places[0]
    origins = [name for name in places if name != target]
    return Step(
        id=f"{policy.name}.copy.{target}",
        action="snapshot.copy",
        title=f"Copy the snapshot to {target}, if another target had to take its place"
        if first
        else f"Copy the snapshot from {origins[0]} to {target}",
        params={
            "policy": policy.name,
            "snapshot": snapshot,
            "from": origins,
            "publish": publish,
            "target": target,
        },
        needs=(publish,),
        effect="writes",
        timeout=policy.timeout,
        retries=2,
        locks=(f"{TARGET_LOCK}{target}",),
        reason=f"{target} is to take the snapshot first; if it cannot, it is tried again last"
        if first
        else "each target alone must be enough to recover",
    )


def _completing(policy: Policy, copy: Outstanding, known: Collection[str]) -> list[Step]:
    """The steps that bring an older snapshot to where it is missing, after what is new."""
    snapshot, target = copy.snapshot.id, copy.target
    name = f"{policy.name}.{snapshot}"
    first = Step(
        id=f"{name}.copy.{target}",
        action="snapshot.copy",
        title=f"Copy {snapshot} from {copy.origins[0]} to {target}",
        params={
            "policy": policy.name,
            "snapshot": snapshot,
            "from": list(copy.origins),
            "publish": None,
            "manifest_sha256": copy.snapshot.manifest_sha256,
            "target": target,
        },
        after=tuple({f"{policy.name}.verify.{target}"} & set(known)),
        effect="writes",
        timeout=policy.timeout,
        retries=2,
        locks=(f"{TARGET_LOCK}{target}",),
        reason=copy.reason,
    )
    # Whoever may only write cannot read it any more: what is stored is what can be looked at.
    verify = _verify(replace(policy, verify=VERIFY_LEVELS[0]), snapshot, target, first.id)
    sweep = _sweep(policy, snapshot, target, first.id)
    title = f"Verify {snapshot} at {target} ({VERIFY_LEVELS[0]})"
    return [
        first,
        replace(sweep, id=f"{name}.sweep.{target}"),
        replace(
            verify,
            id=f"{name}.verify.{target}",
            title=title,
            params={**verify.params, **copy.snapshot.last_word(target)},
        ),
    ]


def _sweep(policy: Policy, snapshot: str, target: str, arrived: str) -> Step:
    return Step(
        id=f"{policy.name}.sweep.{target}",
        action="snapshot.sweep",
        title=f"Remove what is unfinished at {target}",
        params={"snapshot": snapshot, "target": target},
        after=(arrived,),
        effect="writes",
        when="failure",
        timeout=policy.timeout,
        locks=(f"{TARGET_LOCK}{target}",),
        reason="runs only if the snapshot was not finished there",
    )


def _verify(policy: Policy, snapshot: str, target: str, arrived: str) -> Step:
    return Step(
        id=f"{policy.name}.verify.{target}",
        action="snapshot.verify",
        title=f"Verify the snapshot at {target} ({policy.verify})",
        params={
            "snapshot": snapshot,
            "target": target,
            "level": policy.verify,
            "sources": [],
            "sample": 1.0,
        },
        needs=(arrived,),
        timeout=policy.timeout,
        # The deeper levels work this machine more than the target.
        locks=(f"{TARGET_LOCK}{target}",) if policy.verify == VERIFY_LEVELS[0] else (),
        reason="nothing is called done before it is read back",
    )


def _expected(
    policy: Policy, link: _Link, facts: Facts, names: Sequence[str], target: str
) -> Snapshot:
    """The snapshot that this backup will add, as retention must count it."""
    views = {name: SourceView(facts.now, "", 0) for name in names}
    return Snapshot.expected(
        id=link.snapshot,
        policy=policy.name,
        sequence=link.sequence,
        created_at=facts.now,
        sources=views,
        target=target,
    )
