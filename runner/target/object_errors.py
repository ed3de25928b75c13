"""Errors of object stores in words: what is wrong, and what a person does about it.

The library says the server's answer, an XML document, as a part of a longer text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import StepFailed

_CODE = re.compile(r"<Code>\s*([^<]{1,80}?)\s*</Code>")
_MESSAGE = re.compile(r"<(?:Message|Details)>\s*([^<]{1,300}?)\s*</(?:Message|Details)>")
_CLOCK = re.compile(r"difference between the request time|Request has expired")
_STATUS = re.compile(r"(?:status(?: code)?:?|\(code:) (\d{3})")

# A reason, which goes on after the target's name and address, and a remedy.
Reason = tuple[str, str]

_LATER = "Try again later; a smaller load, or the provider's status page, tells more."
BUSY = ("asks for fewer requests, and did so until the retries ended", _LATER)
DOWN = ("was not available until the retries ended", _LATER)
FAILING = ("failed by itself until the retries ended", _LATER)
FULL = ("has no room left", "Free some space there, or prune.")

_NETWORK = "Is the server running, and is the network there? Look at `endpoint`."
_SLOW = "Look at the network; a longer `timeout` may help."
_UNKNOWN = ("cannot be found: its name is not known", _NETWORK)
_EXPIRED = (
    "has a certificate that has expired, or is not valid yet",
    "Have it renewed by who runs the server, and look at the clock of this machine.",
)
_MISNAMED = (
    "has a certificate for another name",
    "Write the name in `endpoint` that the certificate is for.",
)
_NO_TLS = ("does not speak TLS", "Look at `endpoint`: is it http://, or another port?")
_TLS = ("speaks TLS alone", "Look at `endpoint`: is it https://, or another port?")
_UNTRUSTED = ("has a certificate that is not trusted", "Declare its issuer as `ca`.")
_BROKEN = ("broke the connection off", _NETWORK)

_NO_STORE = (
    "is no object store: it answers like a web page",
    "Look at `endpoint`: is it a web page's, or does the network want a login?",
)

_ENDLESS = (
    "does not come to the end of a list",
    "It gives one part again and again: an error of the server or of a proxy. Have it updated.",
)

# Said by nobody: what one finds out of a server.
ANSWERS_ALL = "an answer to everything"
ENDLESS = "a list without an end"

_MARKS = (
    (ANSWERS_ALL, _NO_STORE),
    (ENDLESS, _ENDLESS),
    ("invalid list response", _NO_STORE),
    ("Connection refused", ("refuses connections", _NETWORK)),
    ("ConnectionRefused", ("refuses connections", _NETWORK)),
    ("lookup", _UNKNOWN),
    ("Name or service not known", _UNKNOWN),
    ("dns error", _UNKNOWN),
    ("WRONG_VERSION_NUMBER", _NO_TLS),
    ("InvalidContentType", _NO_TLS),
    ("HTTP request to an HTTPS server", _TLS),
    ("HTTP request was sent to HTTPS port", _TLS),
    ("ertificate has expired", _EXPIRED),
    ("ertificate is not yet valid", _EXPIRED),
    ("ertificate is not valid for", _MISNAMED),
    ("ExpiredContext", _EXPIRED),
    ("NotValidYet", _EXPIRED),
    ("NotValidForName", _MISNAMED),
    ("ertificate", _UNTRUSTED),
    ("UnknownIssuer", _UNTRUSTED),
    ("unreachable", ("cannot be reached", _NETWORK)),
    ("TimedOut", ("did not answer in time", _SLOW)),
    ("imed out", ("did not answer in time", _SLOW)),
    ("error sending request", _BROKEN),
    ("reset", _BROKEN),
    ("Incomplete", _BROKEN),
    ("request or response body", _BROKEN),
)


@dataclass(frozen=True)
class Words:
    """What one provider's servers say."""

    codes: Mapping[str, Reason]  # by the server's own word for the error
    statuses: Mapping[str, Reason]  # by HTTP status, where the server has no word
    marks: tuple[tuple[str, Reason], ...] = ()  # by a part of the library's text

    def explained(self, text: str, where: str, what: str) -> StepFailed:
        """The error for a person. `where` names the target and its address, `what` was not
        done.
        """
        reason, remedy = self._reason(text)
        return StepFailed(f"{where} {reason}: {what}.", remedy=remedy)

    def _reason(self, text: str) -> Reason:
        code = code_of(text)
        if code in self.codes:
            return self.codes[code]
        status = _STATUS.search(text)
        message = _MESSAGE.search(text)
        if code:
            words = f"{code}, {message[1]}" if message else code
            return f"answers {words}", self.statuses.get(status[1] if status else "", ("", ""))[1]
        for mark, known in (*self.marks, *_MARKS):
            if mark in text:
                return known
        if status is not None:
            return self.statuses.get(status[1], (f"answers with status {status[1]}", ""))
        return f"fails: {text.partition('Debug source')[0].strip()[:300]}", ""


def code_of(text: str) -> str:
    """The server's own word for the error; empty if it gave none.

    To a clock that is behind some servers say AccessDenied, and what they mean in the message.
    """
    found = _CODE.search(text)
    if found and found[1] == "AccessDenied" and _CLOCK.search(text):
        return "RequestTimeTooSkewed"
    return found[1] if found else ""
