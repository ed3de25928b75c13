"""Bytes to and from a file of an SFTP server, with several blocks on their way."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runner.target.feed import joined
from runner.target.sftp_session import Session

if TYPE_CHECKING:
    import concurrent.futures

    import asyncssh
    from asyncssh.sftp import SFTPClientFile

BLOCK = 1024 * 1024
WRITES_AT_ONCE = 4


def send(session: Session, file: SFTPClientFile, chunks: Iterable[bytes]) -> None:
    """Write all chunks, several blocks at a time."""
    flying: deque[concurrent.futures.Future[int]] = deque()
    at = 0
    try:
        for block in joined(chunks):
            while len(flying) >= WRITES_AT_ONCE:
                flying.popleft().result()
            flying.append(session.submit(file.write(block, at)))
            at += len(block)
        while flying:
            flying.popleft().result()
    finally:
        for one in flying:
            one.cancel()


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
