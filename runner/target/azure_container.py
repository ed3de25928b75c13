"""One container of Azure Blob Storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self

from runner.errors import StepFailed
from runner.target import NotAllowed
from runner.target.azure_account import Account, Login
from runner.target.azure_errors import WORDS, lacks_right
from runner.target.object_client import Pace, client
from runner.target.objects import Objects
from runner.target.s3_request import Requests

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore

# https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs
MOST_PARTS = 50_000
CLOCK_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Manner(Pace):
    """How blobs are written and requests made."""

    tier: str | None


@dataclass(frozen=True)
class Container(Objects):
    """Blobs below the account's prefix, by key."""

    account: Account
    manner: Manner

    missing = "ContainerNotFound"
    stamp = "holdfast_put"  # its metadata's names are those of C#

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
        """How many blocks one blob may have."""
        return MOST_PARTS

    @property
    def attributes(self) -> dict[str, str]:
        """What every blob is written with."""
        return {} if self.manner.tier is None else {"Storage-Class": self.manner.tier}

    @cached_property
    def login(self) -> Login:
        """Who asks, and where."""
        return self.account.login()

    @property
    def url(self) -> str:
        """The container's address, without a slash at its end."""
        return f"{self.login.endpoint}/{self.account.container}"

    @cached_property
    def requests(self) -> Requests:
        """What the library cannot ask."""
        timeout = min(self.manner.timeout, CLOCK_SECONDS)
        return Requests(self.url, "", timeout, self.account.ca)

    def open(self, waits: dict[str, timedelta]) -> AzureStore:
        """A client of the container."""
        from obstore.store import AzureStore

        config: AzureConfig = {
            "account_name": self.login.account,
            "endpoint": self.login.endpoint,
            "use_emulator": False,
            "skip_signature": False,
        }
        declared = self.login.key is not None or self.login.sas is not None
        return AzureStore(
            self.account.container,
            prefix=self.account.prefix or None,
            config=config,
            client_options=client(self.url, self.account.ca, waits),
            retry_config=self.pace.retries(),
            credential_provider=self.account.credential if declared else None,  # type: ignore[arg-type]
        )

    def in_words(self, text: str, what: str) -> StepFailed:
        """The error for a person."""
        error = WORDS.explained(text, f"Target {self.name} at {self.url}", what)
        if lacks_right(text):
            return NotAllowed(error.message, remedy=error.remedy)
        return error

    def within(self, seconds: float) -> Self:
        """The same, but giving up sooner."""
        return replace(self, manner=self.manner.within(seconds))
