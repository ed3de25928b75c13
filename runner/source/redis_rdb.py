"""An RDB stream, split into its keys without decoding their values.

What stands there for a value is what DUMP answers but for its end, so every entry can be given
to RESTORE. The format: rdb.h of Redis 5 to 8 and of Valkey.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from runner.errors import StepFailed
from runner.source.redis_crc import crc64
from runner.source.redis_skip import (
    KINDS,
    SHORT,
    VALKEY_KINDS,
    Unknown,
    length_at,
    skip_module,
    skip_string,
    string_at,
)

OLDEST = 5  # the first version that ends with a checksum
VALKEY = 80  # from here on, Valkey numbers its versions on its own
HEADER = 9  # bytes
_TAIL = 9  # bytes: the mark of the end, and a checksum
FILL = 4 * 1024 * 1024  # bytes read ahead of what is split

_END, _DATABASE, _SECONDS, _MILLISECONDS = 255, 254, 253, 252
_SIZES, _AUXILIARY, _FREQUENCY, _IDLE = 251, 250, 249, 248
_MODULE, _FUNCTION, _SLOT = 247, 245, 244
_MARKS = 243  # kinds of values are below
_OF_A_KEY = (_SECONDS, _MILLISECONDS, _FREQUENCY, _IDLE)

_seconds = struct.Struct("<I").unpack_from
_milliseconds = struct.Struct("<q").unpack_from
Read = TypeVar("Read")

_BYTES = [bytes([kind]) for kind in range(256)]

_NAMES = {
    "string": (0,),
    "list": (1, 10, 14, 18),
    "set": (2, 11, 20),
    "zset": (3, 5, 12, 17),
    "hash": (4, 9, 13, 16, 22, 23, 24, 25),
    "stream": (15, 19, 21),
    "module": (6, 7),
}

# What TYPE calls a value, by the first byte of it.
TYPES = {kind: name for name, kinds in _NAMES.items() for kind in kinds}


class Entry(NamedTuple):
    """One key. Its value is not yet what RESTORE takes: see `payloads`."""

    database: int
    key: bytes
    expires: int | None  # ms since 1970
    value: bytes  # the byte that tells its kind (see TYPES), then its content
    idle: int | None = None  # seconds, where the server writes them down (LRU)
    frequency: int | None = None  # 0 to 255, where the server writes it down (LFU)


def payloads(values: Sequence[bytes], version: int) -> list[bytes]:
    """What RESTORE takes for the values of entries, with the version of their RDB.

    Best called for a thousand at once.
    """
    mark = version.to_bytes(2, "little")
    bodies = [value + mark for value in values]
    return [body + total for body, total in zip(bodies, crc64(bodies), strict=True)]


class Rdb:
    """An RDB stream that is being split; `entries` can be asked for once.

    Whatever else it holds is known as far as `entries` was read; functions come before all keys.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Read the header. Raises StepFailed if this is no RDB."""
        self.auxiliary: dict[str, str] = {}  # redis-ver, used-mem, ctime, …
        self.functions: list[bytes] = []  # the code of each library
        self.beside: list[bytes] = []  # what modules wrote beside the keys; RESTORE takes none
        self.count = 0  # of the entries that were read
        self._chunks = iter(chunks)
        self._data = b""
        self.sizes: dict[int, int] = {}  # the keys of each database, as the server said before
        self._at = HEADER
        self._ended = False
        self._database = 0
        self._fill(HEADER)
        self.version = _version(self._data[:HEADER])  # also that of the payloads
        self._kinds = VALKEY_KINDS if self.version >= VALKEY else KINDS

    def entries(self) -> Iterator[Entry]:
        """Every key, in the order of the stream, which is read to its end.

        Raises StepFailed where it is damaged or short, or holds what is not known here.
        """
        return self._through(self._whole)

    def tally(self) -> dict[int, dict[int, int]]:
        """The number of keys by database and kind of value, where these are not wanted: quicker
        than `entries`, and raises the same.
        """
        found: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))

        def count(at: int) -> Generator[None, None, int]:
            yield from ()
            return self._count(at, found)

        for _ in self._through(count):
            pass
        return found

    def announced(self) -> int | None:
        """How many keys the first database has, as the server says before it sends them; None if
        it does not. To be asked first.
        """
        try:
            while (kind := self._data[self._at]) >= _MARKS and kind not in (*_OF_A_KEY, _END):
                self._at = self._note(kind, self._at + 1)
        except IndexError:  # a long function: whoever reads on takes it down
            return None
        return self.sizes.get(self._database)

    def pass_over(self) -> None:
        """Read to the end, looking only whether it is one."""
        tail = self._data[-_TAIL:]
        for chunk in self._chunks:
            tail = chunk[-_TAIL:] if len(chunk) >= _TAIL else (tail + chunk)[-_TAIL:]
        if tail[:1] != bytes([_END]):
            raise StepFailed("The RDB does not end where its stream does.")

    def _through(self, some: Callable[[int], Generator[Read, None, int]]) -> Iterator[Read]:
        """Let `some` take what is wholly in the data, time after time; it returns where it
        stopped.
        """
        at = self._at
        while True:
            try:
                at = yield from some(at)
            except Unknown as error:
                raise StepFailed(
                    f"The RDB (version {self.version}) has {error} after {self.count} keys.",
                    remedy="If it is whole, a server of its own version can load the file.",
                ) from error
            if self._ended:
                self._finish(at)
                return
            self._data = self._data[at:]
            self._fill(2 * len(self._data))
            at = 0

    def _count(self, at: int, found: dict[int, dict[int, int]]) -> int:
        """As `_whole`, but for what is not needed to count."""
        data, size, kinds = self._data, len(self._data), self._kinds
        start, counted = at, found[self._database]
        try:
            while not self._ended:
                kind = data[at]
                if kind == _MILLISECONDS:
                    at += 9
                    kind = data[at]
                if kind >= _MARKS:
                    if kind not in _OF_A_KEY:
                        start = at = self._note(kind, at + 1)
                        counted = found[self._database]
                        continue
                    at, *_ = _of_a_key(data, start)
                    kind = data[at]
                length = data[at + 1]
                at = at + 2 + length if length < 64 else skip_string(data, at + 1)
                if kind in SHORT and data[at] < 64:
                    at += 1 + data[at]
                elif kind in kinds:
                    at = kinds[kind](data, at)
                else:
                    raise Unknown(f"a value of kind {kind}")
                if at > size:
                    break
                counted[kind] += 1
                start = at
        except IndexError:
            pass
        self.count = sum(sum(one.values()) for one in found.values())
        return start

    def _whole(self, at: int) -> Generator[Entry, None, int]:
        """The entries that are wholly in the data; returns where the first that is not begins."""
        data, size, kinds = self._data, len(self._data), self._kinds
        start = at
        try:
            while not self._ended:
                kind, expires, idle, frequency = data[at], None, None, None
                if kind == _MILLISECONDS:
                    (expires,) = _milliseconds(data, at + 1)
                    at += 9
                    kind = data[at]
                if kind >= _MARKS:
                    if kind not in _OF_A_KEY:
                        start = at = self._note(kind, at + 1)
                        continue
                    at, expires, idle, frequency = _of_a_key(data, start)
                    kind = data[at]
                length = data[at + 1]
                if length < 64:
                    begin = at + 2 + length
                    key = data[at + 2 : begin]
                else:
                    key, begin = string_at(data, at + 1)
                if kind in SHORT and data[begin] < 64:
                    at = begin + 1 + data[begin]
                elif kind in kinds:
                    at = kinds[kind](data, begin)
                else:
                    raise Unknown(f"a value of kind {kind}")
                if at > size:
                    break
                self.count += 1
                yield Entry(
                    self._database, key, expires, _BYTES[kind] + data[begin:at], idle, frequency
                )
                start = at
        except (IndexError, struct.error):
            pass
        return start

    def _note(self, kind: int, at: int) -> int:
        """Take down what is no key; returns where it ends. Raises IndexError if it is not whole."""
        reader = _NOTES.get(kind)
        if reader is None:
            raise Unknown(f"a mark {kind}")
        found, end = reader(self._data, at)
        if end > len(self._data):
            raise IndexError
        if kind == _AUXILIARY:
            name, value = (one.decode(errors="replace") for one in found)
            self.auxiliary[name] = value
        elif kind == _DATABASE:
            self._database = found
        elif kind == _SIZES:
            self.sizes[self._database] = found[0]
        elif kind == _FUNCTION:
            self.functions.append(found)
        elif kind == _MODULE:
            self.beside.append(found)
        elif kind == _END:
            self._ended = True
        return end

    def _finish(self, at: int) -> None:
        """Nothing but a checksum may follow; what feeds the stream has its own to check."""
        rest = self._data[at:] + b"".join(self._chunks)
        if len(rest) != 8:
            raise StepFailed(
                f"The RDB does not end where it says: {len(rest)} bytes follow, not 8.",
            )

    def _fill(self, wanted: int) -> None:
        """Have more than now, and as much as is wanted where there is so much."""
        parts, size = [self._data], len(self._data)
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= max(wanted, FILL) and size > len(self._data):
                break
        if size == len(self._data):
            raise StepFailed(f"The RDB is cut short, after {self.count} keys.")
        self._data = b"".join(parts)


def _version(header: bytes) -> int:
    magic = 6 if header.startswith(b"VALKEY") else 5
    if header[:magic] not in (b"REDIS", b"VALKEY") or not header[magic:].isdigit():
        raise StepFailed("This is no RDB: it does not begin like one.")
    version = int(header[magic:])
    if version < OLDEST:
        raise StepFailed(
            f"This RDB has version {version}, from a Redis before 2.6.",
            remedy="Load it into a newer server first.",
        )
    return version


def _of_a_key(data: bytes, at: int) -> tuple[int, int | None, int | None, int | None]:
    """What is told of a key in front of it: where it begins, expiry, idle time, frequency."""
    expires = idle = frequency = None
    while (kind := data[at]) in _OF_A_KEY:
        at += 1
        if kind == _MILLISECONDS:
            (expires,) = _milliseconds(data, at)
            at += 8
        elif kind == _SECONDS:
            expires = 1000 * _seconds(data, at)[0]
            at += 4
        elif kind == _FREQUENCY:
            frequency = data[at]
            at += 1
        else:
            idle, at = length_at(data, at)
    return at, expires, idle, frequency


def _pair(data: bytes, at: int) -> tuple[tuple[bytes, bytes], int]:
    name, at = string_at(data, at)
    value, at = string_at(data, at)
    return (name, value), at


def _lengths(count: int) -> Callable[[bytes, int], tuple[list[int], int]]:
    def read(data: bytes, at: int) -> tuple[list[int], int]:
        found = []
        for _ in range(count):
            length, at = length_at(data, at)
            found.append(length)
        return found, at

    return read


def _module(data: bytes, at: int) -> tuple[bytes, int]:
    end = skip_module(data, at)
    return data[at:end], end


_NOTES: dict[int, Callable[[bytes, int], tuple[Any, int]]] = {
    _AUXILIARY: _pair,
    _DATABASE: length_at,
    _SIZES: _lengths(2),
    _SLOT: _lengths(3),
    _FUNCTION: string_at,
    _MODULE: _module,
    _END: _lengths(0),
}
