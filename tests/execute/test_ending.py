"""How a run ends, as a table: from the results of its steps to its status and exit code."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from runner.execute import journal as journals
from runner.execute.context import Context
from runner.execute.ending import Finished, Settings, end
from runner.execute.journal import StepResult
from runner.plan.model import Step
from tests.execute.conftest import RUN

DONE = StepResult("", "done")
BLOCKED = StepResult("", "blocked")
LOCKED = StepResult("", "failed", error={"kind": "locked", "message": "Another host is at it."})
FAILED = StepResult("", "failed", error={"kind": "failed", "message": "It is full."})
ASKS = StepResult("", "failed", error={"kind": "person", "message": "Look at it."})

Conclude = Callable[..., Finished]


@pytest.fixture
def conclude(context_of: Callable[..., Context]) -> Conclude:
    """Ends a run of that kind whose steps ended so; a step's name is its action."""

    def ended(kind: str, results: dict[str, StepResult], *, interrupted: bool = False) -> Finished:
        context = context_of(*(Step(name, name, name) for name in results), kind=kind)
        context.results.update(results)
        journal = journals.create_run(context.spec.state, RUN, context.plan, ())
        try:
            finished = end(context, journal, Settings(), time.monotonic(), interrupted=interrupted)
        finally:
            journal.close()
        written = journals.read_run(context.spec.state, RUN)
        assert (written.status, written.exit_code) == (finished.status, finished.exit_code)
        return finished

    return ended


@pytest.mark.parametrize(
    ("kind", "results", "code"),
    [
        ("prune", {"a": LOCKED}, 6),
        ("prune", {"a": DONE, "b": LOCKED}, 6),
        ("prune", {"a": FAILED, "b": LOCKED}, 4),
        ("prune", {"a": ASKS, "b": LOCKED}, 4),
        ("prune", {"a": DONE}, 0),
        ("backup", {"snapshot.capture": FAILED, "snapshot.prune": LOCKED}, 4),
        ("backup", {"snapshot.prune": LOCKED}, 4),
    ],
)
def test_only_a_prune_that_just_came_too_early_says_so_by_its_code(
    conclude: Conclude, kind: str, results: dict[str, StepResult], code: int
) -> None:
    """What else a run was to do has failed, or it was done: then 6 would be no word for it."""
    assert conclude(kind, results).exit_code == code


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ({"snapshot.publish": DONE, "snapshot.copy": FAILED}, "partial"),
        ({"snapshot.publish": FAILED, "snapshot.copy": DONE}, "partial"),
        ({"rekey.write": DONE, "rekey.remove": FAILED}, "partial"),
        ({"snapshot.publish": FAILED, "snapshot.verify": DONE}, "failed"),
        ({"source.capture": DONE, "snapshot.publish": FAILED}, "failed"),
        ({"snapshot.publish": DONE, "snapshot.verify": DONE}, "done"),
    ],
)
def test_what_arrived_anywhere_is_partial_and_no_failure(
    conclude: Conclude, results: dict[str, StepResult], status: str
) -> None:
    assert conclude("backup", results).status == status


@pytest.mark.parametrize("results", [{"a": DONE}, {"a": DONE, "b": BLOCKED}, {"a": FAILED}])
def test_a_run_that_was_killed_was_interrupted_whatever_it_had_done(
    conclude: Conclude, results: dict[str, StepResult]
) -> None:
    finished = conclude("dr-restore", results, interrupted=True)
    assert (finished.status, finished.exit_code) == ("interrupted", 130)
    assert finished.error is not None
    assert finished.error["message"] == "The run was interrupted."
