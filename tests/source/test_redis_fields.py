"""A hash is gone with its last field, of which the snapshot says when: that is no difference."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runner.source.redis_fields import ends
from tests.redis_server import RedisServer, running, valkey
from tests.redis_service import RedisService
from tests.source.redis_reading import rdb_of
from tests.source.test_redis_rdb import split
from tests.test_redis_versions import only

FAR = 4_102_444_800_123


@pytest.mark.parametrize("method", ["sync", "keys"])
def test_hashes_whose_fields_are_all_over_come_back_as_nothing(tmp_path: Path, method: str) -> None:
    with running(program=valkey()) as live, running(program=valkey(), password="") as other:
        service = RedisService(tmp_path / "service", live, method=method)
        only(service, valkey())
        with live.connect() as client:
            client.set("a", 1)
            brief, wide = {"f": 1}, {f"field {number}": number for number in range(1000)}
            soon = int(time.time() * 1000) + 1500
            for name, fields in (("brief", brief), ("wide", wide)):
                client.hset(name, mapping=fields)
                client.execute_command("HPEXPIREAT", name, soon, "FIELDS", len(fields), *fields)
            client.hset("lasting", mapping={"f": 1, "g": 2})
            client.execute_command("HPEXPIREAT", "lasting", FAR, "FIELDS", 1, "f")
        service("backup", status=0)
        with live.connect() as client:
            while client.exists("brief", "wide"):
                time.sleep(0.05)
        document = service.json("restore", "--source", "cache", "--to", other.url)
        assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
        with other.connect() as copy:
            # A server takes fields that are over, and removes a few of them at a time.
            while copy.exists("brief", "wide"):
                time.sleep(0.05)
            assert sorted(copy.keys()) == [b"a", b"lasting"]
            told = copy.execute_command("HPEXPIRETIME", "lasting", "FIELDS", 2, "f", "g")
            assert told == [FAR, -1]
        service("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache",
                status=0)  # fmt: skip


def test_a_hash_that_is_lost_before_its_fields_are_over_is_seen(tmp_path: Path) -> None:
    with running(program=valkey()) as live:
        with live.connect() as client:
            client.hset("h", mapping={"f": 1, "g": 2})
            client.execute_command("HPEXPIREAT", "h", FAR, "FIELDS", 1, "f")
            client.execute_command("HPEXPIREAT", "h", FAR + 5, "FIELDS", 1, "g")
            client.hset("some", mapping={"f": 1, "g": 2})
            client.execute_command("HPEXPIREAT", "some", FAR, "FIELDS", 1, "f")
            client.hset("none", mapping={"f": 1})
        _, entries = split(rdb_of(live))
    found = {entry.key: ends(entry.value) for entry in entries}
    assert found == {b"h": FAR + 5, b"some": None, b"none": None}


@pytest.mark.parametrize("long", [1, 100, 3000])
def test_expiries_are_read_from_a_listpack(redis_server: RedisServer, long: int) -> None:
    """Redis 8 keeps those of a small hash as every third element; of a list it is the same."""
    with redis_server.connect() as client:
        client.config_set("list-max-listpack-size", 100)
        client.rpush("l", "f", b"x" * long, FAR, 12, -70_000, FAR + 5, "g" * long, 4000, FAR + 2)
        client.rpush("m", "f", "x", FAR, "g", "y", 0)
        _, entries = split(rdb_of(redis_server))
        client.config_set("list-max-listpack-size", -2)
    # A list is a count, and for each listpack a mark and the listpack as a string.
    found = {one.key: ends(b"\x19" + FAR.to_bytes(8, "little") + one.value[3:]) for one in entries}
    assert found == {b"l": FAR + 5, b"m": None}


def test_expiries_are_read_from_a_table() -> None:
    """As Redis 8 writes a large hash: relative to the earliest, and none as nothing."""
    start = b"\x18" + FAR.to_bytes(8, "little") + b"\x02"
    assert ends(start + b"\x01\x01f\x01v" + b"\x06\x01g\x01w") == FAR + 5
    assert ends(start + b"\x01\x01f\x01v" + b"\x00\x01g\x01w") is None


def test_what_has_no_fields_never_ends_like_that() -> None:
    assert ends(b"\x00\x01x") is None
    assert ends(b"\x16\x05broken") is None
