"""Runs: a plan executed under its locks, interrupted politely, and resumed."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from runner.errors import HoldfastError, PersonNeeded, UsageError
from runner.execute import journal as journals
from runner.execute.actions import action_named
from runner.execute.context import Context
from runner.execute.driver import Driver
from runner.execute.ending import Finished, Settings, end
from runner.execute.forgetting import drop_idle_run
from runner.execute.guards import require_same_destinations
from runner.execute.journal import Journal, RunState, StepResult, is_done
from runner.execute.locks import REKEY_LOCK, RUN_LOCK, SETTLE_LOCK, SNAPSHOT_LOCK, held
from runner.foreground import stop_signals
from runner.plan.model import Plan, Step

# Kinds of runs that read or replace live sources never overlap; the others may.
EXCLUSIVE = ("backup", "restore", "dr-restore", "rollback", "safety")


def execute(plan: Plan, context: Context, settings: Settings, *, guarded: bool = True) -> Finished:
    """Run a plan from its beginning. Raises PersonNeeded for a stale one, if it is `guarded`."""
    with _locks(plan, context, settings):
        if guarded:
            # Another run may have been waited for.
            require_same_destinations(plan, context.spec)
        settings.require()
        state, told = context.spec.state, settings.listeners
        journal = journals.create_run(state, context.run, plan, told, settings.again)
        finished = _drive(plan, context, journal, settings)
        if not plan.steps:
            drop_idle_run(state, context.run)
        return finished


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
            journal = journals.continue_run(
                context.spec.state, context.run, plan, settings.listeners, settings.again
            )
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
    return is_done(f"{step.params.get('source')}.confirm", state.results)


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
        return end(context, journal, settings, began)
    except HoldfastError as error:
        journal.end(status="failed", exit_code=error.exit_code, error=error.as_json())
        raise
    finally:
        journal.close()


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
