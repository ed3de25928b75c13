"""Small real actions for trying the driver: each does what its parameters say."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner import process
from runner.errors import Interrupted, PersonNeeded, StepFailed, UsageError
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.execute.driver import TICK_SECONDS
from runner.plan.model import Step
from runner.spec.model import Spec


class Log:
    """What happened, in order, and how much of it at once."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.most_at_once = 0
        self.together: set[frozenset[str]] = set()
        self._running: set[str] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def during(self, step: str) -> Iterator[None]:
        with self._lock:
            self.events.append(step)
            self._running.add(step)
            self.most_at_once = max(self.most_at_once, len(self._running))
            self.together |= {frozenset({step, other}) for other in self._running if other != step}
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(step)


LOG = Log()


class Try(Simple):
    """Does one thing, named by the step's verb."""

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def commands(self, step: Step, spec: Spec) -> list[str]:
        return []

    def perform(self, step: Step, context: Context) -> Outputs:
        with LOG.during(step.id):
            time.sleep(step.params.get("seconds", 0.0))
            result: Outputs = getattr(self, self.verb)(step, context)
            return result

    def work(self, step: Step, context: Context) -> Outputs:
        return {"did": step.id, "tried": LOG.events.count(step.id)}

    def fail(self, step: Step, context: Context) -> Outputs:
        raise StepFailed("It cannot be done.", outputs={"found": 7})

    def ask(self, step: Step, context: Context) -> Outputs:
        raise PersonNeeded("Somebody must look.")

    def misuse(self, step: Step, context: Context) -> Outputs:
        raise UsageError("There is no such thing.")

    def skip(self, step: Step, context: Context) -> Outputs:
        raise Skipped("there is nothing to do", {"why": "nothing"})

    def doubt(self, step: Step, context: Context) -> Outputs:
        return {"verdict": "COULD-NOT-VERIFY", "why": "no key"}

    def crash(self, step: Step, context: Context) -> Outputs:
        nothing: dict[str, Any] = {}
        return {"found": nothing["not there"]}

    def recover(self, step: Step, context: Context) -> Outputs:
        """Fail until it was tried as often as `after` says."""
        if LOG.events.count(step.id) <= step.params["after"]:
            raise StepFailed("Not yet.")
        return {"tried": LOG.events.count(step.id)}

    def shell(self, step: Step, context: Context) -> Outputs:
        process.run(["bash", "-c", step.params["line"]], folder=Path(step.params["folder"]))
        return {}

    def shells(self, step: Step, context: Context) -> Outputs:
        """Run each of the lines, whether or not those before it ended well."""
        for line in step.params["lines"]:
            ended = process.run(
                ["bash", "-c", line],
                folder=Path(step.params["folder"]),
                accept=range(-15, 1) if line != step.params["lines"][-1] else (0,),
            )
        return {"status": ended.status}

    def interrupt_once(self, step: Step, context: Context) -> Outputs:
        """Interrupt the run as soon as one file is there; a moment later, make another one."""
        while not Path(step.params["there"]).exists():
            time.sleep(0.01)
        context.interrupted.set()
        if step.params["then"]:
            time.sleep(10 * TICK_SECONDS)
            Path(step.params["then"]).touch()
        return {}

    def signal(self, step: Step, context: Context) -> Outputs:
        """Send this very process a signal, and let it have its effect."""
        os.kill(os.getpid(), step.params["number"])
        context.interrupted.wait(10 * TICK_SECONDS)
        return {}

    def interrupt(self, step: Step, context: Context) -> Outputs:
        context.interrupted.set()
        return {}

    def stopped(self, step: Step, context: Context) -> Outputs:
        context.interrupted.set()
        raise Interrupted("It was stopped.")


VERBS = ("work", "fail", "ask", "misuse", "skip", "doubt", "crash", "recover", "shell",
         "shells", "interrupt", "interrupt_once", "signal", "stopped")  # fmt: skip
ACTIONS = {verb: Try(verb) for verb in VERBS}
