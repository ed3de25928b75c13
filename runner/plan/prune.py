"""Compiles a prune: for each policy and target, which snapshots go, and why the others stay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from runner.plan.facts import Facts
from runner.plan.model import Plan, Step
from runner.plan.outstanding import awaited
from runner.spec.model import Policy, Spec
from runner.store.catalog import Catalog, Snapshot
from runner.store.pinned import untold
from runner.store.records import body_of
from runner.store.retention import decide, newest_is_unverified


def compile_prune(
    spec: Spec,
    facts: Facts,
    catalog: Catalog,
    policies: Collection[str] = (),
    targets: Collection[str] = (),
) -> Plan:
    """The plan that applies retention. Pure."""
    asked = [
        (policy, target)
        for policy in spec.policies.values()
        for target in policy.targets
        if (not policies or policy.name in policies) and (not targets or target in targets)
    ]
    steps = [
        prune_step(spec, facts, catalog, policy, target, None, ())
        for policy, target in asked
        if target not in catalog.unreachable
    ]
    unread = {name: catalog.unreachable[name] for _, name in asked if name in catalog.unreachable}
    more = {"unread": unread} if unread else {}
    return Plan("prune", spec.project, spec.profile, spec.digest, tuple(steps), facts=more)


def prune_step(
    spec: Spec,
    facts: Facts,
    catalog: Catalog,
    policy: Policy,
    target: str,
    fresh: Snapshot | None,
    needs: tuple[str, ...],
) -> Step:
    """The step that removes what a policy's retention lets go at one target.

    `fresh` is the snapshot that will be there by then, and will have been verified.
    """
    known = catalog.at_target(target)
    snapshots = known if fresh is None else [fresh, *known]
    decisions = decide(
        snapshots,
        spec.keep_at(policy, target),
        now=facts.now,
        timezone=spec.timezone,
        policy=policy.name,
        target=target,
        unverified=fresh is None and newest_is_unverified(known, policy.name, target),
        awaited=awaited(spec, catalog, policy, target, facts.now),
    )
    remove = [one.id for one in decisions if not one.keep]
    whose = f"{target}'s own" if spec.target(target).keep else "the policy's"
    return Step(
        id=f"{policy.name}.prune.{target}",
        action="snapshot.prune",
        title=f"Prune {policy.name} at {target}: remove {len(remove)} of {len(decisions)}",
        params={
            "policy": policy.name,
            "target": target,
            "now": facts.now.isoformat().replace("+00:00", "Z"),
            "remove": remove,
            "kept": {one.id: list(one.reasons) for one in decisions if one.keep},
            # With what was encrypted anew nothing goes that is not there twice.
            "too_many": _too_many([one.keep for one in decisions if not one.replaced]),
            **_untold(catalog, policy, target, facts),
        },
        needs=needs,
        effect="destroys",
        locks=("snapshots",),
        reason=f"{whose} `keep` says how long; the newest verified snapshot always stays",
    )


def _untold(
    catalog: Catalog, policy: Policy, target: str, facts: Facts
) -> dict[str, list[dict[str, Any]]]:
    """The pins of a policy's snapshots that a target does not know, as the step's parameter; empty
    where it knows all.
    """
    ids = {one.id for one in catalog.at_target(target) if one.policy == policy.name}
    records = {**catalog.records, "": catalog.said}
    found = untold(records, target, ids, facts.now) if target in catalog.records else []
    return {"pins": [body_of(one) for one in found]} if found else {}


def _too_many(kept: Collection[bool]) -> bool:
    """Whether more than half of so many snapshots go."""
    return sum(not one for one in kept) * 2 > len(kept)
