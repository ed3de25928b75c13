"""Capturing a source: artifacts streamed to the primary target, and the sealed fingerprint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC
from pathlib import Path

from runner.errors import HoldfastError, Interrupted, StepFailed
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.execute.copying import TargetFailed, Watched, target_failed
from runner.execute.journal import StepResult, is_done
from runner.execute.remembering import require_familiar
from runner.plan.model import Plan, Step
from runner.prove.artifacts import fingerprint_document
from runner.prove.scratch import scratch_folder
from runner.registry import open_source
from runner.source import Captured
from runner.spec.model import Spec
from runner.store.seal import Seal, Sealed, Sink
from runner.store.snapshot import FINGERPRINT, ArtifactEntry, SourceEntry, folder_of
from runner.target import Target


@dataclass
class Capturing:
    """The Capture that a source is given: its artifacts go to one folder of one target."""

    source: str
    seal: Seal
    target: Target
    folder: str
    excluded: Sequence[Path]
    scratch: Path
    progress: Callable[[int], None]
    expected_bytes: int = 0  # what the last snapshot stored of the source; 0: there is none
    sealed: dict[str, tuple[str, str, Sealed]] = field(default_factory=dict)  # by key

    def store(self, form: str, produce: Callable[[Sink], object], *, part: str = "") -> Sealed:
        """Stream what `produce` writes into the artifact `<source>[.<part>].<form>`."""
        name = ".".join(piece for piece in (self.source, part, form) if piece)
        sealed = self.seal.write(
            self.target,
            self.folder,
            name,
            produce,
            progress=self.progress,
            expected_bytes=self.expected_bytes,
        )
        self.sealed[sealed.key] = (part, form, sealed)
        return sealed

    @contextlib.contextmanager
    def whole_or_nothing(self) -> Iterator[None]:
        """Remove what was stored if the block fails: the other sources are published there."""
        try:
            yield
        except BaseException:
            for key in self.sealed:
                with contextlib.suppress(HoldfastError):
                    self.target.delete(f"{self.folder}/{key}")
            raise


class CaptureSource(Simple):
    """Read a source once and store its artifacts; nothing is visible until it is published.

    A target that fails yields to the next. Only if it failed in the middle is the source read
    again.
    """

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """Roughly what a person would type."""
        return open_source(spec.source(step.params["source"])).capture_commands()

    def perform(self, step: Step, context: Context) -> Outputs:
        """Capture; return the manifest's entries of this source, and where its artifacts lie."""
        _require_unpublished(step, context)
        passed_over: dict[str, str] = {}
        read_again = False
        places = _places(step, context)
        for name in places:
            watched = Watched(context.target(name))
            try:
                require_fit(watched, context, others=len(places) > 1)
                outputs = capture_source(step, context, watched)
            except TargetFailed as error:
                last = error
                passed_over[name] = error.message
                read_again = read_again or watched.begun
                context.tell({"event": "note", "message": f"{step.id}: {error.message}"})
                continue
            return {
                **outputs,
                "target": name,
                "passed_over": passed_over,
                "read_again": read_again,
            }
        raise StepFailed(last.message, remedy=last.remedy, outputs={"passed_over": passed_over})

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done while all its artifacts still lie where they were stored, or are published."""
        if result.status != "done":
            return "absent"
        folder = folder_of(context.spec.project, context.spec.profile, step.params["snapshot"])
        target = context.target(result.outputs["target"])
        there = {entry.key.rpartition("/")[2]: entry.bytes for entry in target.entries(folder)}
        wanted = {one["key"]: one["bytes"] for one in result.outputs["artifacts"]}
        if wanted.items() <= there.items():
            return "done"
        publish = publishing(step, context.plan)
        return "done" if publish and is_done(publish.id, context.results) else "absent"


def capture_source(step: Step, context: Context, watched: Watched) -> Outputs:
    """Read the source once, into one target. Raises TargetFailed where that is what fails."""
    name = step.params["source"]
    spec = context.spec.source(name)
    with scratch_folder(context.spec.state / "scratch", f"{context.token}-{name}") as scratch:
        capturing = Capturing(
            source=name,
            seal=Seal(context.spec.compression, context.recipients(step.params["policy"])),
            target=watched.as_target(),
            folder=folder_of(context.spec.project, context.spec.profile, step.params["snapshot"]),
            excluded=context.spec.left_out(),
            scratch=scratch,
            progress=context.progress(step),
            expected_bytes=step.params.get("expected_bytes", 0),
        )
        try:
            with capturing.whole_or_nothing():
                captured = context.source(name).capture(capturing)
                document = fingerprint_document(
                    name,
                    spec.type,
                    captured.fingerprint,
                    {key: sealed for key, (_, _, sealed) in capturing.sealed.items()},
                )
                capturing.store("json", lambda sink: sink.write(document), part=FINGERPRINT)
        except HoldfastError as error:
            if watched.failure is None or isinstance(error, Interrupted):
                raise
            raise target_failed(watched.failure) from error
    return _entries(capturing, captured, spec.type, step.params.get("mark"), context.spec)


def require_fit(watched: Watched, context: Context, *, others: bool) -> None:
    """Raise TargetFailed unless a target can take a capture. Where there are `others` it is
    tried out: a source is better not read in vain.
    """
    target = watched.as_target()
    try:
        require_familiar(context.spec, target)
        if others:
            target.check()
        _require_space(target)
    except StepFailed as error:
        raise target_failed(error) from error


def publishing(step: Step, plan: Plan) -> Step | None:
    """The step that publishes what a capture stores."""
    found = (one for one in plan.steps if step.id in one.params.get("captures", {}).values())
    return next(found, None)


def _places(step: Step, context: Context) -> list[str]:
    """The targets to try in turn: those that failed another capture of this run come last."""
    failed = {
        name
        for other in context.plan.steps
        if other.action == step.action
        for name in context.outputs(other.id).get("passed_over", ())
    }
    return sorted(step.params["targets"], key=lambda name: name in failed)


def _require_unpublished(step: Step, context: Context) -> None:
    publish = publishing(step, context.plan)
    if publish is not None and is_done(publish.id, context.results):
        name = step.params["source"]
        raise StepFailed(
            f"{step.params['snapshot']} was published without {name}, and a snapshot is never "
            "changed.",
            remedy=f"Make a new one: holdfast backup --source {name}",
        )


class RecordUnchanged(Simple):
    """Note that a source is as an earlier snapshot has it."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Nothing to type."""
        return [f"# unchanged since {step.params['unchanged']}"]

    def perform(self, step: Step, context: Context) -> Outputs:  # noqa: ARG002
        """Skip, with the snapshot that has the content."""
        raise Skipped(
            f"unchanged since {step.params['unchanged']}",
            {"unchanged": step.params["unchanged"]},
        )


