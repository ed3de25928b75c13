"""The user's own commands, run as written."""

from __future__ import annotations

from runner.execute.actions.base import Outputs, typed
from runner.execute.asking import entry_named, environment_of
from runner.execute.context import Context
from runner.execute.journal import StepResult
from runner.execute.mirror import mirrored
from runner.plan.model import Step
from runner.prove.command import run_command
from runner.spec.model import Spec


class RunCommand:
    """One `run` of the recovery, or its `drill` form, by `bash -eu -o pipefail -c`."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The command itself, in its folder, with its environment."""
        entry = entry_named(spec, step.params["entry"])
        command = step.params["command"].rstrip("\n")
        return typed([command], entry.working_dir, entry.environment)

    def perform(self, step: Step, context: Context) -> Outputs:
        """Run it; an interrupted one runs again only if a person said so."""
        entry = entry_named(context.spec, step.params["entry"])
        outcome = run_command(
            step.params["command"],
            folder=mirrored(entry.working_dir, context),
            environment=environment_of(context, entry.environment),
            timeout=entry.timeout,
            isolated=context.scratch is not None,
        )
        return {"output": outcome.stdout.decode(errors="replace")[-2000:]}

    def observe(self, step: Step, context: Context, result: StepResult) -> str:  # noqa: ARG002
        """Nobody can tell how far an interrupted command got."""
        if result.status in ("done", "skipped"):
            return "done"
        return "absent" if result.status in ("failed", "blocked", "undone") else "partial"


ACTIONS = {"run": RunCommand()}
