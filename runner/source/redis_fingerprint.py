"""The content of a running Redis server as a few numbers: equal exactly where it is equal.

For every logical database and type, how many keys there are and the sum modulo 2^128 of
blake2b(database, expiry in ms, key, type, value). A sum, since keys have no order; of what a value
is (`redis_value`), since what DUMP answers differs between equal ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.errors import StepFailed
from runner.source.redis_connect import RawConnection, Rejected, argument
from runner.source.redis_expiry import NEVER, Expiries
from runner.source.redis_value import (
    ATTEMPTS,
    KINDS,
    MODULUS,
    Fields,
    accepted,
    digest,
    large,
    questions,
    stream_states,
    values,
)

FORMAT = 1
KEYS = 500  # asked for at once
LARGE = 1024 * 1024  # bytes; a value beyond is read in windows
AT_ONCE = 8 * 1024 * 1024  # bytes of values that are asked for together

_TYPE = b"*2\r\n$4\r\nTYPE\r\n"
_MEMORY = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n"


@dataclass
class _Counted:
    """The keys of one type in one database."""

    keys: int = 0
    total: int = 0  # the sum of their hashes


class _Asked(NamedTuple):
    """A key, and what was asked of it."""

    name: bytes
    kind: bytes  # as TYPE answers
    expires: int  # ms since 1970, or NEVER
    size: int  # bytes in memory, about; 0 where the user may not ask
    packed: bytes  # the name as an argument


class _Read(NamedTuple):
    """Keys of one type, and what was answered."""

    keys: Sequence[_Asked]
    replies: Sequence[Any]
    more: Sequence[Any]  # of streams their states, of hashes the fields that are there


def fingerprint(connection: RawConnection, horizon: int = 0) -> dict[str, Any]:
    """The fingerprint of all databases. Keys and fields that expire before `horizon` (ms since
    1970) are left out: until then, two servers can be compared.

    Raises StepFailed when the server ends, changes meanwhile, or holds values of modules.
    """
    reader = _reader(connection, horizon)
    found = {}
    for database in databases(connection):
        connection.select(database)
        kinds = reader.database(database)
        if kinds:
            found[str(database)] = {
                kind.decode(): {"keys": one.keys, "sum": f"{one.total % MODULUS:032x}"}
                for kind, one in sorted(kinds.items())
            }
    functions = {
        name.decode(errors="backslashreplace"): f"{digest(code):032x}"
        for name, code in sorted(libraries(connection))
    }
    return {"format": FORMAT, "horizon": horizon, "databases": found, "functions": functions}


def of_keys(connection: RawConnection, names: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Of these keys of the selected database: by type, how many are there, and their sum."""
    reader = _reader(connection, 0)
    found: dict[bytes, _Counted] = defaultdict(_Counted)
    for some in _portions(reader.kept(names, reader.ask(names))):
        reader.add(connection.database, some, found)
    return {kind: (one.keys, one.total % MODULUS) for kind, one in found.items()}


def compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How two fingerprints differ, in words; empty when they are equal."""
    if expected["format"] != found["format"]:
        raise StepFailed("The fingerprint was taken by another version and cannot be compared.")
    differences = []
    numbers = sorted({*expected["databases"], *found["databases"]}, key=int)
    for number in numbers:
        kinds = [one["databases"].get(number, {}) for one in (expected, found)]
        for kind in sorted({*kinds[0], *kinds[1]}):
            words = _difference(*(one.get(kind, {"keys": 0, "sum": ""}) for one in kinds))
            if words:
                differences.append(f"database {number}: keys of type {kind}: {words}")
    for name in sorted({*expected["functions"], *found["functions"]}):
        if expected["functions"].get(name) != found["functions"].get(name):
            gone = "is missing" if name not in found["functions"] else "differs"
            gone = "is there in addition" if name not in expected["functions"] else gone
            differences.append(f"the function library {name} {gone}")
    return differences


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if expected["keys"] != found["keys"]:
        return f"{found['keys']:,} instead of {expected['keys']:,}"
    return "" if expected["sum"] == found["sum"] else f"of {found['keys']:,}, some differ"


def databases(connection: RawConnection) -> list[int]:
    """The logical databases that hold keys."""
    text = connection.call("INFO", "keyspace").decode(errors="replace")
    return [
        int(line.partition(":")[0].removeprefix("db"))
        for line in text.splitlines()
        if line.startswith("db") and ":keys=" in line
    ]


def libraries(connection: RawConnection) -> list[tuple[bytes, bytes]]:
    """The name and the code of each library of functions; none before 7.0."""
    try:
        found = connection.call("FUNCTION", "LIST", "WITHCODE")
    except Rejected as error:
        if "unknown command" not in error.text.lower():
            raise
        return []
    named = [dict(zip(one[::2], one[1::2], strict=True)) for one in found]
    return [(one[b"library_name"], one[b"library_code"]) for one in named]


def _reader(connection: RawConnection, horizon: int) -> _Reader:
    fields = Fields(connection, horizon)
    return _Reader(connection, horizon, Expiries(connection), fields if fields.known() else None)


@dataclass(frozen=True)
class _Reader:
    connection: RawConnection
    horizon: int
    expiries: Expiries
    fields: Fields | None  # None: the server has no expiries of fields

    def database(self, number: int) -> dict[bytes, _Counted]:
        """What the selected database holds."""
        for _ in range(ATTEMPTS):
            before = self.connection.call("DBSIZE")
            found: dict[bytes, _Counted] = defaultdict(_Counted)
            seen = 0
            waiting: list[_Read] = []
            for names in self._scanned():
                seen += len(names)
                packed = self.ask(names)
                # While the server answers that, what it answered before is hashed.
                _add(number, waiting, found)
                waiting = []
                for some in _portions(self.kept(names, packed)):
                    if some[0].size > LARGE:
                        self._add_large(number, some[0], found)
                    else:
                        _add(number, waiting, found)
                        waiting = self._read(some)
            _add(number, waiting, found)
            # A cursor gives a key twice while its table grows.
            if seen <= before:
                return found
        raise StepFailed(
            f"Keys come into database {number} of the Redis server at {self.connection.where} "
            "while its content is compared.",
            remedy="Stop what writes there.",
        )

    def _scanned(self) -> Iterator[list[bytes]]:
        cursor = b"0"
        while True:
            cursor, names = self.connection.call("SCAN", cursor, "COUNT", KEYS)
            if names:
                yield names
            if cursor == b"0":
                return

    def ask(self, names: Sequence[bytes]) -> list[bytes]:
        """Ask for the types, sizes and expiries of keys; returns the names as arguments."""
        packed = list(map(argument, names))
        expiries = self.expiries.questions(packed)
        types, sizes = _TYPE + _TYPE.join(packed), _MEMORY + _MEMORY.join(packed)
        self.connection.send(b"".join((types, sizes, expiries)))
        return packed

    def kept(self, names: Sequence[bytes], packed: Sequence[bytes]) -> list[_Asked]:
        """Those of the keys that are there beyond the horizon, from what was asked."""
        count = len(names)
        lines = self.connection.read_lines(2 * count + self.expiries.lines(count))
        return [
            _Asked(name, kind[1:], expires, int(size[1:]) if size[:1] == b":" else 0, words)
            for name, kind, size, expires, words in zip(
                names,
                lines[:count],
                lines[count : 2 * count],
                self.expiries.read(packed, lines[2 * count :]),
                packed,
                strict=True,
            )
            if expires == NEVER or expires > max(self.horizon, 0)
        ]

    def _read(self, keys: Sequence[_Asked]) -> list[_Read]:
        """The values of keys, none of them large."""
        alike: dict[bytes, list[_Asked]] = defaultdict(list)
        for key in keys:
            alike[key.kind].append(key)
        for kind, some in alike.items():
            _must_be_known(some[0])
            self.connection.send(questions(kind, [key.packed for key in some]))
        replies = [accepted(self.connection.read_replies(len(some))) for some in alike.values()]
        found = []
        for some, answered in zip(alike.values(), replies, strict=True):
            more: Sequence[Any] = ()
            if some[0].kind == b"stream":
                more = stream_states(self.connection, [key.name for key in some])
            elif some[0].kind == b"hash" and self.fields is not None:
                more = self.fields.expiries([key.packed for key in some], answered)
            found.append(_Read(some, answered, more))
        return found

    def add(self, database: int, keys: Sequence[_Asked], found: dict[bytes, _Counted]) -> None:
        """Count what `_portions` put together, and add up what it hashes to."""
        if keys and keys[0].size > LARGE:
            self._add_large(database, keys[0], found)
        else:
            _add(database, self._read(keys), found)

    def _add_large(self, database: int, key: _Asked, found: dict[bytes, _Counted]) -> None:
        _must_be_known(key)
        start = b"%d %b %d %d " % (database, key.kind, key.expires, len(key.name))
        hashed = hashlib.blake2b(start + key.name, digest_size=16)
        for part in large(self.connection, key.kind, key.name, self.fields):
            hashed.update(part)
        if key.kind == b"stream":
            hashed.update(stream_states(self.connection, [key.name])[0])
        found[key.kind].keys += 1
        found[key.kind].total += int.from_bytes(hashed.digest(), "big")


def _add(database: int, read: Iterable[_Read], found: dict[bytes, _Counted]) -> None:
    """Count keys, and add up what they hash to."""
    for keys, replies, more in read:
        kind = keys[0].kind
        counted, start = found[kind], b"%d %b " % (database, kind)
        for key, value in zip(keys, values(kind, replies, more), strict=True):
            if value is not None:
                head = b"%d %d " % (key.expires, len(key.name))
                counted.keys += 1
                counted.total += digest(start, head, key.name, value)


def _must_be_known(key: _Asked) -> None:
    if key.kind not in KINDS:
        raise StepFailed(
            f"The key {key.name[:100]!r} is of type {key.kind.decode()}, of a module: its content "
            "cannot be compared.",
        )


def _portions(keys: Iterable[_Asked]) -> Iterator[list[_Asked]]:
    """Keys whose values are asked for together: a large one alone."""
    some: list[_Asked] = []
    size = 0
    for key in keys:
        if key.size > LARGE:
            yield [key]
            continue
        if size + key.size > AT_ONCE:
            yield some
            some, size = [], 0
        some.append(key)
        size += key.size
    if some:
        yield some
