"""Several targets asked at the same time: a slow one holds up no other, a silent one nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from runner.errors import HoldfastError, Interrupted, StepFailed
from runner.spec.units import format_duration

Answer = TypeVar("Answer")


class Unanswered(StepFailed):
    """Nothing is known: there was no answer in time."""


class _Question(Generic[Answer]):
    """One question, and what came of it."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        # It holds up no interpreter that wants to end.
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - the thread that waits gets it
            self.error = error


def ask_each(
    questions: Mapping[str, Callable[[], Answer]], patience: float | None = None
) -> dict[str, Answer | HoldfastError]:
    """Each target's answer, or why there is none, by its name.

    One that takes longer than `patience` seconds is Unanswered, and left to itself. Raises what is
    no failure of a target, and Interrupted.
    """
    asked = {name: _Question(ask) for name, ask in questions.items()}
    deadline = None if patience is None else time.monotonic() + patience
    for question in asked.values():
        question.thread.start()
    found: dict[str, Answer | HoldfastError] = {}
    for name, question in asked.items():
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        question.thread.join(left)
        if question.thread.is_alive():
            found[name] = Unanswered(
                f"Target {name} did not answer within {format_duration(patience or 0.0)}.",
                remedy="Nobody knows what is there now. Look at its server and the network.",
            )
        elif isinstance(question.error, HoldfastError) and not isinstance(
            question.error, Interrupted
        ):
            found[name] = question.error
        elif question.error is not None:
            raise question.error
        else:
            found[name] = question.answer  # type: ignore[assignment] # it was answered
    return found
