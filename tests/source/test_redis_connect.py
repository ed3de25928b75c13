"""Replies of a Redis server, read many at once, are what the server said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.registry import open_source
from runner.source.redis_connect import Rejected, connect
from runner.spec.model import SourceSpec
from tests.redis_server import RedisServer
from tests.source.conformance import place_in
from tests.source.redis_reading import address

STRINGS = [
    b"plain", b"", b"\r\n", b"$3\r\nabc\r\n", b"*2\r\n", b"-ERR no\r\n", b"a\r", b"\n",
    b"x" * 1023, b"x" * 1024, b"y" * 20_000, bytes(range(256)) * 300, b"last",
]  # fmt: skip


def test_replies_are_told_apart_whatever_they_hold(redis_server: RedisServer) -> None:
    lists = [STRINGS, [b"one"], [b""], STRINGS[::-1], [b"%d" % number for number in range(3000)]]
    commands: list[list[bytes]] = []
    expected: list[Any] = []
    for number in range(40):
        for values in lists:
            name = b"list of %d" % len(expected)
            commands += [[b"RPUSH", name, *values], [b"LRANGE", name, b"0", b"-1"]]
            expected += [len(values), values]
        for value in STRINGS:
            commands += [[b"ECHO", value], [b"GET", b"nothing"], [b"LRANGE", b"none", b"0", b"9"]]
            expected += [value, None, []]
        commands += [[b"SET", b"text", STRINGS[number % 9]], [b"GET", b"text"]]
        expected += [b"OK", STRINGS[number % 9]]
    with connect(address(redis_server)) as connection:
        connection.call("FLUSHALL")
        found = []
        for start in range(0, len(commands), 10):
            some = commands[start : start + 10]
            connection.send_many(some)
            found += connection.read_replies(len(some))
        assert found == expected
        connection.send_many([[b"ECHO", b"%d" % number] for number in range(20)] + [[b"GET"]])
        *echoed, refused = connection.read_replies(21)
        assert echoed == [b"%d" % number for number in range(20)]
        assert isinstance(refused, Rejected)


def test_a_server_that_is_not_there_has_no_identity(tmp_path: Path) -> None:
    spec = SourceSpec("cache", "redis", {"socket": str(tmp_path / "none")}, tmp_path)
    with pytest.raises(StepFailed, match="cannot be reached"):
        open_source(spec).identity(place_in(tmp_path))
