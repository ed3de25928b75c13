"""Where a container is and who asks: what the spec declares of an `azure` target."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from runner.errors import UsageError
from runner.secret import SCRUBBER, Secret
from runner.spec.model import TargetSpec
from runner.target.object_client import certificate_file, certificates, endpoint_of

# A shared access signature is looked up again this often: a long backup outlives a short one.
LOOK_AGAIN = timedelta(minutes=10)

CLOUD = "core.windows.net"


@dataclass(frozen=True)
class Account:
    """One container, and how it is reached. At most one of the three secrets is there."""

    name: str  # of the target
    container: str
    prefix: str  # without slashes at its ends; may be empty
    ca: str | None  # certificates that are trusted beside the usual ones
    ca_file: Path | None  # where they are
    account: str  # of the storage; empty: the connection string names it
    endpoint: str  # without a slash at its end; empty: Azure's own
    key: Secret | None
    sas_token: Secret | None
    connection: Secret | None

    def login(self) -> Login:
        """Who asks and where, as of now. Raises UsageError when a secret cannot be had."""
        if self.connection is not None:
            return _of_connection(self, self.connection.reveal())
        key = None if self.key is None else _checked(self, self.key.reveal())
        sas = None if self.sas_token is None else _signature(self, self.sas_token.reveal())
        endpoint = self.endpoint or f"https://{self.account}.blob.{CLOUD}"
        return Login(self.account, endpoint, key, sas)

    def credential(self) -> dict[str, Any]:
        """The secret, as the object store's library asks for it."""
        login = self.login()
        if login.key is not None:
            return {"access_key": login.key, "expires_at": None}
        return {"sas_token": login.sas, "expires_at": datetime.now(UTC) + LOOK_AGAIN}


@dataclass(frozen=True)
class Login:
    """Who asks, where. Without a key and a signature the machine has an identity of its own."""

    account: str
    endpoint: str  # without a slash at its end
    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)  # a shared access signature, as a query


def account_of(spec: TargetSpec) -> Account:
    """The account that a spec declares. Raises UsageError where it contradicts itself."""
    options = spec.options
    if ("account" in options) == ("connection" in options):
        raise UsageError(f"Target {spec.name} needs one of `account` and `connection`.")
    secrets = [name for name in ("key", "sas_token", "connection") if name in options]
    if len(secrets) > 1:
        raise UsageError(
            f"Target {spec.name} has {' and '.join(secrets)}.", remedy="Declare one of them."
        )
    return Account(
        name=spec.name,
        container=options["container"],
        prefix=options.get("prefix", "").strip("/"),
        ca=certificates(spec),
        ca_file=certificate_file(spec),
        account=options.get("account", ""),
        endpoint=endpoint_of(spec, example="https://account.blob.core.windows.net"),
        key=options.get("key"),
        sas_token=options.get("sas_token"),
        connection=options.get("connection"),
    )


def _of_connection(account: Account, text: str) -> Login:
    """https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string"""
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part)
    name, sas = parts.get("AccountName", ""), parts.get("SharedAccessSignature")
    endpoint = account.endpoint or parts.get("BlobEndpoint", "").rstrip("/")
    if not endpoint and name:
        scheme = parts.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{scheme}://{name}.blob.{parts.get('EndpointSuffix', CLOUD)}"
    if not endpoint or ("AccountKey" not in parts and sas is None):
        raise UsageError(
            f"Target {account.name}: {account.connection} is no connection string.",
            remedy="The portal shows it under `Access keys`: DefaultEndpointsProtocol=…",
        )
    for secret in (parts.get("AccountKey"), sas):
        if secret:
            SCRUBBER.learn(secret)
    name = name or endpoint.partition("://")[2].partition(".")[0]
    key = _checked(account, parts["AccountKey"]) if "AccountKey" in parts else None
    return Login(name, endpoint, key, sas)


def _signature(account: Account, text: str) -> str:
    """https://learn.microsoft.com/rest/api/storageservices/create-service-sas"""
    query = text.lstrip("?")
    if "sig" not in dict(parse_qsl(query)) or "://" in query:
        raise UsageError(
            f"Target {account.name}: its `sas_token` is no shared access signature.",
            remedy="It is what stands behind the `?` of an address that was signed: sv=…&sig=…",
        )
    return query


def _checked(account: Account, key: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error:
        raise UsageError(
            f"Target {account.name}: its key is none: it is not in base64.",
            remedy="The portal shows it under `Access keys`.",
        ) from None
    return key
