"""One bucket of an S3 server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from runner.target.objects import Objects
from runner.target.s3_account import Account
from runner.target.s3_errors import WORDS
from runner.target.s3_request import Requests
from runner.target.s3_store import S3Manner, open_store

if TYPE_CHECKING:
    from obstore.store import S3Store


@dataclass(frozen=True)
class Bucket(Objects):
    """Objects below the account's prefix, by key."""

    account: Account
    manner: S3Manner

    words = WORDS
    most_parts = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html

    @property
    def url(self) -> str:
        """The bucket's address."""
        return self.account.url

    @cached_property
    def requests(self) -> Requests:
        """What the library cannot ask, signed for the bucket's region."""
        return replace(super().requests, region=self.account.region)

    def open(self, waits: dict[str, timedelta]) -> S3Store:
        """A client of the bucket."""
        return open_store(self.account, self.manner, waits)
