"""The hash of a sparse file's content, from the way GNU tar stores it (pax sparse format 1.0).

The stored data starts with a map in decimal lines: how many parts there are, then where each
starts and how long it is; zeros fill the map's last block. Then come the parts, one after another.
"""

from __future__ import annotations

import hashlib

from runner.source.tar_stream import BLOCK, TarRefused

_ZEROS = bytes(1 << 20)
_MOST_MAP_BYTES = 64 << 20


class SparseHash:
    """sha256 of the expanded content, holes as zeros. Feed it the stored data, in pieces."""

    def __init__(self, size: int) -> None:
        self._size = size  # of the expanded content
        self._hash = hashlib.sha256()
        self._map: bytearray | None = bytearray()  # as far as it has come; None once it is read
        self._parts: list[tuple[int, int]] = []  # start and length of what is to come, last first
        self._position = 0  # in the expanded content

    def update(self, data: memoryview) -> None:
        """Take the next piece of the stored data. Raises TarRefused."""
        if self._map is not None:
            self._map += data
            read = _read_map(self._map)
            if read is None:
                return
            length, self._parts = read
            data, self._map = memoryview(bytes(self._map[length:])), None
        while data:
            if not self._parts:
                raise TarRefused("The archive has a sparse file with more data than parts.")
            start, length = self._parts.pop()
            self._fill(start)
            piece = data[:length]
            self._hash.update(piece)
            self._position += len(piece)
            data = data[len(piece) :]
            if len(piece) < length:
                self._parts.append((self._position, length - len(piece)))

    def hexdigest(self) -> str:
        """The hash of the whole content. Raises TarRefused when parts of it never came."""
        if self._map is not None or any(length for _, length in self._parts):
            raise TarRefused("The archive has a sparse file that is not whole.")
        self._fill(self._size)
        return self._hash.hexdigest()

    def _fill(self, end: int) -> None:
        if not self._position <= end <= self._size:
            raise TarRefused("The archive has a sparse file whose parts are out of order.")
        while self._position < end:
            step = min(end - self._position, len(_ZEROS))
            self._hash.update(_ZEROS[:step] if step < len(_ZEROS) else _ZEROS)
            self._position += step


def _read_map(data: bytearray) -> tuple[int, list[tuple[int, int]]] | None:
    """How long the map at the start of `data` is, and the parts, last first; None: not whole."""
    if len(data) > _MOST_MAP_BYTES:
        raise TarRefused("The archive has a sparse file with an impossible map.")
    head, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    if not head.isdigit() or len(head) > 12:
        raise TarRefused("The archive has a sparse file with a damaged map.")
    count = 2 * int(head)
    lines = data.split(b"\n", count + 1)
    if len(lines) < count + 2:
        return None
    numbers = lines[1:-1]
    length = len(data) - len(lines[-1])
    length += -length % BLOCK
    if len(data) < length:
        return None
    if not all(number.isdigit() and len(number) < 20 for number in numbers):
        raise TarRefused("The archive has a sparse file with a damaged map.")
    values = [int(number) for number in numbers]
    return length, list(zip(values[::2], values[1::2], strict=True))[::-1]
