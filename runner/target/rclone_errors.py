"""Errors of rclone in words: what is wrong, and what a person does about it.

Its exit codes: https://rclone.org/docs/#exit-code
"""

from __future__ import annotations

import json
import re

from runner.errors import StepFailed
from runner.process import Outcome

MISSING = (3, 4)  # the folder, or the file, is not there

_NETWORK = "Is the server running, and is the network there?"
_LOGIN = "Look at the remote's credentials: `rclone config show`, `rclone config reconnect`."
_CONFIG = "`rclone listremotes` shows the remotes that there are; `rclone config` makes one."
_ROOM = "Free some space there, or prune."
_LATER = "Try again later."

# The first that is found in what rclone said, in small letters.
_MARKS = (
    ("didn't find section in config", ("does not know the remote", _CONFIG)),
    ("didn't find backend", ("does not know the remote's type", _CONFIG)),
    ("couldn't decrypt configuration", ("cannot open its encrypted configuration", _CONFIG)),
    ("config file is encrypted", ("cannot open its encrypted configuration", _CONFIG)),
    ("password required", ("cannot open its encrypted configuration", _CONFIG)),
    ("token expired", ("has a login that expired", _LOGIN)),
    ("empty token", ("has a login that expired", _LOGIN)),
    ("invalid_grant", ("has a login that expired", _LOGIN)),
    ("no space left", ("finds no room left there", _ROOM)),
    ("insufficient storage", ("finds no room left there", _ROOM)),
    ("quota", ("finds no room left there", _ROOM)),
    ("connection refused", ("is refused the connection", _NETWORK)),
    ("no such host", ("does not find the server: its name is not known", _NETWORK)),
    ("deadline exceeded", ("got no answer in time", f"{_NETWORK} A longer `timeout` may help.")),
    ("timeout", ("got no answer in time", f"{_NETWORK} A longer `timeout` may help.")),
    ("unreachable", ("cannot reach the server", _NETWORK)),
    ("connection reset", ("had the connection broken off", _NETWORK)),
    ("closed network connection", ("had the connection broken off", _NETWORK)),
    ("unexpected eof", ("had the connection broken off", _NETWORK)),
    ("certificate", ("does not trust the server's certificate", "Give rclone its `ca_cert`.")),
    ("x509", ("does not trust the server's certificate", "Give rclone its `ca_cert`.")),
    ("too many requests", ("was asked to send fewer requests", _LATER)),
    ("slowdown", ("was asked to send fewer requests", _LATER)),
    ("service unavailable", ("finds the server not available", _LATER)),
    ("internal server error", ("finds the server failing by itself", _LATER)),
    ("permission denied", ("is not allowed to do that there", _LOGIN)),
    ("accessdenied", ("is not allowed to do that there", _LOGIN)),
    ("forbidden", ("is not allowed to do that there", _LOGIN)),
    ("unauthorized", ("is not let in", _LOGIN)),
    ("invalidaccesskeyid", ("is not let in", _LOGIN)),
    ("signaturedoesnotmatch", ("is not let in", _LOGIN)),
    ("authentication failed", ("is not let in", _LOGIN)),
    ("unable to authenticate", ("is not let in", _LOGIN)),
)

_LEAD = re.compile(r"^(Failed to [^:]{1,200}: |last error was: |error in ListJSON: )+")


def explained(outcome: Outcome, where: str, what: str, *, late: bool) -> StepFailed:
    """The error for a person. `where` names the target and its remote, `what` was not done."""
    if late:
        reason, remedy = "got no answer in time", f"{_NETWORK} A longer `timeout` may help."
    else:
        reason, remedy = _reason(outcome)
    return StepFailed(f"{where}: rclone {reason}: {what}.", remedy=remedy)


def _reason(outcome: Outcome) -> tuple[str, str]:
    said = [_message(line) for line in outcome.stderr.splitlines()]
    whole = "\n".join(said).lower()
    for mark, known in _MARKS:
        if mark in whole:
            return known
    last = _LEAD.sub("", said[-1])[:300] if said else ""
    if outcome.status < 0:
        return f"was ended by signal {-outcome.status}", ""
    if outcome.status in MISSING:
        return "finds no such folder", "Look at `remote`: the folder's parent must exist."
    return f"failed with status {outcome.status}{': ' if last else ''}{last}", ""


def _message(line: str) -> str:
    """What one line of the log says. The first one may be cut off, and is no JSON then."""
    try:
        return str(json.loads(line)["msg"])
    except (ValueError, KeyError, TypeError):
        return line
