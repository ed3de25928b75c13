"""Where things end in an RDB: each function takes the data and where one begins.

Raises IndexError where the data ends before it could be told; what is returned may lie beyond
the end too. Raises Unknown for what no known version writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Skip = Callable[[bytes, int], int]


class Unknown(Exception):
    """A form that is not known here: damaged, or newer."""


def length_at(data: bytes, at: int) -> tuple[int, int]:
    """A length, and where it ends."""
    byte = data[at]
    if byte < 64:
        return byte, at + 1
    if byte < 128:
        return (byte & 63) << 8 | data[at + 1], at + 2
    if byte in (0x80, 0x81):
        end = at + (5 if byte == 0x80 else 9)
        return int.from_bytes(data[at + 1 : end], "big"), end
    raise Unknown(f"a length that begins with {byte:#x}")


def skip_string(data: bytes, at: int) -> int:
    """Behind a string, which may be a number or compressed."""
    byte = data[at]
    if byte < 64:
        return at + 1 + byte
    if byte < 0xC0:
        length, at = length_at(data, at)
        return at + length
    if byte <= 0xC2:
        return at + 1 + (1 << (byte & 3))
    if byte == 0xC3:
        length, at = length_at(data, at + 1)
        _, at = length_at(data, at)
        return at + length
    raise Unknown(f"a string that begins with {byte:#x}")


def string_at(data: bytes, at: int) -> tuple[bytes, int]:
    """A string decoded, and where it ends."""
    end = skip_string(data, at)
    if end > len(data):
        raise IndexError
    byte = data[at]
    if byte < 0xC0:
        _, start = length_at(data, at)
        return data[start:end], end
    if byte <= 0xC2:
        return b"%d" % int.from_bytes(data[at + 1 : end], "little", signed=True), end
    _, at = length_at(data, at + 1)
    size, at = length_at(data, at)
    return _decompressed(data[at:end], size), end


def skip_module(data: bytes, at: int) -> int:
    """Behind what a module wrote: its number, and marked parts up to an end mark."""
    _, at = length_at(data, at)
    while True:
        mark, at = length_at(data, at)
        if mark == 0:
            return at
        if mark in (1, 2):
            _, at = length_at(data, at)
        elif mark in (3, 4):
            at += 4 * (mark - 2)
        elif mark == 5:
            at = skip_string(data, at)
        else:
            raise Unknown(f"a part of a module marked {mark}")


def _decompressed(data: bytes, size: int) -> bytes:
    """LZF. Keys of more than twenty bytes may be stored like that."""
    found = bytearray()
    at = 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < 32:
            found += data[at : at + control + 1]
            at += control + 1
            continue
        length = (control >> 5) + 2
        if length == 9:
            length += data[at]
            at += 1
        back = ((control & 31) << 8 | data[at]) + 1
        at += 1
        repeated = bytes(found[-back:][:length])
        found += (repeated * (length // back + 1))[:length]
    if len(found) != size:
        raise Unknown("a compressed string of another length than it says")
    return bytes(found)


def _counted(*parts: Skip) -> Skip:
    """As many times these parts as a length in front of them says."""

    def skip(data: bytes, at: int) -> int:
        count, at = length_at(data, at)
        for _ in range(count):
            for part in parts:
                at = part(data, at)
        return at

    return skip


def _after(*parts: Skip) -> Skip:
    def skip(data: bytes, at: int) -> int:
        for part in parts:
            at = part(data, at)
        return at

    return skip


def _fixed(size: int) -> Skip:
    def skip(data: bytes, at: int) -> int:
        data[at]  # where there is none, whatever counts these must not go on for ever
        return at + size

    return skip


def _length(data: bytes, at: int) -> int:
    return length_at(data, at)[1]


def _lengths(count: int) -> Sequence[Skip]:
    return [_length] * count


def _old_double(data: bytes, at: int) -> int:
    size = data[at]
    return at + 1 + (0 if size >= 253 else size)


def _no_module(data: bytes, at: int) -> int:  # noqa: ARG001
    raise Unknown("a module's value in a form that only the module can read")


def _stream(*, more: int, active: bool) -> Skip:
    """A stream: its nodes, its numbers (`more` than in 6.2), and its groups with consumers."""
    times = _fixed(16 if active else 8)
    consumers = _counted(skip_string, times, _counted(_fixed(16)))
    pending = _counted(_fixed(24), _length)
    group = [skip_string, *_lengths(3 if more else 2), pending, consumers]
    return _after(_counted(skip_string, skip_string), *_lengths(3 + more), _counted(*group))


_STRINGS = _counted(skip_string)
_PAIRS = _counted(skip_string, skip_string)

# Kinds that are one string.
SHORT = frozenset((0, 9, 10, 11, 12, 13, 16, 17, 20, 23))

# By the byte that tells the kind of a value, as rdb.h numbers them.
KINDS: dict[int, Skip] = {
    **dict.fromkeys(SHORT, skip_string),
    **dict.fromkeys((1, 2, 14), _STRINGS),
    3: _counted(skip_string, _old_double),
    4: _PAIRS,
    5: _counted(skip_string, _fixed(8)),
    6: _no_module,
    7: skip_module,
    15: _stream(more=0, active=False),
    18: _counted(_length, skip_string),
    19: _stream(more=5, active=False),
    21: _stream(more=5, active=True),
    22: _counted(_length, skip_string, skip_string),
    24: _after(_fixed(8), _counted(_length, skip_string, skip_string)),
    25: _after(_fixed(8), skip_string),
}

# Valkey 9 numbers on its own from 22: fields with their absolute expiry.
VALKEY_KINDS = KINDS | {22: _counted(skip_string, skip_string, _fixed(8))}
