"""Hash files, and say which have extended attributes.

Also a program that does so for whoever started it, and imports nothing but what it needs: it
starts in little time. It is asked and answers on its pipes, a batch at a time.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Iterable, Iterator

ANSWER_BYTES = 65  # a hash in hexadecimal, and whether there are attributes
UNREADABLE = b" " * ANSWER_BYTES

_LENGTH = struct.Struct("!I")
_WITH, _WITHOUT = b"+", b"-"
_BUFFER_BYTES = 1 << 20
_NOTHING = hashlib.sha256().hexdigest()

Content = tuple[str, bool]  # the sha256, and whether there are extended attributes


class Reader:
    """Reads files to which nobody writes, one after another."""

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def content(self, path: bytes, size: int) -> Content:
        """What is in a file that had `size` bytes just now. Raises OSError."""
        if size == 0:
            # Nothing must be readable to know that nothing is there.
            return _NOTHING, bool(os.listxattr(path, follow_symlinks=False))
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            count = os.readv(descriptor, [self._buffer])
            digest = hashlib.sha256(self._view[:count])
            size -= count
            while size > 0 and (count := os.readv(descriptor, [self._buffer])):
                digest.update(self._view[:count])
                size -= count
            return digest.hexdigest(), bool(os.listxattr(descriptor))
        finally:
            os.close(descriptor)


def question(files: Iterable[tuple[bytes, int]]) -> bytes:
    """A batch of files as the program is asked for them."""
    asked = b"".join(b"%d %s\0" % (size, path) for path, size in files)
    return _LENGTH.pack(len(asked)) + asked


def answered(answer: bytes) -> Content | None:
    """One answer of the program; None: it could not read the file."""
    if answer == UNREADABLE:
        return None
    return answer[:-1].decode("ascii"), answer.endswith(_WITH)


def _answer(reader: Reader, asked: bytes) -> Iterator[bytes]:
    for one in asked.split(b"\0")[:-1]:
        size, _, path = one.partition(b" ")
        try:
            digest, attributes = reader.content(path, int(size))
        except OSError:
            # Whoever asks reads it again, and tells a person why that fails.
            yield UNREADABLE
        else:
            yield digest.encode("ascii") + (_WITH if attributes else _WITHOUT)


def _serve() -> None:
    reader = Reader()
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        sys.stdout.buffer.write(b"".join(_answer(reader, sys.stdin.buffer.read(length))))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
