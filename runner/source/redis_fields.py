"""Hashes whose fields have expiries (Redis 7.4, Valkey 9): when nothing of one is left.

Such a key has no expiry of its own and is gone with its last field, so a server that loads it
later rightly has none. The forms: rdb.c and listpack.c of Redis 8, rdb.c of Valkey 9.
"""

from __future__ import annotations

from collections.abc import Iterator

from runner.source.redis_skip import Unknown, length_at, skip_string, string_at

_VALKEY, _TABLE, _LISTPACK = 22, 24, 25
KINDS = frozenset((_VALKEY, _TABLE, _LISTPACK))  # by the first byte of a value
_NEVER = 0
_LISTPACK_HEAD = 6  # bytes
_LISTPACK_END = 0xFF
_BACK = (16383, 2097151, 268435455)  # sizes from which on another byte is taken
_INTEGERS = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}  # bytes behind the mark


def ends(value: bytes) -> int | None:
    """When the last field of a value (as in `redis_rdb.Entry`) ends, in ms since 1970; None for
    one that has a field without an expiry, and for whatever else.
    """
    if value[0] not in KINDS:
        return None
    last = _NEVER
    try:
        for at in _expiries(value):
            if at == _NEVER:
                return None
            last = max(last, at)
    except (IndexError, Unknown):  # of a release candidate of Redis 7.4, which numbered otherwise
        return None
    return last or None


def _expiries(value: bytes) -> Iterator[int]:
    if value[0] == _VALKEY:
        return _absolute(value)
    earliest = int.from_bytes(value[1:9], "little")
    return _relative(value, earliest) if value[0] == _TABLE else _third(string_at(value, 9)[0])


def _absolute(value: bytes) -> Iterator[int]:
    """Field, value, and the expiry in eight bytes; -1 for none."""
    count, at = length_at(value, 1)
    for _ in range(count):
        at = skip_string(value, skip_string(value, at))
        yield max(_NEVER, int.from_bytes(value[at : at + 8], "little", signed=True))
        at += 8


def _relative(value: bytes, earliest: int) -> Iterator[int]:
    """The expiry as one more than its distance from the earliest, 0 for none; field, value."""
    count, at = length_at(value, 9)
    for _ in range(count):
        distance, at = length_at(value, at)
        at = skip_string(value, skip_string(value, at))
        yield earliest + distance - 1 if distance else _NEVER


def _third(listpack: bytes) -> Iterator[int]:
    """Every third element of a listpack: field, value, expiry; 0 for none."""
    at, number = _LISTPACK_HEAD, 0
    while (mark := listpack[at]) != _LISTPACK_END:
        size = _element_bytes(listpack, at)
        number += 1
        if number % 3 == 0:
            yield _integer(listpack[at : at + size], mark)
        at += size + _back_bytes(size)


def _element_bytes(listpack: bytes, at: int) -> int:
    """The bytes of an element without the length that follows it."""
    mark = listpack[at]
    if mark < 0x80:
        return 1
    if mark < 0xC0:
        return 1 + (mark & 0x3F)
    if mark < 0xE0:
        return 2
    if mark < 0xF0:
        return 2 + ((mark & 0x0F) << 8 | listpack[at + 1])
    if mark == 0xF0:
        return 5 + int.from_bytes(listpack[at + 1 : at + 5], "little")
    if mark in _INTEGERS:
        return 1 + _INTEGERS[mark]
    raise Unknown(f"an element of a listpack that begins with {mark:#x}")


def _integer(element: bytes, mark: int) -> int:
    if mark < 0x80:
        return mark
    if mark not in _INTEGERS:  # no time of this millennium is as short
        raise Unknown("an expiry that is no number")
    return int.from_bytes(element[1:], "little", signed=True)


def _back_bytes(size: int) -> int:
    """How long the size is that follows each element, by the bounds of `lpEncodeBacklen`."""
    return 1 if size <= 127 else 2 + sum(size >= bound for bound in _BACK)
