"""Telling people how a recovery goes. That nobody could be told is said, and changes nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

from runner.errors import HoldfastError, StepFailed
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.asking import entry_named, environment_of
from runner.execute.context import Context
from runner.plan.model import Step
from runner.prove.command import run_command
from runner.secret import Secret
from runner.spec.model import RecoveryStep, Spec

TIMEOUT_SECONDS = 30.0


class Tell(Simple):
    """One `notify` of the recovery."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The command with its text; an address is for a person to use."""
        told = entry_named(spec, step.params["entry"]).notify
        assert told is not None
        if told.run is None:
            return [f"# tell them: {line}" for line in told.text.splitlines()]
        return [f"export HOLDFAST_TEXT={shlex.quote(told.text)}", told.run.rstrip("\n")]

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
    failed = any(one.status in ("failed", "interrupted") for one in context.results.values())
    said = {
        "text": entry.notify.text,
        "project": context.spec.project,
        "run": context.run,
        "status": "failed" if failed else "running",
    }
    timeout = entry.timeout or TIMEOUT_SECONDS
    if entry.notify.run is None:
        _post(entry.notify.post, said, timeout)
        return
    variables = {f"HOLDFAST_{name.upper()}": value for name, value in said.items()}
    run_command(
        entry.notify.run,
        folder=entry.working_dir,
        environment={**environment_of(context, entry.environment), **variables},
        timeout=timeout,
    )


def _post(address: Secret | str | None, said: dict[str, Any], timeout: float) -> None:
    """Send it as JSON. The address may be a secret: no error repeats it."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    url = address.reveal() if isinstance(address, Secret) else str(address)
    if not url.startswith(("http://", "https://")):
        raise StepFailed("The address of the notification is none of http or https.")
    body, head = json.dumps(said).encode(), {"Content-Type": "application/json"}
    try:
        with urlopen(Request(url, body, head), timeout=timeout):  # noqa: S310 - checked above
            pass
    except HTTPError as error:
        raise StepFailed(f"the server answered {error.code}.") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise StepFailed(f"the server cannot be reached: {reason}.") from error


def _place(spec: Spec, name: str) -> str:
    names = [entry.name for entry in spec.recovery]
    return f"recovery[{names.index(name)}]"


ACTIONS = {"tell": Tell()}
