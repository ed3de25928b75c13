"""What a capture of a Redis server stores and tells, on servers that allow more or less."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.errors import StepFailed
from runner.source import redis_capture
from runner.source.redis_connect import Rejected, Unreachable, connect
from runner.source.redis_keys import dump_keys
from runner.source.redis_live import changed_mark
from runner.source.redis_rdb import Rdb
from runner.source.redis_resp import commands
from tests.redis_server import PATIENCE_SECONDS, RedisServer, free_port, running
from tests.source.redis_reading import address, broken_pairs, capture, moving, user
from tests.source.redis_sample import fill, look
from tests.tools import require_program

MANAGED = ("--rename-command", "SYNC", "", "--rename-command", "PSYNC", "",
           "--rename-command", "CONFIG", "")  # fmt: skip


def replayed(resp: bytes, server: RedisServer) -> None:
    """Give the portable form to a server as RESTORE.md says."""
    redis_cli = require_program("redis-cli")
    done = subprocess.run(
        [redis_cli, "-s", server.socket, "--pipe"],
        input=resp,
        env={"REDISCLI_AUTH": server.password},
        capture_output=True,
        check=False,
    )
    assert b"errors: 0" in done.stdout, done.stdout + done.stderr


def test_another_user_is_a_change(redis_server: RedisServer) -> None:
    with connect(address(redis_server)) as connection:
        before = changed_mark(connection)
        user(redis_server, "ann", "~game:*", "+get")
        assert changed_mark(connection) != before
        connection.call("ACL", "DELUSER", "ann")
        assert changed_mark(connection) == before


def test_keys_that_a_user_may_not_read_are_no_part_that_is_left_out(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.connect() as client:
        client.mset({"game:1": "a", "other": "b"})
    for name, rights in (("ann", ("+@all",)), ("bob", ("+@read", "+ping", "+info"))):
        given = user(redis_server, name, "~game:*", *rights)
        with pytest.raises(Rejected) as caught:
            capture(redis_server, tmp_path / name, method="keys", **given)
        assert "key" in caught.value.text
        assert "~pattern" in caught.value.remedy


def test_a_user_who_may_not_ask_when_keys_expire_is_told_at_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.connect() as client:
        client.set("a", 1)
    given = user(redis_server, "ann", "~*", "+@all", "-pexpiretime", "-time")
    with pytest.raises(Rejected, match="'time'"):
        capture(redis_server, tmp_path, method="keys", **given)


def test_stores_an_rdb_the_users_and_counts(redis_server: RedisServer, tmp_path: Path) -> None:
    fill(redis_server)
    user(redis_server, "ann", "~game:*", "+get")
    before = datetime.now(UTC).replace(microsecond=0)
    captured, artifacts = capture(redis_server, tmp_path)
    assert captured.consistency == "exact"
    assert before <= captured.taken_at <= datetime.now(UTC)
    assert [(one.part, one.form) for one in artifacts.capture.stored] == [
        ("", "rdb"), ("acl", "json"),
    ]  # fmt: skip
    assert captured.fingerprint["databases"] == {
        "0": {"keys": 19}, "3": {"keys": 1}, "15": {"keys": 1},
    }  # fmt: skip
    assert captured.fingerprint["types"]["stream"] == 1
    assert captured.fingerprint["functions"] == 1
    assert captured.versions["redis"].count(".") == 2
    users = json.loads(b"".join(artifacts.read("acl")))["users"]
    assert [line.split()[1] for line in users] == ["ann", "default"]


def test_a_server_without_a_key_is_told(redis_server: RedisServer, tmp_path: Path) -> None:
    assert capture(redis_server, tmp_path / "empty")[0].notes == ("it holds no key at all",)
    fill(redis_server)
    assert capture(redis_server, tmp_path / "filled")[0].notes == ()


def test_a_managed_server_is_read_key_by_key(tmp_path: Path) -> None:
    with running(*MANAGED) as server, running() as other:
        fill(server)
        captured, artifacts = capture(server, tmp_path)
        assert captured.consistency == "fuzzy"
        assert "unknown command" in captured.notes[0]
        assert "each key was read alone" in captured.notes[0]
        assert artifacts.capture.stored[0].form == "resp"
        replayed(b"".join(artifacts.read()), other)
        with server.connect() as client, other.connect() as restored:
            assert look(restored) == look(client)


def test_a_key_that_the_cursor_gives_twice_is_stored_once(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.flushall()
        client.mset({f"key {n}": n for n in range(40_000)})
        # Half of it is read; then the table shrinks, and the cursor begins again with some.
        chunks = dump_keys(address(redis_server))
        data = b"".join(itertools.islice(chunks, 25))
        client.delete(*(f"key {n}" for n in range(2_000, 40_000)))
        deadline = time.monotonic() + 60
        while client.memory_stats()["db.0"]["overhead.hashtable.main"] > 400_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        data += b"".join(chunks)
    names = [words[1] for words in commands([data]) if words[0] == b"RESTORE"]
    assert {b"key %d" % n for n in range(2_000)} <= set(names)
    assert len(names) == len(set(names))


def test_sync_is_never_replaced_where_it_was_asked_for(tmp_path: Path) -> None:
    with running(*MANAGED) as server, pytest.raises(Rejected, match="SYNC"):
        capture(server, tmp_path, method="sync")


def test_keys_are_of_one_instant_while_writers_are_paused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with moving(redis_server):
        captured, artifacts = capture(redis_server, tmp_path, method="keys", pause=60.0)
    assert (captured.consistency, captured.notes) == ("exact", ())
    with running() as other, other.connect() as client:
        replayed(b"".join(artifacts.read()), other)
        assert broken_pairs(client.get) == []


def test_a_pause_that_is_too_short_is_told(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis_server.connect() as client:
        client.mset({f"key {n}": "x" * 1000 for n in range(5000)})
        captured, _ = capture(redis_server, tmp_path, method="keys", pause=0.001)
        assert captured.consistency == "fuzzy"
        assert "took longer" in captured.notes[0]
        assert client.set("written", 1)  # nobody waits any more


def test_writers_go_on_after_a_capture_that_failed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.connect() as client:
        client.set("a", 1)
        reader = user(redis_server, "reader", "~*", "+@all", "-dump")
        with pytest.raises(Rejected, match="dump"):
            capture(redis_server, tmp_path, method="keys", pause=3600.0, **reader)
        assert client.set("a", 2)


def test_keys_expire_when_they_did(redis_server: RedisServer, tmp_path: Path) -> None:
    at = int(time.time() * 1000) + 3_600_123
    with redis_server.connect() as client:
        client.set("soon", 1, pxat=at)
        client.set("never", 1)
    for method in ("sync", "keys"):
        (tmp_path / method).mkdir()
        _, artifacts = capture(redis_server, tmp_path / method, method=method)
        if method == "sync":
            entries = Rdb(artifacts.read()).entries()
            found = {entry.key: entry.expires or 0 for entry in entries}
        else:
            found = {one[1]: int(one[2]) for one in commands(artifacts.read()) if len(one) > 3}
        assert found == {b"soon": at, b"never": 0}


def test_users_that_may_not_be_read_are_told(redis_server: RedisServer, tmp_path: Path) -> None:
    least = user(redis_server, "least", "+sync", "+replconf")
    captured, artifacts = capture(redis_server, tmp_path, **least)
    assert captured.consistency == "exact"
    assert any("users were not saved" in note for note in captured.notes)
    assert list(artifacts.parts) == [""]


def test_functions_that_may_not_be_read_are_told(redis_server: RedisServer, tmp_path: Path) -> None:
    fill(redis_server)
    limited = user(redis_server, "limited", "~*", "+@all", "-sync", "-function")
    captured, _ = capture(redis_server, tmp_path, **limited)
    assert captured.fingerprint["functions"] == 0
    assert any("functions were not saved: NOPERM" in note for note in captured.notes)


def test_a_replica_that_lost_its_primary_is_as_old_as_that(tmp_path: Path) -> None:
    with running() as primary:
        where = ("--replicaof", f"127.0.0.1 {primary.port}", "--masterauth", primary.password)
        with running(*where) as replica, replica.connect() as client:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.02)
            primary.kill()
            while "master_link_down_since_seconds" not in client.info("replication"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            captured, _ = capture(replica, tmp_path, method="keys")
            assert any("a replica without its primary" in note for note in captured.notes)


def test_a_full_target_leaves_no_pause_and_no_replica(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    from runner.source.redis_capture import capture_server
    from tests.source.stack import FolderCapture

    with redis_server.connect() as client:
        client.mset({f"key {n}": "x" * 1000 for n in range(5000)})
        store = FolderCapture(tmp_path / "snapshot", "cache", full_after=100_000)
        with pytest.raises(StepFailed, match="target is full"):
            capture_server(address(redis_server), {}, store)
        assert client.set("a", 1)
        deadline = time.monotonic() + 60
        while client.info("replication")["connected_slaves"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.info("replication")["connected_slaves"] == 0


def knows_all(node: RedisServer, size: int) -> bool:
    with node.connect() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size))


@contextlib.contextmanager
def cluster(size: int) -> Iterator[list[RedisServer]]:
    """Primaries that share the slots evenly, and know of each other."""
    with contextlib.ExitStack() as stack:
        enabled = ("--cluster-enabled", "yes", "--cluster-port")
        nodes = [stack.enter_context(running(*enabled, str(free_port()))) for _ in range(size)]
        meeting = ("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].configuration[-1])
        for number, node in enumerate(nodes):
            with node.connect() as client:
                low, high = (16384 * at // size for at in (number, number + 1))
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
                client.execute_command(*meeting)
        deadline = time.monotonic() + 60
        for node in nodes:
            while not knows_all(node, size):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield nodes


@pytest.mark.slow
def test_a_cluster_gives_an_artifact_for_each_primary(tmp_path: Path) -> None:
    with cluster(3) as nodes:
        for number, node in enumerate(nodes):
            with node.connect() as client:
                for key in range(300):
                    with contextlib.suppress(Exception):  # MOVED: another one has it
                        client.set(f"key {key}", number)
        captured, artifacts = capture(nodes[1], tmp_path)
    assert list(artifacts.parts) == ["slot-0", "slot-5461", "slot-10922", "acl"]
    names = [
        entry.key
        for part in list(artifacts.parts)[:3]
        for entry in Rdb(artifacts.read(part)).entries()
    ]
    assert sorted(names) == sorted(b"key %d" % key for key in range(300))
    assert captured.fingerprint["databases"] == {"0": {"keys": 300}}
    assert captured.notes[0] == "a cluster of 3 primaries, each of its own instant"


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    with running() as server:
        server.stop()
        with pytest.raises(Unreachable, match="cannot be reached"):
            capture(server, tmp_path)


def test_many_keys_of_one_database_are_counted_by_the_server(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_capture, "COUNTED", 10)
    with redis_server.connect() as client:
        client.mset({f"key {n}": n for n in range(500)})
    captured, artifacts = capture(redis_server, tmp_path)
    assert captured.fingerprint["databases"] == {"0": {"keys": 500}}
    assert len(list(Rdb(artifacts.read()).entries())) == 500
    with redis_server.connect(db=3) as client:
        client.set("a", 1)
    (tmp_path / "later").mkdir()
    captured, _ = capture(redis_server, tmp_path / "later")
    assert captured.fingerprint["databases"] == {"0": {"keys": 500}, "3": {"keys": 1}}
