"""Removing what retention lets go, and what unfinished runs left, under the target's lock."""

from __future__ import annotations

from datetime import datetime

from runner.execute.actions.base import Outputs
from runner.execute.actions.snapshot import remove_snapshot
from runner.execute.context import Context
from runner.plan.model import Step
from runner.store.catalog import Catalog, read_catalog
from runner.store.records import obsolete, read_records
from runner.store.retention import decide, newest_is_unverified
from runner.store.snapshot import MANIFEST, SnapshotId, folder_of
from runner.target import Target
from runner.target.protection import held_until, words

# An unfinished run's folder may still be written to; a run is over long before this.
ABANDONED_SECONDS = 48 * 3600


def prune_and_sweep(step: Step, context: Context) -> Outputs:
    """Remove what the plan names and retention still lets go now that the lock is held."""
    spec, params = context.spec, step.params
    target = context.target(params["target"])
    parent = folder_of(spec.project, spec.profile)
    with target.lock(f"{parent}/.prune", f"run {context.run}"):
        now = datetime.fromisoformat(params["now"])
        catalog = read_catalog(
            {target.name: target}, spec.project, spec.profile, cache=None, now=now
        )
        let_go = _let_go(step, context, catalog, now)
        locked, removed = {}, []
        for snapshot in (one for one in params["remove"] if one in let_go):
            folder = folder_of(spec.project, spec.profile, snapshot)
            until = held_until(target, f"{folder}/{MANIFEST}")
            if until is not None:
                locked[snapshot] = [words(until)]
                continue
            remove_snapshot(target, folder)
            removed.append(snapshot)
        swept = sweep_abandoned(target, spec.project, spec.profile)
        _forget_records(context, target)
    return {
        "removed": [{"id": one, "target": target.name} for one in removed],
        "kept": [
            {"id": one, "target": target.name, "reasons": reasons}
            for one, reasons in {**params["kept"], **locked}.items()
        ],
        "swept": swept,
        "damaged": [
            {"id": one, "target": name, "reason": reason} for name, one, reason in catalog.damaged
        ],
    }


def sweep_abandoned(target: Target, project: str, profile: str) -> list[str]:
    """Remove folders that an interrupted run left without a manifest, once they are old."""
    parent = folder_of(project, profile)
    now = target.now()
    swept = []
    for name in target.folders(parent):
        try:
            SnapshotId.parse(name)
        except Exception:  # noqa: BLE001, S112 - whatever does not parse is not ours
            continue
        entries = list(target.entries(f"{parent}/{name}"))
        if any(entry.key.endswith(f"/{MANIFEST}") for entry in entries):
            continue
        if all((now - entry.modified).total_seconds() > ABANDONED_SECONDS for entry in entries):
            for entry in entries:
                target.delete(entry.key)
            swept.append(name)
    return [*swept, *target.sweep(parent, ABANDONED_SECONDS)]


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


def _forget_records(context: Context, target: Target) -> None:
    spec = context.spec
    records = read_records(target, spec.project, spec.profile, None)
    ids = set(target.folders(folder_of(spec.project, spec.profile)))
    for key in obsolete(records, ids):
        target.delete(key)
