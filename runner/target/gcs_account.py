"""Where a bucket is and who asks: what the spec declares of a `gcs` target."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.secret import SCRUBBER, Secret
from runner.spec.model import TargetSpec
from runner.target.object_client import certificate_file, certificates, endpoint_of

CLOUD = "https://storage.googleapis.com"

# What the object store's library would take instead of, or beside, what is declared.
OTHERS = ("GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")


@dataclass(frozen=True)
class Account:
    """One bucket, and how it is reached."""

    name: str  # of the target
    bucket: str
    prefix: str  # without slashes at its ends; may be empty
    endpoint: str  # without a slash at its end
    ca: str | None  # certificates that are trusted beside the usual ones
    ca_file: Path | None  # where they are
    credentials: Secret | None  # None: the application default credentials

    @property
    def url(self) -> str:
        """The bucket's address, without a slash at its end."""
        return f"{self.endpoint}/{self.bucket}"

    def service_account(self) -> str | None:
        """The key of the service account that is declared, as JSON. Raises UsageError when it
        cannot be had or is none, and where the environment would take its place.
        """
        if self.credentials is None:
            return None
        for other in OTHERS:
            if other in os.environ:
                raise UsageError(
                    f"Target {self.name} has `credentials`, and {other} is set as well.",
                    remedy=f"unset {other}",
                )
        text = self.credentials.reveal()
        try:
            document = json.loads(text)
            key = document["private_key"]
            complete = {"client_email", "private_key_id"} <= document.keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            complete = False
        if not complete:
            raise UsageError(
                f"Target {self.name}: {self.credentials} is no key of a service account.",
                remedy="Make one: gcloud iam service-accounts keys create FILE --iam-account=…",
            )
        SCRUBBER.learn(str(key))
        return text


def account_of(spec: TargetSpec) -> Account:
    """The account that a spec declares. Raises UsageError where it cannot be."""
    options = spec.options
    return Account(
        name=spec.name,
        bucket=options["bucket"],
        prefix=options.get("prefix", "").strip("/"),
        endpoint=endpoint_of(spec, default=CLOUD, example=CLOUD),
        ca=certificates(spec),
        ca_file=certificate_file(spec),
        credentials=options.get("credentials"),
    )
