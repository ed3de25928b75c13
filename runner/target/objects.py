"""Whole objects of an object store: written, read and listed, with the library's errors in words.

What differs from one provider to the next is in its own module; what is here holds for all.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, cast

from runner.errors import HoldfastError, StepFailed
from runner.target import Entry, KeyExists, NotAllowed
from runner.target.feed import feed
from runner.target.keys import Incoming
from runner.target.object_client import Manner, reach, require_library
from runner.target.object_errors import ANSWERS_ALL, Words, code_of
from runner.target.paging import right_below, to_its_end
from runner.target.parts import Parts
from runner.target.s3_request import Refused, Requests, Unreachable

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import ObjectStore

BLOCK = 1024 * 1024  # bytes read at once
PAGE = 1000  # objects that a server lists at once
FIRST_SECONDS = 10.0
CLOCK_SECONDS = 30.0
RESUMED_AT_MOST = 20  # how often one download goes on after its connection broke
LONGEST_DOWNLOAD = timedelta(days=30)  # what stands still ends sooner, by `timeout`


class Account(Protocol):
    """Where a bucket is and who asks."""

    @property
    def name(self) -> str:
        """The target's name."""

    @property
    def ca(self) -> str | None:
        """Certificates that are trusted beside the usual ones."""


@dataclass(frozen=True)
class Objects(ABC):
    """Objects below a prefix, by key. It is also the shelf of the locks' claims."""

    account: Account
    manner: Manner

    words: ClassVar[Words]  # what these servers say
    most_parts: ClassVar[int]  # that one object may have
    missing: ClassVar[str] = "NoSuchBucket"  # the server's word for what is not there at all
    stamp: ClassVar[str] = "holdfast-put"  # the name of one put, in the object's own metadata

    @property
    def name(self) -> str:
        """The target's name."""
        return self.account.name

    @property
    @abstractmethod
    def url(self) -> str:
        """The bucket's address, without a slash at its end."""

    @cached_property
    def requests(self) -> Requests:
        """What the library cannot ask."""
        timeout = min(self.manner.timeout, CLOCK_SECONDS)
        return Requests(self.url, "", timeout, self.account.ca)

    @abstractmethod
    def open(self, waits: dict[str, timedelta]) -> ObjectStore:
        """A client, which gives up when `waits` says. The environment changes nothing that is
        declared. Raises UsageError when the credentials that were declared cannot be had.
        """

    def in_words(self, text: str, what: str) -> StepFailed:
        """The error for a person of what the library or the server said."""
        error = self.words.explained(text, f"Target {self.name} at {self.url}", what)
        if self.lacks_right(text):
            return NotAllowed(error.message, remedy=error.remedy)
        return error

    def lacks_right(self, text: str) -> bool:
        """Whether the credentials are good, and do not allow what was asked for."""
        return code_of(text) == "AccessDenied"

    def within(self, seconds: float) -> Self:
        """The same, but giving up sooner."""
        return replace(self, manner=self.manner.within(seconds))

    @cached_property
    def reader(self) -> ObjectStore:
        """For what reads: an answer may take long, but not stand still."""
        self._reach()
        read = timedelta(seconds=self.manner.timeout)
        return self.open({"timeout": LONGEST_DOWNLOAD, "read_timeout": read})

    @cached_property
    def writer(self) -> ObjectStore:
        """For what writes."""
        self._reach()
        return self.open({"timeout": timedelta(seconds=self.manner.timeout)})

    def _reach(self) -> None:
        # A server that was there is waited for longer than one that never was.
        at = self.requests
        patience = min(self.manner.retry, FIRST_SECONDS)
        reach(at.url, at.ca, timeout=at.timeout, patience=patience)

    def write(
        self,
        key: str,
        first: bytes,
        rest: Iterable[bytes] | None,
        *,
        stamp: str | None = None,
        expected_bytes: int = 0,
    ) -> None:
        """Store `first`, and `rest` if it is not None, in parts that are large enough for about so
        many bytes. With `stamp`, raises KeyExists when the key is taken, on servers that know how;
        `rest` must be None then.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        kind = self.manner.storage_class
        attributes = {} if kind is None else {"Storage-Class": kind}
        if rest is not None:
            parts = Parts.of(self.manner.part_size, self.most_parts, expected_bytes)
            self._write_parts(key, itertools.chain([first], rest), attributes, parts)
        elif stamp is None:
            obstore.put(self.writer, key, first, attributes=attributes, use_multipart=False)
        else:
            attributes[self.stamp] = stamp
            try:
                obstore.put(self.writer, key, first, attributes=attributes, mode="create")
            except AlreadyExistsError:
                # A request that was repeated, since its answer was lost, finds what it wrote.
                if not self._bears(key, stamp):
                    raise KeyExists(key) from None

    def _write_parts(
        self, key: str, chunks: Iterable[bytes], attributes: dict[str, str], parts: Parts
    ) -> None:
        stamp = attributes.setdefault(self.stamp, secrets.token_hex(16))
        within = parts.within(chunks, self.name)
        try:
            feed(within, lambda blocks: self._send(key, blocks, attributes, parts))
        except Exception as error:
            # The same of the last request of an upload, which the server has ended meanwhile.
            if code_of(str(error)) != "NoSuchUpload" or not self._bears(key, stamp):
                raise

    def _bears(self, key: str, stamp: str) -> bool:
        """Whether the object is what the put of that name wrote."""
        import obstore

        try:
            found = obstore.get(self.reader, key)
        except FileNotFoundError:
            return False
        return found.attributes.get(self.stamp) == stamp

    def _send(
        self, key: str, chunks: Iterator[bytes], attributes: dict[str, str], parts: Parts
    ) -> None:
        import obstore

        obstore.put(
            self.writer,
            key,
            chunks,
            attributes=attributes,
            use_multipart=True,
            chunk_size=parts.size,
            max_concurrency=parts.at_once,
        )

    def exists(self, key: str) -> bool:
        """Whether an object of that key is there."""
        import obstore

        try:
            obstore.head(self.reader, key)
        except FileNotFoundError:
            self._require_container("it was not read")
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

    def fetch(self, key: str, most: int) -> tuple[Entry, bytes]:
        """A small object as a listing would show it, and its bytes: none where it has more than
        `most`. Raises FileNotFoundError.
        """
        import obstore
        from obstore.exceptions import BaseError

        result = obstore.get(self.reader, key)
        entry = _entry(key, result.meta)
        if entry.bytes > most:
            return entry, b""
        try:
            return entry, bytes(result.bytes())
        except BaseError:
            again = self._from(key, 0, entry.bytes, result.meta["e_tag"])
            return entry, b"".join(self._stream(key, again, 0, entry.bytes))

    def entries(
        self, prefix: str, *, after: str | None = None, until: str | None = None, name: str = ""
    ) -> Iterator[Entry]:
        """Every object below the folder `prefix`; with `name` those of that name. The server begins
        behind the key `after`, and is asked no more once it has shown one behind `until`.
        """
        end = f"/{name}" if name else ""
        with self.explained(f"{prefix or 'it'} was not listed"):
            import obstore

            blocks = obstore.list(self.reader, prefix or None, offset=after, chunk_size=PAGE)
            for found in to_its_end(itertools.chain.from_iterable(blocks)):
                path = found["path"]
                if until is not None and path > until:
                    return
                if path.endswith(end):
                    yield _entry(path, found)

    def remove(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        with self.explained(f"{key} was not removed"), contextlib.suppress(FileNotFoundError):
            import obstore

            obstore.delete(self.writer, key)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`."""
        what = f"{prefix or 'it'} was not listed"
        with self.explained(what):
            found = right_below(self.reader, prefix)
        if not found["common_prefixes"] and not found["objects"]:
            self._require_store(what)
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
        require_library(self.name)
        from obstore.exceptions import BaseError

        try:
            yield
        except (Refused, Unreachable) as error:
            status = getattr(error, "status", 0)
            raise self.in_words(f"status {status} {error.text}", what) from None
        except (HoldfastError, KeyExists):
            raise
        except Exception as error:
            if incoming is not None and incoming.error is not None:
                raise incoming.error from None
            if isinstance(error, FileNotFoundError) and key and not self._is_missing(error):
                self._require_container(what)
                reason = f"target {self.name} has no such object"
                raise FileNotFoundError(errno.ENOENT, reason, key) from None
            if isinstance(error, BaseError | FileNotFoundError):
                raise self.in_words(str(error), what) from None
            raise

    def _is_missing(self, error: Exception) -> bool:
        return code_of(str(error)) == self.missing

    def _require_container(self, what: str) -> None:
        """An answer to HEAD has no words: this asks whether it was the bucket that is missing."""
        with self.explained(what):
            import obstore

            next(iter(obstore.list(self.reader, f".{self.name}.partial")), None)

    def _require_store(self, what: str) -> None:
        """To the library any web page is a list of nothing. What answers to all that it is asked
        also has what nobody ever wrote. Raises StepFailed.
        """
        import obstore

        try:
            obstore.get(self.reader, f".{self.name}.{secrets.token_hex(8)}.none")
        except Exception as error:  # noqa: BLE001 - it is not there, as it should be
            if "Header missing" not in str(error):
                return
        raise self.in_words(ANSWERS_ALL, what)

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
                    for block in _blocks(result):
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


def _blocks(result: GetResult) -> Iterator[bytes]:
    if result.meta["size"] <= BLOCK:
        yield cast("bytes", result.bytes())  # threads that read many wait less for each other
    else:
        yield from result.stream(min_chunk_size=BLOCK)


def _entry(key: str, meta: ObjectMeta) -> Entry:
    tag = f"{(meta['e_tag'] or '').strip(chr(34))}-{meta['size']}"
    return Entry(key, meta["size"], meta["last_modified"], tag)
