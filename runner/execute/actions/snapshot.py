"""Snapshots: published last of all, copied, verified, removed manifest first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from runner import __version__
from runner.errors import Locked, PersonNeeded, StepFailed
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.execute.journal import StepResult
from runner.execute.locks import SNAPSHOT_LOCK, held
from runner.execute.remembering import forget, remember, require_familiar
from runner.plan.model import Step
from runner.registry import open_source
from runner.source import Stored
from runner.spec.model import Spec
from runner.store.chain import Link
from runner.store.instructions import Section, instructions
from runner.store.seal import decode_command
from runner.store.snapshot import (
    INSTRUCTIONS,
    MANIFEST,
    SUMS,
    ArtifactEntry,
    Manifest,
    SourceEntry,
    StoredFile,
    folder_of,
    sums,
)
from runner.target import KeyExists, Target


class PublishSnapshot(Simple):
    """Write RESTORE.md, SHA256SUMS and, last, the manifest."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Without the tool, the checksums are what makes a folder checkable."""
        return ["sha256sum -- * > SHA256SUMS"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Publish what was captured; fails only when nothing was."""
        manifest, text = _manifest(step, context)
        target = context.target(step.params["target"])
        folder = _folder(context.spec, step)
        target.put(f"{folder}/{INSTRUCTIONS}", [text])
        data = manifest.to_bytes()
        target.put(f"{folder}/{SUMS}", [sums(manifest, data)])
        _require_all_there(target, folder, manifest)
        _put_manifest(target, folder, data)
        digest = _remember(context, target, manifest, data)
        return {
            "snapshot": manifest.id,
            "manifest_sha256": digest,
            "missing": list(manifest.missing),
            "unchanged": dict(manifest.unchanged),
            "artifacts": [asdict(one) for one in manifest.artifacts],
            "bytes": sum(one.bytes for one in manifest.artifacts),
        }

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done exactly when the manifest is visible."""
        folder = _folder(context.spec, step)
        target = context.target(step.params["target"])
        there = any(entry.key == f"{folder}/{MANIFEST}" for entry in target.entries(folder))
        return "done" if there and result.status == "done" else "absent"


class CopySnapshot(Simple):
    """Bring the same bytes to another target, the manifest last."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """A plain copy of the folder."""
        origin, target = step.params["from"], step.params["target"]
        return [f"# copy the folder {_folder(spec, step)} from {origin} to {target}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Copy every file, checking each hash on the way."""
        folder = _folder(context.spec, step)
        origin, target = context.target(step.params["from"]), context.target(step.params["target"])
        require_familiar(context.spec, target)
        data = b"".join(origin.get(f"{folder}/{MANIFEST}"))
        manifest = Manifest.from_bytes(data)
        count = context.progress(step)
        listed: list[ArtifactEntry | StoredFile] = [*manifest.artifacts, *manifest.files]
        for one in listed:
            chunks = _checked(origin, f"{folder}/{one.key}", one.sha256, count)
            target.put(f"{folder}/{one.key}", chunks)
        target.put(f"{folder}/{SUMS}", [sums(manifest, data)])
        _require_all_there(target, folder, manifest)
        _put_manifest(target, folder, data)
        _remember(context, target, manifest, data)
        return {"snapshot": manifest.id, "bytes": sum(one.bytes for one in manifest.artifacts)}


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
        """Verify; raise StepFailed when anything is not as it was written."""
        from runner.execute.verifying import verify_and_record

        findings = verify_and_record(step, context)
        failed = [one for one in findings if one["verdict"] == "FAIL"]
        outputs = {"results": findings, "verdict": _worst(findings)}
        if failed:
            reasons = "; ".join(
                f"{one['source'] or 'its files'}: {one['reason']}" for one in failed[:3]
            )
            raise StepFailed(
                f"{step.params['snapshot']} at {step.params['target']} is not sound: {reasons}",
                remedy="Use another target or snapshot, and find out what damaged this one.",
                outputs=outputs,
            )
        return outputs


class PruneSnapshots(Simple):
    """Remove what retention lets go, manifest first, under the target's lock."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What goes, where."""
        target = open_target_of(spec, step)
        return [
            f"# remove {target.location(folder_of(spec.project, spec.profile, one))}"
            for one in step.params["remove"]
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove what the plan says and what retention still says once the lock is held."""
        from runner.execute.pruning import prune_and_sweep

        remove = step.params["remove"]
        approved = context.approval is not None and context.approval.name == context.spec.project
        if step.params["too_many"] and not approved:
            raise PersonNeeded(
                f"Retention would remove {len(remove)} snapshots of {step.params['policy']} at "
                f"{step.params['target']}, which is more than half.",
                remedy=f"If that is right: holdfast prune --confirm {context.spec.project}",
            )
        if context.plan.kind != "backup":
            return prune_and_sweep(step, context)
        try:
            with held(context.spec.state, SNAPSHOT_LOCK, context.run):
                return prune_and_sweep(step, context)
        except Locked as error:
            raise Skipped(f"snapshots are being read: {error.message}") from error


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
        target = context.target(step.params["target"])
        forget(context.spec, target.name, step.params["snapshot"])
        remove_snapshot(target, _folder(context.spec, step))
        return {"removed": [{"id": step.params["snapshot"], "target": step.params["target"]}]}


def remove_snapshot(target: Target, folder: str) -> None:
    """Remove a snapshot's folder so that it is never half visible: its manifest first."""
    target.delete(f"{folder}/{MANIFEST}")
    for entry in list(target.entries(folder)):
        target.delete(entry.key)


def open_target_of(spec: Spec, step: Step) -> Target:
    """The target that a step names, opened for its names alone."""
    from runner.registry import open_target

    return open_target(spec.target(step.params["target"]))


def _folder(spec: Spec, step: Step) -> str:
    return folder_of(spec.project, spec.profile, step.params["snapshot"])


def _remember(context: Context, target: Target, manifest: Manifest, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    remember(context.spec, target.name, Link(manifest.id, manifest.sequence, digest))
    return digest


def _manifest(step: Step, context: Context) -> tuple[Manifest, bytes]:
    spec = context.spec
    captures: Mapping[str, str] = step.params["captures"]
    outputs = {name: context.outputs(capture) for name, capture in captures.items()}
    done = {name: one for name, one in outputs.items() if "entry" in one}
    unchanged = {name: one["unchanged"] for name, one in outputs.items() if "unchanged" in one}
    if not done and not unchanged:
        raise StepFailed(
            "No source was captured, so there is no snapshot to publish.",
            remedy="See what each capture said.",
        )
    artifacts = tuple(ArtifactEntry(**one) for out in done.values() for one in out["artifacts"])
    entries = {name: SourceEntry(**out["entry"]) for name, out in done.items()}
    text = _instructions(step, context, entries, artifacts)
    manifest = Manifest(
        id=step.params["snapshot"],
        project=spec.project,
        profile=spec.profile,
        policy=step.params["policy"],
        sequence=step.params["sequence"],
        created_at=step.params["created_at"],
        host=step.params["host"],
        holdfast=__version__,
        spec_digest=spec.digest,
        sources=entries,
        artifacts=artifacts,
        files=(StoredFile(INSTRUCTIONS, len(text), hashlib.sha256(text).hexdigest()),),
        missing=tuple(name for name in captures if name not in done and name not in unchanged),
        unchanged=unchanged,
        encrypted=spec.encryption is not None,
        recipients=spec.encryption.recipients if spec.encryption else (),
        predecessor=_predecessor(step, context),
    )
    return manifest, text


def _predecessor(step: Step, context: Context) -> Mapping[str, str] | None:
    for earlier in step.params["earlier"]:
        outputs = context.outputs(earlier)
        if "manifest_sha256" in outputs:
            return {"id": outputs["snapshot"], "sha256": outputs["manifest_sha256"]}
    known: Mapping[str, str] | None = step.params["predecessor"]
    return known


def _instructions(
    step: Step,
    context: Context,
    entries: Mapping[str, SourceEntry],
    artifacts: tuple[ArtifactEntry, ...],
) -> bytes:
    sections = []
    for name, entry in entries.items():
        source = open_source(context.spec.source(name))
        own = [Stored(a.part, a.form, a.key) for a in artifacts if a.source == name]
        folder = f"restored/{name}"
        sections.append(
            Section(
                name,
                entry.type,
                entry.taken_at,
                source.restore_commands(own, decode, folder),
                entry.notes,
                source.describe(),
                source.load_commands(folder),
            )
        )
    return instructions(
        snapshot=step.params["snapshot"],
        project=context.spec.project,
        profile=context.spec.profile,
        created_at=step.params["created_at"],
        host=step.params["host"],
        encrypted=context.spec.encryption is not None,
        sections=sections,
    )


def decode(stored: Stored) -> str:
    """The pipeline that prints a stored file's content in the snapshot's folder."""
    return decode_command(stored.key, stored.key)


def _require_all_there(target: Target, folder: str, manifest: Manifest) -> None:
    there = {entry.key: entry.bytes for entry in target.entries(folder)}
    listed: list[Any] = [*manifest.artifacts, *manifest.files]
    gone = [one.key for one in listed if there.get(f"{folder}/{one.key}") != one.bytes]
    if gone:
        raise StepFailed(
            f"{', '.join(gone)} vanished from {target.name} before the snapshot was published.",
            remedy="Something else removes files there; run the backup again.",
        )


def _put_manifest(target: Target, folder: str, data: bytes) -> None:
    try:
        target.put(f"{folder}/{MANIFEST}", [data], exclusive=True)
    except KeyExists:
        if b"".join(target.get(f"{folder}/{MANIFEST}")) != data:
            raise StepFailed(
                f"{folder} at {target.name} has another manifest already.",
                remedy="Two runs used the same id, or somebody changed it: look at both.",
            ) from None


def _checked(origin: Target, key: str, sha256: str, count: Any) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in origin.get(key):
        digest.update(chunk)
        count(len(chunk))
        yield chunk
    if digest.hexdigest() != sha256:
        raise StepFailed(
            f"{key} at {origin.name} is damaged: its checksum is not what was written.",
            remedy="Run the backup again.",
        )


def _worst(findings: list[dict[str, Any]]) -> str:
    verdicts = {one["verdict"] for one in findings}
    order = ("FAIL", "COULD-NOT-VERIFY", "PASS")
    return next((one for one in order if one in verdicts), "SKIP")


ACTIONS = {
    "publish": PublishSnapshot(),
    "copy": CopySnapshot(),
    "verify": VerifySnapshot(),
    "prune": PruneSnapshots(),
    "sweep": SweepUnfinished(),
    "delete": DeleteSnapshot(),
}
