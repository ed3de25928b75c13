"""The client of one bucket: what speaks the protocol, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from runner.target.object_client import Manner, client
from runner.target.s3_account import Account

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store


@dataclass(frozen=True, kw_only=True)
class S3Manner(Manner):
    """What only S3 servers can be told."""

    encryption: str | None  # by the server
    kms_key: str | None
    checksums: bool = False  # servers that lock by themselves take nothing without


def open_store(account: Account, manner: S3Manner, waits: dict[str, timedelta]) -> S3Store:
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
    if manner.checksums:
        config["checksum_algorithm"] = "SHA256"
    return S3Store(
        account.bucket,
        prefix=account.prefix or None,
        config=config,
        client_options=client(account.url, account.ca, waits),
        retry_config=manner.retries(),
        credential_provider=None if account.key() is None else account.credential,  # type: ignore[arg-type]
    )
