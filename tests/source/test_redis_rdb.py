"""An RDB is split into what the server's own DUMP answers; damage is found, or does no harm."""

from __future__ import annotations

import contextlib
import itertools
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import StepFailed
from runner.source import redis_crc
from runner.source.redis_connect import connect
from runner.source.redis_crc import crc64
from runner.source.redis_rdb import TYPES, Entry, Rdb, payloads
from tests.redis_server import RedisServer
from tests.source.redis_reading import address, rdb_of
from tests.source.redis_sample import FAR, LIBRARY, fill

binary = st.binary(max_size=80)
many = st.lists(binary, min_size=1, max_size=8)
values = st.one_of(
    st.tuples(st.just("SET"), st.tuples(st.one_of(binary, st.integers(-(2**70), 2**70)))),
    st.tuples(st.just("SET"), st.tuples(st.integers(0, 5000).map(lambda n: b"ab" * n))),
    st.tuples(st.just("RPUSH"), many),
    st.tuples(st.just("SADD"), st.one_of(many, st.lists(st.integers(-9, 9), min_size=1))),
    st.tuples(st.just("HSET"), many.map(lambda fields: [v for f in fields for v in (f, f * 3)])),
    st.tuples(st.just("ZADD"), many.map(lambda names: [v for n in names for v in (len(n) / 3, n)])),
    st.tuples(st.just("XADD"), many.map(lambda ones: ["*", *[v for f in ones for v in (f, f)]])),
)
contents = st.dictionaries(
    st.binary(max_size=120),
    st.tuples(values, st.sampled_from([None, FAR]), st.sampled_from([0, 7])),
    max_size=8,
)


def split(data: bytes, size: int = 1 << 20) -> tuple[Rdb, list[Entry]]:
    rdb = Rdb(data[at : at + size] for at in range(0, len(data), size))
    return rdb, list(rdb.entries())


def dumped(server: RedisServer, entries: list[Entry]) -> list[Any]:
    with connect(address(server)) as connection:
        found = []
        for entry in entries:
            connection.select(entry.database)
            expires = connection.call("PEXPIRETIME", entry.key)
            dump = connection.call("DUMP", entry.key)
            found.append((dump, None if expires == -1 else expires))
    return found


def with_payloads(rdb: Rdb, entries: list[Entry]) -> list[Any]:
    found = payloads([entry.value for entry in entries], rdb.version)
    return [(one, entry.expires) for one, entry in zip(found, entries, strict=True)]


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(contents, st.sampled_from([1, 7, 1 << 20]))
def test_gives_what_dump_answers_of_every_key(
    redis_server: RedisServer, content: dict[bytes, Any], size: int
) -> None:
    redis_server.empty()
    for key, ((command, arguments), expires, database) in content.items():
        with redis_server.connect(db=database) as client:
            client.execute_command(command, key, *arguments)
            if expires:
                client.pexpireat(key, expires)
    rdb, entries = split(rdb_of(redis_server), size)
    assert {entry.key for entry in entries} == set(content)
    assert with_payloads(rdb, entries) == dumped(redis_server, entries)


def test_knows_every_type_database_and_function(redis_server: RedisServer) -> None:
    fill(redis_server)
    data = rdb_of(redis_server)
    rdb, entries = split(data)
    assert {entry.database for entry in entries} == {0, 3, 15}
    assert {TYPES[entry.value[0]] for entry in entries} == {
        "string", "list", "set", "zset", "hash", "stream",
    }  # fmt: skip
    assert rdb.functions == [LIBRARY.encode()]
    assert rdb.auxiliary["redis-ver"]
    tally = Rdb([data]).tally()
    assert {database: sum(kinds.values()) for database, kinds in tally.items()} == {
        database: len(list(some))
        for database, some in itertools.groupby(entries, key=lambda one: one.database)
    }


