"""The portable form: every key read on its own by SCAN and DUMP, written as the commands that make
it again. `redis-cli --pipe` can replay it.

Keys are read one after another, so what it holds is of no single instant unless nobody writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from runner.errors import StepFailed
from runner.source.redis_address import Address
from runner.source.redis_choose import Chosen, among
from runner.source.redis_connect import (
    SILENCE_SECONDS,
    RawConnection,
    Rejected,
    argument,
    connect,
    pack,
)
from runner.source.redis_expiry import GONE, NEVER, Expiries
from runner.source.redis_fingerprint import databases, libraries
from runner.source.redis_resp import restore
from runner.source.redis_turns import alone

KEYS = 1000  # asked for at once
AT_ONCE = 8 * 1024 * 1024  # bytes of values that are asked for together

_MEMORY = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n"
_DUMP = b"*2\r\n$4\r\nDUMP\r\n"


@dataclass
class KeyDump:
    """One reading of all keys; what it counted is known once `chunks` was read to its end."""

    address: Address
    chosen: Chosen = None  # the databases that are read; functions are the whole server's
    kinds: dict[int, dict[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )  # keys by database and by the first byte of their values
    functions: int = 0  # libraries
    unread: list[str] = field(default_factory=list)  # what the user may not read, in words

    def chunks(self) -> Iterator[bytes]:
        """Commands as RESP text. Raises StepFailed when the server ends or refuses one."""
        with connect(self.address) as connection:
            for _, code in self._functions(connection) if self.chosen is None else ():
                self.functions += 1
                yield pack([(b"FUNCTION", b"LOAD", code)])
            expiries = Expiries(connection)
            for database in among(databases(connection), self.chosen):
                connection.select(database)
                yield pack([(b"SELECT", b"%d" % database)])
                for names in _scanned(connection):
                    yield from self._restores(connection, expiries, names)

    def _functions(self, connection: RawConnection) -> list[tuple[bytes, bytes]]:
        try:
            return libraries(connection)
        except Rejected as error:
            if not error.forbidden:
                raise
            self.unread.append(f"functions were not saved: {error.text[:100]}")
            return []

    def _restores(
        self, connection: RawConnection, expiries: Expiries, names: Sequence[bytes]
    ) -> Iterator[bytes]:
        packed = list(map(argument, names))
        connection.send(b"".join((_MEMORY, _MEMORY.join(packed), expiries.questions(packed))))
        lines = connection.read_lines(len(names) + expiries.lines(len(names)))
        times = alone(connection, expiries.read(packed, lines[len(names) :]))
        sizes = [int(line[1:]) if line[:1] == b":" else 0 for line in lines[: len(names)]]
        for start, end in _portions(sizes):
            yield self._dumped(connection, packed[start:end], times[start:end])

    def _dumped(
        self, connection: RawConnection, packed: Sequence[bytes], times: Sequence[int]
    ) -> bytes:
        connection.send(_DUMP + _DUMP.join(packed))
        parts, kinds = [], self.kinds[connection.database]
        for name, expires, payload in zip(
            packed, times, connection.read_replies(len(packed)), strict=True
        ):
            if isinstance(payload, Rejected):
                raise payload
            if payload is None or expires == GONE:
                continue
            kinds[payload[0]] += 1
            parts.append(restore(name, 0 if expires == NEVER else expires, payload))
        return b"".join(parts)


def dump_keys(address: Address, chosen: Chosen = None) -> Iterator[bytes]:
    """All keys as RESP text."""
    return KeyDump(address, chosen).chunks()


@contextlib.contextmanager
def paused(address: Address, limit: float) -> Iterator[Callable[[], bool]]:
    """Let writers wait until the block ends, for `limit` seconds at most; the server itself lets
    them go then, whatever becomes of this process.

    Yields what tells whether they have waited all the time until now. Raises Rejected when they
    may not be paused.
    """
    with connect(address, max(SILENCE_SECONDS, limit)) as connection:
        began = time.monotonic()
        connection.call("CLIENT", "PAUSE", int(limit * 1000), "WRITE")
        try:
            yield lambda: time.monotonic() - began < limit
        finally:
            with contextlib.suppress(StepFailed):  # then it ends by itself
                connection.call("CLIENT", "UNPAUSE")


def _scanned(connection: RawConnection) -> Iterator[list[bytes]]:
    """The names of all keys, each once: a cursor gives some again when a table grows or shrinks."""
    cursor, seen = b"0", set[bytes]()
    while True:
        cursor, names = connection.call("SCAN", cursor, "COUNT", KEYS)
        new = {mark: name for name in names if (mark := _mark(name)) not in seen}
        seen.update(new)
        if new:
            yield list(new.values())
        if cursor == b"0":
            return


def _mark(name: bytes) -> bytes:
    """What tells a name from every other, and is not long: all are held in memory."""
    return name if len(name) < 32 else hashlib.blake2b(name, digest_size=32).digest()


def _portions(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where to cut, so that no part takes much memory but for a single large value."""
    start = total = 0
    for index, size in enumerate(sizes):
        if total and total + size > AT_ONCE:
            yield start, index
            start, total = index, 0
        total += size
    yield start, len(sizes)
