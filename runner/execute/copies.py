"""Which copy of a snapshot a source is restored from: the planned one; where that turns out to be
damaged, or cannot be read, the next target's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import HoldfastError, PersonNeeded, StepFailed, UsageError, is_local
from runner.execute.context import Context
from runner.plan.model import Step
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.stored import look, own_problems
from runner.registry import open_source
from runner.store.catalog import read_manifest
from runner.store.signature import Uncheckable
from runner.store.snapshot import folder_of


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


def artifacts_of(step: Step, context: Context) -> SnapshotArtifacts:
    """A source's artifacts in the copy that it was staged from."""
    staged = context.results.get(f"{step.params['source']}.stage")
    outputs = {} if staged is None else staged.outputs
    return _artifacts_at(outputs.get("target", step.params["target"]), step, context)


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
    first: HoldfastError | None = None
    passed_over: list[PassedOver] = []
    for target in (step.params["target"], *step.params.get("elsewhere", ())):
        artifacts = None
        try:
            artifacts = _checked(target, step, context)
            stage(artifacts)
        except Uncheckable:
            raise
        except (StepFailed, UsageError) as failed:
            if context.interrupted.is_set() or step.id in context.late:
                raise
            error = failed if artifacts is None else _cause(artifacts, failed)
            if artifacts is not None and not artifacts.unreadable:
                raise
            passed_over.append(PassedOver(target, error.message))
            first = first or error
            message = f"{step.id}: {error.message}"
            context.tell({"event": "note", "message": message})
            if artifacts is not None:
                discard()
        else:
            return Taken(target, artifacts.waited, tuple(passed_over))
    assert first is not None
    if len(passed_over) > 1:
        first.message += "".join(f" And at {one.target}: {one.reason}" for one in passed_over[1:])
        first.remedy = "Nothing was replaced. Take an earlier snapshot, with --snapshot or --at."
    raise first


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
    _require_own_files(target_name, step, context)
    return artifacts


def _artifacts_at(target_name: str, step: Step, context: Context) -> SnapshotArtifacts:
    """A source's artifacts in the step's snapshot, whose manifest must be the planned one."""
    spec, params = context.spec, step.params
    target = context.target(target_name)
    manifest, data = read_manifest(target, spec.project, params["profile"], params["snapshot"])
    wanted = params.get("manifest_sha256")
    if wanted is not None and hashlib.sha256(data).hexdigest() != wanted:
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
        compared_later=open_source(spec.source(params["source"])).compares_content,
    )


def _require_own_files(target_name: str, step: Step, context: Context) -> None:
    """Raise StepFailed unless the manifest, SHA256SUMS and RESTORE.md are as they were written."""
    spec, params = context.spec, step.params
    target = context.target(target_name)
    folder = look(target, spec.project, params["profile"], params["snapshot"])
    problems = own_problems(folder, None, context.signers())
    if problems:
        raise StepFailed(
            f"The snapshot {params['snapshot']} at {target_name} is damaged: "
            f"{'; '.join(problems)}.",
            remedy="Nothing was replaced. Give --from another target, or an earlier --snapshot.",
        )
