"""Which step may run, as a table."""

from __future__ import annotations

import pytest

from runner.execute.journal import StepResult
from runner.execute.order import decide
from runner.plan.model import Step

PLAIN = Step("b", "trial.work", "B", needs=("a",))
UNDO = Step("b", "trial.work", "B", after=("a",), when="failure", undoes="a")
ON_FAILURE = Step("b", "trial.work", "B", after=("a",), when="failure")
ALWAYS = Step("b", "trial.work", "B", after=("a",), when="always")
CLEAN_UP = Step("b", "trial.work", "B", after=("a",), when="always", undoes="a")

STATUSES = ("pending", "started", "done", "skipped", "failed", "blocked", "interrupted", "undone")

TABLE = [
    (PLAIN, ("wait", "wait", "run", "run", "blocked", "blocked", "blocked", "blocked")),
    (UNDO, ("wait", "wait", "skipped", "skipped", "run", "skipped", "run", "skipped")),
    (ON_FAILURE, ("wait", "wait", "skipped", "skipped", "run", "run", "run", "run")),
    (ALWAYS, ("wait", "wait", "run", "run", "run", "run", "run", "run")),
    (CLEAN_UP, ("wait", "wait", "run", "skipped", "run", "skipped", "run", "run")),
]
ROWS = [
    (step, status, verb)
    for step, verbs in TABLE
    for status, verb in zip(STATUSES, verbs, strict=True)
]


@pytest.mark.parametrize(("step", "status", "verb"), ROWS)
def test_what_follows_from_what_happened_before(step: Step, status: str, verb: str) -> None:
    results = {} if status == "pending" else {"a": StepResult("a", status)}
    assert decide(step, results, interrupted=False).verb == verb


def test_nothing_new_begins_after_an_interrupt() -> None:
    results = {"a": StepResult("a", "done")}
    assert decide(PLAIN, results, interrupted=True).verb == "blocked"


def test_after_an_interrupt_what_is_needed_and_goes_on_is_waited_for() -> None:
    results = {"a": StepResult("a", "started")}
    assert decide(PLAIN, results, interrupted=True).verb == "wait"


def test_what_takes_back_runs_after_an_interrupt() -> None:
    results = {"a": StepResult("a", "interrupted")}
    for step in (UNDO, ALWAYS, CLEAN_UP):
        assert decide(step, results, interrupted=True).verb == "run"


def test_a_person_who_is_waited_for_is_no_failure() -> None:
    waits = StepResult("a", "failed", error={"kind": "person", "message": "By hand."})
    assert decide(ON_FAILURE, {"a": waits}, interrupted=False).verb == "skipped"
    for step in (UNDO, ALWAYS, CLEAN_UP):
        assert decide(step, {"a": waits}, interrupted=False).verb == "run"
    both = Step("c", "trial.work", "C", after=("a", "b"), when="failure")
    results = {"a": waits, "b": StepResult("b", "blocked")}
    assert decide(both, results, interrupted=False).verb == "skipped"
    results["b"] = StepResult("b", "failed", error={"kind": "failed", "message": "No."})
    assert decide(both, results, interrupted=False).verb == "run"


def test_a_blocked_step_says_what_it_needed() -> None:
    decision = decide(PLAIN, {"a": StepResult("a", "failed")}, interrupted=False)
    assert decision.reason == "needs a, which failed"
