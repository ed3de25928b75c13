"""The stories of plans that were made before: saved in a file, or begun by a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from runner.errors import PersonNeeded, UsageError
from runner.execute import journal
from runner.execute.call import Call
from runner.execute.kept import read_note
from runner.execute.session import Session
from runner.plan.delete import compile_delete
from runner.plan.model import Plan, plan_from_json
from runner.prepare import (
    Prepared,
    complete_by_plan,
    concluding,
    concluding_backup,
    danger_of,
    details,
    store_runbooks,
)
from runner.report.outcome import Outcome
from runner.store.catalog import Catalog

OWN = ("recovery.", "rollback.")  # what these did is looked for, and nobody's word counts

# Actions that write a snapshot under the id that the plan gave it.
WRITING = ("snapshot.publish", "rekey.write")

# Plans of snapshots that must be there still.
HOLDING = ("verify", "delete", "pin", "unpin")


def apply(call: Call, *, file: Path) -> Prepared:
    """A saved plan, if the world is still as it was when it was made."""
    session = Session.open(call)
    try:
        plan = plan_from_json(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} cannot be used as a plan: {error}.",
            remedy="Save it anew with --dry-run --out.",
        ) from error
    if plan.kind == "drill":
        raise UsageError(
            "A drill makes its scratch folder anew, so its plan is only to be looked at.",
            remedy="Run `drill` itself.",
        )
    if plan.spec_digest != session.spec.digest or plan.profile != session.spec.profile:
        raise PersonNeeded(
            "The plan is stale: the spec or the profile is not the one that it was made from.",
            remedy="Plan again with --dry-run --out, and look at what differs.",
        )
    complete_by_plan(session, plan)
    if plan.facts.get("resolved") not in (None, session.spec.resolved):
        raise PersonNeeded(
            "The plan is stale: a variable that the spec expands has another value now.",
            remedy="Plan again with --dry-run --out, and look at what differs.",
        )
    catalog = session.catalog()
    _require_as_planned(session, plan, catalog)
    # Another run may be waited for, and it may be one of this very plan.
    session.require = lambda: _require_as_planned(session, plan, session.catalog())
    store_runbooks(session, catalog.drills)
    backup = plan.kind == "backup"
    conclude = concluding_backup(session, catalog) if backup else concluding(plan)
    return Prepared(session, plan, conclude, danger_of(session, plan))


def _require_as_planned(session: Session, plan: Plan, catalog: Catalog) -> None:
    """Raise PersonNeeded where the snapshots of the plan are not as it knew them."""
    _require_unused(plan, catalog)
    _require_there(plan, catalog)
    if plan.kind == "delete":
        # It may have been pinned since, or a newer one may be built on it.
        compile_delete(session.spec, catalog, plan.facts["snapshot"])


def _require_there(plan: Plan, catalog: Catalog) -> None:
    """Raise PersonNeeded where the plan is about a snapshot that was removed since it was made."""
    if plan.kind not in HOLDING or catalog.unreachable:
        return
    there = {(target, one.id) for one in catalog.snapshots for target in one.targets}
    there |= {(target, one) for target, one, _ in catalog.damaged}
    for step in plan.steps:
        target, snapshot = step.params["target"], step.params["snapshot"]
        if (target, snapshot) not in there:
            raise PersonNeeded(
                f"The plan is stale: {snapshot} is not at {target} any more.", remedy="Plan again."
            )


def _require_unused(plan: Plan, catalog: Catalog) -> None:
    """Raise PersonNeeded where the plan would write over a snapshot: over one that it wrote, say,
    or with the number of another one.
    """
    newest = catalog.snapshots[0].id if catalog.snapshots else None
    if plan.kind == "backup" and plan.facts["newest"] != newest:
        known = plan.facts["newest"]
        gone = known is not None and known not in catalog.by_id
        why = (
            f"{known}, the newest snapshot that it knew, is gone"
            if gone
            else "there is a newer snapshot than it knew"
        )
        raise PersonNeeded(f"The plan is stale: {why}.", remedy="Plan again.")
    for step in plan.steps:
        if step.action in WRITING and step.params["snapshot"] in catalog.by_id:
            raise PersonNeeded(
                f"The plan is stale: {step.params['snapshot']} is there already.",
                remedy="Plan again.",
            )


def resume(
    call: Call,
    kind: str,
    run: str,
    *,
    done: Sequence[str] = (),
    by: str = "",
    start_at: str | None = None,
) -> Prepared:
    """Go on with a run of that kind that ended early, from what still holds.

    `by` did what is `done`; empty: who runs this.
    """
    session = Session.open(call)
    plan = journal.read_plan(session.spec.state, run)
    if plan.kind != kind and (kind, plan.kind) != ("dr-restore", "rollback"):
        raise UsageError(
            f"The run {run} is a {plan.kind}, not a {kind}.", remedy="`history --runs` lists runs."
        )
    if plan.profile != session.spec.profile:
        raise PersonNeeded(
            f"{run} was started with the profile {plan.profile}, not {session.spec.profile}.",
            remedy=f"Go on with --profile {plan.profile}.",
        )
    if plan.spec_digest != session.spec.digest:
        raise PersonNeeded(
            f"The spec is not the one that {run} was started with.",
            remedy="Bring the spec back, or start anew without --resume.",
        )
    _require_targets(session, plan, run)
    complete_by_plan(session, plan)
    _require_not_taken_back(session, run)
    unknown = {*done, *([start_at] if start_at else [])} - {step.id for step in plan.steps}
    if unknown:
        raise UsageError(
            f"The run has no step `{min(unknown)}`.", remedy=f"`show --run {run}` lists them."
        )

    _require_reportable(plan, done)
    _require_not_settled(session, plan, run, start_at)
    conclude = concluding(plan)
    if plan.kind == "backup":
        catalog = session.catalog()
        conclude = concluding_backup(session, catalog)
        store_runbooks(session, catalog.drills)
        # Another one may be waited for.
        session.require = lambda: _require_not_overtaken(plan, run, session.catalog())

    def go_on() -> Outcome:
        again = [start_at] if start_at else []
        finished = session.resume(
            run, reported=done, by=by, again=again, details=lambda end: details(plan, end)
        )
        return conclude(plan, finished)

    return Prepared(session, plan, conclude, carry_out=go_on)


def _require_not_overtaken(plan: Plan, run: str, catalog: Catalog) -> None:
    """Raise UsageError where a backup would still publish under the number of a newer snapshot."""
    steps = [step.params for step in plan.steps if step.action == "snapshot.publish"]
    own = {one["snapshot"] for one in steps}
    others = max((one.sequence for one in catalog.snapshots if one.id not in own), default=0)
    for one in steps:
        if one["snapshot"] not in catalog.by_id and one["sequence"] <= others:
            raise UsageError(
                f"{run} published no {one['snapshot']}, and a newer snapshot was made since.",
                remedy="Start anew: holdfast backup",
            )


def _require_reportable(plan: Plan, done: Sequence[str]) -> None:
    """Raise UsageError where somebody reports what only the disk can tell."""
    for name in done:
        if plan.step(name).action.startswith(OWN):
            raise UsageError(
                f"`{name}` is Holdfast's own step: it is done when it finds so itself.",
                remedy="--done is for manual steps, and for commands that you looked after.",
            )


def _require_not_settled(session: Session, plan: Plan, run: str, start_at: str | None) -> None:
    """Raise UsageError where a source is to be put in its place that stands there."""
    step = plan.step(start_at) if start_at else None
    if step is None or not step.action.startswith(OWN):
        return
    source = step.params["source"]
    if journal.is_done(f"{source}.confirm", journal.read_run(session.spec.state, run).results):
        raise UsageError(
            f"`{step.id}` cannot be done again: {source} stands in its place.",
            remedy=f"Restore it once more with `restore --source {source}`.",
        )


def _require_targets(session: Session, plan: Plan, run: str) -> None:
    """Raise UsageError where a recovery was begun from an address, and this line lacks it."""
    for step in plan.steps:
        target = step.params.get("target")
        if target is not None and target not in session.spec.targets:
            flags = ["--resume", run, "--from", target, "--dir", str(session.spec.folder)]
            raise UsageError(
                f"{run} was begun with --from {target}.",
                remedy="Go on by the line that it printed, or, with the options that the address "
                f"had: holdfast dr-restore {shlex.join(flags)}",
            )


def _require_not_taken_back(session: Session, run: str) -> None:
    """Raise UsageError where what a run had placed is not there any more, by a rollback."""
    for step, result in journal.read_run(session.spec.state, run).results.items():
        name, _, verb = step.rpartition(".")
        if verb == "confirm" and result.done and not read_note(session.spec.state, run, name):
            raise UsageError(
                f"What {run} restored of {name} was taken back.",
                remedy="Start anew without --resume.",
            )
