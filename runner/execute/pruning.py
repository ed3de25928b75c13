"""Removing what retention lets go, and what unfinished runs left, under the target's lock."""

from __future__ import annotations

from datetime import datetime

from runner.execute.actions.base import Outputs
from runner.execute.context import Context
from runner.execute.removing import Swept, remove_snapshot, sweep_abandoned
from runner.plan.model import Step
from runner.store.catalog import Catalog, read_catalog
from runner.store.records import Records, obsolete, write_record
from runner.store.retention import decide, newest_is_unverified
from runner.store.snapshot import MANIFEST, folder_of
from runner.target import Target
from runner.target.protection import held_until, words


def prune_and_sweep(step: Step, context: Context) -> Outputs:
    """Remove what the plan names and retention still lets go now that the lock is held."""
    spec, params = context.spec, step.params
    target = context.target(params["target"])
    parent = folder_of(spec.project, spec.profile)
    with target.lock(f"{parent}/.prune", f"run {context.run}"):
        now = datetime.fromisoformat(params["now"])
        for pin in params.get("pins", ()):
            given = datetime.fromisoformat(pin["at"])
            write_record(target, spec.project, spec.profile, "pin", pin, given)
        catalog = read_catalog(
            {target.name: target}, spec.project, spec.profile, cache=spec.state / "cache", now=now
        )
        let_go = _let_go(step, context, catalog, now)
        locked, removed = {}, []
        foreign = []
        for snapshot in (one for one in params["remove"] if one in let_go):
            folder = folder_of(spec.project, spec.profile, snapshot)
            until = held_until(target, f"{folder}/{MANIFEST}")
            if until is not None:
                locked[snapshot] = [words(until)]
                continue
            foreign += remove_snapshot(target, folder, spec.sources)
            removed.append(snapshot)
        swept = Swept()
        if target.name not in context.swept:  # each policy is pruned by itself
            swept = sweep_abandoned(target, spec.project, spec.profile, spec.sources)
            context.swept.add(target.name)
        _forget_records(context, target, catalog.records.get(target.name, Records()))
    return {
        "removed": [{"id": one, "target": target.name} for one in removed],
        "kept": [
            {"id": one, "target": target.name, "reasons": reasons}
            for one, reasons in {**params["kept"], **locked}.items()
        ],
        "swept": swept.removed,
        "foreign": sorted({*foreign, *swept.foreign}),
        "damaged": [
            {"id": one, "target": name, "reason": reason} for name, one, reason in catalog.damaged
        ],
    }


def _let_go(step: Step, context: Context, catalog: Catalog, now: datetime) -> set[str]:
    """The snapshots of one target that retention lets go by what is there now."""
    spec, target = context.spec, step.params["target"]
    policy = spec.policy(step.params["policy"])
    known = catalog.at_target(target)
    decisions = decide(
        known,
        spec.keep_at(policy, target),
        now=now,
        timezone=spec.timezone,
        policy=policy.name,
        target=target,
        unverified=newest_is_unverified(known, policy.name, target),
    )
    return {one.id for one in decisions if not one.keep}


def _forget_records(context: Context, target: Target, records: Records) -> None:
    ids = set(target.folders(folder_of(context.spec.project, context.spec.profile)))
    for key in obsolete(records, ids):
        target.delete(key)
