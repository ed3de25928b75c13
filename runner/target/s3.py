"""A bucket of an S3 server as a target."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from runner.errors import UsageError
from runner.spec.model import TargetSpec
from runner.target.object_errors import code_of
from runner.target.object_target import ObjectTarget
from runner.target.protection import Held
from runner.target.s3_account import account_of
from runner.target.s3_bucket import Bucket
from runner.target.s3_download import download_commands
from runner.target.s3_lock import ObjectLock
from runner.target.s3_request import Refused
from runner.target.s3_store import S3Manner

SMALLEST_PART = 5 * 1024 * 1024

# What servers say that have no list of unfinished uploads, an empty one, or show it not to all.
NO_UPLOADS = {"NotImplemented", "MethodNotAllowed", "AccessDenied", "NoSuchUpload"}


def open_target(spec: TargetSpec) -> S3Target:
    """The bucket that a spec declares. Nothing is asked of it yet."""
    options = spec.options
    manner = S3Manner(
        storage_class=options.get("storage_class"),
        encryption=options.get("server_side_encryption"),
        kms_key=options.get("kms_key"),
        checksums="lock" in options,
        part_size=options.get("part_size", 16 * 1024 * 1024),
        timeout=options.get("timeout", 300.0),
        retry=options.get("retry", 60.0),
    )
    if manner.part_size < SMALLEST_PART:
        raise UsageError(
            f"Target {spec.name}: a part_size of {manner.part_size} bytes is too small.",
            remedy="Declare 5MiB or more: servers take no smaller parts.",
        )
    bucket = Bucket(account_of(spec), manner)
    lock = None
    if "lock" in options:
        mode = options.get("lock_mode", "governance").upper()
        lock = ObjectLock(bucket, mode, options["lock"])
    return S3Target(bucket, lock)


class S3Target(ObjectTarget):
    """A bucket below a prefix."""

    lists_ranges = True

    def __init__(self, bucket: Bucket, lock: ObjectLock | None = None) -> None:
        super().__init__(bucket)
        self._bucket = bucket
        self._object_lock = lock
        self.lock_seconds = None if lock is None else lock.seconds

    def admit(self, key: str) -> None:
        """Raises StepFailed also where the bucket cannot lock as declared."""
        if self._object_lock is not None:
            self._object_lock.require()
        super().admit(key)

    def delete(self, key: str) -> None:
        """Remove one object. Raises Held while the server holds it."""
        until = self.held_until(key)
        if until is not None:
            raise Held(self.name, key, until)
        super().delete(key)

    def check(self) -> None:
        """Raise StepFailed unless one can read and write here, and lock where that is declared."""
        if self._object_lock is not None:
            self._object_lock.require()
        super().check()

    def hold(self, keys: Iterable[str]) -> None:
        """Have the server hold objects as long as declared; see runner/target/protection.py."""
        if self._object_lock is not None:
            self._object_lock.hold(keys)

    def held_until(self, key: str) -> datetime | None:
        """When the server lets go of an object; None where it does not hold it."""
        return None if self._object_lock is None else self._object_lock.held_until(key)

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        """Abort multipart uploads below `prefix` that were begun so many seconds ago; return their
        keys. Where the server or the credentials do not show them, nothing is done.
        """
        key, requests = self._bucket.account.key(), self._bucket.requests
        if key is None:
            return []
        above = f"{self._bucket.account.prefix}/" if self._bucket.account.prefix else ""
        below = f"{above}{prefix}/" if prefix else above
        now = self.now()
        aborted = []
        with self._bucket.explained("unfinished uploads were not removed"):
            try:
                for upload in list(requests.uploads(below, key)):
                    # The clock is read to the second.
                    if (now - upload.began).total_seconds() + 1 >= older_than:
                        requests.abort(upload, key)
                        aborted.append(upload.key.removeprefix(above))
            except Refused as error:
                if code_of(error.text) not in NO_UPLOADS:
                    raise
        return aborted

    def location(self, key: str) -> str:
        """The URL of that key: s3://bucket/prefix/key."""
        account = self._bucket.account
        return "s3://" + "/".join(part for part in (account.bucket, account.prefix, key) if part)

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        return download_commands(self._bucket.account, self.location(prefix), folder)
