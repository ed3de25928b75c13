"""RTO and RPO as measured: what counts, what is unknown, and what is missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.execute.journal import StepResult
from runner.execute.runs import Finished
from runner.plan.model import Plan
from runner.report.measure import recovery_points, recovery_times
from runner.report.results import next_line, steps_of
from runner.spec.load import load_spec
from tests.plan.world import World, world
from tests.spec.builders import SMALL, write_spec

MORE = """\
objectives:
  system: {rto: 1m}
  db: {rto: 10s, rpo: 26h}
  bot: {rto: 10s}
services:
  bot: {stop: "true", start: "true", sources: [db]}
recovery:
  - {name: provision, run: "true", expected: 20s}
  - {restore: db}
  - {restore: config}
  - {name: dns, manual: "Point it here.", expected: 10s}
"""
FACTS: dict[str, Any] = {
    "now": "2026-11-20T02:15:00+00:00",
    "token": "7f3a9c",
    "host": "quay1",
    "snapshots": [
        {
            "at": "2026-11-19T02:15:00+00:00",
            "policy": "nightly",
            "sequence": 1,
            "token": "000001",
            "sources": ["db", "config"],
            "targets": ["disk"],
        }
    ],
    "ask": {"kind": "drill"},
}


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(load_spec(write_spec(tmp_path, SMALL + MORE), None, environment={}), FACTS)


def ended(plan: Plan, seconds: float, code: int = 0, **failed: str) -> Finished:
    """A run whose every step took two seconds, or ended as `failed` says."""
    results = {}
    for step in plan.steps:
        status = failed.get(step.id.replace(".", "_"), "done")
        outputs: Mapping[str, Any] = {}
        if step.action == "person.leave_out":
            outputs = {"counted_seconds": step.params["counted_seconds"]}
        results[step.id] = StepResult(step.id, status, seconds=2.0, outputs=outputs)
    return Finished("20261120T021500Z-drill-7f3a9c", "done", code, seconds, results)


def test_what_was_left_out_counts_with_its_expected_time(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 29.0))
    assert times["system"] == {"objective": 60.0, "measured": 59.0, "met": True}
    times = recovery_times(made.spec, plan, ended(plan, 31.0))
    assert times["system"] == {"objective": 60.0, "measured": 61.0, "met": False}


def test_without_an_expected_time_the_verdict_is_unknown(tmp_path: Path) -> None:
    text = (SMALL + MORE).replace(", expected: 10s", "")
    made = world(load_spec(write_spec(tmp_path, text), None, environment={}), FACTS)
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 1.0))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": None}


def test_a_source_counts_what_led_to_it(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0))
    # provision, stage, prove, swap, confirm: two seconds each; too slow by nothing
    assert times["db"] == {"objective": 10.0, "measured": 10.0, "met": True}
    assert times["config"]["measured"] > times["db"]["measured"]
    assert times["config"]["met"] is None
    assert times["bot"] == {"objective": 10.0, "measured": 10.0, "met": True}


def test_what_did_not_come_back_missed_its_objective(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0, 4, db_confirm="failed"))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": False}
    assert times["db"] == {"objective": 10.0, "measured": None, "met": False}
    assert times["bot"]["met"] is False


@pytest.mark.parametrize(("hours", "met"), [(25, True), (27, False)])
def test_the_age_of_the_newest_snapshot_is_judged(made: World, hours: int, met: bool) -> None:
    taken = datetime(2026, 11, 19, 2, 15, tzinfo=UTC)
    incident = taken + timedelta(hours=hours)
    points = recovery_points(made.spec, made.compile(), made.catalog, incident)
    assert points["db"] == {"objective": 93600.0, "measured": hours * 3600.0, "met": met}
    assert points["config"]["met"] is None


def test_steps_stand_in_the_plans_order_with_public_words(made: World) -> None:
    plan = made.compile()
    finished = ended(plan, 1.0, 4, db_swap="undone", db_confirm="failed", config_stage="blocked")
    listed = {one["id"]: one["status"] for one in steps_of(plan, finished.results)}
    assert list(listed) == [step.id for step in plan.steps]
    assert listed["db.swap"] == "failed"
    assert listed["config.stage"] == "skipped"
    assert next_line(plan, finished) is None  # a drill is not resumed
