"""Telling people how a recovery goes. That nobody could be told is said, and changes nothing."""

from __future__ import annotations

from runner.errors import HoldfastError
from runner.execute.actions.base import Outputs, Simple, Skipped, typed
from runner.execute.asking import entry_named, environment_of
from runner.execute.context import Context
from runner.execute.order import waits
from runner.execute.telling import send
from runner.plan.model import Step
from runner.spec.model import RecoveryStep, Spec


class Tell(Simple):
    """One `notify` of the recovery."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The command with its text; an address is for a person to use."""
        entry = entry_named(spec, step.params["entry"])
        told = entry.notify
        assert told is not None
        if told.run is None:
            return [f"# tell them: {line}" for line in told.text.splitlines()]
        environment = {
            **entry.environment,
            "HOLDFAST_TEXT": told.text,
            "HOLDFAST_PROJECT": spec.project,
            "HOLDFAST_RUN": "by-hand",
            "HOLDFAST_STATUS": "failed" if entry.when == "failure" else "running",
        }
        # Whoever could not be told keeps nobody from recovering.
        lines = ["(", told.run.rstrip("\n"), ') || echo "Nobody was told." >&2']
        return typed(["\n".join(lines)], entry.working_dir, environment)

    def perform(self, step: Step, context: Context) -> Outputs:
        """Tell them, or be skipped with the reason why nobody was told."""
        try:
            context.spec.require(_place(context.spec, step.params["entry"]))
            entry = entry_named(context.spec, step.params["entry"])
            _tell(entry, context)
        except (HoldfastError, OSError) as error:
            words = error.message if isinstance(error, HoldfastError) else str(error)
            raise Skipped(f"nobody was told: {words}", {"told": False}) from error
        return {"told": True}


def _tell(entry: RecoveryStep, context: Context) -> None:
    assert entry.notify is not None
    known = context.results.values()
    failed = any(one.status in ("failed", "interrupted") and not waits(one) for one in known)
    said = {
        "text": entry.notify.text,
        "project": context.spec.project,
        "run": context.run,
        "status": "failed" if failed else "running",
    }
    send(
        entry.notify,
        said,
        folder=entry.working_dir,
        environment=environment_of(context, entry.environment),
        timeout=entry.timeout,
    )


def _place(spec: Spec, name: str) -> str:
    names = [entry.name for entry in spec.recovery]
    return f"recovery[{names.index(name)}]"


ACTIONS = {"tell": Tell()}
