"""How people are told: a command of theirs, or JSON to an address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.prove.command import run_command
from runner.secret import Secret
from runner.spec.model import Notification
from runner.trust import trusting

TIMEOUT_SECONDS = 30.0


def send(
    way: Notification,
    said: Mapping[str, str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> None:
    """Say it, within `timeout` seconds: as `HOLDFAST_…` variables to a command, else as JSON.

    Raises StepFailed, another HoldfastError or OSError if nobody could be told. No error repeats
    the address, which may be a secret.
    """
    if way.run is None:
        _post(way.post, said, timeout or TIMEOUT_SECONDS)
        return
    variables = {f"HOLDFAST_{name.upper()}": value for name, value in said.items()}
    run_command(
        way.run,
        folder=folder,
        environment={**environment, **variables},
        timeout=timeout or TIMEOUT_SECONDS,
    )


def _post(address: Secret | str | None, said: Mapping[str, str], timeout: float) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        """A redirect of what is posted is followed without what it says: nobody would be told."""

        def redirect_request(self, *_: Any) -> None:
            return None

    url = address.reveal() if isinstance(address, Secret) else str(address)
    if not url.startswith(("http://", "https://")):
        raise StepFailed("The address of the notification is none of http or https.")
    body, head = json.dumps(said).encode(), {"Content-Type": "application/json"}
    opener = build_opener(Stay(), HTTPSHandler(context=trusting()))
    try:
        with opener.open(Request(url, body, head), timeout=timeout):  # noqa: S310
            pass
    except HTTPError as error:
        raise StepFailed(f"the server answered {error.code}.") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise StepFailed(f"the server cannot be reached: {reason}.") from error
