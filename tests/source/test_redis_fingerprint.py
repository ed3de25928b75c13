"""The fingerprint of a running server: the same for equal content, another for any other."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.source import redis_reader, redis_value
from runner.source.redis_connect import argument, connect
from runner.source.redis_expiry import Expiries
from runner.source.redis_fingerprint import compare, fingerprint
from runner.source.redis_turns import alone
from tests.redis_server import RedisServer
from tests.source.redis_reading import address
from tests.source.redis_sample import FAR, fill


def taken(server: RedisServer, horizon: int = 0) -> dict[str, Any]:
    with connect(address(server)) as connection:
        return fingerprint(connection, horizon)


CHANGES: dict[str, list[Any]] = {
    "a value": ["SET", "text", "other"],
    "an empty value": ["SET", b"\x00\xfe odd\r\n*key $(touch pwned)", "x"],
    "a key more": ["SET", "another", 1],
    "a key less": ["DEL", "text"],
    "an expiry by a millisecond": ["PEXPIREAT", "session:1", FAR + 1],
    "no expiry": ["PERSIST", "session:1"],
    "the order of a list": ["LINSERT", "list", "BEFORE", "a", "b"],
    "a member": ["SREM", "numbers", 7],
    "a score": ["ZADD", "ranks", 1.25, "ann"],
    "a field": ["HSET", "player:1", "coins", 11],
    "a field's name": ["HSETNX", "player:1", "coin", "s10"],
    "an entry": ["XADD", "events", "30-0", "n", 5],
    "what is pending": ["XACK", "events", "readers", "2-1"],
    "a group": ["XGROUP", "CREATE", "events", "others", "0"],
    "what was delivered": ["XGROUP", "SETID", "events", "readers", "1-1"],
    "a consumer": ["XGROUP", "CREATECONSUMER", "events", "readers", "two"],
    "a function": ["FUNCTION", "FLUSH"],
    "the type": ["EVAL", "redis.call('DEL', 'list'); redis.call('RPUSH', 'text2', 'a')", 0],
    "the database": ["COPY", "names", "names", "DB", 5],
}


def test_every_change_is_seen(redis_server: RedisServer) -> None:
    fill(redis_server)
    before = taken(redis_server)
    assert compare(before, taken(redis_server)) == []
    for what, command in CHANGES.items():
        with redis_server.connect() as client:
            client.execute_command(*command)
        after = taken(redis_server)
        assert compare(before, after), f"not seen: {what}"
        before = after


def test_says_where_the_difference_is(redis_server: RedisServer) -> None:
    fill(redis_server)
    before = taken(redis_server)
    with redis_server.connect() as client:
        client.sadd("numbers", 999)
        client.delete("list")
        client.function_flush()
    assert compare(before, taken(redis_server)) == [
        "database 0: keys of type list: 1 instead of 2",
        "database 0: keys of type set: of 3, some differ",
        "the function library game is missing",
    ]


def test_how_a_value_is_stored_does_not_matter(redis_server: RedisServer) -> None:
    fill(redis_server)
    before = taken(redis_server)
    with redis_server.connect() as client:
        for name in ("hash", "set", "zset", "list"):
            setting = f"{name}-max-{'intset' if name == 'set' else 'listpack'}-"
            setting += "size" if name == "list" else "entries"
            client.config_set(setting, 1)
        try:
            for key in ("player:1", "numbers", "ranks", "list"):
                expires, payload = client.pexpiretime(key), client.dump(key)
                client.restore(key, 0, payload, replace=True)
                assert expires == -1
            client.hset("player:1", "x", "y" * 100)
            client.hdel("player:1", "x")
        finally:
            for setting, value in (
                ("hash-max-listpack-entries", 128),
                ("set-max-intset-entries", 512),
                ("zset-max-listpack-entries", 128),
                ("list-max-listpack-size", -2),
            ):
                client.config_set(setting, value)
    assert compare(before, taken(redis_server)) == []


def test_large_values_are_read_in_windows_and_hash_the_same(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis_server)
    whole = taken(redis_server)
    monkeypatch.setattr(redis_reader, "LARGE", 0)
    monkeypatch.setattr(redis_value, "PIECE", 1000)
    assert compare(whole, taken(redis_server)) == []
    monkeypatch.setattr(redis_value, "MANY", 100)
    in_windows = taken(redis_server)
    monkeypatch.setattr(redis_reader, "LARGE", 1 << 20)
    assert compare(in_windows, taken(redis_server)) == []


def test_what_expires_before_the_horizon_is_left_out(redis_server: RedisServer) -> None:
    now = int(time.time() * 1000)
    with redis_server.connect() as client:
        client.set("stays", 1)
        client.set("later", 1, pxat=now + 3_600_000)
        horizon = now + 1_800_000
        before = taken(redis_server, horizon)
        client.set("soon", 1, pxat=now + 600_000)
        assert compare(before, taken(redis_server, horizon)) == []
        client.delete("later")
        assert compare(before, taken(redis_server, horizon)) != []


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.binary(max_size=3), max_size=4), min_size=2, max_size=2))
def test_no_two_lists_look_alike(redis_server: RedisServer, lists: list[list[bytes]]) -> None:
    found = []
    for elements in lists:
        redis_server.empty()
        with redis_server.connect() as client:
            if elements:
                client.rpush("list", *elements)
        found.append(taken(redis_server))
    assert (compare(found[0], found[1]) == []) == (lists[0] == lists[1])


def test_expiries_are_exact_where_the_server_tells_only_what_is_left(
    redis_server: RedisServer,
) -> None:
    now = int(time.time() * 1000)
    with redis_server.connect() as client:
        for number in range(25):
            client.set(f"key {number}", 1, pxat=now + 3_600_000 + number)
        client.set("never", 1)
    names = [b"key %d" % number for number in range(25)] + [b"never", b"gone"]
    with connect(address(redis_server)) as connection:
        expiries = Expiries(connection)
        packed = [argument(name) for name in names]
        told = alone(connection, expiries.ask(packed))
        assert told == [now + 3_600_000 + number for number in range(25)] + [-1, -2]
        expiries._absolute = False  # as before 7.0
        assert alone(connection, expiries.ask(packed)) == told
