"""A consistent RDB over the wire: the server takes this process for a replica that only reads.

The handshake and what follows it: replication.c of Redis 6.2 to 8. It needs the rights to SYNC
and REPLCONF alone, no file of the server, and no redis-cli.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runner.errors import StepFailed
from runner.source.redis_address import Address
from runner.source.redis_connect import RawConnection, Rejected, connect
from runner.source.redis_delay import DELAY, without_delay

NEWEST = "99.0.0"  # Valkey 9 leaves out what an older replica could not read, or sends nothing
LONG_WAIT = 2.0  # seconds until the snapshot begins; longer is told
MARK = 40  # bytes
BLOCK = 1024 * 1024  # bytes handed on together


@dataclass
class Snapshot:
    """An RDB that the server has begun to send. Read it soon: the server forked for it."""

    asked_at: datetime  # the server forked then or later, unless it shares what another asked for
    notes: tuple[str, ...]
    _connection: RawConnection
    _announced: bytes  # `<length>` or `EOF:<mark>`

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def chunks(self) -> Iterator[bytes]:
        """The RDB. Raises StepFailed if it does not come whole."""
        if self._announced.startswith(b"EOF:") and len(self._announced) == 4 + MARK:
            return self._until(self._announced.removeprefix(b"EOF:"))
        if self._announced.isdigit():
            return self._exactly(int(self._announced))
        raise StepFailed(
            f"The Redis server at {self._connection.where} answers SYNC with something else "
            "than an RDB.",
        )

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._connection.read_some()[:size]
            size -= len(chunk)
            yield chunk

    def _until(self, mark: bytes) -> Iterator[bytes]:
        """The mark is forty random bytes, which may come in two pieces.

        The server sends many small pieces; they are handed on together.
        """
        block = bytearray()
        while True:
            looked_at = max(0, len(block) - MARK)
            block += self._connection.read_some()
            end = block.find(mark, looked_at)
            if end >= 0:
                yield bytes(block[:end])
                return
            if len(block) >= BLOCK:
                yield bytes(block[:-MARK])
                del block[:-MARK]


def sends_none(error: Rejected) -> bool:
    """Whether it says that no RDB is sent: a provider's server has words of its own for that."""
    return error.forbidden or error.code == "ERR"


def begin(address: Address, note: Path | None = None) -> Snapshot:
    """Ask for a snapshot, and wait until the server begins to send it.

    While it begins, the file `note` keeps a setting that is to be put back; see redis_delay.
    Raises Rejected when it will not, Unreachable when it is not there.
    """
    connection = connect(address)
    try:
        for words in (("version", NEWEST), ("capa", "eof"), ("rdb-only", "1")):
            with contextlib.suppress(
                Rejected
            ):  # older ones do not know them; SYNC says what counts
                connection.call("REPLCONF", *words)
        with without_delay(address, note) as delay:
            asked_at, began = datetime.now(UTC), time.monotonic()
            connection.send_many([[b"SYNC"]])
            announced = _announcement(connection)
            waited = time.monotonic() - began
    except BaseException:
        connection.close()
        raise
    return Snapshot(asked_at, tuple(_notes(delay, waited)), connection, announced)


def _announcement(connection: RawConnection) -> bytes:
    """What follows the `$`. Until it is ready the server sends bare newlines."""
    while not (line := connection.read_line()):
        pass
    if line.startswith(b"-"):
        raise Rejected(connection.where, line[1:].decode(errors="replace"))
    return line.removeprefix(b"$")


def _notes(delay: int | None, waited: float) -> Iterator[str]:
    if delay:
        yield f"{DELAY} is {delay} s: set to 0 until the snapshot began, then put back"
    elif delay is None and waited > LONG_WAIT:
        yield (
            f"the server waited {waited:.0f} s before it began; `CONFIG SET {DELAY} 0` there "
            "makes that shorter, and this user may not do so"
        )
