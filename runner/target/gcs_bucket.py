"""One bucket of Google Cloud Storage, which is asked by its XML interface."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self

from runner.errors import StepFailed, UsageError
from runner.target import NotAllowed
from runner.target.gcs_account import Account
from runner.target.gcs_errors import WORDS
from runner.target.object_client import Pace, client
from runner.target.object_errors import code_of
from runner.target.objects import Objects
from runner.target.s3_request import Requests

if TYPE_CHECKING:
    from obstore.store import GCSConfig, GCSStore

MOST_PARTS = 10_000  # https://cloud.google.com/storage/quotas#requests
CLOCK_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Manner(Pace):
    """How objects are written and requests made."""

    storage_class: str | None


@dataclass(frozen=True)
class Bucket(Objects):
    """Objects below the account's prefix, by key."""

    account: Account
    manner: Manner

    @property
    def name(self) -> str:
        """The target's name."""
        return self.account.name

    @property
    def pace(self) -> Pace:
        """How requests are made."""
        return self.manner

    @property
    def most_parts(self) -> int:
        """How many parts one object may have."""
        return MOST_PARTS

    @property
    def attributes(self) -> dict[str, str]:
        """What every object is written with."""
        kind = self.manner.storage_class
        return {} if kind is None else {"Storage-Class": kind}

    @cached_property
    def requests(self) -> Requests:
        """What the library cannot ask."""
        timeout = min(self.manner.timeout, CLOCK_SECONDS)
        return Requests(self.account.url, "", timeout, self.account.ca)

    def open(self, waits: dict[str, timedelta]) -> GCSStore:
        """A client of the bucket."""
        from obstore.exceptions import BaseError
        from obstore.store import GCSStore

        config: GCSConfig = {"base_url": self.account.endpoint, "skip_signature": False}
        key = self.account.service_account()
        if key is not None:
            config["service_account_key"] = key
        try:
            return GCSStore(
                self.account.bucket,
                prefix=self.account.prefix or None,
                config=config,
                client_options=client(self.account.url, self.account.ca, waits),
                retry_config=self.pace.retries(),
            )
        except BaseError:
            # What the library says of it may show a part of the key.
            raise UsageError(
                f"Target {self.name}: its credentials are not accepted as they are written.",
                remedy="Look at `credentials`, and at GOOGLE_APPLICATION_CREDENTIALS.",
            ) from None

    def in_words(self, text: str, what: str) -> StepFailed:
        """The error for a person."""
        error = WORDS.explained(text, f"Target {self.name} at {self.account.url}", what)
        if code_of(text) == "AccessDenied":
            return NotAllowed(error.message, remedy=error.remedy)
        return error

    def within(self, seconds: float) -> Self:
        """The same, but giving up sooner."""
        return replace(self, manner=self.manner.within(seconds))
