"""Redis on a bad day: what is said, how it ends, and that nothing stays behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer, running
from tests.redis_service import VARIABLE, RedisService
from tests.source.redis_sample import fill, look
from tests.tools import Program

MANAGED = tuple(
    word
    for name in ("SYNC", "PSYNC", "CONFIG", "DEBUG", "BGSAVE", "SAVE", "SHUTDOWN", "REPLICAOF")
    for word in ("--rename-command", name, "")
)


@pytest.fixture
def service(tmp_path: Path, redis_server: RedisServer) -> RedisService:
    return RedisService(tmp_path / "service", redis_server).fill()


def fails(service: RedisService, *words: str, status: int = 4) -> str:
    """A backup that fails says these words, and leaves nothing."""
    before = service.snapshots()
    document = service.json("backup", status=status)
    message: str = document["error"]["message"]
    for word in words:
        assert word.lower() in message.lower(), message
    assert document["snapshots"] == []
    assert service.snapshots() == before
    assert service.leftovers() == []
    return message


def test_a_wrong_password(service: RedisService) -> None:
    service.program = Program(service.folder, {VARIABLE: "not this one"})
    message = fails(service, "password")
    assert "not this one" not in message


def test_a_server_that_is_not_there(service: RedisService) -> None:
    service.source["url"] = "redis://127.0.0.1:1"
    service.declare()
    fails(service, "127.0.0.1:1", "cannot be reached", "running")
    service("list", status=0)
    service("status")


def test_a_user_with_too_few_rights(service: RedisService) -> None:
    with service.server.connect() as client:
        client.acl_setuser("backup", enabled=True, passwords=["+" + service.server.password],
                           keys=["*"], commands=["+ping"])  # fmt: skip
    service.source["user"] = "backup"
    service.declare()
    fails(service, "NOPERM")
    with service.server.connect() as client:
        client.execute_command("ACL", "SETUSER", "backup", "+sync", "+replconf")
    (snapshot,) = service.json("backup")["snapshots"]
    assert any(one["key"].startswith("cache.rdb") for one in snapshot["artifacts"])


# ECHO has too few arguments then.
ODD = ("--rename-command", "SYNC", "", "--rename-command", "ECHO", "SYNC")


@pytest.mark.parametrize("words", [MANAGED, ODD], ids=["unknown", "words of its own"])
def test_a_managed_server_that_sends_no_rdb(tmp_path: Path, words: Sequence[str]) -> None:
    with running(*words) as server:
        fill(server)
        with server.connect() as client:
            before = look(client)
        service = RedisService(tmp_path / "service", server)
        (snapshot,) = service.json("backup")["snapshots"]
        assert any(".resp" in one["key"] for one in snapshot["artifacts"])
        manifest = json.loads((service.snapshots()[0] / "manifest.json").read_text())
        assert manifest["sources"]["cache"]["consistency"] == "fuzzy"
        service("verify", "--level", "restored", status=0)
        with server.connect() as client:
            client.flushall()
            client.set("newer", 1)
        arguments = ("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache")
        service(*arguments, status=0)
        with server.connect() as client:
            assert look(client)["keys"] == before["keys"]
        assert list((service.folder / ".holdfast").rglob("*.before-*.resp"))
        assert service.leftovers() == []


@contextmanager
def ballast(*configuration: str) -> Iterator[RedisServer]:
    """A server with 30 MB."""
    with running(*configuration) as server:
        with server.connect() as client:
            for number in range(30):
                client.set(f"ballast:{number}", bytes(range(256)) * 4096)
        yield server


def meanwhile(action: Callable[[], Any], when: Callable[[], bool]) -> threading.Thread:
    """Do something as soon as it is time."""

    def watch() -> None:
        while not when():
            pass
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_server_that_is_killed_in_mid_stream(tmp_path: Path) -> None:
    with ballast() as server:
        service = RedisService(tmp_path / "service", server)
        with server.connect() as client:
            client.config_set("rdb-key-save-delay", 200_000)
            meanwhile(server.kill, lambda: client.info("persistence")["rdb_bgsave_in_progress"])
            fails(service, "ended the connection")


def test_a_destination_without_memory_is_put_back(tmp_path: Path) -> None:
    with ballast() as server, running("--maxmemory", "12mb") as small:
        service = RedisService(tmp_path / "service", server)
        service("backup", status=0)
        with small.connect() as client:
            client.mset({"ballast:1": "stays", "other": "stays"})
        arguments = ("--to", small.url, "--existing", "overwrite", "--confirm", "cache")
        document = service.json("restore", "--source", "cache", *arguments, status=4)
        assert "maxmemory" in document["error"]["message"]
        with small.connect() as client:
            assert sorted(client.keys()) == [b"ballast:1", b"other"]
            assert client.get("ballast:1") == b"stays"
        assert service.leftovers() == []


def test_a_destination_that_evicts_is_told(tmp_path: Path) -> None:
    small = ("--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru")
    with ballast() as server, running(*small) as evicting:
        service = RedisService(tmp_path / "service", server)
        service("backup", status=0)
        arguments = ("restore", "--source", "cache", "--to", evicting.url)
        document = service.json(*arguments, status=4)
        assert "evict keys" in document["error"]["message"]


def test_a_destination_with_fewer_databases(tmp_path: Path, service: RedisService) -> None:
    service("backup", status=0)
    with running("--databases", "4") as other:
        arguments = ("restore", "--source", "cache", "--to", other.url)
        document = service.json(*arguments, status=4)
        assert "databases" in document["error"]["message"]
        with other.connect() as client:
            assert client.dbsize() == 0


def test_a_server_that_may_not_be_flushed(tmp_path: Path) -> None:
    with running("--rename-command", "FLUSHALL", '""') as server:
        with server.connect() as client:
            client.set("a", 1)
            service = RedisService(tmp_path / "service", server)
            service("backup", status=0)
            client.set("a", 2)
        arguments = ("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache")
        document = service.json(*arguments, status=4)
        assert "flushall" in document["error"]["message"].lower()
        with server.connect() as client:
            assert client.get("a") == b"2"
        assert service.leftovers() == []
