"""What a drill's report says, as JSON. The pages for people are made of this alone."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from runner import __version__
from runner.execute.ending import Finished
from runner.execute.session import who
from runner.plan.facts import host_name
from runner.plan.model import Plan
from runner.plan.scenario import Scenario
from runner.prove.command import isolation
from runner.report.outcome import stamp
from runner.report.recovered import PUBLIC_STATUS
from runner.report.timeline import Span, by_phase, by_source, timeline
from runner.spec.model import DEFAULT_PROFILE, Spec
from runner.store.catalog import Catalog
from runner.store.records import ODD, DrillResult

FORMAT = 1
VERDICTS = {0: "PASSED", 4: "FAILED", 5: "OBJECTIVE MISSED", 7: "NOT PROVEN", 130: "INTERRUPTED"}
MOST_PAST = 20  # drills before this one that the report shows


def about(spec: Spec, plan: Plan, scenario: Scenario, began: datetime) -> dict[str, Any]:
    """Who drilled what, where, with what."""
    profile = "" if spec.profile == DEFAULT_PROFILE else f" --profile {spec.profile}"
    return {
        "format": FORMAT,
        "project": spec.project,
        "profile": spec.profile,
        "scenario": scenario.name,
        "supposed": scenario.words,
        "repeat": f"{scenario.repeat}{profile}",
        "at": stamp(began),
        "operator": who(),
        "trigger": _trigger(),
        "host": host_name(),
        "spec_sha256": spec.digest,
        "plan_sha256": plan.id,
        "tools": {
            "Holdfast": __version__,
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
        },
        "isolation": isolation(),
        "doubts": list(plan.facts["doubts"]),
    }


def measured(plan: Plan, finished: Finished) -> dict[str, Any]:
    """What the journal says of time: phases, sources, every step."""
    spans = timeline(plan, finished.results)
    return {
        "seconds": finished.seconds,
        "phases": by_phase(spans),
        "sources": by_source(spans),
        "timeline": [_row(span) for span in spans],
    }


def snapshots(plan: Plan, catalog: Catalog, began: datetime) -> dict[str, dict[str, Any]]:
    """For each source what it was restored from: id, target, manifest's hash, age, size."""
    rows = {}
    for step in plan.steps:
        if step.action != "recovery.stage":
            continue
        name, snapshot = step.params["source"], step.params["snapshot"]
        taken = datetime.fromisoformat(plan.facts["taken_at"][name])
        held = catalog.by_id[snapshot].sources.get(name) if snapshot in catalog.by_id else None
        rows[name] = {
            "id": snapshot,
            "target": step.params["target"],
            "manifest_sha256": step.params["manifest_sha256"],
            "taken_at": stamp(taken),
            "age": max(0.0, (began - taken).total_seconds()),
            "bytes": None if held is None else held.bytes,
        }
    return rows


def past(drills: Sequence[DrillResult]) -> list[dict[str, Any]]:
    """The drills before this one, newest first."""
    return [
        {"run": one.run, "at": stamp(one.at), "ok": one.ok,
         "seconds": _system(one.details)}
        for one in drills[:MOST_PAST]
    ]  # fmt: skip


def _system(details: Mapping[str, Any]) -> float | None:
    # A record is whatever somebody wrote to a target.
    with suppress(*ODD):
        seconds = details["rto"]["system"]["measured"]
        return None if seconds is None else float(seconds)
    return None


def _row(span: Span) -> dict[str, Any]:
    result = span.result
    return {
        "step": span.step.id,
        "title": span.step.title,
        "phase": span.step.phase,
        "source": span.source,
        "status": PUBLIC_STATUS.get(result.status, result.status),
        "began": span.began,
        "seconds": round(span.seconds, 3),
        "left_out": span.left_out,
        "counted": result.outputs.get("counted_seconds", 0.0),
        "delay": span.delay,
        "why": result.message or result.reason,
    }


def _trigger() -> str:
    if os.environ.get("CI"):
        return "continuous integration"
    return "a person at a terminal" if sys.stdin and sys.stdin.isatty() else "a schedule or script"
