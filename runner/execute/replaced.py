"""Removing a snapshot for which `rekey` wrote another one, where that one is whole."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from runner.errors import StepFailed
from runner.execute.actions.base import Outputs
from runner.execute.context import Context
from runner.execute.locks import SNAPSHOT_LOCK, held
from runner.execute.remembering import forget, recall, remember
from runner.execute.removing import remove_snapshot
from runner.plan.model import Step
from runner.store.cache import Cache, cache_file
from runner.store.catalog import read_manifest
from runner.store.chain import Link
from runner.store.records import Pin, body_of, pins, read_records, write_record
from runner.store.snapshot import MANIFEST, folder_of
from runner.target import NotAllowed, Target
from runner.target.protection import held_until, protect, words


def hold(step: Step, context: Context) -> Outputs:
    """Lock the files of a snapshot as its target asks."""
    target = context.target(step.params["target"])
    folder = folder_of(context.spec.project, context.spec.profile, step.params["snapshot"])
    protect(target, [entry.key for entry in target.entries(folder)])
    return {}


def remove(step: Step, context: Context) -> Outputs:
    """Remove a snapshot at one target, where what stands for it is what was written and read."""
    spec, old = context.spec, step.params["old"]
    target = context.target(step.params["target"])
    parent = folder_of(spec.project, spec.profile)
    try:
        with (
            held(spec.state, SNAPSHOT_LOCK, context.run),
            target.lock(f"{parent}/.prune", f"run {context.run}"),
        ):
            _require_unneeded(step, context, target)
            _carry_pin(step, context, target)
            folder = f"{parent}/{old}"
            until = held_until(target, f"{folder}/{MANIFEST}")
            if until is not None:
                raise StepFailed(
                    f"{old} at {target.name} is {words(until)}: until then whoever has its old key "
                    "can open it there.",
                    remedy="After that, a prune or another rekey removes it.",
                )
            foreign = remove_snapshot(target, folder, spec.sources)
            forget(spec, target.name, old)
    except NotAllowed as error:
        raise NotAllowed(
            f"{old} stays at {target.name}, and whoever has its old key can open it there: "
            f"{error.message}",
            remedy="Go on with credentials that may remove: "
            f"holdfast rekey --target {target.name} --confirm {spec.project}",
        ) from error
    return {"removed": [{"id": old, "target": target.name}], "foreign": foreign}


def _require_unneeded(step: Step, context: Context, target: Target) -> None:
    """Raise StepFailed unless what stands for a snapshot is there and nothing names that one."""
    spec, params = context.spec, step.params
    written = context.outputs(params["written"]) if params["written"] else params
    manifest, data = read_manifest(target, spec.project, spec.profile, params["snapshot"])
    digest = hashlib.sha256(data).hexdigest()
    if digest != written.get("manifest_sha256"):
        raise StepFailed(
            f"The manifest of {manifest.id} at {target.name} is not the one that was written.",
            remedy="Somebody changed it: look at it, and at who may write there.",
        )
    if recall(spec).get(target.name, Link("", 0, "")).id == params["old"]:
        remember(spec, target.name, Link(manifest.id, manifest.sequence, digest))
    naming = [*params["named_by"], *_new_ones_naming(step, context, target)]
    if naming:
        raise StepFailed(
            f"{params['old']} stays at {target.name}: {naming[0]} has no content of its own for a "
            "source, and names this one.",
            remedy="Run rekey again.",
        )


def _new_ones_naming(step: Step, context: Context, target: Target) -> list[str]:
    """The snapshots that came since the plan was made, and name the one that is to go."""
    spec = context.spec
    known = {*context.plan.facts["known"], step.params["snapshot"]}
    known |= {one["id"] for one in context.plan.facts["snapshots"]}
    found = []
    for entry in target.find(folder_of(spec.project, spec.profile), MANIFEST):
        name = entry.key.rsplit("/", 2)[1]
        if name not in known:
            manifest, _ = read_manifest(target, spec.project, spec.profile, name)
            named = {*manifest.unchanged.values(), *(one.base for one in manifest.artifacts)}
            found += [name] if step.params["old"] in named else []
    return found


def _carry_pin(step: Step, context: Context, target: Target) -> None:
    """Pin what stands for a snapshot as that one is pinned."""
    spec, now = context.spec, datetime.now(UTC)
    parent = folder_of(spec.project, spec.profile)
    file = cache_file(spec.state / "cache", spec.project, spec.profile, target.name)
    cache = Cache(file, target.location(parent))
    there = pins([read_records(target, spec.project, spec.profile, cache)], now)
    pin, new = there.get(step.params["old"]), step.params["snapshot"]
    if pin is not None and new not in there:
        body = body_of(Pin(new, now, pin.by, pin.until))
        write_record(target, spec.project, spec.profile, "pin", body, now)
