"""The client of one bucket: what speaks the protocol, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runner.errors import StepFailed
from runner.target.s3_account import Account

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Manner:
    """How objects are written and requests made."""

    storage_class: str | None
    encryption: str | None  # by the server
    kms_key: str | None
    part_size: int  # bytes
    timeout: float  # seconds for a request, or without a byte of an answer
    retry: float  # seconds in which what failed is tried again

    def within(self, seconds: float) -> Manner:
        """The same, but giving up sooner."""
        return replace(self, retry=min(self.retry, seconds))


def open_store(account: Account, manner: Manner, waits: dict[str, timedelta]) -> S3Store:
    """A client of the bucket, which gives up when `waits` says. The environment changes nothing.

    Raises UsageError when the credentials that were declared cannot be had.
    """
    from obstore.store import S3Store

    config: S3Config = {
        "endpoint": account.url if account.virtual else account.url.rpartition("/")[0],
        "region": account.region,
        "virtual_hosted_style_request": account.virtual,
        "skip_signature": False,
    }
    if manner.encryption is not None:
        config["server_side_encryption"] = manner.encryption
    if manner.kms_key is not None:
        config["sse_kms_key_id"] = manner.kms_key
    client: dict[str, Any] = {
        **waits,
        "allow_http": account.url.startswith("http:"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    if account.ca is not None:
        client["root_certificate"] = account.ca
    return S3Store(
        account.bucket,
        prefix=account.prefix or None,
        config=config,
        client_options=client,  # type: ignore[arg-type] # its names are those of the library
        retry_config={
            "max_retries": 1000,
            "retry_timeout": timedelta(seconds=manner.retry),
        },
        credential_provider=None if account.key() is None else account.credential,  # type: ignore[arg-type]
    )


def require_library(name: str) -> None:
    """Raise StepFailed unless what speaks to object stores is installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise StepFailed(
            f"Target {name} needs a library that is not installed here.",
            remedy="pip install 'holdfast[cloud]'",
        ) from None
