"""Publishing a snapshot at the first target that takes all of it, and copying it to the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runner import __version__
from runner.errors import HoldfastError, StepFailed
from runner.execute.actions.base import Outputs, Skipped
from runner.execute.actions.source import capture_source, require_fit
from runner.execute.clocks import tell_of_clock
from runner.execute.context import Context
from runner.execute.copying import TargetFailed, Watched, bring, finish, target_failed
from runner.execute.documents import store_documents
from runner.execute.journal import is_done
from runner.execute.remembering import remember
from runner.plan.model import Step
from runner.store.catalog import read_manifest
from runner.store.chain import Link
from runner.store.signature import sign, stored_signature
from runner.store.snapshot import (
    ArtifactEntry,
    Manifest,
    SourceEntry,
    folder_of,
    sums,
)
from runner.target import Target

Captures = Mapping[str, Mapping[str, Any]]  # by source: the outputs of its capture


def publish(step: Step, context: Context) -> Outputs:
    """Publish what was captured. Raises StepFailed when nothing was, or no target takes it."""
    captures: Captures = {
        name: context.outputs(capture) for name, capture in step.params["captures"].items()
    }
    if not any("entry" in one or "unchanged" in one for one in captures.values()):
        raise StepFailed(
            "No source was captured, so there is no snapshot to publish.",
            remedy="See what each capture said.",
        )
    passed_over: dict[str, str] = {}
    places = _places(step, captures)
    for name in places if context.resumed else ():
        found = _published_at(step, context, captures, name)
        if found is not None:
            return {**found, "passed_over": passed_over}
    for name in places:
        try:
            return {
                **_publish_at(step, context, captures, name, others=len(places) > 1),
                "passed_over": passed_over,
            }
        except StepFailed as error:
            last = error
            passed_over[name] = error.message
            context.tell({"event": "note", "message": f"{step.id}: {error.message}"})
    raise last


def copy(step: Step, context: Context) -> Outputs:
    """Bring a published snapshot to another target, from the first that has it whole."""
    name, snapshot = step.params["target"], step.params["snapshot"]
    published = context.outputs(step.params["publish"]) if step.params["publish"] else {}
    if published.get("target") == name:
        raise Skipped("it was published here")
    origins = _origins(step, context, published.get("target"))
    sha256 = published.get("manifest_sha256") or step.params["manifest_sha256"]
    target = context.target(name)
    require_fit(Watched(target), context, others=False)
    doubtful: dict[str, str] = {}
    for origin in origins:
        try:
            manifest = _copy_from(context.target(origin), target, step, context, sha256)
        except TargetFailed:
            raise
        except StepFailed as error:
            last = error
            doubtful[origin] = error.message
            continue
        return {
            "snapshot": snapshot,
            "from": origin,
            "doubtful": doubtful,
            "bytes": sum(one.bytes for one in manifest.artifacts),
        }
    raise last


def _places(step: Step, captures: Captures) -> list[str]:
    """The targets to try in turn: those that failed a capture come last."""
    failed = {name for one in captures.values() for name in one.get("passed_over", ())}
    return sorted(step.params["targets"], key=lambda name: name in failed)


def _publish_at(
    step: Step, context: Context, captures: Captures, name: str, *, others: bool
) -> Outputs:
    target = context.target(name)
    folder = folder_of(context.spec.project, context.spec.profile, step.params["snapshot"])
    away = [one for one in captures.values() if one.get("target", name) != name]
    if away:
        require_fit(Watched(target), context, others=others)
    here = {source: _gathered(step, context, source, one, name) for source, one in captures.items()}
    manifest = store_documents(step, context, target, _manifest(step, context, here))
    data = manifest.to_bytes()
    tell_of_clock(target, context)
    finish(target, folder, manifest, data, _signature(context, manifest, data))
    return {
        **_outputs(context, target, manifest, data),
        "read_again": sorted(source for source, one in here.items() if one is not captures[source]),
    }


def _published_at(
    step: Step, context: Context, captures: Captures, name: str
) -> Mapping[str, Any] | None:
    """What the run had published at a target when it ended early, brought to its end.

    Written anew it would be another one: its documents tell of now. Raises StepFailed where it is
    not what was captured.
    """
    spec, target = context.spec, context.target(name)
    try:
        manifest, data = read_manifest(target, spec.project, spec.profile, step.params["snapshot"])
    except HoldfastError:
        return None  # there is none, or nobody can tell
    captured = {one["sha256"] for out in captures.values() for one in out.get("artifacts", ())}
    if {one.sha256 for one in manifest.artifacts} != captured:
        raise StepFailed(
            f"{manifest.id} was published at {name} with other content, and a snapshot is never "
            "changed.",
            remedy="Make a new one: holdfast backup",
        )
    folder = folder_of(spec.project, spec.profile, manifest.id)
    finish(target, folder, manifest, data, stored_signature(target, folder))
    return {**_outputs(context, target, manifest, data), "read_again": []}


def _outputs(context: Context, target: Target, manifest: Manifest, data: bytes) -> dict[str, Any]:
    return {
        "snapshot": manifest.id,
        "target": target.name,
        "manifest_sha256": _remember(context, target, manifest, data),
        "missing": list(manifest.missing),
        "unchanged": dict(manifest.unchanged),
        "artifacts": [asdict(one) for one in manifest.artifacts],
        "bytes": sum(one.bytes for one in manifest.artifacts),
    }


def _gathered(
    step: Step, context: Context, source: str, captured: Mapping[str, Any], name: str
) -> Mapping[str, Any]:
    """A capture whose artifacts lie at that target: brought from where they are, and read from
    the source again only where they can no longer be had from there.
    """
    if captured.get("target", name) == name:
        return captured
    origin, target = context.target(captured["target"]), context.target(name)
    folder = folder_of(context.spec.project, context.spec.profile, step.params["snapshot"])
    artifacts = [ArtifactEntry(**one) for one in captured["artifacts"]]
    try:
        bring(origin, target, folder, artifacts, context.progress(step))
    except TargetFailed:
        raise
    except StepFailed as error:
        context.tell({"event": "note", "message": f"{source} is read again: {error.message}"})
        capture = context.plan.step(step.params["captures"][source])
        return capture_source(capture, context, Watched(target))
    return captured


def _origins(step: Step, context: Context, published: str | None) -> list[str]:
    """Where the snapshot can be taken from: where it was published, then where it was copied to."""
    if published is None:
        return list(step.params["from"])
    copied = [
        other.params["target"]
        for other in context.plan.steps
        if other.action == step.action
        and other.params["snapshot"] == step.params["snapshot"]
        and is_done(other.id, context.results)
    ]
    return [published, *copied]


def _copy_from(
    origin: Target, target: Target, step: Step, context: Context, sha256: str
) -> Manifest:
    spec, snapshot = context.spec, step.params["snapshot"]
    folder = folder_of(spec.project, spec.profile, snapshot)
    manifest, data = read_manifest(origin, spec.project, spec.profile, snapshot)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StepFailed(
            f"The manifest of {snapshot} at {origin.name} is not the one that was written.",
            remedy="Somebody changed it: look at it, and at who may write there.",
        )
    bring(origin, target, folder, [*manifest.artifacts, *manifest.files], context.progress(step))
    try:
        tell_of_clock(target, context)
        finish(target, folder, manifest, data, stored_signature(origin, folder))
    except StepFailed as error:
        raise target_failed(error) from error
    _remember(context, target, manifest, data)
    return manifest


def _remember(context: Context, target: Target, manifest: Manifest, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    remember(context.spec, target.name, Link(manifest.id, manifest.sequence, digest))
    return digest


def _manifest(step: Step, context: Context, captures: Captures) -> Manifest:
    """What a snapshot is, but for the files beside its artifacts."""
    spec = context.spec
    done = {name: one for name, one in captures.items() if "entry" in one}
    unchanged = {name: one["unchanged"] for name, one in captures.items() if "unchanged" in one}
    return Manifest(
        id=step.params["snapshot"],
        project=spec.project,
        profile=spec.profile,
        policy=step.params["policy"],
        sequence=step.params["sequence"],
        created_at=step.params["created_at"],
        host=step.params["host"],
        holdfast=__version__,
        spec_digest=spec.digest,
        sources={name: SourceEntry(**out["entry"]) for name, out in done.items()},
        artifacts=tuple(ArtifactEntry(**one) for out in done.values() for one in out["artifacts"]),
        files=(),
        missing=tuple(name for name in captures if name not in done and name not in unchanged),
        unchanged=unchanged,
        encrypted=spec.encryption is not None,
        recipients=spec.encryption.recipients if spec.encryption else (),
        predecessor=_predecessor(step, context),
    )


def _signature(context: Context, manifest: Manifest, data: bytes) -> bytes | None:
    signing = context.spec.signing
    if signing is None or signing.key is None:
        return None
    return sign(sums(manifest, data), signing.key)


def _predecessor(step: Step, context: Context) -> Mapping[str, str] | None:
    for earlier in step.params["earlier"]:
        outputs = context.outputs(earlier)
        if "manifest_sha256" in outputs:
            return {"id": outputs["snapshot"], "sha256": outputs["manifest_sha256"]}
    known: Mapping[str, str] | None = step.params["predecessor"]
    return known
