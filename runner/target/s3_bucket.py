"""One bucket of an S3 server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self

from runner.errors import StepFailed
from runner.target import NotAllowed
from runner.target.object_client import Pace
from runner.target.object_errors import code_of
from runner.target.objects import Objects
from runner.target.s3_account import Account
from runner.target.s3_errors import WORDS
from runner.target.s3_request import Requests
from runner.target.s3_store import Manner, open_store

if TYPE_CHECKING:
    from obstore.store import S3Store

MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
CLOCK_SECONDS = 30.0


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
        return Requests(self.account.url, self.account.region, timeout, self.account.ca)

    def open(self, waits: dict[str, timedelta]) -> S3Store:
        """A client of the bucket."""
        return open_store(self.account, self.manner, waits)

    def in_words(self, text: str, what: str) -> StepFailed:
        """The error for a person."""
        error = WORDS.explained(text, f"Target {self.name} at {self.account.url}", what)
        if code_of(text) == "AccessDenied":
            return NotAllowed(error.message, remedy=error.remedy)
        return error

    def within(self, seconds: float) -> Self:
        """The same, but giving up sooner."""
        return replace(self, manner=self.manner.within(seconds))