def test_tells_how_keys_were_used(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.set("a", 1, pxat=FAR)
        client.config_set("maxmemory-policy", "allkeys-lfu")
        try:
            client.execute_command("RESTORE", "b", 0, client.dump("a"), "FREQ", 77)
            _, entries = split(rdb_of(redis_server))
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.execute_command("RESTORE", "c", 0, client.dump("a"), "IDLETIME", 1000)
            _, later = split(rdb_of(redis_server))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert {entry.key: entry.frequency for entry in entries}[b"b"] == 77
    assert {entry.key: entry.idle for entry in later}[b"c"] in range(1000, 1100)
    assert {entry.key: entry.expires for entry in later}[b"a"] == FAR


@pytest.mark.slow
def test_a_value_of_a_hundred_megabytes_passes(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.config_set("rdbcompression", "no")
        client.set("large", bytes(range(256)) * 400_000)
        rdb, (entry,) = split(rdb_of(redis_server))
        client.config_set("rdbcompression", "yes")
        (payload,) = payloads([entry.value], rdb.version)
        assert client.execute_command("RESTORE", "again", 0, payload) == b"OK"
        assert client.strlen("again") == 102_400_000


def test_whatever_is_cut_off_is_found(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.rpush("list", *range(50))
        client.xadd("events", {"n": 1})
    data = rdb_of(redis_server)
    for size in range(len(data)):
        for read in (lambda rdb: list(rdb.entries()), lambda rdb: rdb.tally()):
            with pytest.raises(StepFailed):
                read(Rdb([data[:size]]))
    with pytest.raises(StepFailed, match="does not end where it says"):
        split(data + b"x")


def test_a_flipped_byte_never_ends_in_anything_but_an_answer(redis_server: RedisServer) -> None:
    fill(redis_server)
    data = bytearray(rdb_of(redis_server))
    for at in [*range(200), *range(200, len(data), 997)]:
        damaged = bytes(data[:at]) + bytes([data[at] ^ 0xFF]) + bytes(data[at + 1 :])
        with contextlib.suppress(StepFailed):
            split(damaged)


def test_what_only_a_module_can_read_is_refused() -> None:
    header = b"REDIS0010"
    old_module = header + b"\x06\x03key" + b"\x05whatever"
    with pytest.raises(StepFailed, match="only the module can read"):
        split(old_module + b"\xff" + bytes(8))
    with pytest.raises(StepFailed, match="a value of kind 99"):
        split(header + b"\x63\x03key" + b"\xff" + bytes(8))
    with pytest.raises(StepFailed, match="no RDB"):
        split(b"<html>\n404 not found")


def test_a_newer_modules_value_and_what_stands_beside_keys_are_skipped() -> None:
    value = b"\x81" + bytes(8) + b"\x02\x05" + b"\x04" + struct.pack("<d", 1.5) + b"\x05\x02ab\x00"
    data = b"REDIS0012" + b"\xf7" + value + b"\x07\x03key" + value + b"\xff" + bytes(8)
    rdb, (entry,) = split(data)
    assert (entry.key, entry.value) == (b"key", b"\x07" + value)
    assert rdb.beside == [value]


def test_checksums_are_those_of_one_byte_after_the_other() -> None:
    def slow(value: bytes) -> bytes:
        total = 0
        for byte in value:
            total ^= byte
            for _ in range(8):
                total = (total >> 1) ^ (0x95AC9329AC4BC9B5 if total & 1 else 0)
        return total.to_bytes(8, "little")

    assert redis_crc.native() is not None
    sizes = [0, 1, 8, 9, 63, 64, 65, 130, 700, 4096, 5000, 20_000]
    ones = [bytes((size * 7 + n) % 251 for n in range(size)) for size in sizes]
    assert crc64(ones) == [slow(one) for one in ones]
    assert crc64([b"123456789"]) == [bytes.fromhex("cad9b8c414d9c6e9")]


def test_checksums_are_the_same_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [b"", b"123456789", bytes(range(256))]
    with_it = crc64(values)
    monkeypatch.setattr(redis_crc, "native", lambda: None)
    assert crc64(values) == with_it
