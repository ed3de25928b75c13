"""A cluster restored to a cluster: each key to the primary that has its slot."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from runner.registry import open_source
from runner.source.redis_names import slot_of
from runner.spec.model import SourceSpec
from tests.redis_server import RedisServer
from tests.source.conformance import place_in
from tests.source.stack import FolderArtifacts, FolderCapture
from tests.source.test_redis_capture import cluster

pytestmark = pytest.mark.usefixtures("no_scratch_left")


def put(nodes: Sequence[RedisServer], pairs: dict[str, str]) -> None:
    for node in nodes:
        with node.connect() as client:
            for key, value in pairs.items():
                with contextlib.suppress(Exception):  # MOVED: another one has it
                    client.set(key, value)


def held(nodes: Sequence[RedisServer]) -> dict[bytes, bytes]:
    found = {}
    for node in nodes:
        with node.connect() as client:
            found.update({key: client.get(key) for key in client.scan_iter()})
    return found


@pytest.mark.slow
def test_a_cluster_comes_back(tmp_path: Path) -> None:
    with cluster(3) as nodes:
        put(nodes, {f"key {number}": "then" for number in range(500)})
        then = held(nodes)
        assert len(then) == 500
        source = open_source(SourceSpec("cache", "redis", nodes[1].options, tmp_path))
        store = FolderCapture(tmp_path / "snapshot", "cache")
        artifacts = FolderArtifacts(store, source.capture(store).fingerprint)
        put(nodes, {f"key {number}": "now" for number in range(0, 500, 3)} | {"new": "now"})
        now = held(nodes)
        place = replace(place_in(tmp_path), existing="flush")
        source.stage(artifacts, place)
        found = source.fingerprint(place)
        assert list(source.differences(artifacts.fingerprint, found, place)) == []
        assert len(source.swap(place)) == 3
        source.confirm(place)
        assert held(nodes) == then
        source.unswap(place)
        assert held(nodes) == now
        assert source.swapped(place) == "absent"
        source.swap(replace(place, existing="overwrite"))
        source.confirm(place)
        assert held(nodes) == now | then
        source.unswap(replace(place, existing="overwrite"))
        assert held(nodes) == now


@pytest.mark.slow
def test_a_drill_of_a_cluster_needs_one_server(tmp_path: Path) -> None:
    with cluster(2) as nodes:
        put(nodes, {f"key {number}": "then" for number in range(100)})
        source = open_source(SourceSpec("cache", "redis", nodes[0].options, tmp_path))
        store = FolderCapture(tmp_path / "snapshot", "cache")
        artifacts = FolderArtifacts(store, source.capture(store).fingerprint)
    place = place_in(tmp_path, str(tmp_path / "scratch"))
    source.stage(artifacts, place)
    source.swap(place)
    source.confirm(place)
    assert source.ask("redis", "DBSIZE", place.destination, 10) == 100


def test_slots_are_those_of_redis() -> None:
    assert [slot_of(key) for key in (b"foo", b"{user1000}.following", b"{}x")] == [
        12182,
        slot_of(b"user1000"),
        slot_of(b"{}x"),
    ]
    assert slot_of(b"{}x") != slot_of(b"")
