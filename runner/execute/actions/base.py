"""What every action does: say it in shell words, and perform it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from runner.execute.context import Context
from runner.execute.journal import StepResult
from runner.plan.model import Step
from runner.spec.model import Spec

Outputs = Mapping[str, Any]


class Skipped(Exception):
    """The step has nothing to do, and that is fine: what needs it goes on."""

    def __init__(self, reason: str, outputs: Outputs | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outputs = dict(outputs or {})


class Action(Protocol):
    """One kind of step. Holds no state of its own."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """Pure: shell lines to the same end for a person without this tool, no secret in them.

        A line that is a comment is an instruction with no shell form.
        """

    def perform(self, step: Step, context: Context) -> Outputs:
        """Do it; return what later steps and the report need, as JSON.

        Raises Skipped, or a HoldfastError in words that a person can use.
        """

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """After an interruption: is its effect done, absent or partial?"""


def typed(lines: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Lines of the user's own as a person types them: in their folder, with their environment."""
    settings = [f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()]
    return [f"cd {shlex.quote(str(folder))}", *settings, *lines]


class Simple:
    """An action that may simply run again: nothing of an interrupted try counts."""

    def observe(self, step: Step, context: Context, result: StepResult) -> str:  # noqa: ARG002
        """A step that ended stays ended; any other is to run again."""
        return "done" if result.status in ("done", "skipped") else "absent"
