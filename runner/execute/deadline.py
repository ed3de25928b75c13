"""The time that a step may take."""

from __future__ import annotations

import threading

from runner import process
from runner.errors import StepFailed
from runner.plan.model import Step


class Deadline:
    """Says when the time of a step is over, and kills its processes then."""

    def __init__(self, step: Step, scope: str, late: set[str]) -> None:
        """`scope` is that of the step's processes; its id stands in `late` from then on."""
        self.passed = False
        self._step = step.id
        self._late = late
        self._timer = (
            None if step.timeout is None else threading.Timer(step.timeout, self._end, [scope])
        )

    def _end(self, scope: str) -> None:
        self.passed = True
        self._late.add(self._step)
        process.stop_scope(scope)

    def __enter__(self) -> Deadline:
        self._late.discard(self._step)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def too_late(step: Step) -> StepFailed:
    """The error of a step whose time is over."""
    limit = "" if step.timeout is None else f" than its timeout of {step.timeout:g} s"
    return StepFailed(
        f"{step.id} took longer{limit}, and was stopped.",
        remedy="Raise the timeout, or find out what hangs.",
    )
