"""A bucket of an S3 server as a target."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property

from runner.errors import StepFailed, UsageError
from runner.spec.model import TargetSpec
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming, listed, own, require_portable
from runner.target.lease import Leases
from runner.target.s3_account import account_of
from runner.target.s3_bucket import Bucket
from runner.target.s3_download import download_commands
from runner.target.s3_errors import code_of
from runner.target.s3_request import Refused
from runner.target.s3_store import Manner

SMALLEST_PART = 5 * 1024 * 1024
CHECK_SECONDS = 5.0  # how long `check` tries again: a person waits for it

# How long an exclusive put waits for another one where the server itself knows none.
PATIENCE_SECONDS = 60.0

PROBE = ".put-if-absent.partial"
CHECK = ".check.partial"

# What servers say that have no list of unfinished uploads, an empty one, or show it not to all.
NO_UPLOADS = {"NotImplemented", "MethodNotAllowed", "AccessDenied", "NoSuchUpload"}


def open_target(spec: TargetSpec) -> S3Target:
    """The bucket that a spec declares. Nothing is asked of it yet."""
    options = spec.options
    manner = Manner(
        storage_class=options.get("storage_class"),
        encryption=options.get("server_side_encryption"),
        kms_key=options.get("kms_key"),
        part_size=options.get("part_size", 16 * 1024 * 1024),
        timeout=options.get("timeout", 300.0),
        retry=options.get("retry", 60.0),
    )
    if manner.part_size < SMALLEST_PART:
        raise UsageError(
            f"Target {spec.name}: a part_size of {manner.part_size} bytes is too small.",
            remedy="Declare 5MiB or more: servers take no smaller parts.",
        )
    return S3Target(Bucket(account_of(spec), manner))


class S3Target:
    """Keys are objects below a prefix of a bucket. An object is visible once it is whole: that is
    how S3 works. What starts with a dot and ends with `.partial` or `.lock` is the target's own.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.name = bucket.name
        self._bucket = bucket
        self._leases = Leases(bucket)
        self._one_at_a_time = threading.Lock()

    def put(self, key: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> int:
        """Store `chunks` under `key`; see the protocol."""
        require_portable(key)
        incoming = Incoming(chunks)
        with self._bucket.explained(f"{key} was not written", incoming):
            first, rest = _begin(iter(incoming), self._bucket.manner.part_size)
            if exclusive:
                self._put_exclusive(key, first, rest)
            else:
                self._bucket.write(key, first, rest)
        return incoming.bytes

    def _put_exclusive(self, key: str, first: bytes, rest: Iterator[bytes] | None) -> None:
        stamp = secrets.token_hex(16) if rest is None else None
        with self._one_at_a_time:
            if stamp is not None and self._knows_put_if_absent:
                self._bucket.write(key, first, None, stamp=stamp)
                return
            # Servers that know it do not all know it of an object in parts.
            with self._leases.hold(key, f"a put of {key}", patience=PATIENCE_SECONDS):
                if self._bucket.exists(key):
                    raise KeyExists(key)
                self._bucket.write(key, first, rest, stamp=stamp)

    @cached_property
    def _knows_put_if_absent(self) -> bool:
        """Whether the server refuses to write what is there: asked of it, since some ignore it."""
        self._bucket.write(PROBE, b"", None)
        try:
            self._bucket.write(PROBE, b"", None, stamp=secrets.token_hex(16))
        except KeyExists:
            return True
        finally:
            self._remove_probe(PROBE)
        return False

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call."""
        require_portable(key)
        with self._bucket.explained(f"{key} was not read", key=key):
            return self._bucket.read(key, offset, length)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below `prefix`, in the server's order.

        Consoles write an empty object for a folder itself, which is none of ours.
        """
        for entry in self._bucket.entries(prefix):
            if entry.key not in ("", prefix) and listed(entry.key):
                yield entry

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>`, out of one listing."""
        depth = len(prefix.split("/")) + 2 if prefix else 2
        for entry in self.entries(prefix):
            parts = entry.key.split("/")
            if len(parts) == depth and parts[-1] == name:
                yield entry

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, sorted."""
        return sorted(name for name in self._bucket.folders(prefix) if not own(name))

    def delete(self, key: str) -> None:
        """Remove one object. Folders are but names here. Raises StepFailed when a lock that is
        held here may be another's by now.
        """
        require_portable(key)
        self._leases.require()
        self._bucket.remove(key)

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

    def now(self) -> datetime:
        """The server's clock, to the second."""
        return self._bucket.now()

    def free(self) -> int | None:
        """Nobody knows: a bucket has no end, or does not tell it."""
        return None

    @contextlib.contextmanager
    def lock(self, key: str, owner: str) -> Iterator[None]:
        """Hold the lock `key` by a lease: see runner/target/lease.py."""
        require_portable(key)
        with self._leases.hold(key, owner):
            yield

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""
        quick = Bucket(self._bucket.account, self._bucket.manner.within(CHECK_SECONDS))
        with quick.explained("nothing can be kept there"):
            quick.folders("")
            quick.write(CHECK, b"whole", None)
            if b"".join(quick.read(CHECK)) != b"whole":
                raise StepFailed(f"Target {self.name} does not keep what is written to it.")
        self._remove_probe(CHECK)

    def _remove_probe(self, key: str) -> None:
        # Credentials that may not delete are a safe choice for backups.
        with contextlib.suppress(StepFailed):
            self._bucket.remove(key)

    def location(self, key: str) -> str:
        """The URL of that key: s3://bucket/prefix/key."""
        account = self._bucket.account
        return "s3://" + "/".join(part for part in (account.bucket, account.prefix, key) if part)

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        return download_commands(self._bucket.account, self.location(prefix), folder)


def _begin(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes] | None]:
    """The first `size` bytes or more, and the rest; None for the rest where that is all."""
    first = bytearray()
    for chunk in chunks:
        first += chunk
        if len(first) > size:
            return bytes(first), chunks
    return bytes(first), None
