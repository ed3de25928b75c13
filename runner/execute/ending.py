"""How a run ends: its status, its exit code, the error that it is told by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runner.errors import Interrupted, Locked, PersonNeeded, StepFailed
from runner.execute.context import Context
from runner.execute.journal import Journal, Listener, StepResult
from runner.plan.model import Plan

STATUS_OF_CODE = {0: "done", 4: "failed", 5: "failed", 7: "failed", 130: "interrupted"}


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    run: str | None  # None: there was nothing to run
    status: str  # done | failed | partial | interrupted
    exit_code: int = 0
    seconds: float = 0.0
    results: Mapping[str, StepResult] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None  # of the first step that failed


@dataclass(frozen=True)
class Settings:
    """How to execute."""

    listeners: tuple[Listener, ...] = ()
    wait: float = 0.0  # seconds to wait for a lock
    # Raises what keeps a plan that was made before from being executed; the locks are held.
    require: Callable[[], None] = lambda: None
    # What the journal's end remembers for `status`; given how the run ended.
    details: Callable[[Finished], Mapping[str, Any]] = lambda _finished: {}
    # The flags by which a run is gone on with, where the spec here alone does not do.
    again: str = ""


def end(
    context: Context,
    journal: Journal,
    settings: Settings,
    began: float,
    *,
    interrupted: bool = False,
) -> Finished:
    """Judge a run by its steps' results, and write that down as its journal's end.

    `began` is when it did, by the monotonic clock; `interrupted` says that it was, whatever this
    process saw of it.
    """
    # What an interrupt kept from beginning was not done, though no step was cut off by it.
    kept_out = any(one.status == "blocked" for one in context.results.values())
    stopped = interrupted or (context.interrupted.is_set() and kept_out)
    code = Interrupted.exit_code if stopped else exit_code(context.results)
    if context.plan.kind == "prune" and _only_locked(context.results):
        code = Locked.exit_code
    finished = Finished(
        run=context.run,
        status=STATUS_OF_CODE.get(code, "failed"),
        exit_code=code,
        seconds=round(time.monotonic() - began, 3),
        results=dict(context.results),
        error=_error_of(code, context.results),
    )
    if finished.status == "failed" and _published(context.plan, finished):
        finished = replace(finished, status="partial")
    journal.end(
        status=finished.status,
        exit_code=finished.exit_code,
        details=settings.details(finished),
        error=finished.error,
        seconds=finished.seconds,
    )
    return finished


def _only_locked(results: Mapping[str, StepResult]) -> bool:
    """Whether nothing is the matter but that another host is at it."""
    kinds = {one.kind for one in results.values() if one.status == "failed"}
    return kinds == {Locked.kind}


def _error_of(code: int, results: Mapping[str, StepResult]) -> Mapping[str, Any] | None:
    """The error that a run ends with: the first one that means its exit code."""
    if code == Interrupted.exit_code:
        cut = next((step for step, one in results.items() if one.status == "interrupted"), None)
        return Interrupted("The run was interrupted.", step=cut).as_json()
    asks = code == PersonNeeded.exit_code
    # What was taken back failed for another's sake: the cause comes first.
    causes = sorted(results.values(), key=lambda one: one.status == "undone")
    errors = [one.error for one in causes if one.error]
    fitting = [one for one in errors if (one["kind"] == PersonNeeded.kind) == asks]
    if fitting or not asks:
        return fitting[0] if fitting else None
    for step, one in results.items():
        if one.outputs.get("verdict") == "COULD-NOT-VERIFY":
            return PersonNeeded(_unverified(step, one.outputs), step=step).as_json()
    return None


def _unverified(step: str, outputs: Mapping[str, Any]) -> str:
    reasons = [outputs.get("why", "")]
    reasons += [one["reason"] for one in outputs.get("results", ()) if one["verdict"] != "PASS"]
    reasons += [
        f"{one['name']}: {one['actual']}."
        for one in outputs.get("checks", ())
        if one["verdict"] == "COULD-NOT-VERIFY"
    ]
    return f"{step} could not verify what it was to. {next(filter(None, reasons), '')}".strip()


def _published(plan: Plan, finished: Finished) -> bool:
    """Whether a snapshot arrived anywhere."""
    return any(
        step.action in ("snapshot.publish", "snapshot.copy", "rekey.write")
        and finished.results[step.id].done
        for step in plan.steps
        if step.id in finished.results
    )


def exit_code(results: Mapping[str, StepResult]) -> int:
    """The exit code that the results of a run's steps amount to."""
    statuses = {result.status for result in results.values()}
    if "interrupted" in statuses:
        return Interrupted.exit_code
    codes = {_code(result) for result in results.values()} - {0}
    return min(codes, default=0)


def _code(result: StepResult) -> int:
    if result.status in ("failed", "undone"):
        asks = result.kind == PersonNeeded.kind
        return PersonNeeded.exit_code if asks else StepFailed.exit_code
    verdict = result.outputs.get("verdict")
    if verdict == "COULD-NOT-VERIFY":
        return PersonNeeded.exit_code
    return StepFailed.exit_code if verdict == "FAIL" else 0
