"""Services: stopped before their sources are replaced, started when those are sound again."""

from __future__ import annotations

import shlex

from runner.errors import PersonNeeded, StepFailed
from runner.execute.actions.base import Outputs, Simple, typed
from runner.execute.asking import environment_of
from runner.execute.context import Context
from runner.execute.journal import StepResult, is_done
from runner.plan.model import Step
from runner.prove.command import run_command
from runner.spec.model import Service, Spec


class StopService(Simple):
    """Run a service's stop command."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """As declared, in its folder, with its environment."""
        service = spec.services[step.params["service"]]
        lines = _lines(service, service.stop)
        if not lines or service.working_dir == spec.folder:
            return lines
        folder = shlex.quote(str(service.working_dir))
        return [f"test -d {folder} || exit 0  # nothing of it is here yet", *lines]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Stop it; on a bare host, where none of its sources exist, a failure is expected."""
        service = context.spec.services[step.params["service"]]
        if service.stop is None:
            return {"stopped": False, "why": "no stop command is declared"}
        try:
            run_command(
                service.stop,
                folder=service.working_dir,
                environment=environment_of(context, service.environment),
                timeout=service.timeout,
            )
        except StepFailed as error:
            if any(context.source(name).exists() for name in service.sources):
                raise
            return {"stopped": False, "why": f"nothing of it is here yet ({error.message})"}
        return {"stopped": True}

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """Done, unless it was started again since while a source is still to be swapped."""
        service = context.spec.services[step.params["service"]]
        started = is_done(f"{service.name}.start", context.results)
        swaps = [context.results.get(f"{name}.confirm") for name in service.sources]
        pending = any(one is not None and one.status != "done" for one in swaps)
        return "done" if result.status == "done" and not (started and pending) else "absent"


class StartService(Simple):
    """Run a service's start command, if what it writes to is sound."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """As declared, in its folder, with its environment."""
        service = spec.services[step.params["service"]]
        return _lines(service, service.start)

    def perform(self, step: Step, context: Context) -> Outputs:
        """Start it; raise PersonNeeded when a source is neither proven nor as it was."""
        service = context.spec.services[step.params["service"]]
        unsound = [name for name in step.params["sources"] if not _sound(name, context)]
        if unsound:
            raise PersonNeeded(
                f"The service {service.name} stays stopped: {', '.join(unsound)} "
                "could be neither restored nor put back.",
                remedy="An application that writes into a half-recovered source makes it worse. "
                "Look, resume the run, then start it by hand.",
            )
        if service.start is None:
            return {"started": False, "why": "no start command is declared"}
        run_command(
            service.start,
            folder=service.working_dir,
            environment=environment_of(context, service.environment),
            timeout=service.timeout,
        )
        return {"started": True}


def _sound(name: str, context: Context) -> bool:
    """Untouched, or restored and confirmed, or rolled back."""
    swap = context.results.get(f"{name}.swap")
    if swap is None or swap.status in ("blocked", "skipped", "undone"):
        return True
    return any(is_done(f"{name}.{verb}", context.results) for verb in ("unswap", "confirm"))


def _lines(service: Service, command: str | None) -> list[str]:
    if command is None:
        return []
    return typed([command.rstrip("\n")], service.working_dir, service.environment)


ACTIONS = {"stop": StopService(), "start": StartService()}
