"""One container of Azure Blob Storage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from runner.target.azure_account import Account, Login
from runner.target.azure_errors import WORDS, lacks_right
from runner.target.object_client import client
from runner.target.objects import Objects

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore


@dataclass(frozen=True)
class Container(Objects):
    """Blobs below the account's prefix, by key."""

    account: Account

    words = WORDS
    # https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs
    most_parts = 50_000
    missing = "ContainerNotFound"
    stamp = "holdfast_put"  # its metadata's names are those of C#

    @cached_property
    def login(self) -> Login:
        """Who asks, and where."""
        return self.account.login()

    @property
    def url(self) -> str:
        """The container's address, without a slash at its end."""
        return f"{self.login.endpoint}/{self.account.container}"

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
            retry_config=self.manner.retries(),
            credential_provider=self.account.credential if declared else None,  # type: ignore[arg-type]
        )

    def lacks_right(self, text: str) -> bool:
        """Whether the credentials are good, and do not allow what was asked for."""
        return lacks_right(text)
