"""A drill: the recovery in scratch instances, measured, judged, and written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.durable import make_folder
from runner.errors import ObjectiveMissed, PersonNeeded, StepFailed
from runner.execute import journal
from runner.execute.ending import Finished
from runner.execute.session import Session
from runner.plan.model import Plan
from runner.plan.scenario import Scenario
from runner.prove.command import end_left_behind
from runner.prove.scratch import PREFIX, scratch_folder
from runner.report import drill_facts, measure, recovered
from runner.report.evidence import journal_hash, previous_report, write_reports
from runner.report.findings import open_findings
from runner.report.foresight import forget
from runner.report.outcome import Outcome, stamp
from runner.store.catalog import Catalog
from runner.store.records import DrillResult, body_of, write_record


@dataclass(frozen=True)
class Rehearsal:
    """What is drilled, what it is judged by, and where the report goes."""

    scenario: Scenario
    catalog: Catalog  # of the targets that the scenario leaves
    incident: datetime  # the RPO is the age of the newest content then
    folder: Path | None = None  # of the report; None: `drills` in the state folder


@dataclass(frozen=True)
class _Drilled:
    """One drill that was executed."""

    session: Session
    rehearsal: Rehearsal
    plan: Plan
    finished: Finished  # with the results as the journal has them
    run: str
    left_over: bool
    swept: tuple[str, ...]  # what killed drills had left, and is gone now


def rehearse(
    session: Session,
    in_scratch: Callable[[Path], Plan],
    rehearsal: Rehearsal,
    acting: Session,
) -> Outcome:
    """Run a drill as `acting`, write its report and its record, and judge it."""
    run = session.facts.run_id("drill")
    # A drill takes hours: that its report cannot be kept is to be known before it.
    make_folder(rehearsal.folder or session.spec.state / "drills")
    parent = session.spec.state / "scratch"
    left = [one for one in parent.glob(f"{PREFIX}*") if one.is_dir()]
    session.settle()
    swept = tuple(one.name for one in left if not one.exists())
    with scratch_folder(parent, "drill") as scratch:
        plan = in_scratch(scratch)
        try:
            finished = acting.execute(
                plan, scratch=scratch, details=lambda end: _details(session, plan, end)
            )
        finally:
            end_left_behind(scratch)
        place = scratch
    ended = _as_journalled(session, finished)
    return _conclude(_Drilled(session, rehearsal, plan, ended, run, place.exists(), swept))


def _as_journalled(session: Session, finished: Finished) -> Finished:
    """What is reported is what the journal says: it has the instant at which each step began."""
    if finished.run is None:
        return finished
    state = journal.read_run(session.spec.state, finished.run)
    return replace(finished, results=state.results)


def _details(session: Session, plan: Plan, finished: Finished) -> Mapping[str, Any]:
    rto = measure.recovery_times(session.spec, plan, _as_journalled(session, finished))
    return {"kind": "drill", "rto": rto, "seconds": finished.seconds}


def _conclude(drilled: _Drilled) -> Outcome:
    session, plan, finished = drilled.session, drilled.plan, drilled.finished
    rto = measure.recovery_times(session.spec, plan, finished)
    rpo = measure.recovery_points(
        session.spec,
        plan,
        drilled.rehearsal.catalog,
        drilled.rehearsal.incident,
        now=session.facts.now,
    )
    code, error = _verdict(finished, rto, rpo)
    catalog = session.catalog(needed=())
    facts = _facts(drilled, rto, rpo, code, catalog)
    folder = drilled.rehearsal.folder or session.spec.state / "drills"
    written = write_reports(session.spec, folder, drilled.run, facts)
    unrecorded = _record(drilled, code, facts, written.hashes, catalog)
    forget(session.spec)
    shown = ("rto", "rpo", "checks", "isolation", "cleanup", "phases", "scenario", "repeat")
    outcome = recovered.recovery_outcome(plan, finished)
    data = {
        **outcome.data,
        **{name: facts[name] for name in shown},
        "report": str(folder / f"{drilled.run}.md"),
    }
    swept = [f"Swept what a killed run had left: {one}." for one in drilled.swept]
    notes = (*outcome.notes, *swept, *filter(None, [facts["findings_trouble"], written.trouble]))
    notes += tuple(f"The drill's result is not kept at {one}" for one in unrecorded)
    return replace(
        outcome,
        command="drill",
        data=data,
        exit_code=code,
        error=outcome.error or error,
        notes=notes,
    )


def _facts(
    drilled: _Drilled,
    rto: Mapping[str, Any],
    rpo: Mapping[str, Any],
    code: int,
    catalog: Catalog,
) -> dict[str, Any]:
    session, rehearsal, plan = drilled.session, drilled.rehearsal, drilled.plan
    folder = rehearsal.folder or session.spec.state / "drills"
    make_folder(folder)
    findings, trouble = open_findings(folder)
    checks = [
        one
        for result in drilled.finished.results.values()
        for one in result.outputs.get("checks", [])
    ]
    return {
        **drill_facts.about(session.spec, plan, rehearsal.scenario, session.facts.now),
        **drill_facts.measured(plan, drilled.finished),
        "run": drilled.run,
        "status": drilled.finished.status,
        "verdict": drill_facts.VERDICTS.get(code, "FAILED"),
        "exit_code": code,
        "incident": stamp(rehearsal.incident),
        "snapshots": drill_facts.snapshots(plan, rehearsal.catalog, session.facts.now),
        "rto": rto,
        "rpo": rpo,
        "proof": recovered.proofs_of(plan, drilled.finished.results),
        "checks": checks,
        "cleanup": "left over" if drilled.left_over else "clean",
        "swept": list(drilled.swept),
        "findings": findings,
        "findings_trouble": trouble,
        "past": drill_facts.past(catalog.drills),
        "evidence": {
            "previous": previous_report(catalog.drills),
            "journal_sha256": journal_hash(session.spec.state, drilled.run),
        },
    }


def _verdict(
    finished: Finished, rto: Mapping[str, Any], rpo: Mapping[str, Any]
) -> tuple[int, Mapping[str, Any] | None]:
    """The exit code, and the error that says why it is not the run's own."""
    judged = [("RTO", name, one) for name, one in rto.items()]
    judged += [("RPO", name, one) for name, one in rpo.items()]
    missed = [f"{kind} of {name}" for kind, name, one in judged if one["met"] is False]
    if finished.exit_code in (4, 130):
        return finished.exit_code, None
    if missed:
        error = ObjectiveMissed(f"Missed: {', '.join(missed)}.")
        return error.exit_code, error.as_json()
    unknown = [
        f"{kind} of {name}"
        for kind, name, one in judged
        if one["met"] is None and one["objective"] is not None
    ]
    if finished.exit_code == 0 and unknown:
        doubt = PersonNeeded(
            f"Nobody can tell whether this is met: {', '.join(unknown)}.",
            remedy="Give each recovery step that a drill leaves out its `expected` time."
            if any(one.startswith("RTO") for one in unknown)
            else "Snapshots are dated in the future: look at the clock, and back up again.",
        )
        return doubt.exit_code, doubt.as_json()
    return finished.exit_code, None


