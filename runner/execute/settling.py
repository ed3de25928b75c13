"""Runs that were killed: what they left half done is taken back by the next command that acts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runner.durable import sweep_partials
from runner.errors import Locked, PersonNeeded, UsageError
from runner.execute import journal as journals
from runner.execute.context import Context
from runner.execute.driver import Driver
from runner.execute.ending import Finished, Settings, end
from runner.execute.forgetting import drop_old_runs
from runner.execute.locks import SETTLE_LOCK, held
from runner.execute.recoveries import RECOVERIES, resume_line
from runner.execute.remembering import words_here
from runner.plan.model import Plan
from runner.prove.scratch import sweep

# Nobody who writes a file of the state folder pauses for so long.
ABANDONED_SECONDS = 3600.0


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
        if run == but or not journals.read_run(state, run).over:
            continue
        with held(state, SETTLE_LOCK, run, wait=settings.wait):
            # Another command may have done it meanwhile.
            known = journals.read_run(state, run)
            if known.killed:
                settled += _settle_one(context_of, state, run, settings)
            elif known.ended_at is not None:
                # It was killed after its last word.
                journals.open_mark(state, run).unlink(missing_ok=True)
    sweep(state / "scratch")
    drop_old_runs(state)
    for folder in (state, *state.glob("*/"), *words_here(state).root.rglob("*/")):
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
    plan = context.plan
    try:
        journal = journals.continue_run(context.spec.state, context.run, plan, settings.listeners)
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
                line = resume_line(plan.kind, context.run)
                raise PersonNeeded(
                    f"The run {context.run} was killed, and {step.id}, which takes it back, "
                    f"failed: {result.message}",
                    remedy="Mend that; then the same command takes it back first."
                    + (f" Or go on with it: {line}" if line else ""),
                )
        return [end(context, journal, settings, began, interrupted=True)]
    finally:
        journal.close()
