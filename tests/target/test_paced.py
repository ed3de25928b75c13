"""A target with a `bandwidth` takes and gives no more than that in a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.registry import open_target
from runner.spec.model import TargetSpec
from runner.target import KeyExists, Target
from tests.target.conformance import keys, read

MIB = 1024 * 1024
BANDWIDTH = 8 * MIB

# The last slice is handed on at once, and there are ten of them in a second.
TOLERANCE = 1.35


def target_at(folder: Path, bandwidth: int | None) -> Target:
    options = {"path": str(folder), "bandwidth": bandwidth}
    given = {name: one for name, one in options.items() if one is not None}
    return open_target(TargetSpec("disk", "local", given, folder))


def rate(size: int, act: Callable[[], object]) -> float:
    """Bytes a second."""
    began = time.monotonic()
    act()
    return size / (time.monotonic() - began)


def test_what_goes_there_is_limited(tmp_path: Path) -> None:
    target, data = target_at(tmp_path / "kept", BANDWIDTH), os.urandom(4 * MIB)
    assert rate(len(data), lambda: target.put("a", [data])) < TOLERANCE * BANDWIDTH
    assert read(target_at(tmp_path / "kept", None), "a") == data


def test_what_comes_from_there_is_limited(tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    target_at(tmp_path / "kept", None).put("a", [data])
    target = target_at(tmp_path / "kept", BANDWIDTH)
    assert rate(len(data), lambda: read(target, "a")) < TOLERANCE * BANDWIDTH
    assert b"".join(target.get("a", offset=7, length=9)) == data[7:16]


def test_several_at_once_share_it(tmp_path: Path) -> None:
    target, data = target_at(tmp_path / "kept", BANDWIDTH), os.urandom(2 * MIB)
    puts = [threading.Thread(target=target.put, args=(key, [data])) for key in "abc"]

    def together() -> None:
        for put in puts:
            put.start()
        for put in puts:
            put.join()

    assert rate(3 * len(data), together) < TOLERANCE * BANDWIDTH
    assert keys(target) == ["a", "b", "c"]


def test_all_else_is_as_the_target_does_it(tmp_path: Path) -> None:
    target = target_at(tmp_path / "kept", BANDWIDTH)
    target.put("a", [b"first"], exclusive=True)
    with pytest.raises(KeyExists):
        target.put("a", [b"second"], exclusive=True)
    with pytest.raises(FileNotFoundError):
        target.get("b")
    assert target.name == "disk"


def test_a_limit_that_lets_nothing_through_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lets nothing through"):
        target_at(tmp_path / "kept", 0)
