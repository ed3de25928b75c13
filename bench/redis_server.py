"""A Redis server to measure with, and the parts of a restore that are measured on their own.

`python -m bench.redis_server fingerprint SOCKET` and `… load SOCKET RDB` do one of them.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from runner.errors import StepFailed
from runner.source.redis_address import Address
from runner.source.redis_connect import RawConnection, Rejected, connect
from runner.source.redis_file import read
from runner.source.redis_fingerprint import fingerprint
from runner.source.redis_load import Loader

AT_ONCE = 2000
SETTINGS = ("--port", "0", "--save", "", "--repl-diskless-sync-delay", "0")


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The socket of an empty server, for as long as the block lasts."""
    # Not below the bench's folder: a socket's path has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        path = f"{folder}/redis.sock"
        program = shutil.which("redis-server") or sys.exit("redis-server is missing")
        arguments = [program, *SETTINGS, "--unixsocket", path, "--dir", folder]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
            try:
                _wait(path)
                yield path
            finally:
                process.kill()


def fill(path: str, count: int) -> None:
    """Keys of all core types, a tenth of them with an expiry."""
    chance = random.Random(3)
    with connect(Address(socket=path)) as connection:
        commands = _commands(chance, count)
        while some := list(islice(commands, AT_ONCE)):
            connection.send_many(some)
            _must_be_well(connection, len(some))


def _commands(chance: random.Random, count: int) -> Iterator[Sequence[bytes]]:
    ends = int(time.time() * 1000) + 86_400_000
    for number in range(count):
        key = b"key:%08d" % number
        yield _command(chance, number, key)
        if number % 10 == 0:
            yield [b"PEXPIREAT", key, b"%d" % (ends + chance.randrange(10**8))]


def _command(chance: random.Random, number: int, key: bytes) -> list[bytes]:
    def words(count: int) -> Iterable[bytes]:
        return (chance.randbytes(8).hex().encode() for _ in range(count))

    kind = number % 10
    if kind < 5:
        return [b"SET", key, b" ".join(words(1 + number % 7))]
    if kind < 7:
        fields = ((b"field:%d" % at, word) for at, word in enumerate(words(5)))
        return [b"HSET", key, *(part for pair in fields for part in pair)]
    if kind == 7:
        return [b"RPUSH", key, *words(8)]
    if kind == 8:
        return [b"SADD", key, *words(6)]
    if number % 100 == 9:
        return [b"XADD", key, b"*", b"text", *words(1)]
    scored = ((b"%d" % chance.randrange(10**6), word) for word in words(6))
    return [b"ZADD", key, *(part for pair in scored for part in pair)]


def _must_be_well(connection: RawConnection, count: int) -> None:
    for reply in connection.read_replies(count):
        if isinstance(reply, Rejected):
            raise reply


def _wait(path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(StepFailed), connect(Address(socket=path)) as connection:
            connection.call("PING")
            return
        time.sleep(0.02)


def main() -> None:
    """Do one part, in a process of its own."""
    part, path, *rest = sys.argv[1:]
    with connect(Address(socket=path)) as connection:
        if part == "fingerprint":
            fingerprint(connection)
        else:
            batches = read(Path(rest[0]), "rdb").batches()
            Loader(connection, replace=False).load(batches)


if __name__ == "__main__":
    main()
