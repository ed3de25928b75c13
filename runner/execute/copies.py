"""Which copy of a snapshot a source is restored from: the planned one; where that turns out to be
damaged, or cannot be read, the next target's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from runner.errors import HoldfastError, PersonNeeded, StepFailed, UsageError, is_local
from runner.execute.context import Context
from runner.execute.verifying import record
from runner.plan.model import Step
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.levels import Finding
from runner.prove.stored import look, require_whole
from runner.registry import open_source
from runner.source import Fingerprint
from runner.store.catalog import read_manifest
from runner.store.records import FAIL
from runner.store.signature import Uncheckable
from runner.store.snapshot import folder_of
from runner.store.stored import Damaged


@dataclass(frozen=True)
class PassedOver:
    """A copy that could not be restored from."""

    target: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """The copy that a source was staged from."""

    target: str
    seconds: float  # spent waiting for the target
    passed_over: tuple[PassedOver, ...]  # in the order in which they were tried


def fingerprint_of(step: Step, context: Context) -> Fingerprint:
    """That of the snapshot's instant: from the copy that the source was staged from, or from
    another where that can no longer be read. It is sealed, so all copies have the same.
    """
    staged = context.results.get(f"{step.params['source']}.stage")
    came_from = None if staged is None else staged.outputs.get("target")
    first: HoldfastError | None = None
    for target in sorted(_by_hope(step, context), key=lambda name: name != came_from):
        try:
            return _artifacts_at(target, step, context).fingerprint
        except (StepFailed, UsageError) as error:
            if _stopped(step, context):
                raise
            _note_gone(target, error, context)
            context.tell({"event": "note", "message": f"{step.id}: {error.message}"})
            first = first or error
    assert first is not None
    raise first


def stage_from_whole(
    step: Step,
    context: Context,
    stage: Callable[[SnapshotArtifacts], None],
    discard: Callable[[], None],
) -> Taken:
    """Let `stage` take in the first copy that is whole. `discard` removes what a damaged one left.

    Raises the error of the first copy where none is whole; at once what is no copy's fault, and
    PersonNeeded for one that somebody exchanged.
    """
    failed: dict[str, HoldfastError] = {}
    copies = _by_hope(step, context)
    for target in copies:
        artifacts = None
        try:
            artifacts = _checked(target, step, context)
            stage(artifacts)
        except Uncheckable:
            raise
        except (StepFailed, UsageError) as error:
            if _stopped(step, context):
                raise
            failed[target] = error if artifacts is None else _cause(artifacts, error)
            if artifacts is not None and not artifacts.unreadable:
                raise
            _note_gone(target, failed[target], context)
            _note_damage(target, failed[target], step, context)
            if target != copies[-1]:  # what is wrong with the last one is the step's own end
                message = f"{step.id}: {failed[target].message}"
                context.tell({"event": "note", "message": message})
            if artifacts is not None:
                discard()
        else:
            return Taken(target, artifacts.waited, (*_passed_over(target, failed, step, context),))
    raise _none_whole(failed, step)


def _by_hope(step: Step, context: Context) -> list[str]:
    """The targets that hold the snapshot, in their order; last what could not be read just now:
    each source would wait for it as long as the one before.
    """
    return sorted(_holders(step), key=lambda name: name in context.gone)


def _holders(step: Step) -> list[str]:
    return [step.params["target"], *step.params.get("elsewhere", ())]


def _stopped(step: Step, context: Context) -> bool:
    return context.interrupted.is_set() or step.id in context.late


def _note_gone(target: str, error: HoldfastError, context: Context) -> None:
    if is_local(error) and not isinstance(error, Damaged | UsageError):
        context.gone[target] = error.message


def _note_damage(target: str, error: HoldfastError, step: Step, context: Context) -> None:
    """Write down at the target that its copy is damaged, as a verification would: what begins
    later takes another, and `status` tells. Whether that can be written changes nothing here.
    """
    if isinstance(error, Damaged):
        params = step.params
        about = "" if error.where == params["snapshot"] else f"{error.where}: "
        found = Finding(
            params["snapshot"],
            target,
            params["source"],
            "stored",
            FAIL,
            about + error.reason,
            "stored",
        )
        record(target, params["profile"], [found], context)


def _passed_over(
    taken: str, failed: Mapping[str, HoldfastError], step: Step, context: Context
) -> Iterator[PassedOver]:
    """What would have been taken before the one that was, and why it was not."""
    reasons = {**context.gone, **{name: error.message for name, error in failed.items()}}
    holders = _holders(step)
    for target in (*failed, *holders[: holders.index(taken)]):
        if target in reasons:
            yield PassedOver(target, reasons.pop(target))


def _none_whole(failed: Mapping[str, HoldfastError], step: Step) -> HoldfastError:
    (_, first), *others = failed.items()
    if others:
        first.message += "".join(f" And at {name}: {one.message}" for name, one in others)
        away = [one for one in failed.values() if is_local(one) and not isinstance(one, Damaged)]
        remedy = "Take an earlier snapshot, with --snapshot or --at."
        first.remedy = f"Nothing was replaced. {away[0].remedy if away else remedy}"
    for one in step.params.get("same", ()):
        first.remedy += f" {one} has the same content, for other recipients: --snapshot {one}"
    return first


def _cause(artifacts: SnapshotArtifacts, error: HoldfastError) -> HoldfastError:
    """What is wrong with the copy, where that is why nothing could be made of its content."""
    if not artifacts.unreadable and not is_local(error):
        try:
            artifacts.judge()
        except StepFailed as damage:
            return damage
    return error


def _checked(target_name: str, step: Step, context: Context) -> SnapshotArtifacts:
    artifacts = _artifacts_at(target_name, step, context)
    known = _known_as(target_name, step)
    if known not in context.whole:
        folder = look(context.target(target_name), context.spec.project, *known[1:])
        require_whole(folder, context.signers())
        context.whole.add(known)
    return artifacts


def _known_as(target_name: str, step: Step) -> tuple[str, str, str]:
    return target_name, step.params["profile"], step.params["snapshot"]


def _artifacts_at(target_name: str, step: Step, context: Context) -> SnapshotArtifacts:
    """A source's artifacts in the step's snapshot, whose manifest must be the planned one."""
    spec, params = context.spec, step.params
    target = context.target(target_name)
    known = _known_as(target_name, step)
    if known not in context.manifests:
        read, data = read_manifest(target, spec.project, *known[1:])
        context.manifests[known] = read, hashlib.sha256(data).hexdigest()
    manifest, digest = context.manifests[known]
    if params.get("manifest_sha256") not in (None, digest):
        raise PersonNeeded(
            f"The manifest of {params['snapshot']} at {target_name} is not the one that the "
            "plan was made for.",
            remedy="Somebody exchanged it, or the plan is stale: look, and plan again.",
        )
    folder = folder_of(spec.project, params["profile"], params["snapshot"])
    return SnapshotArtifacts(
        target,
        folder,
        manifest,
        params["source"],
        context.identities,
        progress=context.progress(step),
        restoring=True,
        compared_later=open_source(spec.source(params["source"])).compares_content,
    )
