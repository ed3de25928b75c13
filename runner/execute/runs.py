"""Runs: a plan executed under its locks, interrupted politely, resumed, and cleaned up after."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.durable import sweep_partials
from runner.errors import HoldfastError, Interrupted, Locked, PersonNeeded, UsageError
from runner.execute import journal as journals
from runner.execute.actions import action_named
from runner.execute.context import Context
from runner.execute.driver import Driver, exit_code
from runner.execute.guards import require_same_destinations
from runner.execute.journal import Journal, Listener, RunState, StepResult
from runner.execute.locks import REKEY_LOCK, RUN_LOCK, SETTLE_LOCK, SNAPSHOT_LOCK, held
from runner.execute.recoveries import RECOVERIES, resume_line
from runner.foreground import stop_signals
from runner.plan.model import Plan, Step
from runner.prove.scratch import sweep

# Kinds of runs that read or replace live sources never overlap; the others may.
EXCLUSIVE = ("backup", "restore", "dr-restore", "rollback", "safety")
# So many runs are remembered: three years of nightly backups, and more than a year of drills.
MOST_RUNS = 1500

# A writer of a small file of the state folder is done long before this.
ABANDONED_SECONDS = 3600.0


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


def execute(plan: Plan, context: Context, settings: Settings, *, guarded: bool = True) -> Finished:
    """Run a plan from its beginning. Raises PersonNeeded for a stale one, if it is `guarded`."""
    with _locks(plan, context, settings):
        if guarded:
            # Another run may have been waited for.
            require_same_destinations(plan, context.spec)
        settings.require()
        journal = journals.create_run(context.spec.state, context.run, plan, settings.listeners)
        return _drive(plan, context, journal, settings)


def resume(context: Context, settings: Settings, *, again: Iterable[str] = ()) -> Finished:
    """Go on with a run that ended early. Steps in `again` run anew, whatever is known of them.

    Raises PersonNeeded when nobody can tell how far an interrupted step got, and Locked when the
    run goes on.
    """
    plan = context.plan
    with _locks(plan, context, settings):
        settings.require()
        # Another command may just take it back.
        with held(context.spec.state, SETTLE_LOCK, context.run, wait=settings.wait):
            state = journals.read_run(context.spec.state, context.run)
            if state.status == "done":
                raise UsageError(f"The run {context.run} is done; there is nothing to resume.")
            _, journal = journals.continue_run(context.spec.state, context.run, settings.listeners)
        for step, report in context.reported.items():
            if step not in state.reported:
                journal.append("reported", step=step, by=report.get("by"))
        # As the journal has it: with when it was reported.
        context.reported = dict(journals.read_run(context.spec.state, context.run).reported)
        context.results.update(state.results)
        context.resumed = True
        try:
            context.results = _kept(plan, context, state, set(again))
        except PersonNeeded as error:
            journal.end(status="failed", exit_code=error.exit_code, error=error.as_json())
            journal.close()
            raise
        _write_found(journal, context.results, state)
        return _drive(plan, context, journal, settings)


def _write_found(journal: Journal, kept: Mapping[str, StepResult], state: RunState) -> None:
    """Write down what was found done, or said to be, though its end was not written: what shows it
    may be gone when the run is killed once more.
    """
    for step, result in kept.items():
        if result.status == "done" != state.results[step].status:
            journal.append(
                "ended",
                step=step,
                status="done",
                seconds=0.0,
                outputs=result.outputs,
                error=None,
                reason="done before the run was resumed",
            )


def settle_killed(
    context_of: Callable[[Plan, str], Context],
    state: Path,
    settings: Settings,
    *,
    but: str | None = None,
) -> list[Finished]:
    """Take back what killed runs left half done, except the run that is to be resumed."""
    settled = []
    for run in journals.open_runs(state):
        if run == but or not journals.read_run(state, run).killed:
            continue
        with held(state, SETTLE_LOCK, run, wait=settings.wait):
            # Another command may have done it meanwhile.
            if journals.read_run(state, run).killed:
                settled += _settle_one(context_of, state, run, settings)
    sweep(state / "scratch")
    journals.drop_old_runs(state, MOST_RUNS)
    for folder in (state, state / "scratch", state / "cache"):
        sweep_partials(folder, ABANDONED_SECONDS)
    return settled


def _settle_one(
    context_of: Callable[[Plan, str], Context], state: Path, run: str, settings: Settings
) -> list[Finished]:
    try:
        plan = journals.read_plan(state, run)
    except UsageError as error:
        if journals.kind_of(run) in RECOVERIES:
            raise PersonNeeded(
                f"{error.message} It was killed, and may have left live sources half replaced.",
                remedy="Look at them and at what stands beside them. When all is as it should be, "
                f"remove {journals.open_mark(state, run)}.",
            ) from error
        # What it left at targets is swept once it is old.
        journals.give_up(state, run, error)
        return []
    return _settle(context_of(plan, run), settings)


def _settle(context: Context, settings: Settings) -> list[Finished]:
    """Take back one killed run; nothing where it goes on in a process that cannot be seen from
    here. Raises PersonNeeded when that fails for live sources; it is tried again then. What stays
    at a target is swept once it is old.
    """
    try:
        plan, journal = journals.continue_run(context.spec.state, context.run, settings.listeners)
    except Locked:
        return []
    known = journals.read_run(context.spec.state, context.run).results
    again = {step.id for step in plan.steps if step.when != "success"}
    kept = ("done", "skipped", "started")
    context.results.update(
        {name: one for name, one in known.items() if name not in again or one.status in kept}
    )
    began = time.monotonic()
    try:
        Driver(plan, context, journal, parallel=1).compensate()
        for step in plan.steps:
            result = context.results[step.id]
            failed = step.when != "success" and result.status == "failed"
            if failed and plan.kind in RECOVERIES:
                words = (result.error or {}).get("message", "")
                line = resume_line(plan.kind, context.run)
                raise PersonNeeded(
                    f"The run {context.run} was killed, and {step.id}, which takes it back, "
                    f"failed: {words}",
                    remedy="Mend that; then the same command takes it back first."
                    + (f" Or go on with it: {line}" if line else ""),
                )
        return [_end(context, journal, settings, began, interrupted=True)]
    finally:
        journal.close()


def _kept(plan: Plan, context: Context, state: RunState, again: set[str]) -> dict[str, StepResult]:
    """The results that still hold, by what the world looks like now."""
    kept: dict[str, StepResult] = {}
    for step in plan.steps:
        result = state.results.get(step.id)
        if result is None or step.id in again:
            continue
        if step.id in context.reported and step.action != "person.ask":
            kept[step.id] = replace(result, status="done", error=None)
            continue
        if step.when != "success":
            if result.status in ("done", "skipped") and {*step.after, step.undoes} <= {*kept, None}:
                kept[step.id] = result
            continue
        if not _holds(step, context, result):
            continue
        unknown = set(step.needs) & {one.id for one in plan.steps if one.id not in kept}
        # What stands in its place stands there, whatever before it is done anew.
        if unknown and not _stands(step, state):
            continue
        kept[step.id] = replace(result, status="skipped" if result.status == "skipped" else "done")
    return kept


def _stands(step: Step, state: RunState) -> bool:
    """Whether the step belongs to a source that was put in its place, and confirmed."""
    confirm = state.results.get(f"{step.params.get('source')}.confirm")
    return confirm is not None and confirm.status == "done"


def _holds(step: Step, context: Context, result: StepResult) -> bool:
    """Whether a step's effect is there. Raises PersonNeeded where it is half there, and the step
    can neither go on from that nor begin anew.
    """
    observed = action_named(step.action).observe(step, context, result)
    if observed == "partial" and not step.repeatable:
        raise PersonNeeded(
            f"{step.id} was interrupted; nobody knows how far it got.",
            remedy=f"Look. Then go on with --done {step.id}, or run it again with "
            f"--start-at {step.id}.",
        )
    return observed == "done"


@contextlib.contextmanager
def _locks(plan: Plan, context: Context, settings: Settings) -> Iterator[None]:
    state = context.spec.state

    def say(message: str) -> None:
        # There is no journal yet that could tell them.
        for listener in settings.listeners:
            with contextlib.suppress(Exception):
                listener({"event": "note", "message": message})

    with contextlib.ExitStack() as stack:
        if plan.kind in EXCLUSIVE:
            stack.enter_context(held(state, RUN_LOCK, context.run, wait=settings.wait, say=say))
        if plan.kind == "rekey":
            # Backups and restores go on beside it; it holds up others only while it removes.
            stack.enter_context(held(state, REKEY_LOCK, context.run, wait=settings.wait, say=say))
        reads = plan.kind in ("drill", "verify", "restore", "dr-restore")
        destroys = plan.kind in ("prune", "delete")
        if reads or destroys:
            # A prune waits for nobody: whoever restores needs what it would remove.
            lock = held(
                state, SNAPSHOT_LOCK, context.run, shared=reads, wait=settings.wait, say=say
            )
            stack.enter_context(lock)
        yield


def _drive(plan: Plan, context: Context, journal: Journal, settings: Settings) -> Finished:
    began = time.monotonic()
    context.tell = journal.tell
    try:
        with _stoppable(context.interrupted):
            Driver(plan, context, journal, parallel=context.spec.parallel).execute()
        return _end(context, journal, settings, began)
    except HoldfastError as error:
        journal.end(status="failed", exit_code=error.exit_code, error=error.as_json())
        raise
    finally:
        journal.close()


def _end(
    context: Context,
    journal: Journal,
    settings: Settings,
    began: float,
    *,
    interrupted: bool = False,
) -> Finished:
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
    if finished.status == "failed" and context.plan.kind in ("backup", "rekey"):
        status = "partial" if _published(context.plan, finished) else "failed"
        finished = replace(finished, status=status)
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
    kinds = {(one.error or {}).get("kind") for one in results.values() if one.status == "failed"}
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


@contextlib.contextmanager
def _stoppable(interrupted: threading.Event) -> Iterator[None]:
    """What is to stop this process interrupts the run politely; a second one is ignored while it
    ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        interrupted.set()

    before = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
