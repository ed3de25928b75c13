"""Object lock: what the server itself keeps anybody from removing, asked for and read back.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TypeVar
from urllib.parse import quote

from runner.errors import StepFailed
from runner.target.object_errors import code_of
from runner.target.s3_bucket import Bucket
from runner.target.s3_request import Key, Refused, Unreachable, plain

Answer = TypeVar("Answer")

PAUSE_SECONDS = 0.5
CLOCK_SECONDS = 1.0  # the server's clock is read to the second
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

# What servers say of a bucket or an object without a lock.
_NONE = {
    "NoSuchObjectLockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "InvalidRequest",
    "NoSuchKey",
}
_PASSING = {429, 500, 502, 503, 504}


@dataclass(frozen=True)
class ObjectLock:
    """The locks of one bucket's objects."""

    bucket: Bucket
    mode: str  # GOVERNANCE: who has a right of its own may still remove; COMPLIANCE: nobody
    seconds: float  # how long an object is held, by the server's clock

    def require(self) -> None:
        """Raise StepFailed unless the bucket keeps objects locked."""
        if self._ready is not None:
            raise self._ready

    @cached_property
    def _ready(self) -> StepFailed | None:
        name = self.bucket.name
        try:
            with self.bucket.explained("whether it locks objects was not learnt"):
                answer = self._ask("GET", "", "object-lock")
        except StepFailed as error:
            return error
        if answer is not None and plain(answer).findtext("ObjectLockEnabled") == "Enabled":
            return None
        return StepFailed(
            f"Target {name}: the bucket {self.bucket.account.bucket} has no object lock, so `lock` "
            "cannot be kept, and nothing was written.",
            remedy="Make a bucket with object lock (most servers cannot add it later), or take "
            "`lock` away.",
        )

    def hold(self, keys: Iterable[str]) -> None:
        """Have the server hold objects from now on, and read back that it does."""
        until = self.bucket.now() + timedelta(seconds=self.seconds)
        for key in keys:
            with self.bucket.explained(f"{key} was not locked"):
                self._ask("PUT", self._path(key), "retention", self._retention(until))
            held = self.held_until(key)
            if held is None or held < until - timedelta(seconds=CLOCK_SECONDS):
                raise StepFailed(
                    f"Target {self.bucket.name}: {key} is not locked, although the server took "
                    "the lock.",
                    remedy="Do not rely on this server's object lock.",
                )

    def held_until(self, key: str) -> datetime | None:
        """When the server lets go of an object; None where it holds it no longer, or never did."""
        with self.bucket.explained(f"whether {key} is locked was not learnt"):
            answer = self._ask("GET", self._path(key), "retention")
        said = None if answer is None else plain(answer).findtext("RetainUntilDate")
        if not said:
            return None
        until = datetime.fromisoformat(said).astimezone(UTC)
        return until if until > self.bucket.now() else None

    def _retention(self, until: datetime) -> bytes:
        return (
            f'<Retention xmlns="{NAMESPACE}"><Mode>{self.mode}</Mode>'
            f"<RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate></Retention>"
        ).encode()

    def _path(self, key: str) -> str:
        prefix = self.bucket.account.prefix
        return f"/{quote(f'{prefix}/{key}' if prefix else key)}"

    def _ask(self, method: str, path: str, what: str, body: bytes = b"") -> bytes | None:
        """The answer; None where there is no lock. Raises Refused, Unreachable, StepFailed."""
        key = self._key()
        headers = {}
        if body:
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            headers = {
                "content-md5": base64.b64encode(digest).decode(),
                "content-type": "application/xml",
            }

        def once() -> bytes | None:
            try:
                answer, _ = self.bucket.requests.ask(
                    method, path, {what: ""}, key, body=body, headers=headers
                )
            except Refused as error:
                if method == "GET" and code_of(error.text) in _NONE:
                    return None
                raise
            return answer

        return _repeated(once, self.bucket.manner.retry)

    def _key(self) -> Key:
        key = self.bucket.account.key()
        if key is None:
            raise StepFailed(
                f"Target {self.bucket.name}: locks cannot be set with the machine's own role.",
                remedy="Declare access_key and secret_key, or a profile.",
            )
        return key


def _repeated(once: Callable[[], Answer], seconds: float) -> Answer:
    """What `once` answers, tried again for so long while what is wrong may pass."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return once()
        except (Refused, Unreachable) as error:
            passing = not isinstance(error, Refused) or error.status in _PASSING
            if not passing or time.monotonic() >= deadline:
                raise
        time.sleep(PAUSE_SECONDS)
