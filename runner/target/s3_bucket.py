"""One bucket: whole objects written, read and listed, with the library's errors in words."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from runner.errors import HoldfastError, StepFailed
from runner.target import Entry, KeyExists
from runner.target.feed import feed
from runner.target.keys import Incoming
from runner.target.s3_account import Account
from runner.target.s3_errors import code_of, explained
from runner.target.s3_request import Refused, Requests, Unreachable
from runner.target.s3_store import Manner, open_store, require_library

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import S3Store

BLOCK = 1024 * 1024  # bytes read at once
PARTS_AT_ONCE = 3
MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
CLOCK_SECONDS = 30.0
FIRST_SECONDS = 10.0
STAMP = "holdfast-put"  # the name of one put, in the object's own metadata
RESUMED_AT_MOST = 20  # how often one download goes on after its connection broke
LONGEST_DOWNLOAD = timedelta(days=30)  # what stands still ends sooner, by `timeout`


@dataclass(frozen=True)
class Bucket:
    """Objects below the account's prefix, by key. It is also the shelf of the locks' claims."""

    account: Account
    manner: Manner

    @property
    def name(self) -> str:
        """The target's name."""
        return self.account.name

    @cached_property
    def reader(self) -> S3Store:
        """For what reads: an answer may take long, but not stand still."""
        self._reach()
        waits = {
            "timeout": LONGEST_DOWNLOAD,
            "read_timeout": timedelta(seconds=self.manner.timeout),
        }
        return open_store(self.account, self.manner, waits)

    @cached_property
    def writer(self) -> S3Store:
        """For what writes."""
        self._reach()
        return open_store(
            self.account, self.manner, {"timeout": timedelta(seconds=self.manner.timeout)}
        )

    def _reach(self) -> None:
        # A server that was there is waited for longer than one that never was.
        self.requests.reach(min(self.manner.retry, FIRST_SECONDS))

    @cached_property
    def requests(self) -> Requests:
        """What the library cannot ask."""
        timeout = min(self.manner.timeout, CLOCK_SECONDS)
        return Requests(self.account.url, self.account.region, timeout, self.account.ca)

    def write(
        self, key: str, first: bytes, rest: Iterable[bytes] | None, *, stamp: str | None = None
    ) -> None:
        """Store `first`, and `rest` if it is not None. With `stamp`, raises KeyExists when the key
        is taken, on servers that know how; `rest` must be None then.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        attributes: dict[str, str] = {}
        if self.manner.storage_class is not None:
            attributes["Storage-Class"] = self.manner.storage_class
        if rest is not None:
            feed(
                self._within_parts(itertools.chain([first], rest)),
                lambda parts: self._send(key, parts, attributes),
            )
        elif stamp is None:
            obstore.put(self.writer, key, first, attributes=attributes, use_multipart=False)
        else:
            attributes[STAMP] = stamp
            try:
                obstore.put(self.writer, key, first, attributes=attributes, mode="create")
            except AlreadyExistsError:
                # A request that was repeated, since its answer was lost, finds what it wrote.
                if obstore.get(self.reader, key).attributes.get(STAMP) != stamp:
                    raise KeyExists(key) from None

    def _send(self, key: str, chunks: Iterator[bytes], attributes: dict[str, str]) -> None:
        import obstore

        obstore.put(
            self.writer,
            key,
            chunks,
            attributes=attributes,
            use_multipart=True,
            chunk_size=self.manner.part_size,
            max_concurrency=PARTS_AT_ONCE,
        )

    def exists(self, key: str) -> bool:
        """Whether an object of that key is there."""
        import obstore

        try:
            obstore.head(self.reader, key)
        except FileNotFoundError:
            self._require_bucket("it was not read")
            return False
        return True

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes. Raises FileNotFoundError at the call."""
        import obstore

        if offset == 0 and length is None:
            result = obstore.get(self.reader, key)
            end = result.meta["size"]
        else:
            found = obstore.head(self.reader, key)
            end = found["size"] if length is None else min(found["size"], offset + length)
            if offset >= end:
                return iter(())
            result = self._from(key, offset, end, found["e_tag"])
        return self._stream(key, result, offset, end)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below the folder `prefix`."""
        with self.explained(f"{prefix or 'it'} was not listed"):
            import obstore

            for block in obstore.list(self.reader, prefix or None):
                for found in block:
                    tag = f"{(found['e_tag'] or '').strip(chr(34))}-{found['size']}"
                    yield Entry(found["path"], found["size"], found["last_modified"], tag)

    def remove(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        with self.explained(f"{key} was not removed"), contextlib.suppress(FileNotFoundError):
            import obstore

            obstore.delete(self.writer, key)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`."""
        with self.explained(f"{prefix or 'it'} was not listed"):
            import obstore

            found = obstore.list_with_delimiter(self.reader, prefix or None)
        return [one.rpartition("/")[2] for one in found["common_prefixes"]]

    def write_claim(self, key: str, data: bytes) -> None:
        """Write a claim of a lock."""
        with self.explained(f"{key} was not written"):
            self.write(key, data, None)

    def read_claim(self, key: str) -> bytes:
        """Read a claim of a lock."""
        with self.explained(f"{key} was not read", key=key):
            return b"".join(self.read(key))

    def claims(self, folder: str) -> list[Entry]:
        """All claims of a lock."""
        return list(self.entries(folder))

    def remove_claim(self, key: str) -> None:
        """Take a claim of a lock away."""
        self.remove(key)

    def now(self) -> datetime:
        """The server's clock, to the second."""
        with self.explained("its clock was not read"):
            return self.requests.date()

    @contextlib.contextmanager
    def explained(
        self, what: str, incoming: Incoming | None = None, key: str = ""
    ) -> Iterator[None]:
        """Errors of the server in words; those of the incoming chunks as they are.

        Where `key` is given, that it is missing stays a FileNotFoundError.
        """
        where = f"Target {self.name} at {self.account.url}"
        require_library(self.name)
        from obstore.exceptions import BaseError

        try:
            yield
        except (Refused, Unreachable) as error:
            raise explained(
                f"status {getattr(error, 'status', 0)} {error.text}", where, what
            ) from None
        except (HoldfastError, KeyExists):
            raise
        except Exception as error:
            if incoming is not None and incoming.error is not None:
                raise incoming.error from None
            if (
                isinstance(error, FileNotFoundError)
                and code_of(str(error)) != "NoSuchBucket"
                and key
            ):
                self._require_bucket(what)
                reason = f"target {self.name} has no such object"
                raise FileNotFoundError(errno.ENOENT, reason, key) from None
            if isinstance(error, BaseError | FileNotFoundError):
                raise explained(str(error), where, what) from None
            raise

    def _require_bucket(self, what: str) -> None:
        """An answer to HEAD has no words: this asks whether it was the bucket that is missing."""
        with self.explained(what):
            import obstore

            next(iter(obstore.list(self.reader, f".{self.name}.partial")), None)

    def _within_parts(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        left = self.manner.part_size * MOST_PARTS
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise StepFailed(
                    f"Target {self.name}: an object has more than {MOST_PARTS} parts.",
                    remedy="Declare a larger part_size of the target.",
                )
            yield chunk

    def _from(self, key: str, start: int, end: int, tag: str | None) -> GetResult:
        """The object from `start` on; the whole of it from servers that know no ranges."""
        import obstore
        from obstore.exceptions import GenericError, PreconditionError

        options: GetOptions = {} if tag is None else {"if_match": tag}
        try:
            try:
                found = obstore.get(self.reader, key, options={**options, "range": (start, end)})
            except GenericError as error:
                if "non-partial" not in str(error):
                    raise
                found = obstore.get(self.reader, key, options=options)
        except PreconditionError:
            found = None
        if found is None or found.meta["e_tag"] != tag:
            raise StepFailed(f"Target {self.name}: {key} was changed while it was read.")
        return found

    def _stream(self, key: str, result: GetResult, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end`. When the connection breaks the download goes on where it
        was, as long as the object is the same.
        """
        at = start
        for attempt in range(RESUMED_AT_MOST + 1):
            with self.explained(f"{key} was not read to its end"):
                from obstore.exceptions import BaseError

                position = result.range[0]
                try:
                    for block in result.stream(min_chunk_size=BLOCK):
                        wanted = block[max(0, at - position) : max(0, end - position)]
                        position += len(block)
                        at += len(wanted)
                        if wanted:
                            yield wanted
                        if at >= end:
                            return
                except BaseError:
                    if attempt == RESUMED_AT_MOST:
                        raise
                if at >= end:
                    return
                result = self._from(key, at, end, result.meta["e_tag"])
        raise StepFailed(f"Target {self.name}: {key} ends too early, again and again.")
