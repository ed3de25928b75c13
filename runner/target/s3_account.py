"""Where a bucket is and who asks: what the spec declares of an `s3` target."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.errors import UsageError
from runner.secret import SCRUBBER, Secret
from runner.spec.model import TargetSpec
from runner.target.object_client import certificate_file, certificates, endpoint_of
from runner.target.s3_request import Key

# Temporary credentials are looked up again this often: a long backup outlives them.
LOOK_AGAIN = timedelta(minutes=10)

CREDENTIALS_FILE = "~/.aws/credentials"


@dataclass(frozen=True)
class Account:
    """One bucket, and how it is reached."""

    name: str  # of the target
    bucket: str
    prefix: str  # without slashes at its ends; may be empty
    region: str
    endpoint: str  # without a slash at its end; empty: Amazon's own
    virtual: bool  # the bucket is part of the host's name
    ca: str | None  # certificates that are trusted beside the usual ones
    ca_file: Path | None  # where they are
    access_key: Secret | None
    secret_key: Secret | None
    session_token: Secret | None
    profile: str | None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def url(self) -> str:
        """The bucket's address, without a slash at its end."""
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        if not self.virtual:
            return f"{endpoint}/{self.bucket}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    def key(self) -> Key | None:
        """What requests are signed with; None where the machine has a role of its own.

        Declared secrets come first, then the profile, the environment, the default profile.
        Raises UsageError when what was declared cannot be had.
        """
        if self.access_key is not None and self.secret_key is not None:
            token = None if self.session_token is None else self.session_token.reveal()
            return Key(self.access_key.reveal(), self.secret_key.reveal(), token)
        if self.profile is None and self.environment.get("AWS_ACCESS_KEY_ID"):
            if not self.environment.get("AWS_SECRET_ACCESS_KEY"):
                raise UsageError(
                    f"Target {self.name}: AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY "
                    "is not.",
                    remedy="Set both, or declare access_key and secret_key.",
                )
            return _known(self.environment, str.upper)
        return self._from_file()

    def credential(self) -> dict[str, Any]:
        """The same, as the object store's library asks for it."""
        key = self.key()
        if key is None:
            raise UsageError(f"Target {self.name}: its credentials are gone.")
        lasting = key.token is None and self.profile is None
        return {
            "access_key_id": key.access_key,
            "secret_access_key": key.secret_key,
            "token": key.token,
            "expires_at": None if lasting else datetime.now(UTC) + LOOK_AGAIN,
        }

    def _from_file(self) -> Key | None:
        # A variable that is empty counts as none, as with the provider's own programs.
        place = self.environment.get("AWS_SHARED_CREDENTIALS_FILE") or CREDENTIALS_FILE
        wanted = self.profile or self.environment.get("AWS_PROFILE") or "default"
        read = configparser.RawConfigParser()
        try:
            read.read(Path(place).expanduser())
        except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError) as error:
            raise UsageError(
                f"Target {self.name}: the credentials in {place} cannot be read: "
                f"{type(error).__name__}.",
                remedy="Look at that file, or declare access_key and secret_key.",
            ) from None
        section = dict(read[wanted]) if wanted in read else {}
        if "aws_access_key_id" in section and "aws_secret_access_key" in section:
            return _known(section, str.lower)
        if self.profile is None:
            return None
        raise UsageError(
            f"Target {self.name}: {place} has no keys for the profile `{wanted}`.",
            remedy="Add aws_access_key_id and aws_secret_access_key there, or declare access_key "
            "and secret_key.",
        )


def account_of(spec: TargetSpec) -> Account:
    """The account that a spec declares. Raises UsageError where it contradicts itself."""
    options = spec.options
    endpoint = endpoint_of(spec, example="https://s3.example.org")
    # The bucket's own address, as consoles show it. Any other path is where the server begins.
    if urlsplit(endpoint).path == f"/{options['bucket']}":
        raise UsageError(
            f"Target {spec.name}: the endpoint {endpoint!r} ends with the bucket's name.",
            remedy="Write the server's address alone, and the bucket as `bucket`.",
        )
    if ("access_key" in options) != ("secret_key" in options):
        raise UsageError(f"Target {spec.name} has one of access_key and secret_key: declare both.")
    if "session_token" in options and "access_key" not in options:
        raise UsageError(f"Target {spec.name} has a session_token: declare its access_key too.")
    return Account(
        name=spec.name,
        bucket=options["bucket"],
        prefix=options.get("prefix", "").strip("/"),
        region=options.get("region", "us-east-1"),
        endpoint=endpoint,
        virtual=options.get("style", "path") == "virtual",
        ca=certificates(spec),
        ca_file=certificate_file(spec),
        access_key=options.get("access_key"),
        secret_key=options.get("secret_key"),
        session_token=options.get("session_token"),
        profile=options.get("profile"),
    )


def _known(values: Mapping[str, str], form: Any) -> Key:
    token = values.get(form("aws_session_token")) or None
    key = Key(
        values[form("aws_access_key_id")], values.get(form("aws_secret_access_key"), ""), token
    )
    for value in (key.secret_key, key.token):
        if value:
            SCRUBBER.learn(value)
    return key
