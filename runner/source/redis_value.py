"""What a value is, whatever its encoding: bytes to hash, the same wherever it is equal.

Elements are told with their lengths, so that no two values look alike, and in windows, so that a
large one need not be held whole. What has no order is sorted or, beyond `MANY`, summed.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from runner.errors import StepFailed
from runner.source.redis_connect import RawConnection, Rejected, argument
from runner.source.redis_file import TAIL
from runner.source.redis_turns import Talk

WINDOW = 1000  # elements
MANY = 20_000  # elements of a set or a hash; more are summed, not sorted
PIECE = 4 * 1024 * 1024  # bytes of a string
ATTEMPTS = 5
MODULUS = 1 << 128

Element = tuple[bytes, ...]  # a member; a field and its value, and its expiry if it has one

# What reads a small value whole.
_READERS: dict[bytes, tuple[bytes, ...]] = {
    b"string": (b"GET",),
    b"list": (b"LRANGE", b"0", b"-1"),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"hash": (b"HGETALL",),
    b"stream": (b"XRANGE", b"-", b"+"),
}
# Values of modules that two servers write down alike if they loaded the same bytes. What others
# write down may hold addresses in memory: such a value is only there.
_DUMPED = (b"vectorset", b"ReJSON-RL")
_READERS |= dict.fromkeys(_DUMPED, (b"DUMP",))
_THERE = (b"EXISTS",)

_GROUPS = b"*3\r\n$5\r\nXINFO\r\n$6\r\nGROUPS\r\n"
_STREAM = b"*6\r\n$5\r\nXINFO\r\n$6\r\nSTREAM\r\n"
_COUNT = b"$4\r\nFULL\r\n$5\r\nCOUNT\r\n"


def questions(kind: bytes, names: Sequence[bytes]) -> bytes:
    """Packed commands that read small values; `names` are arguments, packed already."""
    command, *rest = _READERS.get(kind, _THERE)
    start = b"*%d\r\n%b" % (len(rest) + 2, argument(command))
    end = b"".join(map(argument, rest))
    return start + (end + start).join(names) + end


def digest(*parts: bytes) -> int:
    """A hash of 128 bits, as a number to add up."""
    return int.from_bytes(hashlib.blake2b(b"".join(parts), digest_size=16).digest(), "big")


def listed(elements: Sequence[bytes]) -> bytes:
    """Elements in this order, with their lengths."""
    return array("Q", map(len, elements)).tobytes() + b"".join(elements)


def values(kind: bytes, replies: Sequence[Any], more: Sequence[Any]) -> Iterable[bytes | None]:
    """Small values of one type from what their questions answered; None for what is gone.

    `more` is what `stream_states` or `Fields.expiries` found, if anything.
    """
    if kind == b"string":
        return replies
    if kind in _DUMPED:
        return [reply and reply[:-TAIL] for reply in replies]
    if kind not in _READERS:
        return [b"" if reply else None for reply in replies]
    if kind == b"stream":  # which may be there and empty
        return [
            (_windows(reply, _entries) if reply else b"") + state
            for reply, state in zip(replies, more, strict=True)
        ]
    if kind == b"hash" and more:
        return [unordered(elements) if elements else None for elements in more]
    return [_value(kind, reply) if reply else None for reply in replies]


def _value(kind: bytes, reply: Sequence[bytes]) -> bytes:
    if kind == b"hash":
        return unordered(list(zip(reply[::2], reply[1::2], strict=True)))
    if kind == b"set":
        if len(reply) <= min(WINDOW, MANY):  # the same as `unordered` makes, sooner
            return b"\1" * len(reply) + listed(sorted(reply))
        return unordered([(member,) for member in reply])
    if kind == b"zset":
        return _windows(reply, _scored, 2 * WINDOW)
    return _windows(reply, listed)


def unordered(elements: Sequence[Element]) -> bytes:
    """A set or a hash."""
    if len(elements) > MANY:
        return _summed(len(elements), sum(map(_element, elements)))
    return _windows(sorted(elements), _plain)


@dataclass(frozen=True)
class Fields:
    """Reads the expiries of a hash's fields, where the server has them (Redis 7.4, Valkey 9)."""

    connection: RawConnection
    horizon: int  # ms since 1970; what ends before is left out

    def expiries(self, names: Sequence[bytes], replies: Sequence[Any]) -> Talk[list[list[Element]]]:
        """The elements of hashes (names as arguments), from what HGETALL answered."""
        there = [(name, pairs) for name, pairs in zip(names, replies, strict=True) if pairs]
        yield b"".join(_expiries(name, pairs[::2]) for name, pairs in there)
        times = iter(accepted(self.connection.read_replies(len(there))))
        return [self.elements(pairs, next(times)) if pairs else [] for pairs in replies]

    def known(self) -> bool:
        """Whether the server has them."""
        try:
            self.connection.call("HPEXPIRETIME", "", "FIELDS", 1, "")
        except Rejected as error:
            if not error.forbidden and error.code != "WRONGTYPE":
                raise
            return not error.forbidden
        return True

    def elements(self, pairs: Sequence[bytes], expiries: Sequence[int] | None) -> list[Element]:
        """The fields that are there beyond the horizon."""
        fields = zip(pairs[::2], pairs[1::2], expiries or (), strict=True)
        return [
            (field, value) if at < 0 else (field, value, b"%d" % at)
            for field, value, at in fields
            if at < 0 or at > self.horizon
        ]


