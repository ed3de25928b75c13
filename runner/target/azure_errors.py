"""Errors of Azure Blob Storage in words: what is wrong, and what a person does about it.

https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
"""

from __future__ import annotations

from runner.target.object_errors import BUSY, DOWN, FAILING, FULL, Words, code_of

_LOGIN = "Look at `account` and at `key`, `sas_token` or `connection`; also at this clock."
_RIGHTS = "Give these credentials the right to read, list, write and delete there."
_RENEW = "Make a new shared access signature; it ends on the day that stands in it as `se`."

# The server's words for credentials that are good, and not for this.
_NO_RIGHT = {
    "AuthorizationPermissionMismatch",
    "AuthorizationResourceTypeMismatch",
    "InsufficientAccountPermissions",
}

# What it says of a blob in a batch, where the word is left out.
_NO_RIGHT_IN_A_BATCH = "not authorized to perform this operation using this permission"

_CODES = {
    "AuthenticationFailed": ("does not accept the credentials", _LOGIN),
    "AuthorizationFailure": ("does not accept the credentials", _LOGIN),
    "InvalidAuthenticationInfo": ("does not accept the credentials", _LOGIN),
    "AuthorizationPermissionMismatch": ("does not allow it with these credentials", _RIGHTS),
    "AuthorizationServiceMismatch": ("does not allow it with these credentials", _RIGHTS),
    "AuthorizationResourceTypeMismatch": ("does not allow it with these credentials", _RIGHTS),
    "AuthorizationProtocolMismatch": ("wants https for these credentials", "Correct `endpoint`."),
    "AuthorizationSourceIPMismatch": ("does not accept this machine's address", _RENEW),
    "InsufficientAccountPermissions": ("does not allow it with these credentials", _RIGHTS),
    "AccountIsDisabled": ("says that the account is disabled", "Look at it in the portal."),
    "ContainerNotFound": ("has no such container", "Create it, or correct `container`."),
    "ContainerBeingDeleted": ("is just removing the container", "Wait, and create it anew."),
    "ContainerDisabled": ("has disabled the container", "Look at it in the portal."),
    "ResourceNotFound": ("has no such container", "Create it, or correct `container`."),
    "BlobArchived": (
        "has moved the blob to the archive",
        "Rehydrate it first: az storage blob set-tier --tier Hot.",
    ),
    "BlobImmutableDueToPolicy": (
        "keeps the blob by an immutability policy",
        "It can be removed when the policy's time is over.",
    ),
    "BlobIsSealed": ("keeps the blob sealed", ""),
    "LeaseIdMissing": (
        "has the blob leased to somebody",
        "Break that lease: az storage blob lease break.",
    ),
    "ServerBusy": BUSY,
    "OperationTimedOut": DOWN,
    "InternalError": FAILING,
    "AccountLimitExceeded": FULL,
    "RequestBodyTooLarge": ("does not take parts that large", "Declare a smaller part_size."),
    "OutOfRangeInput": ("does not take such a name", "Correct `container` and `prefix`."),
    "InvalidResourceName": ("does not take such a name", "Correct `container` and `prefix`."),
}

_STATUSES = {
    "400": ("does not understand the request", "Look at `endpoint` and `container`."),
    "401": ("does not accept the credentials", _LOGIN),
    "403": ("does not allow it with these credentials", f"{_LOGIN} {_RIGHTS}"),
    "404": ("has no such account or container", "Look at `account`, `container`, `endpoint`."),
    "429": BUSY,
    "500": FAILING,
    "502": DOWN,
    "503": BUSY,
}

_MARKS = (
    ("169.254.169.254", ("was not asked: there are no credentials", _LOGIN)),
    ("Signature not valid", ("does not accept the credentials", _LOGIN)),
)

WORDS = Words(_CODES, _STATUSES, _MARKS)


def lacks_right(text: str) -> bool:
    """Whether the credentials are good, and do not allow what was asked for."""
    return code_of(text) in _NO_RIGHT or _NO_RIGHT_IN_A_BATCH in text
