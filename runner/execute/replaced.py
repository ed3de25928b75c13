"""Removing a snapshot for which `rekey` wrote another one, where that one is whole."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from runner.errors import StepFailed, UsageError
from runner.execute.actions.base import Outputs
from runner.execute.context import Context
from runner.execute.locks import RUN_LOCK, SNAPSHOT_LOCK, held
from runner.execute.remembering import recall, remember
from runner.execute.removing import remove_snapshot
from runner.plan.model import Step
from runner.spec.model import Spec
from runner.store.cache import Cache, cache_file
from runner.store.catalog import read_manifest
from runner.store.chain import Link
from runner.store.pinned import pins
from runner.store.records import Pin, body_of, read_records, write_record
from runner.store.snapshot import MANIFEST, Manifest, SnapshotId, folder_of
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
        with _alone(context), target.lock(f"{parent}/.prune", f"run {context.run}"):
            link = _require_there(step, context, target)
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
            _remember_instead(spec, target.name, old, link)
    except NotAllowed as error:
        raise NotAllowed(
            f"{old} stays at {target.name}, and whoever has its old key can open it there: "
            f"{error.message}",
            remedy="Go on with credentials that may remove: "
            f"holdfast rekey --target {target.name} --confirm {spec.project}",
        ) from error
    return {"removed": [{"id": old, "target": target.name}], "foreign": foreign}


def sweep(step: Step, context: Context) -> Outputs:
    """Remove what a removal that was stopped left; what has a manifest is a snapshot, and stays."""
    spec, target = context.spec, context.target(step.params["target"])
    folder = folder_of(spec.project, spec.profile, step.params["snapshot"])
    there = [entry.key for entry in target.entries(folder)]
    if not there or f"{folder}/{MANIFEST}" in there:
        return {}
    return {"foreign": remove_snapshot(target, folder, spec.sources)}


@contextlib.contextmanager
def _alone(context: Context) -> Iterator[None]:
    """While nobody here reads snapshots, or makes one that could name what is to go."""
    spec = context.spec
    with contextlib.ExitStack() as stack:
        if any(policy.skip_unchanged for policy in spec.policies.values()):
            stack.enter_context(held(spec.state, RUN_LOCK, context.run))
        stack.enter_context(held(spec.state, SNAPSHOT_LOCK, context.run))
        yield


def _require_there(step: Step, context: Context, target: Target) -> Link:
    """What stands for a snapshot. Raises StepFailed unless it is there as it was written."""
    spec, params = context.spec, step.params
    written = context.outputs(params["written"]) if params["written"] else params
    manifest, data = read_manifest(target, spec.project, spec.profile, params["snapshot"])
    digest = hashlib.sha256(data).hexdigest()
    if digest != written.get("manifest_sha256"):
        raise StepFailed(
            f"The manifest of {manifest.id} at {target.name} is not the one that was written.",
            remedy="Somebody changed it: look at it, and at who may write there.",
        )
    return Link(manifest.id, manifest.sequence, digest)


def _require_unneeded(step: Step, context: Context, target: Target) -> None:
    """Raise StepFailed where a snapshot that came since the plan was made has no content of its
    own and names this one.
    """
    old = step.params["old"]
    naming = [one.id for one in _new_ones(step, context, target) if old in _named(one)]
    if naming:
        raise StepFailed(
            f"{old} stays at {target.name}: {naming[0]} names it for what it has not itself.",
            remedy="Run rekey again.",
        )


def _new_ones(step: Step, context: Context, target: Target) -> Iterator[Manifest]:
    """The snapshots that came since the plan was made."""
    spec, facts = context.spec, context.plan.facts
    known = {*facts["known"], *(one["id"] for one in facts["snapshots"]), step.params["snapshot"]}
    for name in target.folders(folder_of(spec.project, spec.profile)):
        if SnapshotId.fits(name) and name not in known:
            with contextlib.suppress(UsageError):  # it is still being written
                yield read_manifest(target, spec.project, spec.profile, name)[0]


def _named(manifest: Manifest) -> set[str | None]:
    return {*manifest.unchanged.values(), *(one.base for one in manifest.artifacts)}


def _remember_instead(spec: Spec, target: str, old: str, link: Link) -> None:
    """Where the one that went was the newest that this host knew of, it is the other one now."""
    known = recall(spec).get(target)
    if known is not None and known.id == old:
        remember(spec, target, link)


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
