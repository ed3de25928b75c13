"""Small objects are read several at a time, and come out as if they were read one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.spec.model import TargetSpec
from runner.store.read_ahead import at_once, reading_ahead
from runner.target import Entry
from runner.target.local import LocalTarget, open_target


@pytest.fixture(params=[1, 4])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> LocalTarget:
    """A target with a hundred objects."""
    one = open_target(TargetSpec("disk", "local", {"path": "kept"}, tmp_path))
    for number in range(100):
        one.put(f"a/{number:03}", [b"%d" % number])
    one.reads_at_once = request.param  # type: ignore[attr-defined]
    return one


def reader(target: LocalTarget) -> Callable[[Entry], bytes]:
    return lambda entry: b"".join(target.get(entry.key))


def test_each_is_what_was_asked_for(target: LocalTarget) -> None:
    entries = sorted(target.entries("a"), key=lambda one: one.key)
    with reading_ahead(reader(target), entries, at_once(target)) as ahead:
        assert [ahead.read(one) for one in entries] == [b"%d" % n for n in range(100)]
        assert ahead.read(entries[7]) == b"7"


def test_one_that_is_gone_is_told_where_it_is_asked_for(target: LocalTarget) -> None:
    entries = sorted(target.entries("a"), key=lambda one: one.key)
    target.delete("a/002")
    with reading_ahead(reader(target), entries, at_once(target)) as ahead:
        assert [ahead.read(one) for one in entries[:2]] == [b"0", b"1"]
        with pytest.raises(FileNotFoundError):
            ahead.read(entries[2])
        assert ahead.read(entries[3]) == b"3"
