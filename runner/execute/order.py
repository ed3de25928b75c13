"""Which step may run now: pure rules over the plan and what has happened so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import PersonNeeded
from runner.execute.journal import StepResult
from runner.plan.model import Step

SATISFIED = ("done", "skipped")
ENDED = ("done", "skipped", "blocked", "failed", "interrupted", "undone")


@dataclass(frozen=True)
class Decision:
    """What to do with a step: wait | run | skipped | blocked, and why."""

    verb: str
    reason: str = ""


WAIT = Decision("wait")
RUN = Decision("run")


def decide(step: Step, results: Mapping[str, StepResult], *, interrupted: bool) -> Decision:
    """Whether a step that has not ended may run, must wait, or is not to run at all."""
    if any(_status(one, results) not in ENDED for one in step.after):
        return WAIT
    if step.when == "success":
        return _success(step, results, interrupted=interrupted)
    if step.undoes is not None and not _left_something(step, results.get(step.undoes)):
        return Decision("skipped", f"{step.undoes} was not started")
    if step.when == "failure" and all(_status(one, results) in SATISFIED for one in step.after):
        return Decision("skipped", "nothing to take back")
    if step.when == "failure" and step.undoes is None and _only_waits(step, results):
        return Decision("skipped", "nothing failed: a person is waited for")
    return RUN


def _only_waits(step: Step, results: Mapping[str, StepResult]) -> bool:
    """Whether all that did not end well waits for a person, or for what does."""
    known = [results[one] for one in step.after if one in results]
    ill = [one for one in known if one.status in ("failed", "interrupted", "undone")]
    return bool(ill) and all(waits(one) for one in ill)


def waits(result: StepResult) -> bool:
    """Whether a step stopped for a person to decide, and did not fail."""
    return result.status == "failed" and result.kind == PersonNeeded.kind


def was_started(result: StepResult | None) -> bool:
    """Whether a step has, or may have, had an effect that still stands."""
    return result is not None and result.status in ("started", "done", "failed", "interrupted")


def _left_something(step: Step, result: StepResult | None) -> bool:
    """Whether there is something to take back or, for a step that always runs, to clean up."""
    taken_back = result is not None and result.status == "undone"
    return was_started(result) or (step.when == "always" and taken_back)


def _success(step: Step, results: Mapping[str, StepResult], *, interrupted: bool) -> Decision:
    for need in step.needs:
        status = _status(need, results)
        if status in ENDED and status not in SATISFIED:
            return Decision("blocked", f"needs {need}, which {_words(status)}")
    if any(_status(need, results) not in ENDED for need in step.needs):
        # Also after an interrupt: what cleans up after this step begins when nothing it needs
        # goes on any more.
        return WAIT
    return Decision("blocked", "the run was interrupted") if interrupted else RUN


def _status(step_id: str, results: Mapping[str, StepResult]) -> str:
    result = results.get(step_id)
    return "pending" if result is None else result.status


def _words(status: str) -> str:
    return {
        "failed": "failed",
        "blocked": "did not run",
        "interrupted": "was interrupted",
        "undone": "was taken back",
    }[status]
