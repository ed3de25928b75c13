"""Hash files, and say which have extended attributes.

Also a program that does so for whoever started it, and imports nothing but what it needs: it
starts in little time. It is asked and answers on its pipes, a batch at a time. With the argument
`behind` it waits for what is still being written, and leaves the processors to whoever writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

ANSWER_BYTES = 81  # a hash in hexadecimal, whether there are attributes, the inode in hexadecimal
UNREADABLE = b" " * ANSWER_BYTES
BEHIND = "behind"

_LENGTH = struct.Struct("!I")
_WITH, _WITHOUT = b"+", b"-"
_BUFFER_BYTES = 1 << 20
_NOTHING = hashlib.sha256().hexdigest()
_FLUSHED_BYTES = 32 << 20
_SYNC_FILE_RANGE_WRITE = 2  # Linux's number
_LOOK_MILLISECONDS = 5
_POLITENESS = 10
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Content(NamedTuple):
    """What was found in a file."""

    sha256: str
    attributed: bool  # whether it has extended attributes
    inode: int  # of what was read; 0 for an empty file, of which nothing was


class Reader:
    """Reads files, one after another. `wait` is asked where a file holds less than it should:
    whether to look again. `passed` is told of a descriptor and how much was read of a large file.
    """

    def __init__(
        self,
        wait: Callable[[], bool] = lambda: False,
        passed: Callable[[int, int], None] = lambda _descriptor, _bytes: None,
    ) -> None:
        self._wait = wait
        self._passed = passed
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def content(self, path: bytes, size: int) -> Content:
        """What is in a file of `size` bytes. Raises OSError."""
        if size == 0:
            # Nothing must be readable to know that nothing is there.
            return Content(_NOTHING, bool(os.listxattr(path, follow_symlinks=False)), 0)
        descriptor = self._opened(path)
        try:
            count = os.readv(descriptor, [self._buffer])
            digest = hashlib.sha256(self._view[:count])
            size -= count
            read, more = count, True
            while size > 0 and (count or more):
                # What was written before there was nothing more to wait for is still to be read.
                more = bool(count) or self._wait()
                count = os.readv(descriptor, [self._buffer])
                digest.update(self._view[:count])
                size -= count
                read += count
                if read // _FLUSHED_BYTES > (read - count) // _FLUSHED_BYTES:
                    self._passed(descriptor, read)
            inode = os.fstat(descriptor).st_ino
            return Content(digest.hexdigest(), bool(os.listxattr(descriptor)), inode)
        finally:
            os.close(descriptor)

    def _opened(self, path: bytes) -> int:
        more = True
        while more:
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, _READING)
            more = self._wait()
        return os.open(path, _READING)


def question(files: Iterable[tuple[bytes, int]]) -> bytes:
    """A batch of files as the program is asked for them."""
    asked = b"".join(b"%d %s\0" % (size, path) for path, size in files)
    return _LENGTH.pack(len(asked)) + asked


def answered(answer: bytes) -> Content | None:
    """One answer of the program; None: it could not read the file."""
    if answer == UNREADABLE:
        return None
    return Content(answer[:64].decode("ascii"), answer[64:65] == _WITH, int(answer[65:], 16))


def _answer(reader: Reader, asked: bytes) -> Iterator[bytes]:
    for one in asked.split(b"\0")[:-1]:
        size, _, path = one.partition(b" ")
        try:
            digest, attributed, inode = reader.content(path, int(size))
        except OSError:
            # Whoever proves the file reads it again, and tells a person why that fails.
            yield UNREADABLE
        else:
            yield b"%s%s%016x" % (digest.encode("ascii"), _WITH if attributed else _WITHOUT, inode)


def _still_asked() -> bool:
    """Wait a moment; False when whoever asks has closed the pipe: nothing more is written."""
    watch = select.poll()
    watch.register(sys.stdin, 0)
    return not watch.poll(_LOOK_MILLISECONDS)


def _begin_to_flush(descriptor: int, read: int) -> None:
    """Let the disk begin with what was read, so that there is less to wait for at the end."""
    import ctypes

    # Whether it began is of no account: the whole tree is synced before it counts as proven.
    start_and_count = (ctypes.c_int64(0), ctypes.c_int64(read))
    ctypes.CDLL(None).sync_file_range(descriptor, *start_and_count, _SYNC_FILE_RANGE_WRITE)


def _serve(*, behind: bool) -> None:
    if behind:
        os.nice(_POLITENESS)
    reader = Reader(_still_asked, _begin_to_flush) if behind else Reader()
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        sys.stdout.buffer.write(b"".join(_answer(reader, sys.stdin.buffer.read(length))))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(behind=sys.argv[1:] == [BEHIND])