def large(
    connection: RawConnection, kind: bytes, key: bytes, fields: Fields | None
) -> Iterator[bytes]:
    """The parts of a large value, read in windows: the same as those of a small one."""
    call = connection.call
    if kind == b"string":
        for at in range(0, call("STRLEN", key), PIECE):
            yield call("GETRANGE", key, at, at + PIECE - 1)
    elif kind == b"list":
        for at in range(0, call("LLEN", key), WINDOW):
            yield listed(call("LRANGE", key, at, at + WINDOW - 1))
    elif kind == b"zset":
        for at in range(0, call("ZCARD", key), WINDOW):
            yield _scored(call("ZRANGE", key, at, at + WINDOW - 1, "WITHSCORES"))
    elif kind == b"stream":
        yield from _streamed(connection, key)
    elif kind in (b"set", b"hash"):
        yield from _scanned(connection, kind, key, fields)
    else:
        command = _READERS.get(kind, _THERE)[0]
        yield from filter(None, values(kind, [call(command, key)], ()))


def stream_states(connection: RawConnection, names: Sequence[bytes]) -> Talk[list[bytes]]:
    """What streams (names as arguments) have besides their entries: the last id, and groups with
    what is pending.

    Left out is what an older server does not have, and when a consumer was last seen.
    """
    yield _GROUPS + _GROUPS.join(names)
    pending = [
        max((_named(group)[b"pending"] for group in reply), default=0)
        for reply in accepted(connection.read_replies(len(names)))
    ]
    yield b"".join(
        b"%b%b%b%b" % (_STREAM, name, _COUNT, argument(b"%d" % max(1, count)))
        for name, count in zip(names, pending, strict=True)
    )
    return [_state(_named(reply)) for reply in accepted(connection.read_replies(len(names)))]


def _state(found: dict[bytes, Any]) -> bytes:
    parts = [found[b"last-generated-id"]]
    for group in sorted(map(_named, found[b"groups"]), key=lambda one: one[b"name"]):
        consumers = sorted(_named(one)[b"name"] for one in group[b"consumers"])
        waiting = [b"%b %b %d %d" % tuple(one) for one in group[b"pending"]]
        parts += [group[b"name"], group[b"last-delivered-id"], listed(consumers), listed(waiting)]
    return listed(parts)


def accepted(replies: list[Any]) -> list[Any]:
    """The replies. Raises Rejected if one of them is an error."""
    for reply in replies:
        if isinstance(reply, Rejected):
            raise reply
    return replies


def _expiries(name: bytes, fields: Sequence[bytes]) -> bytes:
    """Asks when fields of the key expire."""
    start = b"*%d\r\n$12\r\nHPEXPIRETIME\r\n" % (len(fields) + 4)
    many = argument(b"%d" % len(fields))
    return b"".join([start, name, b"$6\r\nFIELDS\r\n", many, *map(argument, fields)])


def _streamed(connection: RawConnection, key: bytes) -> Iterator[bytes]:
    start = b"-"
    while entries := connection.call("XRANGE", key, start, "+", "COUNT", WINDOW):
        yield _entries(entries)
        start = b"(" + entries[-1][0]


def _scanned(
    connection: RawConnection, kind: bytes, key: bytes, fields: Fields | None
) -> Iterator[bytes]:
    """A set or a hash by its cursor, which may give an element twice while a table grows."""
    scan, count = ("SSCAN", "SCARD") if kind == b"set" else ("HSCAN", "HLEN")
    for _ in range(ATTEMPTS):
        size, seen, total = connection.call(count, key), 0, 0
        held: list[Element] = []
        for elements in _scan(connection, scan, key, fields):
            seen += len(elements)
            if seen <= MANY:
                held += elements
            total += sum(map(_element, elements))
        if seen <= size:
            yield unordered(held) if seen <= MANY else _summed(seen, total)
            return
    raise StepFailed(f"The content of the key {key!r} changes while it is read.")


def _scan(
    connection: RawConnection, scan: str, key: bytes, fields: Fields | None
) -> Iterator[list[Element]]:
    cursor = b"0"
    while True:
        cursor, found = connection.call(scan, key, cursor, "COUNT", WINDOW)
        if scan == "SSCAN":
            yield [(member,) for member in found]
        elif fields is None or not found:
            yield list(zip(found[::2], found[1::2], strict=True))
        else:
            connection.send(_expiries(argument(key), found[::2]))
            yield fields.elements(found, accepted(connection.read_replies(1))[0])
        if cursor == b"0":
            return


def _windows(elements: Sequence[Any], encode: Callable[[Any], bytes], size: int = WINDOW) -> bytes:
    if len(elements) <= size:
        return encode(elements)
    windows = (encode(elements[at : at + size]) for at in range(0, len(elements), size))
    return b"".join(windows)


def _plain(elements: Sequence[Element]) -> bytes:
    return bytes(map(len, elements)) + listed(list(chain.from_iterable(elements)))


def _scored(reply: Sequence[bytes]) -> bytes:
    """Members with scores as numbers: servers write the same number in different ways."""
    return listed(reply[::2]) + array("d", map(float, reply[1::2])).tobytes()


def _entries(entries: Sequence[Any]) -> bytes:
    return listed([part for name, pairs in entries for part in (name, listed(pairs))])


def _element(element: Element) -> int:
    return digest(bytes([len(element)]), listed(element))


def _summed(count: int, total: int) -> bytes:
    return b"%d:%032x" % (count, total % MODULUS)


def _named(reply: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))
