"""Errors of S3 servers in words: what is wrong, and what a person does about it.

The library says the server's answer, an XML document, as a part of a longer text.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re

from runner.errors import StepFailed

_CODE = re.compile(r"<Code>\s*([^<]{1,80}?)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]{1,300}?)\s*</Message>")
_STATUS = re.compile(r"status(?: code)?:? (\d{3})")

_KEYS = "Look at access_key and secret_key of the target."
_RIGHTS = "Give these credentials the right to list, get, put and delete there."
_CLOCK = "Set the clock of this machine: servers refuse requests that are minutes off."
_LATER = "Try again later; a smaller load, or the provider's status page, tells more."

_CODES = {
    "InvalidAccessKeyId": ("does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("does not accept the secret key", _KEYS),
    "InvalidToken": ("does not accept the session token", "Get new temporary credentials."),
    "ExpiredToken": ("says that the credentials have expired", "Get new temporary credentials."),
    "AccessDenied": ("does not allow it with these credentials", _RIGHTS),
    "AllAccessDisabled": ("has disabled the access to this bucket", "Ask the provider."),
    "NoSuchBucket": (
        "has no such bucket",
        "Create it, or correct `bucket` (and `region`, `endpoint`).",
    ),
    "NoSuchUpload": ("has forgotten the unfinished upload", "Run it again."),
    "RequestTimeTooSkewed": ("finds that the clocks differ too much", _CLOCK),
    "RequestExpired": ("finds that the clocks differ too much", _CLOCK),
    "SlowDown": ("asks for fewer requests, and did so until the retries ended", _LATER),
    "ServiceUnavailable": ("was not available until the retries ended", _LATER),
    "InternalError": ("failed by itself until the retries ended", _LATER),
    "QuotaExceeded": ("has no room left", "Free some space there, or prune."),
    "EntityTooLarge": ("does not take objects that large", "Declare a larger part_size."),
    "InvalidStorageClass": ("does not know the storage class", "Correct `storage_class`."),
    "InvalidObjectState": (
        "has moved the object to an archive",
        "Restore it from the archive first, with the provider's console.",
    ),
    "AuthorizationHeaderMalformed": (
        "expects another region",
        "Correct `region`: the provider's console says where the bucket is.",
    ),
    "KeyTooLongError": ("does not take a key that long", "Use a shorter prefix."),
}

_STATUSES = {
    "301": _CODES["AuthorizationHeaderMalformed"],
    "401": ("does not accept the credentials", _KEYS),
    "403": _CODES["AccessDenied"],
    "404": ("has no such bucket or path", "Look at `bucket`, `endpoint` and `style`."),
    "429": _CODES["SlowDown"],
    "500": _CODES["InternalError"],
    "502": _CODES["ServiceUnavailable"],
    "503": _CODES["ServiceUnavailable"],
    "507": _CODES["QuotaExceeded"],
}

_NETWORK = "Is the server running, and is the network there? Look at `endpoint`."
_MARKS = (
    ("Connection refused", ("refuses connections", _NETWORK)),
    ("ConnectionRefused", ("refuses connections", _NETWORK)),
    ("lookup", ("cannot be found: its name is not known", _NETWORK)),
    ("Name or service not known", ("cannot be found: its name is not known", _NETWORK)),
    ("dns error", ("cannot be found: its name is not known", _NETWORK)),
    ("ertificate", ("has a certificate that is not trusted", "Declare its issuer as `ca`.")),
    ("UnknownIssuer", ("has a certificate that is not trusted", "Declare its issuer as `ca`.")),
    ("unreachable", ("cannot be reached", _NETWORK)),
    ("LOCATION", _CODES["AuthorizationHeaderMalformed"]),
    ("TimedOut", ("did not answer in time", "Look at the network; a longer `timeout` may help.")),
    ("imed out", ("did not answer in time", "Look at the network; a longer `timeout` may help.")),
    ("169.254.169.254", ("was not asked: there are no credentials", _KEYS)),
    ("error sending request", ("broke the connection off", _NETWORK)),
    ("reset", ("broke the connection off", _NETWORK)),
    ("Incomplete", ("broke the connection off", _NETWORK)),
    ("request or response body", ("broke the connection off", _NETWORK)),
)


def code_of(text: str) -> str:
    """The server's own word for the error; empty if it gave none."""
    found = _CODE.search(text)
    return found[1] if found else ""


def explained(text: str, where: str, what: str) -> StepFailed:
    """The error for a person. `where` names the target and its address, `what` was not done."""
    reason, remedy = _reason(text)
    return StepFailed(f"{where} {reason}: {what}.", remedy=remedy)


def _reason(text: str) -> tuple[str, str]:
    code = code_of(text)
    if code in _CODES:
        return _CODES[code]
    status = _STATUS.search(text)
    message = _MESSAGE.search(text)
    if code:
        words = f"{code}, {message[1]}" if message else code
        return f"answers {words}", _STATUSES.get(status[1] if status else "", ("", ""))[1]
    for mark, known in _MARKS:
        if mark in text:
            return known
    if status is not None:
        return _STATUSES.get(status[1], (f"answers with status {status[1]}", ""))
    return f"fails: {text.partition('Debug source')[0].strip()[:300]}", ""
