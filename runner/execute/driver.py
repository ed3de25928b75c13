"""The one loop: runs a plan's steps in order, in parallel, and takes back what must be.

`parallel` bounds the steps that work this machine. Those that wait for a target run beside them,
one at a time at each target, so that a slow target holds up nobody else; one that hangs beyond
its step's timeout is given up, and its thread is left behind.

A step that failed blocks what needs it and nothing else. Steps of `when: failure | always` run
after an interrupt too, and in a later process after a SIGKILL (`compensate`).
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner import process
from runner.errors import HoldfastError, Interrupted, StepFailed, lacking, refused
from runner.execute.actions import action_named
from runner.execute.actions.base import Skipped
from runner.execute.agenda import Agenda, in_order
from runner.execute.context import Context
from runner.execute.deadline import Deadline, too_late
from runner.execute.guards import require_values
from runner.execute.journal import Journal, StepResult
from runner.execute.order import ENDED, Decision, decide
from runner.plan.model import Plan, Step

TICK_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 1.0
# So long may a step take to notice that its time is over, or that the run was interrupted.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Ended:
    """How a step's thread ended."""

    step: Step
    status: str
    outputs: Mapping[str, Any]
    error: Mapping[str, Any] | None = None
    reason: str = ""
    seconds: float = 0.0


