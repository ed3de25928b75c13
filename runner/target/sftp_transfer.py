"""Bytes to and from a file of an SFTP server, with several blocks on their way."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runner.errors import StepFailed
from runner.target.feed import joined
from runner.target.sftp_errors import lost
from runner.target.sftp_session import Session

if TYPE_CHECKING:
    import concurrent.futures

    import asyncssh
    from asyncssh.sftp import SFTPClientFile

BLOCK = 1024 * 1024
WRITES_AT_ONCE = 4
RESUMED_AT_MOST = 20  # how often one transfer goes on after its connection broke


def upload(session: Session, file: SFTPClientFile, path: str, chunks: Iterable[bytes]) -> None:
    """Write all chunks to `file`, which is open at `path`, have them on the disk, and close it.

    When the connection breaks, it goes on with what the server has not confirmed yet.
    """
    going = _Upload(session, file, path)
    try:
        for block in joined(chunks):
            going.write(block)
        going.finish()
    finally:
        going.cancel()


class _Upload:
    """A file that is being written, and the blocks of it that are on their way."""

    def __init__(self, session: Session, file: SFTPClientFile, path: str) -> None:
        self._session = session
        self._file = file
        self._path = path
        self._at = 0
        self._broken = 0  # how often the connection was
        self._flying: deque[tuple[concurrent.futures.Future[int], bytes, int]] = deque()

    def write(self, block: bytes) -> None:
        while len(self._flying) >= WRITES_AT_ONCE:
            self._confirm()
        self._begin(block, self._at)
        self._at += len(block)

    def finish(self) -> None:
        while True:
            while self._flying:
                self._confirm()
            try:
                self._session.run(lambda _: finish(self._file), again=False)
            except lost() as error:
                self._go_on(error)
            else:
                return

    def cancel(self) -> None:
        for future, _, _ in self._flying:
            future.cancel()

    def _begin(self, block: bytes, at: int) -> None:
        self._flying.append((self._session.submit(self._file.write(block, at)), block, at))

    def _confirm(self) -> None:
        try:
            self._flying[0][0].result()
        except lost() as error:
            self._go_on(error)
        else:
            self._flying.popleft()

    def _go_on(self, error: BaseException) -> None:
        from asyncssh import FXF_WRITE

        self._broken += 1
        if self._broken > RESUMED_AT_MOST:
            raise error
        self._file = self._session.run(lambda sftp: sftp.open(self._path, FXF_WRITE, encoding=None))
        confirmed = self._flying[0][2] if self._flying else self._at
        there = self._session.run(lambda _: self._file.stat(), again=False).size or 0
        if there < confirmed:
            raise StepFailed(
                f"The server has lost what it had confirmed of {self._path}: {there} bytes of "
                f"{confirmed} are left.",
                remedy="It was started anew, perhaps; look at its disk.",
            )
        self.cancel()
        waiting = [(block, at) for _, block, at in self._flying]
        self._flying.clear()
        for block, at in waiting:
            self._begin(block, at)


@contextlib.contextmanager
def opened(session: Session, path: str) -> Iterator[tuple[SFTPClientFile, asyncssh.SFTPAttrs]]:
    """A file that is open for reading, and what that very file is like."""
    from asyncssh import FXF_READ

    file = session.run(lambda sftp: sftp.open(path, FXF_READ, encoding=None))
    try:
        yield file, session.run(lambda _: file.stat(), again=False)
    finally:
        with contextlib.suppress(Exception):
            session.submit(file.close())


def receive(session: Session, file: SFTPClientFile, at: int, end: int) -> Iterator[bytes]:
    """A file's bytes from `at` to `end`, a block ahead of the reader; fewer if it is shorter."""
    if at >= end:
        return
    coming: concurrent.futures.Future[bytes] = session.submit(_block(file, at, end))
    try:
        while at < end:
            block = coming.result()
            if not block:
                return
            at += len(block)
            if at < end:
                coming = session.submit(_block(file, at, end))
            yield block
    finally:
        coming.cancel()


async def _block(file: SFTPClientFile, at: int, end: int) -> bytes:
    data: str | bytes = await file.read(min(BLOCK, end - at), at)
    assert isinstance(data, bytes)  # it was opened so
    return data


async def finish(file: SFTPClientFile) -> None:
    """Have it on the disk, where the server has a word for that, and closed."""
    import asyncssh

    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
        await file.fsync()
    await file.close()
