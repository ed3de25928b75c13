"""Compiles a verification: a step for each snapshot at each target."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from runner.errors import StepFailed, UsageError
from runner.plan.choose import LATEST
from runner.plan.model import Plan, Step
from runner.spec.model import VERIFY_LEVELS, Spec
from runner.store.catalog import Catalog, Snapshot

SAMPLED = VERIFY_LEVELS[0]  # the level that may read a part of the files only


def compile_verify(
    spec: Spec,
    catalog: Catalog,
    *,
    snapshot: str = LATEST,
    level: str | None = None,
    sources: Sequence[str] = (),
    sample: float = 1.0,
) -> Plan:
    """The plan of a verification; a sample is one of stored files. Pure. Raises UsageError for
    what does not exist, StepFailed where no target can be read.
    """
    if level is not None and level not in VERIFY_LEVELS:
        raise UsageError(
            f"There is no level `{level}`.", remedy=f"Known: {', '.join(VERIFY_LEVELS)}."
        )
    if sample < 1.0 and level is None:
        level = SAMPLED
    for name in sources:
        spec.source(name)
    chosen, damaged = _asked(spec, catalog, snapshot, sources)
    if sources:
        chosen = [one for one in chosen if set(sources) & set(one.sources)]
    steps = [
        _step(spec, one, target, level, sources, sample) for one in chosen for target in one.targets
    ]
    steps += [_damaged(target, one, reason) for target, one, reason in damaged]
    if not steps and catalog.unreachable:
        raise StepFailed(
            f"Nothing could be verified: {'; '.join(catalog.unreachable.values())}",
            remedy="Make a target reachable, and verify again.",
        )
    if not steps:
        raise UsageError(
            "There is no snapshot to verify.", remedy="`list` shows what there is, and where."
        )
    return Plan("verify", spec.project, spec.profile, spec.digest, tuple(steps))


def _asked(
    spec: Spec, catalog: Catalog, snapshot: str, sources: Sequence[str]
) -> tuple[list[Snapshot], list[tuple[str, str, str]]]:
    """The snapshots that were asked for, and the copies of them that are known to be damaged."""
    if snapshot == LATEST:
        return _newest(spec, catalog, sources), list(catalog.damaged)
    known = snapshot not in catalog.by_id and any(one[1] == snapshot for one in catalog.damaged)
    chosen = [] if known else [catalog.find(snapshot)]
    names = {snapshot, *(one.id for one in chosen)}
    return chosen, [one for one in catalog.damaged if one[1] in names]


def _newest(spec: Spec, catalog: Catalog, sources: Sequence[str]) -> list[Snapshot]:
    """The newest snapshot of each policy at each target, and of each source there that it lacks;
    or only of those that are asked for. And those that hold its content.
    """
    newest: dict[str, Snapshot] = {}
    for policy, target in product(spec.policies.values(), spec.targets):
        held = [one for one in catalog.at_target(target) if one.policy == policy.name]
        each: Sequence[str | None] = sources or [None, *policy.sources]
        for wanted in each:
            found = next((one for one in held if wanted is None or wanted in one.covers), None)
            if found is not None:
                newest[found.id] = found
    holders = (catalog.holder(one, name) for one in newest.values() for name in one.unchanged)
    held_by = {one.id: one for one in holders if one is not None}
    return list((newest | held_by).values())


def _step(
    spec: Spec,
    snapshot: Snapshot,
    target: str,
    level: str | None,
    sources: Sequence[str],
    sample: float,
) -> Step:
    policy = spec.policies.get(snapshot.policy)
    depth = level or (policy.verify if policy else VERIFY_LEVELS[0])
    return Step(
        id=f"{snapshot.id}.verify.{target}",
        action="snapshot.verify",
        title=f"Verify {snapshot.id} at {target} ({depth})",
        params={
            "snapshot": snapshot.id,
            "target": target,
            "level": depth,
            "sources": [name for name in sources if name in snapshot.sources],
            "sample": sample if depth == SAMPLED else 1.0,
            **snapshot.last_word(target),
        },
        reason="asked for" if sample == 1.0 or depth == SAMPLED else f"{depth} reads everything",
    )


def _damaged(target: str, snapshot: str, reason: str) -> Step:
    return Step(
        id=f"{snapshot}.verify.{target}",
        action="snapshot.verify",
        title=f"Verify {snapshot} at {target}: {reason}",
        params={
            "snapshot": snapshot,
            "target": target,
            "level": VERIFY_LEVELS[0],
            "sources": [],
            "sample": 1.0,
        },
        reason=f"its manifest is damaged: {reason}",
    )