class Driver:
    """Runs one plan once."""

    def __init__(self, plan: Plan, context: Context, journal: Journal, *, parallel: int) -> None:
        self._context = context
        self._journal = journal
        self._parallel = parallel
        self._ended: queue.Queue[Ended] = queue.Queue()
        self._running: dict[str, Step] = {}
        self._ends_at: dict[str, float] = {}  # by running step: when it is given up
        self._hanging: set[str] = set()  # locks of the targets that were given up
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._steps = in_order(plan.steps)
        self._agenda = Agenda(())
        self._was_interrupted = False

    def execute(self) -> None:
        """Run everything that is to run; results stand in the context and the journal."""
        self._agenda = Agenda(step for step in self._steps if self._status(step) not in ENDED)
        try:
            while self._agenda or self._running:
                self._decide()
                self._start_ready()
                if self._running:
                    self._wait()
                elif self._agenda:
                    waiting = ", ".join(step.id for step in self._agenda)
                    raise StepFailed(f"The plan cannot go on: {waiting} wait for each other.")
        except BaseException:
            # What runs is not cut off in the middle because its end cannot be written down.
            for thread in self._threads:
                thread.join()
            raise

    def compensate(self) -> None:
        """After a kill: end what was under way, and run only what takes back or cleans up."""
        self._context.interrupted.set()
        self._stopped = True
        for step in self._steps:
            if self._status(step) != "started":
                continue
            if step.when != "success":
                # What takes back or cleans up may run again, and must end.
                del self._context.results[step.id]
            else:
                self._record(Ended(step, "interrupted", {}, reason="its process was killed"))
        self.execute()

    def _status(self, step: Step) -> str:
        result = self._context.results.get(step.id)
        return "pending" if result is None else result.status

    def _decide(self) -> None:
        """Record what is not to run, and mark what may."""
        interrupted = self._context.interrupted.is_set()
        if interrupted and not self._was_interrupted:
            self._was_interrupted = True
            self._agenda.decide_all()
        for step in self._agenda.undecided():
            decision = decide(step, self._context.results, interrupted=interrupted)
            if decision.verb == "run" and step.waits_for in self._hanging:
                decision = Decision("blocked", f"{step.waits_for} hangs")
            if decision.verb in ("skipped", "blocked"):
                self._agenda.remove(step)
                self._record(Ended(step, decision.verb, {}, reason=decision.reason))
            elif decision.verb == "run":
                self._agenda.mark_ready(step)

    def _start_ready(self) -> None:
        running = self._running.values()
        working = sum(step.waits_for is None for step in running)
        held = {lock for step in running for lock in step.locks}
        for step in self._agenda.ready():
            works = step.waits_for is None
            if (works and working >= self._parallel) or not held.isdisjoint(step.locks):
                continue
            working += works
            held.update(step.locks)
            self._agenda.remove(step)
            self._start(step)

    def _start(self, step: Step) -> None:
        self._running[step.id] = step
        # Not of a pool: one that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._perform, args=(step,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are no more of them: then one step after another
            self._perform(step)
        else:
            self._threads.append(thread)

    def _wait(self) -> None:
        try:
            ended = self._ended.get(timeout=TICK_SECONDS)
        except queue.Empty:
            ended = None
        if self._context.interrupted.is_set() and not self._stopped:
            self._stopped = True
            self._stop_running()
        if ended is not None and ended.step.id in self._running:
            self._end_running(ended)
        self._end_overdue()

    def _stop_running(self) -> None:
        """Stop what an interrupt means; what takes back or cleans up goes on to its end."""
        given_up = time.monotonic() + GRACE_SECONDS
        for step in self._running.values():
            if step.when == "success":
                self._stop(step)
            if step.when == "success" or step.waits_for is not None:
                self._ends_at[step.id] = min(self._ends_at.get(step.id, given_up), given_up)

    def _stop(self, step: Step) -> None:
        # Not by this thread: a process that waits for a dead disk ends for no signal.
        threading.Thread(target=process.stop_scope, args=(self._scope(step),), daemon=True).start()

    def _scope(self, step: Step) -> str:
        return f"{self._context.run}/{step.id}"

    def _end_running(self, ended: Ended) -> None:
        del self._running[ended.step.id]
        self._ends_at.pop(ended.step.id, None)
        self._record(ended)

    def _end_overdue(self) -> None:
        """Go on without the steps that wait for a target beyond their time; stop once more what
        else goes on: it may have been between two processes when it was stopped.
        """
        now = time.monotonic()
        for step in list(self._running.values()):
            if now <= self._ends_at.get(step.id, now):
                continue
            if step.waits_for is None:
                self._ends_at[step.id] = now + GRACE_SECONDS
                self._stop(step)
            else:
                self._hanging.add(step.waits_for)
                self._agenda.decide_all()
                interrupted = self._context.interrupted.is_set() and step.when == "success"
                error = Interrupted(f"{step.id} hangs.") if interrupted else too_late(step)
                status = "interrupted" if interrupted else "failed"
                self._end_running(Ended(step, status, {}, {**error.as_json(), "step": step.id}))

    def _record(self, ended: Ended) -> None:
        self._journal_ended(ended.step.id, ended)
        undone = ended.step.undoes
        if undone and ended.step.when == "failure" and ended.status == "done":
            known = self._context.results[undone]
            # What it failed of stays known: the run must not end well because it was taken back.
            error = known.error or {"kind": "failed", "message": f"{undone} was taken back."}
            self._journal_ended(
                undone, Ended(ended.step, "undone", {}, error, f"taken back by {ended.step.id}")
            )

    def _journal_ended(self, step_id: str, ended: Ended) -> None:
        self._journal.append(
            "ended",
            step=step_id,
            status=ended.status,
            seconds=round(ended.seconds, 3),
            outputs=ended.outputs,
            error=ended.error,
            reason=ended.reason,
        )
        known = self._context.results.get(step_id)
        self._context.results[step_id] = StepResult(
            step_id,
            ended.status,
            attempt=known.attempt if known else 1,
            started_at=known.started_at if known else None,
            seconds=ended.seconds,
            outputs=ended.outputs,
            error=ended.error,
            reason=ended.reason,
        )
        self._agenda.changed(step_id)

    def _perform(self, step: Step) -> None:
        began = time.monotonic()
        try:
            ended = self._attempts(step)
        except OSError as error:  # of the journal
            ended = self._failed(step, refused(error), late=False)
        except BaseException as error:  # noqa: BLE001 - a lost step would hang the loop
            lack = lacking(error)
            ended = _bug(step, error) if lack is None else self._failed(step, lack, late=False)
        seconds = time.monotonic() - began
        self._ended.put(
            Ended(step, ended.status, ended.outputs, ended.error, ended.reason, seconds)
        )

    def _attempts(self, step: Step) -> Ended:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, step.retries + 2):
            if step.id not in self._running:
                return Ended(step, "failed", {})  # it was given up
            self._context.results[step.id] = StepResult(step.id, "started", attempt)
            self._journal.append("started", step=step.id, attempt=attempt)
            if step.timeout is not None:
                self._ends_at[step.id] = time.monotonic() + step.timeout + GRACE_SECONDS
            ended = self._attempt(step)
            if ended.status != "failed" or attempt > step.retries:
                return ended
            kind = (ended.error or {}).get("kind")
            if kind != StepFailed.kind or self._context.interrupted.wait(pause):
                return ended
            pause *= 2
        return ended

    def _attempt(self, step: Step) -> Ended:
        scope = self._scope(step)
        late = self._context.late
        with Deadline(step, scope, late) as deadline, process.scope(scope):
            try:
                require_values(step, self._context.spec)
                outputs = action_named(step.action).perform(step, self._context)
                return Ended(step, "done", dict(outputs))
            except Skipped as skipped:
                return Ended(step, "skipped", dict(skipped.outputs), reason=skipped.reason)
            except Interrupted as error:
                return Ended(step, "interrupted", {}, error.as_json())
            except HoldfastError as error:
                return self._failed(step, error, late=deadline.passed)
            except OSError as error:
                return self._failed(step, refused(error), late=deadline.passed)

    def _failed(self, step: Step, error: HoldfastError, *, late: bool) -> Ended:
        outputs = error.outputs if isinstance(error, StepFailed) else {}
        if late:
            error = too_late(step)
        elif self._context.interrupted.is_set() and step.when == "success":
            return Ended(step, "interrupted", outputs, error.as_json())
        return Ended(step, "failed", outputs, {**error.as_json(), "step": step.id})


def _bug(step: Step, error: BaseException) -> Ended:
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = (
        f"Unexpected {type(error).__name__}: {error} "
        f"({where.filename.rpartition('/')[2]}:{where.lineno}). This is a bug in Holdfast."
    )
    return Ended(step, "failed", {}, {"kind": "bug", "message": message, "step": step.id})
