"""One bucket of Google Cloud Storage, which is asked by its XML interface."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.target.gcs_account import Account
from runner.target.gcs_errors import WORDS
from runner.target.object_client import client
from runner.target.objects import Objects

if TYPE_CHECKING:
    from obstore.store import GCSConfig, GCSStore


@dataclass(frozen=True)
class Bucket(Objects):
    """Objects below the account's prefix, by key."""

    account: Account

    words = WORDS
    most_parts = 10_000  # https://cloud.google.com/storage/quotas#requests

    @property
    def url(self) -> str:
        """The bucket's address."""
        return self.account.url

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
                retry_config=self.manner.retries(),
            )
        except BaseError:
            # What the library says of it may show a part of the key.
            raise UsageError(
                f"Target {self.name}: its credentials are not accepted as they are written.",
                remedy="Look at `credentials`, and at GOOGLE_APPLICATION_CREDENTIALS.",
            ) from None
