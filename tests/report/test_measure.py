"""RTO and RPO as measured: what counts, what is unknown, and what is missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.execute.ending import Finished
from runner.execute.journal import StepResult
from runner.plan.model import Plan
from runner.report.measure import recovery_points, recovery_times
from runner.report.recovered import next_line, steps_of
from runner.report.timeline import by_phase, by_source, timeline
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
    """A run whose every step took two seconds, one after another, or ended as `failed` says."""
    results = {}
    for place, step in enumerate(plan.steps):
        status = failed.get(step.id.replace(".", "_"), "done")
        outputs: Mapping[str, Any] = {}
        if step.action == "person.leave_out":
            outputs = {"counted_seconds": step.params["counted_seconds"]}
        began = None if status == "blocked" else f"2026-11-20T02:15:{place * 2:02}.000Z"
        took = None if status == "blocked" else 2.0
        results[step.id] = StepResult(
            step.id, status, started_at=began, seconds=took, outputs=outputs
        )
    return Finished("20261120T021500Z-drill-7f3a9c", "done", code, seconds, results)


def test_a_recovery_that_waits_for_a_person_has_no_time(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 1.0, 7, db_stage="failed"))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": False}


def test_what_was_left_out_puts_off_what_comes_after_it(made: World) -> None:
    plan = made.compile()
    last = 2.0 * len(plan.steps)
    measured = recovery_times(made.spec, plan, ended(plan, last))["system"]["measured"]
    assert measured == last + 20.0 + 10.0


def test_a_run_takes_no_less_than_its_clock_says(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 500.0))
    assert times["system"] == {"objective": 60.0, "measured": 500.0, "met": False}


def test_without_an_expected_time_what_waits_for_it_is_unknown(tmp_path: Path) -> None:
    text = (SMALL + MORE).replace(", expected: 10s", "")
    made = world(load_spec(write_spec(tmp_path, text), None, environment={}), FACTS)
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 1.0))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": None}
    assert times["db"]["measured"] is not None  # it stood before the person was asked


def test_a_source_is_back_when_it_stands_confirmed(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0))
    # provision (20 s, left out), stage, prove, swap, confirm: two seconds each
    assert times["db"] == {"objective": 10.0, "measured": 30.0, "met": False}
    assert times["config"]["measured"] > times["db"]["measured"]
    assert times["config"]["met"] is None
    assert times["bot"] == {"objective": 10.0, "measured": 30.0, "met": False}


def test_each_second_is_in_one_phase(made: World) -> None:
    plan = made.compile()
    finished = ended(plan, 20.0)
    stage = replace(finished.results["db.stage"], outputs={"phases": {"fetch": 0.5}})
    spans = timeline(plan, {**finished.results, "db.stage": stage})
    assert by_source(spans)["db"] == {"fetch": 0.5, "restore": 3.5, "verify": 4.0}
    phases = by_phase(spans)
    assert phases["fetch"] == {"seconds": 0.5, "counted": 0}
    assert phases["provision"]["counted"] == 20.0
    assert list(phases) == ["fetch", "provision", "restore", "verify", "serve"]


def test_what_did_not_come_back_missed_its_objective(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0, 4, db_confirm="failed"))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": False}
    assert times["db"] == {"objective": 10.0, "measured": None, "met": False}
    assert times["bot"]["met"] is False


def test_of_what_somebody_interrupted_nobody_knows(made: World) -> None:
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0, 130, db_confirm="interrupted"))
    assert times["system"] == {"objective": 60.0, "measured": None, "met": None}
    assert times["db"] == {"objective": 10.0, "measured": None, "met": None}


def test_what_the_recovery_forgets_did_not_come_back(tmp_path: Path) -> None:
    text = (SMALL + MORE).replace("  - {restore: db}\n", "")
    made = world(load_spec(write_spec(tmp_path, text), None, environment={}), FACTS)
    plan = made.compile()
    times = recovery_times(made.spec, plan, ended(plan, 20.0))
    assert times["db"] == {"objective": 10.0, "measured": None, "met": False}
    assert times["bot"]["met"] is False
    incident = datetime(2026, 11, 20, 5, tzinfo=UTC)
    points = recovery_points(made.spec, plan, made.catalog, incident, now=incident)
    assert points["db"]["met"] is False


@pytest.mark.parametrize(("hours", "met"), [(25, True), (27, False)])
def test_the_age_of_the_newest_snapshot_is_judged(made: World, hours: int, met: bool) -> None:
    taken = datetime(2026, 11, 19, 2, 15, tzinfo=UTC)
    incident = taken + timedelta(hours=hours)
    points = recovery_points(made.spec, made.compile(), made.catalog, incident, now=incident)
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
