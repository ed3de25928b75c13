"""Reads the keys of a server, and adds up what they and their values hash to."""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from runner.errors import StepFailed
from runner.source.redis_connect import RawConnection, argument, pack
from runner.source.redis_expiry import NEVER, Expiries
from runner.source.redis_turns import LATER, Talk, alone, in_turn
from runner.source.redis_value import (
    ATTEMPTS,
    Fields,
    accepted,
    large,
    questions,
    stream_states,
    values,
)

KEYS = 500  # asked for at once
LARGE = 1024 * 1024  # bytes; a value beyond is read in windows
AT_ONCE = 8 * 1024 * 1024  # bytes of values that are asked for together

_TYPE = b"*2\r\n$4\r\nTYPE\r\n"
_MEMORY = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n"
_FIRST = b"0"  # the cursor of a scan's begin, and of its end

Key = tuple[bytes, bytes, int]  # its name, that as an argument, when it expires (ms since 1970)


@dataclass
class Counted:
    """The keys of one type."""

    keys: int = 0
    total: int = 0  # the sum of their hashes


@dataclass
class Tally:
    """What was found in one database."""

    database: int
    seen: int = 0  # names; the same one may have come twice
    kinds: dict[bytes, Counted] = field(default_factory=lambda: defaultdict(Counted))
    large: list[tuple[bytes, Key]] = field(default_factory=list)  # by type; read when all is quiet

    def add(self, kind: bytes, digests: Sequence[bytes]) -> None:
        """Count keys of a type by their hashes, of 16 bytes each."""
        halves = struct.unpack(f">{2 * len(digests)}Q", b"".join(digests))
        one = self.kinds[kind]
        one.keys += len(digests)
        one.total += (sum(halves[::2]) << 64) + sum(halves[1::2])


@dataclass(frozen=True)
class Reader:
    """Reads one server."""

    connection: RawConnection
    horizon: int  # ms since 1970; keys and fields that expire before are left out
    expiries: Expiries
    fields: Fields | None  # None: the server has no expiries of fields

    @classmethod
    def of(cls, connection: RawConnection, horizon: int) -> Reader:
        """One that knows what the server can tell."""
        fields = Fields(connection, horizon)
        return cls(connection, horizon, Expiries(connection), fields if fields.known() else None)

    def database(self, number: int) -> Mapping[bytes, Counted]:
        """What the selected database holds, by type.

        Raises StepFailed if keys come into it meanwhile.
        """
        for _ in range(ATTEMPTS):
            before = self.connection.call("DBSIZE")
            tally = Tally(number)
            talks: deque[Talk[None]] = deque()
            talks.append(self._scanned(_FIRST, tally, talks))
            in_turn(self.connection, talks)
            self._add_large(tally)
            # A cursor gives a key twice while its table grows.
            if tally.seen <= before:
                return tally.kinds
        raise StepFailed(
            f"Keys come into database {number} of the Redis server at {self.connection.where} "
            "while its content is compared.",
            remedy="Stop what writes there.",
        )

    def keys(self, names: Sequence[bytes]) -> Mapping[bytes, Counted]:
        """What these keys of the selected database hold, by type."""
        tally = Tally(self.connection.database)
        alone(self.connection, self._named(names, tally))
        self._add_large(tally)
        return tally.kinds

    def _scanned(self, cursor: bytes, tally: Tally, talks: deque[Talk[None]]) -> Talk[None]:
        """The keys at a cursor; the next ones join the talks as soon as theirs is known."""
        yield pack([(b"SCAN", cursor, b"COUNT", b"%d" % KEYS)])
        following, names = accepted(self.connection.read_replies(1))[0]
        if following != _FIRST:
            talks.append(self._scanned(following, tally, talks))
        tally.seen += len(names)
        if names:
            yield from self._named(names, tally)

    def _named(self, names: Sequence[bytes], tally: Tally) -> Talk[None]:
        count, packed = len(names), list(map(argument, names))
        types, sizes = _TYPE + _TYPE.join(packed), _MEMORY + _MEMORY.join(packed)
        yield b"".join((types, sizes, self.expiries.questions(packed)))
        lines = self.connection.read_lines(2 * count + self.expiries.lines(count))
        expiries = yield from self.expiries.read(packed, lines[2 * count :])
        keys, told = zip(names, packed, expiries, strict=True), _sizes(lines[count : 2 * count])
        alike, together = defaultdict[bytes, list[Key]](list), 0
        for key, kind, size in zip(keys, lines[:count], told, strict=True):
            if key[2] != NEVER and key[2] <= max(self.horizon, 0):
                continue
            if size > LARGE:
                tally.large.append((kind[1:], key))
                continue
            if together + size > AT_ONCE:
                yield from self._valued(alike, tally)
                alike, together = defaultdict(list), 0
            alike[kind].append(key)
            together += size
        yield from self._valued(alike, tally)

    def _valued(self, alike: Mapping[bytes, Sequence[Key]], tally: Tally) -> Talk[None]:
        """Keys, none of them large, by what TYPE answered."""
        some = [(line[1:], keys) for line, keys in alike.items()]
        yield b"".join(questions(kind, [packed for _, packed, _ in keys]) for kind, keys in some)
        answered = iter(accepted(self.connection.read_replies(sum(map(len, alike.values())))))
        for kind, keys in some:
            replies, packed = list(islice(answered, len(keys))), [one for _, one, _ in keys]
            more: Sequence[Any] = ()
            if kind == b"stream":
                more = yield from stream_states(self.connection, packed)
            elif kind == b"hash" and self.fields is not None:
                more = yield from self.fields.expiries(packed, replies)
            else:
                yield LATER
            tally.add(kind, _digests(tally.database, kind, keys, values(kind, replies, more)))

    def _add_large(self, tally: Tally) -> None:
        for kind, (name, packed, expires) in tally.large:
            start = b"%d %b %d %d " % (tally.database, kind, expires, len(name))
            hashed = hashlib.blake2b(start + name, digest_size=16)
            for part in large(self.connection, kind, name, self.fields):
                hashed.update(part)
            if kind == b"stream":
                hashed.update(alone(self.connection, stream_states(self.connection, [packed]))[0])
            tally.add(kind, [hashed.digest()])


def _digests(
    database: int, kind: bytes, keys: Sequence[Key], found: Iterable[bytes | None]
) -> list[bytes]:
    """The hashes of those keys that have a value."""
    start = b"%d %b " % (database, kind)
    return [
        hashlib.blake2b(
            b"%b%d %d %b%b" % (start, expires, len(name), name, value), digest_size=16
        ).digest()
        for (name, _, expires), value in zip(keys, found, strict=True)
        if value is not None
    ]


def _sizes(lines: Sequence[bytes]) -> list[int]:
    """Bytes in memory, about, from what was answered; 0 where the user may not ask."""
    return [int(one[1:]) if one[:1] == b":" else 0 for one in lines]
