"""A game's Redis server: every type of value, several databases, functions; read without us."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import redis

from runner.spec.model import SourceSpec
from tests.redis_server import RedisServer
from tests.source.stack import Sample

FAR = 4_102_444_800_123  # 2100, to the millisecond
LIBRARY = """#!lua name=game
redis.register_function('coins', function(keys) return redis.call('GET', keys[1]) end)
"""


def fill(server: RedisServer) -> None:
    """Every type, small and large, odd keys, expiries, three databases, and a function."""
    with server.connect() as client:
        client.set("coins:1", 10)
        client.set("text", b"\x00\xff\r\n binary")
        client.set(b"", b"an empty key")
        client.set(b"\x00\xfe odd\r\n*key $(touch pwned)", "")
        client.set("session:1", "expires", pxat=FAR)
        client.set("long", b"x" * 300_000)
        client.rpush("list", "a", "b", "b", b"\xff", 7)
        client.rpush("long list", *range(5000))
        client.sadd("numbers", *range(300))
        client.sadd("names", "ann", "bob", b"\xfe")
        client.sadd("many", *(f"member {i}" for i in range(3000)))
        client.zadd("ranks", {"ann": 1.5, "bob": float("inf"), "eve": -0.0})
        client.zadd("long ranks", {f"player {i}": i / 7 for i in range(2000)})
        client.hset("player:1", mapping={"name": "ann", "coins": 10, b"\xff": b""})
        client.hset("wide", mapping={f"field {i}": i for i in range(3000)})
        client.expireat("wide", FAR // 1000)
        client.pfadd("visitors", *range(100))
        client.setbit("bits", 4711, 1)
        client.geoadd("places", (13.4, 52.5, "berlin"))
        for number in range(20):
            client.xadd("events", {"n": number}, id=f"{number + 1}-1")
        client.xgroup_create("events", "readers", id="0")
        client.xreadgroup("readers", "one", {"events": ">"}, count=5)
        client.xack("events", "readers", "1-1")
        client.xdel("events", "20-1")
        if server.at_least(7):
            client.function_load(LIBRARY)
    with server.connect(db=3) as client:
        client.set("coins:1", "of another database")
    with server.connect(db=15) as client:
        client.hset("h", "f", "v")


def look(client: Any) -> Any:
    """All keys of all databases with their values and expiries, and the functions, as JSON."""
    found: dict[str, Any] = {}
    for name in sorted(client.info("keyspace")):
        database = int(name.removeprefix("db"))
        client.execute_command("SELECT", database)
        for key in client.scan_iter():
            expires = client.pexpiretime(key)
            found[f"{database} {_text(key)}"] = [_value(client, key), expires]
    client.execute_command("SELECT", 0)
    libraries = client.function_list(withcode=True)
    return {"keys": dict(sorted(found.items())), "functions": _plain(libraries)}


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    readers: dict[bytes, Any] = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: sorted(client.smembers(key)),
        b"zset": lambda: client.zrange(key, 0, -1, withscores=True),
        b"hash": lambda: sorted(client.hgetall(key).items()),
        b"stream": lambda: _stream(client, key),
    }
    return [kind.decode(), _plain(readers[kind]())]


def _stream(client: Any, key: bytes) -> Any:
    full = client.xinfo_stream(key, full=True)
    for name in ("radix-tree-keys", "radix-tree-nodes"):
        full.pop(name)
    for group in full["groups"]:
        for consumer in group["consumers"]:
            for name in ("seen-time", "active-time"):
                consumer.pop(name, None)
    return full


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int) or value is None else repr(value)


def _text(value: bytes) -> str:
    return value.decode("latin-1")


class RedisSample(Sample):
    """A game's server. `server` is set by the test, which has it started."""

    server: RedisServer

    def build(self, folder: Path) -> SourceSpec:
        self.server.empty()
        fill(self.server)
        return SourceSpec("game-cache", "redis", self.server.options, folder)

    def change(self, folder: Path) -> None:
        with self.server.connect() as client:
            client.incr("coins:1")
            client.set("new", time.time_ns())
            client.delete("names")

    def destroy(self, folder: Path) -> None:
        self.server.empty()

    def observe(self, folder: Path) -> Any:
        with self.server.connect() as client:
            return look(client)

    def observe_at(self, destination: str) -> Any:
        from runner.registry import open_source

        spec = SourceSpec("game-cache", "redis", self.server.options, Path(destination))
        with redis.Redis.from_url(open_source(spec).address(destination)) as client:
            return look(client)

    def observe_restored(self, folder: Path) -> Any:
        """Start a server on a copy of the file."""
        from tests.redis_server import running

        with (
            running(password="", content=folder / "dump.rdb") as server,
            server.connect() as client,
        ):
            return look(client)
