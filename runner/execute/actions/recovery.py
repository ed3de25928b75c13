"""Bringing a source back: stage beside, prove, check, swap, confirm; unswap and discard."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.errors import PersonNeeded, StepFailed
from runner.execute.actions.base import Outputs, Simple
from runner.execute.context import Context
from runner.execute.copies import Taken, fingerprint_of, stage_from_whole
from runner.execute.documents import decode
from runner.execute.journal import StepResult, is_done
from runner.execute.kept import Note, forget_note, write_note
from runner.execute.mirror import env_file_values, mirror_restored
from runner.plan.model import Step
from runner.prove.artifacts import SnapshotArtifacts
from runner.registry import open_source, open_target
from runner.source import Fingerprint, Place, Source, Stored
from runner.spec.model import Spec
from runner.store.records import worst
from runner.store.snapshot import folder_of

# Where a person who follows a runbook keeps what was fetched.
WORKSHOP = '"$RECOVERY"'


class Stage(Simple):
    """Fetch, decrypt and unpack beside the destination; nothing live is touched."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """Fetch the snapshot's folder once, check its sums, and unpack this source there."""
        snapshot = step.params["snapshot"]
        source = open_source(spec.source(step.params["source"]))
        target = open_target(spec.target(step.params["target"]))
        stored = [Stored(**one) for one in step.params["stored"]]
        folder = folder_of(spec.project, step.params["profile"], snapshot)
        fetched, partial = f"{WORKSHOP}/{snapshot}", f"{WORKSHOP}/{snapshot}.partial"
        return [
            "set -o pipefail",
            f"mkdir -p -m 700 {WORKSHOP}",
            f"if ! test -e {fetched}; then",
            *(f"  {line}" for line in target.download_commands(folder, partial)),
            f"  mv -T -- {partial} {fetched}",
            "fi",
            f"cd {fetched}",
            "sha256sum --check --quiet SHA256SUMS",
            *source.restore_commands(stored, decode, f"restored/{step.params['source']}"),
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Stage a copy whose manifest is the one that the plan was made for."""
        source, place = opened(step, context)
        _require_no_way_out(source, context)
        taken = _stage(source, place, step, context)
        staged = source.staged(place)
        if staged is None:
            raise StepFailed(f"{source.name} was not staged as a whole.")
        return {
            "staged": str(staged),
            "target": taken.target,
            "passed_over": [asdict(one) for one in taken.passed_over],
            # Decompression and loading go on meanwhile: it can be all of the step's time, not more.
            "phases": {"fetch": round(taken.seconds, 3)},
        }

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done while what was staged is still there, and all of it."""
        if result.status != "done":
            return "absent"
        source, place = opened(step, context)
        if _settled(step, context) or source.swapped(place) != "absent":
            return "done"
        discarded = context.results.get(f"{source.name}.discard")
        # Its removal was cut off: what is left looks whole, and was proven when it was.
        if discarded is not None and discarded.status in ("started", "failed"):
            return "absent"
        return "absent" if source.staged(place) is None else "done"


class Prove(Simple):
    """Take the fingerprint of what was staged, and compare it with the snapshot's."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """The checksums above are what a person without the tool can check."""
        return [f"# look at restored/{step.params['source']}: is it what you expect?"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Prove it; raise StepFailed with the differences when it is not equal."""
        source, place = opened(step, context)
        return _proof(source, place, fingerprint_of(step, context))


class Check(Simple):
    """Ask what was staged the questions that the spec declares."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The questions, for a person to ask."""
        probes = spec.checks[step.params["source"]]
        return [f"# check: {probe.name} ({probe.kind}: {probe.value!r})" for probe in probes]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Ask; raise StepFailed when an answer is no."""
        from runner.execute.asking import ask_checks

        source, place = opened(step, context)
        answers = ask_checks(source.name, source.staged(place), context)
        outputs = {"checks": answers, "verdict": worst(one["verdict"] for one in answers)}
        failed = [one for one in answers if one["verdict"] == "FAIL"]
        if failed:
            first = failed[0]
            raise StepFailed(
                f"The check `{first['name']}` of {source.name} failed: expected "
                f"{first['expected']}, found {first['actual']}.",
                remedy="Nothing was replaced. The snapshot is intact but not what it should be: "
                "choose an earlier one with --at.",
                outputs=outputs,
            )
        if any(one["kind"] == "run" for one in answers) and source.paths:
            _restage_if_changed(source, place, step, context)
        return outputs


class Swap(Simple):
    """Exchange what is live with what was staged and proven."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """Move the unpacked content to its place, keeping what is there."""
        source = open_source(spec.source(step.params["source"]))
        if include := step.params["include"]:
            # Which files match is the source's to say, and all the rest must stay as it is.
            return [f"# place of restored/{source.name} only what matches {', '.join(include)}"]
        if step.params["destination"]:
            # A source's own commands replace what is live.
            return [f"# place restored/{source.name} at {_standing(step, spec)}"]
        return source.place_commands(f"restored/{source.name}")

    def perform(self, step: Step, context: Context) -> Outputs:
        """Swap, unless the live content is in use."""
        source, place = opened(step, context)
        if source.swapped(place) == "absent":
            _require_no_way_out(source, context)
            source.gate(place)
        return {"safety": [str(one) for one in source.swap(place)]}

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """As the disk says."""
        source, place = opened(step, context)
        if result.status == "done" and _settled(step, context):
            return "done"
        return source.swapped(place)


class Confirm(Simple):
    """See that what was staged now stands in its place."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """Where to look."""
        return [f"# look at {_standing(step, spec)}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Confirm, or raise so that the swap is undone."""
        source, place = opened(step, context)
        notes = list(source.confirm(place))
        if context.scratch is None:
            note_kept(source, place, step, context)
        mirror_restored(source.name, context)
        context.reread_spec(lambda: env_file_values(context))
        return {"notes": notes}


class Unswap(Simple):
    """Put the safety copy back."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What a person does instead."""
        return [f"# move *.before-recovery back over {_standing(step, spec)}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Undo the swap, however far it got."""
        source, place = opened(step, context)
        source.unswap(place)
        forget_note(context.spec.state, context.run, source.name)
        return {}


class Discard(Simple):
    """Remove what was staged."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Nothing was staged beside the live content by hand."""
        return []

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove it; safety copies stay."""
        source, place = opened(step, context)
        source.discard(place)
        return {}


def _standing(step: Step, spec: Spec) -> str:
    """Where what is restored stands in the end: the place that was given, or the source's own."""
    name, destination = step.params["source"], step.params["destination"]
    return shlex.quote(destination or open_source(spec.source(name)).describe())


def _stage(source: Source, place: Place, step: Step, context: Context) -> Taken:
    def stage(artifacts: SnapshotArtifacts) -> None:
        source.stage(artifacts, place)
        # What this restore had no need of must be whole too, or nobody knows what else is not.
        artifacts.finish()

    return stage_from_whole(step, context, stage, lambda: source.discard(place))


def _proof(source: Source, place: Place, expected: Fingerprint) -> Outputs:
    """Whether what was staged is what was backed up. Raises StepFailed with the differences."""
    try:
        found = source.fingerprint(place)
        differences = list(source.differences(expected, found, place))
    except PersonNeeded as error:
        return {"equal": None, "differences": [], "verdict": "COULD-NOT-VERIFY",
                "why": error.message}  # fmt: skip
    if differences:
        raise StepFailed(
            f"The restored {source.name} differs from the snapshot: "
            + differences[0].rstrip(".")
            + (f" (and {len(differences) - 1} more)." if len(differences) > 1 else "."),
            remedy="Nothing was replaced. Try another snapshot or target.",
            outputs={"equal": False, "differences": differences, "verdict": "FAIL"},
        )
    notes = list(found.get("notes", ()))
    return {"equal": True, "differences": [], "verdict": "PASS", "notes": notes}


def _restage_if_changed(source: Source, place: Place, step: Step, context: Context) -> None:
    """A check may write where it is run: what goes live is what was backed up all the same."""
    expected = fingerprint_of(step, context)
    try:
        _proof(source, place, expected)
    except StepFailed:
        source.discard(place)
        _stage(source, place, step, context)
        _proof(source, place, expected)


def _require_no_way_out(source: Source, context: Context) -> None:
    """Raise StepFailed where nobody signed the spec, and a link, which its snapshot may have
    brought, leads out of the spec's folder on the way to a source that is declared inside it.
    """
    if not context.unsigned or context.scratch is not None:
        return
    home = context.spec.folder
    for path in source.paths:
        if home in path.parents and not path.parent.resolve().is_relative_to(home.resolve()):
            raise StepFailed(
                f"{path} is not in {home}: a link on the way to it leads to "
                f"{path.parent.resolve()}, and nobody signed the snapshot.",
                remedy="Nothing was replaced there. If the link is yours, declare the place that "
                "it leads to, or give --allowed-signers.",
            )


def place_of(params: Any, spec: Spec, token: str, scratch: Path | None = None) -> Place:
    """Where and how a step restores; `scratch` is the drill's folder."""
    home = scratch or spec.state
    return Place(
        token=token,
        destination=params["destination"],
        include=tuple(params["include"]),
        running=params["running"],
        existing=params["existing"],
        protected=protected_paths(spec, params["source"]),
        workspace=home / "staging" / f"{token}-{params['source']}",
        safety=home / "safety",
    )


def protected_paths(spec: Spec, source: str) -> tuple[Path, ...]:
    """What must stay where it is while one source is swapped: all that is not its own."""
    own = set(open_source(spec.source(source)).paths)
    others = [path for one in spec.sources.values() for path in open_source(one).paths]
    return tuple(path for path in (*others, *spec.left_out(), spec.file) if path not in own)


def opened(step: Step, context: Context) -> tuple[Source, Place]:
    """A step's source, and the place that it restores to. In a drill that is scratch."""
    place = place_of(step.params, context.spec, context.token, context.scratch)
    if context.scratch is not None:
        context.require_scratch(place.destination)
    return context.source(step.params["source"]), place


def note_kept(source: Source, place: Place, step: Step, context: Context) -> None:
    """Remember what was replaced, so that it can be put back or let go."""
    kept = json.loads(json.dumps(source.keep(place)))
    copies = source.copies(kept)
    where = ("source", "destination", "include", "running", "existing")
    note = Note(
        run=context.run,
        source=source.name,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        place={name: step.params[name] for name in where},
        kept=kept,
        stood=bool(copies),
        count=len(copies),
    )
    write_note(context.spec.state, note)


def _settled(step: Step, context: Context) -> bool:
    return is_done(f"{step.params['source']}.confirm", context.results)


ACTIONS = {
    "stage": Stage(),
    "prove": Prove(),
    "check": Check(),
    "swap": Swap(),
    "confirm": Confirm(),
    "unswap": Unswap(),
    "discard": Discard(),
}