def _opened(drilled: _Drilled) -> set[str]:
    """The snapshots that something was restored of, however the drill ended."""
    return {
        step.params["snapshot"]
        for step in drilled.plan.steps
        if step.action == "recovery.stage" and journal.is_done(step.id, drilled.finished.results)
    }


def _record(
    drilled: _Drilled,
    code: int,
    facts: Mapping[str, Any],
    hashes: Mapping[str, str],
    catalog: Catalog,
) -> list[str]:
    """Write the drill's result to each target; return which take none, and why."""
    session, spec = drilled.session, drilled.session.spec
    at = session.facts.now
    sizes = {name: one["bytes"] for name, one in facts["snapshots"].items()}
    opened = _opened(drilled)
    recipients = {name for one in catalog.snapshots if one.id in opened for name in one.recipients}
    details = {
        "rto": facts["rto"],
        "scenario": facts["scenario"],
        "bytes": {name: size for name, size in sizes.items() if size is not None},
        "sources": facts["sources"],
        "encrypted": bool(recipients),
        "recipients": sorted(recipients),
        "report_sha256": hashes[f"{drilled.run}.json"],
        "reports": dict(hashes),
    }
    last = max((one.place for one in catalog.drills), default=None)
    behind = last if last is not None and last >= at else None
    result = DrillResult(drilled.run, at, code == 0, details, behind)
    unrecorded = []
    for name in session.targets:
        if name in catalog.unreachable:
            continue
        try:
            write_record(
                session.targets[name], spec.project, spec.profile, "drill", body_of(result), at
            )
        except StepFailed as error:
            unrecorded.append(f"{name}: {error.message}")
    return unrecorded
