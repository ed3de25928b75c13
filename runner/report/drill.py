"""A drill: the recovery in scratch instances, measured, judged, and written down."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes
from runner.errors import ObjectiveMissed
from runner.execute.runs import Finished
from runner.execute.session import Session
from runner.plan.model import Plan
from runner.prove.command import isolation
from runner.prove.scratch import scratch_folder
from runner.report import measure, results
from runner.report.drill_document import drill_markdown
from runner.report.outcome import Outcome, stamp
from runner.store.records import DrillResult, body_of, write_record


def rehearse(
    session: Session, in_scratch: Callable[[Path], Plan], report_folder: Path | None
) -> Outcome:
    """Run a drill, write its report and its record, and judge it."""
    run = session.facts.run_id("drill")
    session.settle()
    began = session.facts.now
    left_over = ""
    with scratch_folder(session.spec.state / "scratch", "drill") as scratch:
        plan = in_scratch(scratch)
        finished = session.execute(
            plan, scratch=scratch, details=lambda end: _details(session, plan, end)
        )
        place = scratch
    if place.exists():
        left_over = str(place)
    return _conclude(session, plan, finished, run, began, left_over, report_folder)


def _details(session: Session, plan: Plan, finished: Finished) -> Mapping[str, Any]:
    rto = measure.recovery_times(session.spec, plan, finished)
    return {"kind": "drill", "rto": rto, "seconds": finished.seconds}


def _conclude(
    session: Session,
    plan: Plan,
    finished: Finished,
    run: str,
    began: datetime,
    left_over: str,
    report_folder: Path | None,
) -> Outcome:
    spec = session.spec
    outcome = results.recovery_outcome(plan, finished)
    rto = measure.recovery_times(spec, plan, finished)
    rpo = measure.recovery_points(spec, plan, session.catalog(), began)
    checks = [
        one for result in finished.results.values() for one in result.outputs.get("checks", [])
    ]
    data = {
        **outcome.data,
        "rto": rto,
        "rpo": rpo,
        "checks": checks,
        "isolation": isolation(),
        "cleanup": "left over" if left_over else "clean",
    }
    folder = report_folder or spec.state / "drills"
    make_folder(folder)
    report = folder / f"{run}.md"
    data["report"] = str(report)
    facts = {**data, "at": stamp(began), "snapshots": dict(plan.facts["snapshots"]),
             "taken_at": dict(plan.facts["taken_at"])}  # fmt: skip
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    write_bytes(folder / f"{run}.json", text)
    code = _code(finished, rto, rpo)
    write_bytes(report, drill_markdown(spec, plan, finished, facts, code).encode())
    _record(session, run, began, code, rto, hashlib.sha256(text).hexdigest())
    error = outcome.error
    if error is None and code == ObjectiveMissed.exit_code:
        error = ObjectiveMissed(_missed(rto, rpo)).as_json()
    return replace(outcome, command="drill", data=data, exit_code=code, error=error)


def _code(finished: Finished, rto: Mapping[str, Any], rpo: Mapping[str, Any]) -> int:
    missed = any(one["met"] is False for one in (*rto.values(), *rpo.values()))
    if finished.exit_code in (4, 130) or not missed:
        return finished.exit_code
    return ObjectiveMissed.exit_code


def _missed(rto: Mapping[str, Any], rpo: Mapping[str, Any]) -> str:
    late = [f"RTO of {name}" for name, one in rto.items() if one["met"] is False]
    late += [f"RPO of {name}" for name, one in rpo.items() if one["met"] is False]
    return f"Missed: {', '.join(late)}."


def _record(
    session: Session,
    run: str,
    at: datetime,
    code: int,
    rto: Mapping[str, Any],
    digest: str,
) -> None:
    spec = session.spec
    result = DrillResult(run, at, code == 0, {"rto": dict(rto), "report_sha256": digest})
    for name, target in session.targets.items():
        if name not in session.catalog().unreachable:
            write_record(target, spec.project, spec.profile, "drill", body_of(result), at)
