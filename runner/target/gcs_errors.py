"""Errors of Google Cloud Storage in words: what is wrong, and what a person does about it.

https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

from runner.target.object_errors import BUSY, DOWN, FAILING, FULL, Words

_LOGIN = "Look at `credentials`: the key may have been removed, or this clock is wrong."
_RIGHTS = "Give the service account the role Storage Object User on the bucket."

_CODES = {
    "AccessDenied": ("does not allow it with these credentials", _RIGHTS),
    "AuthenticationRequired": ("does not accept the credentials", _LOGIN),
    "ExpiredToken": ("says that the credentials have expired", _LOGIN),
    "InvalidSecurity": ("does not accept the credentials", _LOGIN),
    "NoSuchBucket": ("has no such bucket", "Create it, or correct `bucket`."),
    "NoSuchUpload": ("has forgotten the unfinished upload", "Run it again."),
    "AccountProblem": ("finds a problem with the account", "Look at its billing."),
    "UserProjectMissing": ("wants the requester to pay", "Use a bucket whose owner pays."),
    "ObjectUnderActiveHold": ("keeps the object under a hold", "Release the hold first."),
    "RetentionPolicyNotMet": (
        "keeps the object by a retention policy",
        "It can be removed when the policy's time is over.",
    ),
    "SlowDown": BUSY,
    "RateLimitExceeded": BUSY,
    "ServiceUnavailable": DOWN,
    "InternalError": FAILING,
    "QuotaExceeded": FULL,
    "InvalidStorageClass": ("does not know the storage class", "Correct `storage_class`."),
    "KeyTooLong": ("does not take a key that long", "Use a shorter prefix."),
}

_STATUSES = {
    "400": ("does not understand the request", "Look at `endpoint` and `bucket`."),
    "401": ("does not accept the credentials", _LOGIN),
    "403": _CODES["AccessDenied"],
    "404": ("has no such bucket or path", "Look at `bucket` and `endpoint`."),
    "429": BUSY,
    "500": FAILING,
    "502": DOWN,
    "503": DOWN,
}

_MARKS = (
    ("metadata.google.internal", ("was not asked: there are no credentials", _LOGIN)),
    ("169.254.169.254", ("was not asked: there are no credentials", _LOGIN)),
    ("invalid_grant", ("does not accept the credentials", _LOGIN)),
)

WORDS = Words(_CODES, _STATUSES, _MARKS)
