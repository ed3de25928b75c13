"""Any remote that rclone knows as a target."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from runner.spec.model import TargetSpec
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming, listed, own, require_portable
from runner.target.lease import Leases
from runner.target.rclone_download import download_commands
from runner.target.rclone_place import place_of
from runner.target.rclone_remote import Remote, escaped
from runner.target.trial import try_out

CHECK_SECONDS = 60.0  # how long `check` waits for an answer: a person waits for it


def open_target(spec: TargetSpec) -> RcloneTarget:
    """The remote that a spec declares. Nothing is asked of it yet."""
    return RcloneTarget(Remote(place_of(spec)))


class RcloneTarget:
    """Keys are files below the remote's path. What starts with a dot and ends with `.partial` or
    `.lock` is the target's own, and never listed.

    No remote refuses to write what is there: an exclusive put holds a lease, as a lock does. That
    asks of the remote that a listing shows what was just written, and of hosts that share it that
    their clocks agree to a minute.
    """

    def __init__(self, remote: Remote) -> None:
        self.name = remote.name
        self._remote = remote
        self._leases = Leases(remote)
        self._one_at_a_time = threading.Lock()

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,  # noqa: ARG002
    ) -> int:
        """Store `chunks` under `key`; see the protocol. What is there is replaced at once only
        where the remote is able to; else it is removed first.
        """
        require_portable(key)
        incoming = Incoming(chunks)
        if exclusive:
            self._put_exclusive(key, incoming)
        else:
            self._remote.write(key, incoming)
        return incoming.bytes

    def _put_exclusive(self, key: str, incoming: Incoming) -> None:
        with (
            self._one_at_a_time,
            self._leases.hold_to_put(key),
        ):
            if self._remote.look(key) is not None:
                raise KeyExists(key)
            self._remote.write(key, incoming)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call. One that ends early fails."""
        require_portable(key)
        return self._remote.read(key, offset, length)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below `prefix`, in rclone's order."""
        return (entry for entry in self._remote.scan(prefix) if listed(entry.key))

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>`, out of one filtered listing."""
        found = self._remote.scan(prefix, "--include", f"/*/{escaped(name)}")
        return (entry for entry in found if listed(entry.key))

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, sorted."""
        return sorted(name for name in self._remote.folders(prefix) if not own(name))

    def delete(self, key: str) -> None:
        """Remove one object, and the folders that this leaves empty. Raises StepFailed when a lock
        that is held here may be another's by now.
        """
        require_portable(key)
        self._leases.require()
        self._remote.remove(key)

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        """Remove temporary files below `prefix` older than so many seconds; return their keys.

        What a killed rclone left of an upload in parts, only `rclone cleanup` finds.
        """
        left = [
            entry
            for entry in self._remote.scan(prefix, "--include", ".*.partial")
            if own(entry.key.rpartition("/")[2])
        ]
        now = self._remote.now() if left else None
        removed = []
        for entry in left:
            # Some remotes know times to the second.
            if now is not None and (now - entry.modified).total_seconds() + 1 >= older_than:
                self._remote.remove(entry.key)
                removed.append(entry.key)
        return removed

    def now(self) -> datetime:
        """The clock that dates what is written from here, read off a file that is written."""
        return self._remote.now()

    def free(self) -> int | None:
        """Bytes that can still be written; None where the remote does not tell it."""
        return self._remote.free()

    def lock(self, key: str, owner: str) -> AbstractContextManager[None]:
        """Hold the lock `key` by a lease: see runner/target/lease.py."""
        require_portable(key)
        return self._leases.hold(key, owner)

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""
        place = self._remote.place
        quick = Remote(replace(place, timeout=min(place.timeout, CHECK_SECONDS)))
        try_out(
            self.name,
            write=lambda key, data: quick.write(key, Incoming([data])),
            read=lambda key: quick.read(key, 0, None),
            remove=quick.remove,
        )

    def location(self, key: str) -> str:
        """How rclone calls that key: remote:path/key."""
        return self._remote.place.path(key)

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        return download_commands(self._remote.place, prefix, folder)
