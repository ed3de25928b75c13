"""What every object store does as a target, whoever the provider is."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property

from runner.errors import StepFailed
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming, listed, own, require_portable
from runner.target.lease import Leases
from runner.target.objects import Objects
from runner.target.trial import try_out

CHECK_SECONDS = 5.0  # how long `check` tries again: a person waits for it

PROBE = ".put-if-absent.partial"


class ObjectTarget:
    """Keys are objects below a prefix. An object is visible once it is whole: that is how object
    stores work. What starts with a dot and ends with `.partial` or `.lock` is the target's own.
    """

    reads_at_once = 32  # small objects, by threads that share this target
    lists_ranges = False  # whether `find_between` costs less than `find`

    def __init__(self, objects: Objects) -> None:
        self.name = objects.name
        self._objects = objects
        self._leases = Leases(objects)
        self._one_at_a_time = threading.Lock()

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,
    ) -> int:
        """Store `chunks` under `key`; see the protocol."""
        self.admit(key)
        incoming = Incoming(chunks)
        with self._objects.explained(f"{key} was not written", incoming):
            first, rest = _begin(iter(incoming), self._objects.manner.part_size)
            if exclusive:
                self._put_exclusive(key, first, rest)
            else:
                self._objects.write(key, first, rest, expected_bytes=expected_bytes)
        return incoming.bytes

    def admit(self, key: str) -> None:
        """Raise UsageError unless something can be put there: asked before each put."""
        require_portable(key)

    def _put_exclusive(self, key: str, first: bytes, rest: Iterator[bytes] | None) -> None:
        stamp = secrets.token_hex(16) if rest is None else None
        with self._one_at_a_time:
            if stamp is not None and self._knows_put_if_absent:
                self._objects.write(key, first, None, stamp=stamp)
                return
            # Servers that know it do not all know it of an object in parts.
            with self._leases.hold_to_put(key):
                if self._objects.exists(key):
                    raise KeyExists(key)
                self._objects.write(key, first, rest, stamp=stamp)

    @cached_property
    def _knows_put_if_absent(self) -> bool:
        """Whether the server refuses to write what is there: asked of it, since some ignore it."""
        self._objects.write(PROBE, b"", None)
        try:
            self._objects.write(PROBE, b"", None, stamp=secrets.token_hex(16))
        except KeyExists:
            return True
        finally:
            # Credentials that may not delete are a safe choice for backups.
            with contextlib.suppress(StepFailed):
                self._objects.remove(PROBE)
        return False

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call."""
        require_portable(key)
        with self._objects.explained(f"{key} was not read", key=key):
            return self._objects.read(key, offset, length)

    def fetch(self, key: str, most: int) -> tuple[Entry, bytes]:
        """A small object as a listing would show it, and its bytes: none where it has more than
        `most`. Raises FileNotFoundError where there is none.
        """
        require_portable(key)
        with self._objects.explained(f"{key} was not read", key=key):
            return self._objects.fetch(key, most)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below `prefix`, in the server's order.

        Consoles write an empty object for a folder itself, which is none of ours.
        """
        for entry in self._objects.entries(prefix):
            if entry.key not in ("", prefix) and listed(entry.key):
                yield entry

    def entries_after(self, prefix: str, after: str) -> Iterator[Entry]:
        """The objects below `prefix` whose keys come after that one."""
        for entry in self._objects.entries(prefix, after=after):
            if listed(entry.key):
                yield entry

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>`, out of one listing."""
        return self._right_below(prefix, self._objects.entries(prefix, name=name))

    def find_between(self, prefix: str, name: str, first: str, last: str) -> Iterator[Entry]:
        """Those in the folders `first` to `last`; a server that keeps no order leaves some out."""
        start, end = f"{prefix}/{first}", f"{prefix}/{last}/{name}"
        found = self._objects.entries(prefix, after=start, until=end, name=name)
        return self._right_below(prefix, found)

    def _right_below(self, prefix: str, entries: Iterable[Entry]) -> Iterator[Entry]:
        depth = len(prefix.split("/")) + 2 if prefix else 2
        for entry in entries:
            if len(entry.key.split("/")) == depth and listed(entry.key):
                yield entry

    def connect(self) -> None:
        """Reach the server. Raises StepFailed when it does not answer."""
        with self._objects.explained("it was not read"):
            _ = self._objects.reader

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, sorted."""
        return sorted(name for name in self._objects.folders(prefix) if not own(name))

    def delete(self, key: str) -> None:
        """Remove one object. Folders are but names here. Raises StepFailed when a lock that is
        held here may be another's by now.
        """
        require_portable(key)
        self._leases.require()
        self._objects.remove(key)

    def now(self) -> datetime:
        """The server's clock, to the second."""
        return self._objects.now()

    def free(self) -> int | None:
        """Nobody knows: a bucket has no end, or does not tell it."""
        return None

    def lock(self, key: str, owner: str) -> AbstractContextManager[None]:
        """Hold the lock `key` by a lease: see runner/target/lease.py."""
        require_portable(key)
        return self._leases.hold(key, owner)

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""
        quick = self._objects.within(CHECK_SECONDS)
        with quick.explained("nothing can be kept there"):
            quick.folders("")
            try_out(
                self.name,
                write=lambda key, data: quick.write(key, data, None),
                read=quick.read,
                remove=self._objects.remove,
            )


def _begin(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes] | None]:
    """The first `size` bytes or more, and the rest; None for the rest where that is all."""
    first = bytearray()
    for chunk in chunks:
        first += chunk
        if len(first) > size:
            return bytes(first), chunks
    return bytes(first), None