def _require_space(target: Target) -> None:
    free = target.free()
    if free is not None and free <= 0:
        raise StepFailed(
            f"The target {target.name} has no space left beyond its reserve (min_free).",
            remedy="Free space there, prune, or lower min_free.",
        )


def _entries(
    capturing: Capturing, captured: Captured, type_name: str, mark: str | None, spec: Spec
) -> Outputs:
    taken_at = captured.taken_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    entry = SourceEntry(
        type=type_name,
        taken_at=taken_at,
        consistency=captured.consistency,
        versions=captured.versions,
        notes=captured.notes,
        mark=mark,
    )
    artifacts = [
        ArtifactEntry(
            source=capturing.source,
            part=part,
            form=form,
            key=sealed.key,
            taken_at=taken_at,
            bytes=sealed.bytes,
            sha256=sealed.sha256,
            content_bytes=sealed.content_bytes,
            content_sha256=None if spec.encryption else sealed.content_sha256,
            head_sha256=sealed.head_sha256,
        )
        for part, form, sealed in capturing.sealed.values()
    ]
    return {
        "entry": asdict(entry),
        "artifacts": [asdict(one) for one in artifacts],
        "bytes": sum(one.bytes for one in artifacts),
        "content_bytes": sum(one.content_bytes for one in artifacts),
    }


ACTIONS = {"capture": CaptureSource(), "unchanged": RecordUnchanged()}
