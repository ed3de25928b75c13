"""Restoring keys to a running server: what stays, what is replaced, what is taken back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import Place, redis_capture, redis_names
from tests.redis_server import RedisServer, running
from tests.source.conformance import place_in
from tests.source.redis_sample import LIBRARY, RedisSample
from tests.source.stack import Stack

pytestmark = pytest.mark.usefixtures("no_scratch_left")


class Small(RedisSample):
    """A few keys."""

    def build(self, folder: Path) -> Any:
        spec = super().build(folder)
        self.server.empty()
        with self.server.connect() as client:
            client.mset({"a": 1, "b": 2, "session:1": "one", "session:2": "two"})
            client.sadd("names", *(f"name {i}" for i in range(1000)))
            client.function_load(LIBRARY)
        with self.server.connect(db=2) as client:
            client.set("a", "of database 2")
        return spec


@pytest.fixture
def stack(redis_server: RedisServer, tmp_path: Path) -> Stack:
    sample = Small()
    sample.server = redis_server
    return Stack(tmp_path / "production", sample)


@pytest.fixture
def live(redis_server: RedisServer) -> Any:
    """A client that hangs up after each command: no app uses the server."""
    with redis_server.connect() as client:
        pool: Any = client.connection_pool
        release = pool.release
        pool.release = lambda connection: (connection.disconnect(), release(connection))
        yield client


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path)


def strings(client: Any) -> dict[bytes, bytes]:
    """What is live of the first database, by key."""
    keys = client.keys()
    return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}


def test_skip_leaves_what_exists(stack: Stack, live: Any, place: Place) -> None:
    artifacts = stack.capture()
    live.set("a", "newer")
    live.delete("b", "names")
    live.set("unknown", "stays")
    stack.restore(artifacts, place)
    assert live.mget("a", "b", "unknown") == [b"newer", b"2", b"stays"]
    assert live.scard("names") == 1000


def test_overwrite_replaces_what_exists(stack: Stack, live: Any, place: Place) -> None:
    artifacts = stack.capture()
    live.set("a", "newer")
    live.delete("b")
    live.set("unknown", "stays")
    stack.restore(artifacts, replace(place, existing="overwrite"))
    assert live.mget("a", "b", "unknown") == [b"1", b"2", b"stays"]


def test_flush_leaves_nothing_else(stack: Stack, live: Any, place: Place) -> None:
    original = stack.observe()
    artifacts = stack.capture()
    live.set("a", "newer")
    live.set("unknown", "goes")
    live.function_load(LIBRARY.replace("name=game", "name=other").replace("'coins'", "'more'"))
    stack.restore(artifacts, replace(place, existing="flush"))
    assert stack.observe() == original


@pytest.mark.parametrize("databases", ["all", [0]])
def test_many_keys_that_the_server_counted_come_back(
    stack: Stack,
    redis_server: RedisServer,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    databases: str | list[int],
) -> None:
    monkeypatch.setattr(redis_capture, "COUNTED", 3)
    with redis_server.connect(db=2) as client:
        client.flushdb()
    artifacts = stack.capture()
    assert artifacts.fingerprint["types"] == {"other": 5}
    original = stack.observe()
    stack.destroy()
    stack.spec = replace(stack.spec, options={**stack.spec.options, "databases": databases})
    stack.restore(artifacts, place)
    assert stack.observe()["keys"] == original["keys"]


@pytest.mark.parametrize("existing", ["skip", "overwrite", "flush"])
def test_what_was_live_comes_back(stack: Stack, live: Any, place: Place, existing: str) -> None:
    artifacts = stack.capture()
    live.set("a", "newer", px=3_600_000)
    live.delete("b", "names")
    live.set("unknown", b"\x00\xff")
    live.function_delete("game")
    before = stack.observe()
    place = replace(place, existing=existing)
    stack.restore(artifacts, place)
    assert stack.observe() != before
    stack.source.unswap(place)
    assert stack.observe() == before
    assert not list(place.safety.iterdir() if place.safety else ())


@pytest.mark.parametrize(
    ("pattern", "restored"),
    [("session:*", ["session:1", "session:2"]), ("session:[^2]", ["session:1"]), ("?", ["a", "b"]),
     ("[a-c]", ["a", "b"]), (r"\a", ["a"])],
)  # fmt: skip
def test_a_part_is_restored_by_its_pattern(
    stack: Stack, live: Any, place: Place, pattern: str, restored: list[str]
) -> None:
    artifacts = stack.capture()
    stack.destroy()
    stack.restore(artifacts, replace(place, include=(pattern,)))
    assert sorted(live.keys()) == [key.encode() for key in restored]
    assert live.function_list() == []


def test_a_pattern_that_matches_nothing_is_told(stack: Stack, place: Place) -> None:
    with pytest.raises(UsageError, match=r"matches sesion:\*"):
        stack.source.stage(stack.capture(), replace(place, include=("sesion:*",)))


def test_a_part_cannot_replace_everything(stack: Stack, place: Place) -> None:
    wanted = replace(place, include=("a",), existing="flush")
    with pytest.raises(UsageError, match="empties the whole server"):
        stack.source.stage(stack.capture(), wanted)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [("*", b"\n\xff", True), ("a*c", b"abbc", True), ("[", b"[", True), ("a.c", b"abc", False),
     ("[]x", b"x", False), (r"\*", b"x", False), (r"\*", b"*", True), ("ü*", "ü1".encode(), True)],
)  # fmt: skip
def test_patterns_are_those_of_redis(pattern: str, key: bytes, expected: bool) -> None:
    wanted = redis_names.matches((pattern,))
    assert wanted is not None
    assert wanted(key) == expected


def test_a_server_with_fewer_databases_stays_as_it_is(stack: Stack, place: Place) -> None:
    artifacts = stack.capture()
    with running("--databases", "2", password="") as small, small.connect() as client:
        client.set("a", "of the first database")
        to_small = replace(place, destination=small.url, existing="overwrite")
        stack.source.stage(artifacts, to_small)
        with pytest.raises(StepFailed, match="more databases") as told:
            stack.source.swap(to_small)
        assert "`databases`" in told.value.remedy
        stack.source.unswap(to_small)
        stack.source.discard(to_small)
        assert strings(client) == {b"a": b"of the first database"}


@pytest.mark.parametrize("existing", ["skip", "overwrite"])
def test_keys_that_are_evicted_for_those_that_are_restored_come_back(
    stack: Stack, live: Any, place: Place, existing: str
) -> None:
    live.mset({f"ballast:{number}": b"x" * 1000 for number in range(4000)})
    artifacts = stack.capture()
    with running(password="") as full, full.connect() as client:
        for number in range(4000):
            client.set(f"live:{number}", b"x" * 1000, ex=100_000)
        client.config_set("maxmemory-policy", "volatile-ttl")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_500_000)
        before = sorted(client.keys())
        there = replace(place, destination=full.url, existing=existing)
        stack.source.stage(artifacts, there)
        stack.source.swap(there)
        assert set(before) - set(client.keys())
        with pytest.raises(StepFailed, match="is full: it evicted"):
            stack.source.confirm(there)
        stack.source.unswap(there)
        stack.source.discard(there)
        assert sorted(client.keys()) == before


def test_expired_keys_stay_away(stack: Stack, live: Any, place: Place) -> None:
    live.set("brief", "x", px=300)
    live.set("later", "y", pxat=4_102_444_800_123)
    artifacts = stack.capture()
    stack.destroy()
    ends = time.time() + 0.4
    while time.time() < ends:
        time.sleep(0.05)
    stack.restore(artifacts, place)
    assert not live.exists("brief")
    assert live.pexpiretime("later") == 4_102_444_800_123


def test_keys_that_expire_while_they_are_restored_are_no_difference(
    stack: Stack, live: Any, place: Place
) -> None:
    now = int(time.time() * 1000)
    for number in range(300):
        live.set(f"brief:{number}", "x", pxat=now + 200 + 10 * number)
    artifacts = stack.capture()
    stack.destroy()
    stack.restore(artifacts, place)
    assert live.get("a") == b"1"


def test_a_changed_key_is_seen(stack: Stack, live: Any, place: Place) -> None:
    changes: list[Callable[[], Any]] = [
        lambda: live.srem("names", "name 7"),
        lambda: live.set("a", "other"),
        lambda: live.delete("b"),
        lambda: live.expire("b", 1000),
    ]
    for change in changes:
        artifacts = stack.capture()
        stack.destroy()
        stack.source.stage(artifacts, place)
        stack.source.swap(place)
        change()
        with pytest.raises(StepFailed, match="not as they were restored"):
            stack.source.confirm(place)
        stack.source.unswap(place)
        stack.source.discard(place)
        stack.restore(artifacts, place)
        stack.source.discard(place)


def test_a_key_beside_what_replaced_everything_is_seen(
    stack: Stack, live: Any, place: Place
) -> None:
    place = replace(place, existing="flush")
    stack.source.stage(stack.capture(), place)
    stack.source.swap(place)
    live.set("written", "by an app")
    with pytest.raises(StepFailed, match="came into being"):
        stack.source.confirm(place)
    stack.source.confirm(replace(place, running=True))


def test_a_server_in_use_is_not_replaced(
    stack: Stack, redis_server: RedisServer, place: Place
) -> None:
    with redis_server.connect(client_name="the-app") as app:
        app.get("a")
        with pytest.raises(PersonNeeded, match="the-app"):
            stack.source.gate(replace(place, existing="flush"))
        stack.source.gate(place)
        stack.source.gate(replace(place, existing="flush", running=True))


@pytest.mark.parametrize("existing", ["skip", "overwrite", "flush"])
def test_a_kill_in_the_middle_is_taken_back_or_gone_on_from(
    stack: Stack, live: Any, place: Place, existing: str
) -> None:
    place = replace(place, existing=existing)
    live.delete("names")
    live.mset({f"key:{number}": "x" * 50 for number in range(30_000)})
    artifacts = stack.capture()
    original = strings(live)
    live.flushall()
    live.mset({f"key:{number}": "newer" for number in range(0, 30_000, 3)})
    live.set("unknown", "stays")
    changed = strings(live)

    stack.source.stage(artifacts, place)
    kill_while_it_swaps(stack, place)
    assert stack.source.swapped(place) == "partial"
    stack.source.unswap(place)
    assert strings(live) == changed

    kill_while_it_swaps(stack, place)
    stack.source.swap(place)
    stack.source.confirm(place)
    expected = {"skip": original | changed, "overwrite": changed | original, "flush": original}
    assert strings(live) == expected[existing]
    if existing != "flush":
        stack.source.unswap(place)
        assert strings(live) == changed


def kill_while_it_swaps(stack: Stack, place: Place) -> None:
    """Let another process swap, and kill it once some keys are in."""
    assert place.workspace is not None
    outcomes = place.workspace / "outcomes.0"
    child = os.fork()
    if child == 0:
        stack.source.swap(place)
        os._exit(0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (outcomes.exists() and outcomes.stat().st_size):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
