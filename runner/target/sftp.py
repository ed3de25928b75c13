"""A folder of an SFTP server as a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from runner.spec.model import TargetSpec
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming, own, require_portable
from runner.target.lease import Leases
from runner.target.sftp_address import Address, address_of
from runner.target.sftp_download import download_commands
from runner.target.sftp_errors import no_room
from runner.target.sftp_files import Files, Found, entry
from runner.target.sftp_session import Session

CHECK_SECONDS = 5.0  # how long `check` tries again: a person waits for it


def open_target(spec: TargetSpec) -> SftpTarget:
    """The folder that a spec declares. Nothing is asked of the server yet."""
    options = spec.options
    timeout, retry = options.get("timeout", 60.0), options.get("retry", 60.0)
    return SftpTarget(address_of(spec), timeout=timeout, retry=retry)


class SftpTarget:
    """Keys are files below the root. What starts with a dot and ends with `.partial` or `.lock` is
    the target's own, and never listed.

    A file's tag is its size and its time in whole seconds: the protocol knows no better ones.
    """

    def __init__(self, address: Address, *, timeout: float, retry: float) -> None:
        self.name = address.name
        self._address = address
        self._timeout = timeout
        self._retry = retry
        self._files = Files(address, Session(address, timeout=timeout, retry=retry))
        self._leases = Leases(Shelf(self._files))

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,  # noqa: ARG002
    ) -> int:
        """Store `chunks` under `key`; see the protocol."""
        require_portable(key)
        incoming = Incoming(chunks)
        with self._files.explained(f"{key} was not written", incoming):
            if exclusive and self._files.look(key) is not None:
                raise KeyExists(key)
            self._files.write(key, incoming, self._place_new if exclusive else None)
        return incoming.bytes

    def _place_new(self, temporary: str, key: str) -> None:
        if self._files.link(temporary, key):
            return
        with self._leases.hold_to_put(key):
            if self._files.look(key) is not None:
                raise KeyExists(key)
            self._files.replace(temporary, key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call. A download whose connection breaks
        goes on where it was, while the file is the same.
        """
        require_portable(key)
        with self._files.explained(f"{key} was not read"):
            return self._files.read(key, offset, length)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below `prefix`, folder by folder, sorted by name in each."""
        pending = [prefix]
        while pending:
            folder = pending.pop()
            below = []
            for found in self._scan(folder):
                key = f"{folder}/{found.name}" if folder else found.name
                if found.folder:
                    below.append(key)
                elif found.file:
                    yield entry(key, found)
            pending.extend(reversed(below))

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>`, by a look into each folder, many at a time."""
        parent = f"{prefix}/" if prefix else ""
        keys = [f"{parent}{folder}/{name}" for folder in self.folders(prefix)]
        with self._files.explained(f"{prefix or 'it'} was not listed"):
            for key, found in self._files.look_at_all(keys):
                if found.file:
                    yield entry(key, found)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, sorted."""
        return [one.name for one in self._scan(prefix) if one.folder]

    def _scan(self, folder: str) -> list[Found]:
        with self._files.explained(f"{folder or 'it'} was not listed"):
            return [one for one in self._files.scan(folder) if not own(one.name)]

    def delete(self, key: str) -> None:
        """Remove one object, and the folders that this leaves empty. Raises StepFailed when a lock
        that is held here may be another's by now.
        """
        require_portable(key)
        self._leases.require()
        with self._files.explained(f"{key} was not removed"):
            self._files.remove(key)

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        """Remove temporary files below `prefix` older than so many seconds; return their keys. A
        folder `prefix` that is empty goes as well.
        """
        removed = []
        with self._files.explained("unfinished files were not removed"):
            now = self.now().timestamp()
            pending = [prefix]
            while pending:
                folder = pending.pop()
                for found in self._files.scan(folder):
                    key = f"{folder}/{found.name}" if folder else found.name
                    if found.folder:
                        pending.append(key)
                        continue
                    # The clock is read to the second.
                    old = now - found.modified + 1 >= older_than
                    if old and own(found.name) and found.name.endswith(".partial"):
                        self._files.remove(key)
                        removed.append(key)
            self._files.remove_empty(prefix)
        return removed

    def now(self) -> datetime:
        """The file system's clock there, read off a file that is touched, to the second.

        Where nothing can be written no age matters, and it is the host's clock.
        """
        with self._files.explained("its clock was not read"):
            from asyncssh import SFTPPermissionDenied

            try:
                return self._files.touch()
            except SFTPPermissionDenied:
                return datetime.now(UTC)

    def free(self) -> int | None:
        """Bytes that this user can still write; None where the server does not tell it."""
        with self._files.explained("its free space was not read"):
            return self._files.free()

    def lock(self, key: str, owner: str) -> AbstractContextManager[None]:
        """Hold the lock `key` by a lease: see runner/target/lease.py."""
        require_portable(key)
        return self._leases.hold(key, owner)

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""
        retry = min(self._retry, CHECK_SECONDS)
        quick = Files(self._address, Session(self._address, timeout=self._timeout, retry=retry))
        with quick.explained("nothing can be kept there"):
            quick.touch()
            quick.scan("")

    def location(self, key: str) -> str:
        """The URL of that key: sftp://user@host/folder/key; `~` is the user's home."""
        return self._address.url(self._files.path(key))

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        return download_commands(self._address, self._files.path(prefix), folder)


class Shelf:
    """The files that are claims of locks."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @property
    def name(self) -> str:
        """The target's name."""
        return self._files.address.name

    def write_claim(self, key: str, data: bytes) -> None:
        """Write a claim; an empty one where there is no room for more. Others must see its name
        alone, and a full server must stay one that can be pruned.
        """
        with self._files.explained(f"{key} was not written"):
            try:
                self._files.write(key, [data])
            except no_room():
                self._files.write(key, [])

    def read_claim(self, key: str) -> bytes:
        """Read a claim."""
        with self._files.explained(f"{key} was not read"):
            return b"".join(self._files.read(key, 0, None))

    def claims(self, folder: str) -> list[Entry]:
        """All claims of a lock."""
        with self._files.explained(f"{folder} was not listed"):
            found = self._files.scan(folder)
        return [entry(f"{folder}/{one.name}", one) for one in found if one.name.endswith(".lock")]

    def remove_claim(self, key: str) -> None:
        """Take a claim away, and the folders that this leaves empty."""
        with self._files.explained(f"{key} was not removed"):
            self._files.remove(key)

    def now(self) -> datetime:
        """The server's clock."""
        with self._files.explained("its clock was not read"):
            return self._files.touch()
