"""Errors of S3 servers in words: what is wrong, and what a person does about it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from runner.target.object_errors import BUSY, DOWN, FAILING, FULL, Words

_KEYS = "Look at access_key and secret_key of the target."
_RIGHTS = "Give these credentials the right to list, get, put and delete there."
_CLOCK = "Set the clock of this machine: servers refuse requests that are minutes off."

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
    "SlowDown": BUSY,
    "ServiceUnavailable": DOWN,
    "InternalError": FAILING,
    "QuotaExceeded": FULL,
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
    "429": BUSY,
    "500": FAILING,
    "502": DOWN,
    "503": DOWN,
    "507": FULL,
}

_MARKS = (
    ("LOCATION", _CODES["AuthorizationHeaderMalformed"]),
    ("169.254.169.254", ("was not asked: there are no credentials", _KEYS)),
)

WORDS = Words(_CODES, _STATUSES, _MARKS)
