"""Files and folders of an SFTP server below one root, with the library's errors in words."""

from __future__ import annotations

import contextlib
import errno
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from runner.errors import HoldfastError, StepFailed
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming
from runner.target.sftp_address import Address
from runner.target.sftp_errors import explained, lost, require_library
from runner.target.sftp_session import Session
from runner.target.sftp_transfer import RESUMED_AT_MOST, opened, receive, upload

if TYPE_CHECKING:
    import asyncssh
    from asyncssh.sftp import SFTPClientFile

Answer = TypeVar("Answer")

LOOKS_AT_ONCE = 500

# How often a folder is made anew that a prune takes away, empty, before something is in it.
ATTEMPTS = 20


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    name: str
    bytes: int
    modified: int  # seconds of the server's clock: the protocol knows no smaller ones
    folder: bool
    file: bool  # neither: a link, a socket, a device


class Files:
    """Paths are keys: relative to the root, with forward slashes; empty for the root itself."""

    def __init__(self, address: Address, session: Session) -> None:
        self.address = address
        self.session = session

    def path(self, key: str) -> str:
        """Where the server has it."""
        root = self.address.root
        return f"{root.rstrip('/')}/{key}" if key else root

    @contextlib.contextmanager
    def explained(self, what: str, incoming: Incoming | None = None) -> Iterator[None]:
        """Errors of the server in words; those of the incoming chunks as they are."""
        require_library(self.address.name)
        try:
            yield
        except (HoldfastError, KeyExists, FileNotFoundError):
            raise
        except Exception as error:
            if incoming is not None and incoming.error is not None:
                raise incoming.error from None
            told = explained(error, self.address, what)
            if told is None:
                raise
            raise told from error

    def look(self, key: str) -> Found | None:
        """What is there; None if nothing is."""
        import asyncssh

        with contextlib.suppress(asyncssh.SFTPNoSuchFile):
            found = self.session.run(lambda sftp: sftp.lstat(self.path(key)))
            return _found(key.rpartition("/")[2], found)
        return None

    def look_at_all(self, keys: list[str]) -> Iterator[tuple[str, Found]]:
        """Those of the keys that are there, asked for many at a time."""
        import asyncio

        import asyncssh

        async def look(sftp: asyncssh.SFTPClient, key: str) -> Found | None:
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                return _found(key, await sftp.lstat(self.path(key)))
            return None

        for at in range(0, len(keys), LOOKS_AT_ONCE):
            some = keys[at : at + LOOKS_AT_ONCE]

            async def look_at_some(
                sftp: asyncssh.SFTPClient, some: list[str] = some
            ) -> list[Found | None]:
                return await asyncio.gather(*(look(sftp, key) for key in some))

            for key, found in zip(some, self.session.run(look_at_some), strict=True):
                if found is not None:
                    yield key, found

    def scan(self, key: str) -> list[Found]:
        """What a folder holds, sorted; nothing where there is none."""
        import asyncssh

        async def read(sftp: asyncssh.SFTPClient) -> list[Found]:
            return [
                _found(str(one.filename), one.attrs)
                async for one in sftp.scandir(self.path(key))
                if one.filename not in (".", "..")
            ]

        try:
            return sorted(self.session.run(read), key=lambda one: one.name)
        except asyncssh.SFTPNoSuchFile:
            return []

    def write(
        self,
        key: str,
        chunks: Iterable[bytes],
        place: Callable[[str, str], None] | None = None,
    ) -> None:
        """Write a file beside its place, and call `place` with its temporary key and `key`, which
        replaces what is there unless another is given. If that or `chunks` raises, nothing stays.
        """
        folder, _, _ = key.rpartition("/")
        temporary = f"{folder}/.{secrets.token_hex(8)}.partial".lstrip("/")
        file = self._create(temporary)
        try:
            upload(self.session, file, self.path(temporary), chunks)
            (place or self.replace)(temporary, key)
        except BaseException:
            # Where even that fails, a sweep finds it.
            with contextlib.suppress(Exception):
                self.session.submit(file.close()).result(self.session.timeout)
            with contextlib.suppress(Exception):
                self.remove(temporary)
            raise

    def replace(self, temporary: str, key: str) -> None:
        """Rename a file over another."""
        import asyncssh

        old, new = self.path(temporary), self.path(key)
        try:
            self.session.run(lambda sftp: sftp.posix_rename(old, new), again=False)
        except asyncssh.SFTPOpUnsupported:
            # Without that extension nothing is replaced in one step.
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                self.session.run(lambda sftp: sftp.remove(new), again=False)
            self.session.run(lambda sftp: sftp.rename(old, new), again=False)

    def link(self, temporary: str, key: str) -> bool:
        """Give a file that name, if it is free. Raises KeyExists if it is not; False where the
        server knows no second names.
        """
        import asyncssh

        try:
            self.session.run(
                lambda sftp: sftp.link(self.path(temporary), self.path(key)), again=False
            )
        except asyncssh.SFTPError as error:
            if isinstance(error, lost()):
                raise
            if self.look(key) is not None:
                raise KeyExists(key) from None
            return False
        self.session.run(lambda sftp: sftp.remove(self.path(temporary)), again=False)
        return True

    def read(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        """The file's bytes from `start`. Raises FileNotFoundError at the call."""
        found = self.look(key)
        if found is None or not found.file:
            raise self._missing(key)
        return self._read(key, start, length)

    def _missing(self, key: str) -> FileNotFoundError:
        reason = f"target {self.address.name} has no such object"
        return FileNotFoundError(errno.ENOENT, reason, key)

    def remove(self, key: str) -> None:
        """Remove a file, if it is there, and the folders that this leaves empty."""
        import asyncssh

        try:
            self.session.run(lambda sftp: sftp.remove(self.path(key)))
        except asyncssh.SFTPNoSuchFile:
            return
        self.remove_empty(key.rpartition("/")[0])

    def remove_empty(self, folder: str) -> None:
        """Remove a folder and those above it, as long as they are empty, but not the root."""
        import asyncssh

        with contextlib.suppress(asyncssh.SFTPError):
            while folder:
                path = self.path(folder)
                self.session.run(lambda sftp, path=path: sftp.rmdir(path))  # type: ignore[misc]
                folder = folder.rpartition("/")[0]

    def touch(self) -> datetime:
        """Write to a file in the root for a moment; the time at which that happened there."""
        key = f".{secrets.token_hex(8)}.partial"
        file = self._create(key)
        try:
            found = self.session.run(lambda _: file.stat(), again=False)
        finally:
            self.session.run(lambda _: file.close(), again=False)
            self.remove(key)
        return datetime.fromtimestamp(found.mtime or 0, UTC)

    def free(self) -> int | None:
        """Bytes that this user can still write; None where the server does not tell it."""
        import asyncssh

        try:
            found = self.session.run(lambda sftp: sftp.statvfs(self.path("")))
        except asyncssh.SFTPError:
            return None
        return found.bavail * found.frsize

    def _create(self, key: str) -> SFTPClientFile:
        """A new file, open for writing, in a folder that is made if need be."""
        import asyncssh

        private = asyncssh.SFTPAttrs(permissions=0o600)
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
        for attempt in range(ATTEMPTS):
            self._make_folders(key.rpartition("/")[0])
            try:
                return self.session.run(
                    lambda sftp: sftp.open(self.path(key), flags, private, encoding=None)
                )
            except asyncssh.SFTPNoSuchFile:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _make_folders(self, folder: str) -> None:
        import asyncssh

        private = asyncssh.SFTPAttrs(permissions=0o700)
        if self.look(folder) is not None:
            return
        # Made silently, the parent would hide that a disk is not mounted there.
        parts = folder.split("/") if folder else []
        for depth in range(len(parts) + 1):
            path = self.path("/".join(parts[:depth]))
            try:
                self.session.run(lambda sftp, path=path: sftp.mkdir(path, private))  # type: ignore[misc]
            except asyncssh.SFTPNoSuchFile:
                if depth == 0:
                    raise StepFailed(
                        f"Target {self.address.name} at {self.address.server}: the folder above "
                        f"{path} is missing.",
                        remedy="Mount the disk there, or create that folder.",
                    ) from None
                return  # taken away by a prune since: the caller looks again
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                continue  # it is there; or what follows says what is the matter
            except asyncssh.SFTPPermissionDenied:
                if self.look("/".join(parts[:depth])) is None:
                    raise

    def _read(self, key: str, at: int, length: int | None) -> Iterator[bytes]:
        """When the connection breaks, the download goes on where it was, as long as the file is
        the same.
        """
        first: Found | None = None
        end = at
        with self.explained(f"{key} was not read to its end"):
            import asyncssh

            for attempt in range(RESUMED_AT_MOST + 1):
                try:
                    with opened(self.session, self.path(key)) as (file, attrs):
                        found = _found("", attrs)
                        if first is None:
                            first = found
                            end = found.bytes if length is None else min(found.bytes, at + length)
                        if found == first:
                            for block in receive(self.session, file, at, end):
                                at += len(block)
                                yield block
                    break
                except asyncssh.SFTPNoSuchFile:
                    raise self._missing(key) from None
                except lost():
                    if attempt == RESUMED_AT_MOST:
                        raise
            if at < end:
                name = self.address.name
                raise StepFailed(f"Target {name}: {key} was changed while it was read.")


def entry(key: str, found: Found) -> Entry:
    """The same, as a target says it."""
    modified = datetime.fromtimestamp(found.modified, UTC)
    return Entry(key, found.bytes, modified, f"{found.modified}-{found.bytes}")


def _found(name: str, attrs: asyncssh.SFTPAttrs) -> Found:
    mode = attrs.permissions or 0
    return Found(name, attrs.size or 0, attrs.mtime or 0, stat.S_ISDIR(mode), stat.S_ISREG(mode))
