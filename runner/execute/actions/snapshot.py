"""Snapshots: published last of all, copied, verified, removed manifest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runner.errors import Locked, PersonNeeded, StepFailed
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.execute.journal import StepResult
from runner.execute.locks import SNAPSHOT_LOCK, held
from runner.execute.remembering import forget
from runner.plan.model import Step
from runner.spec.model import Spec
from runner.store.catalog import is_published
from runner.store.records import worst
from runner.store.snapshot import MANIFEST, SUMS, folder_of
from runner.target import NotAllowed, Target
from runner.target.protection import Held, held_until


class PublishSnapshot(Simple):
    """Write RESTORE.md, SHA256SUMS and, last, the manifest, at the first target that takes all."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Without the tool, the checksums are what makes a folder checkable."""
        return ["sha256sum -- * > SHA256SUMS"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Publish what was captured; fails only when nothing was."""
        from runner.execute.publishing import publish

        return publish(step, context)

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done exactly when the manifest is visible."""
        if result.status != "done":
            return "absent"
        return _visible(step, context, result.outputs["target"])


class CopySnapshot(Simple):
    """Bring the same bytes to another target, the manifest last."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """A plain copy of the folder."""
        origin, target = step.params["from"][0], step.params["target"]
        return [f"# copy the folder {_folder(spec, step)} from {origin} to {target}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Copy every file, checking each hash on the way."""
        from runner.execute.publishing import copy

        return copy(step, context)

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done exactly when the manifest is visible there, or the copy was not needed."""
        if result.status == "skipped":
            return "done"
        return _visible(step, context, step.params["target"]) if result.done else "absent"


class VerifySnapshot(Simple):
    """Read a snapshot back at one target, and write down what that proved."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The check that any machine can do."""
        target = open_target_of(spec, step)
        return [
            f"# {target.location(_folder(spec, step))}",
            f"sha256sum --check --quiet {SUMS}",
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Verify; raise StepFailed when anything is not as it was written, or nobody will know."""
        from runner.execute.verifying import record, unlocked, verified

        found = verified(step, context)
        params = step.params
        unrecorded = record(
            params["target"], context.spec.profile, found, context, behind=params.get("behind")
        )
        findings = [asdict(one) for one in found]
        failed = [one for one in findings if one["verdict"] == "FAIL"]
        outputs = {"results": findings, "verdict": worst(one["verdict"] for one in findings)}
        if failed:
            reasons = "; ".join(
                f"{one['source'] or 'its files'}: {one['reason']}" for one in failed[:3]
            ).rstrip(".")
            raise StepFailed(
                f"{step.params['snapshot']} at {step.params['target']} is not sound: {reasons}.",
                remedy=_after_failure(failed),
                outputs=outputs,
            )
        loose = unlocked(step, context)
        if loose:
            raise StepFailed(
                f"{step.params['snapshot']} at {step.params['target']} is as it was written, but "
                f"not locked as declared: {'; '.join(loose[:3])}.",
                remedy="It was written before `lock` was declared, or somebody took the lock "
                "away: look at who may do that. New snapshots are locked.",
                outputs=outputs,
            )
        if unrecorded is not None:
            raise StepFailed(
                f"What was found of {step.params['snapshot']} at {step.params['target']} cannot be "
                f"kept there: {unrecorded.message}",
                remedy=unrecorded.remedy,
                outputs=outputs,
            )
        return outputs


class PruneSnapshots(Simple):
    """Remove what retention lets go, manifest first, under the target's lock."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What goes, where, and why the rest stays."""
        target = open_target_of(spec, step)
        going = [
            f"# remove {target.location(folder_of(spec.project, spec.profile, one))}"
            for one in step.params["remove"]
        ]
        kept = step.params["kept"].items()
        return going + [f"# keep {one}: {', '.join(reasons)}" for one, reasons in kept]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove what the plan says and what retention still says once the lock is held."""
        from runner.execute.pruning import prune_and_sweep

        remove = step.params["remove"]
        if step.params["too_many"] and context.confirm != context.spec.project:
            raise PersonNeeded(
                f"Retention would remove {len(remove)} snapshots of {step.params['policy']} at "
                f"{step.params['target']}, which is more than half.",
                remedy=f"If that is right: holdfast prune --confirm {context.spec.project}",
            )
        if context.plan.kind != "backup":
            return _prune_or_say_who_may(step, context)
        try:
            with held(context.spec.state, SNAPSHOT_LOCK, context.run):
                return prune_and_sweep(step, context)
        except Locked as error:
            raise Skipped(f"another run is at the snapshots: {error.message}") from error
        except NotAllowed as error:
            # Credentials that may not remove are a safe choice for backups: another host prunes.
            raise Skipped(f"nothing was removed: {error.message}") from error


def _prune_or_say_who_may(step: Step, context: Context) -> Outputs:
    from runner.execute.pruning import prune_and_sweep

    try:
        return prune_and_sweep(step, context)
    except NotAllowed as error:
        target = step.params["target"]
        raise NotAllowed(
            error.message,
            remedy="What `keep` lets go of stays there. Prune from a host whose credentials may "
            f"remove: holdfast prune --target {target}",
        ) from error


def _after_failure(failed: Sequence[Mapping[str, Any]]) -> str:
    if any(one["basis"] == "stored" for one in failed):
        return "Use another target or snapshot, and find out what damaged this one."
    return (
        "What is stored is as it was written, so every copy is alike: mend what is named in what "
        "is backed up. Until then take an earlier snapshot."
    )


class SweepUnfinished(Simple):
    """Remove the files of a snapshot that was not finished at a target."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What would go."""
        location = open_target_of(spec, step).location(_folder(spec, step))
        return [f"# remove {location} if it has no {MANIFEST}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove them; a folder with a manifest is a snapshot, and stays."""
        target, folder = context.target(step.params["target"]), _folder(context.spec, step)
        there = [entry.key for entry in target.entries(folder)]
        if f"{folder}/{MANIFEST}" in there:
            return {"swept": []}
        target.sweep(folder, 0.0)
        for key in there:
            target.delete(key)
        return {"swept": there}


class DeleteSnapshot(Simple):
    """Remove one snapshot at one target because a person said so."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What goes."""
        location = open_target_of(spec, step).location(_folder(spec, step))
        return [f"# remove {location}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove the manifest, then the rest."""
        target, folder = context.target(step.params["target"]), _folder(context.spec, step)
        until = held_until(target, f"{folder}/{MANIFEST}")
        if until is not None:
            raise Held(target.name, step.params["snapshot"], until)
        forget(context.spec, target.name, step.params["snapshot"])
        from runner.execute.removing import remove_snapshot

        foreign = remove_snapshot(target, folder, context.spec.sources)
        removed = {"id": step.params["snapshot"], "target": step.params["target"]}
        return {"removed": [removed], "foreign": foreign}


def open_target_of(spec: Spec, step: Step) -> Target:
    """The target that a step names, opened for its names alone."""
    from runner.registry import open_target

    return open_target(spec.target(step.params["target"]))


def _folder(spec: Spec, step: Step) -> str:
    return folder_of(spec.project, spec.profile, step.params["snapshot"])


def _visible(step: Step, context: Context, target: str) -> str:
    folder = _folder(context.spec, step)
    return "done" if is_published(context.target(target), folder) else "absent"


ACTIONS = {
    "publish": PublishSnapshot(),
    "copy": CopySnapshot(),
    "verify": VerifySnapshot(),
    "prune": PruneSnapshots(),
    "sweep": SweepUnfinished(),
    "delete": DeleteSnapshot(),
}
