"""Records are written once, read back whole, and never fatal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.store.cache import Cache
from runner.store.pinned import pins, untold
from runner.store.records import (
    DrillResult,
    Pin,
    Proof,
    Records,
    Sample,
    Unpin,
    body_of,
    obsolete,
    proofs_body,
    read_records,
    write_record,
)
from runner.target.local import LocalTarget

AT = datetime(2026, 11, 20, 2, 20, 0, 123456, tzinfo=UTC)
FIRST = "20261120T021500Z-nightly-7f3a9c"
SECOND = "20261121T021500Z-nightly-00ff00"
FOLDER = "quaybot/default/.records"


@pytest.fixture
def disk(tmp_path: Path) -> LocalTarget:
    return LocalTarget("disk", tmp_path / "backups")


def proof(snapshot: str = FIRST, **more: object) -> Proof:
    known: dict[str, object] = {
        "snapshot": snapshot,
        "source": "db",
        "target": "disk",
        "level": "restored",
        "verdict": "PASS",
        "at": AT,
        "host": "harbour",
        "basis": "source",
        "key": "declared",
        "reason": "equal",
    }
    return Proof(**{**known, **more})  # type: ignore[arg-type]


def write(target: LocalTarget, kind: str, body: dict[str, object], at: datetime = AT) -> str:
    return write_record(target, "quaybot", "default", kind, body, at)


def read(target: LocalTarget) -> Records:
    return read_records(target, "quaybot", "default")


def test_what_is_written_is_read_back(disk: LocalTarget) -> None:
    proofs = [proof(), proof(source="config", verdict="FAIL", key="none")]
    times = {"system": {"objective": 60, "measured": 12.5, "met": True}}
    drill = DrillResult("run-1", AT, True, {"rto": times})
    write(disk, "proofs", proofs_body(proofs))
    write(disk, "pin", body_of(Pin(FIRST, AT, "ada", AT + timedelta(days=90))))
    write(disk, "unpin", body_of(Unpin(SECOND, AT, "ada")))
    write(disk, "drill", body_of(drill))
    found = read(disk)
    assert found.proofs == tuple(proofs)
    assert found.pins == (Pin(FIRST, AT, "ada", AT + timedelta(days=90)),)
    assert found.unpins == (Unpin(SECOND, AT, "ada"),)
    assert found.drills == (drill,)
    assert found.notes == ()


def test_a_later_word_comes_after_one_that_a_wrong_clock_dated_ahead(
    disk: LocalTarget, tmp_path: Path
) -> None:
    ahead = proof(at=AT + timedelta(days=2))
    later = proof(verdict="FAIL", behind=ahead.place)
    assert ahead.place < later.place
    assert proof(behind=AT - timedelta(days=2)).place == AT
    last = proof(behind=later.place, sample=Sample(0.5, "x", ("db",), ()))
    assert later.place < last.place
    write(disk, "proofs", proofs_body([ahead, later, last]))
    cache = Cache(tmp_path / "cache", "disk")
    for _ in range(2):
        known = read_records(disk, "quaybot", "default", cache)
        assert known.proofs == (ahead, later, last)
        cache.save()
    forged = proof(at=datetime.max.replace(tzinfo=UTC))
    assert proof(verdict="FAIL", behind=forged.place).place == forged.place


def test_its_name_says_when_and_what(disk: LocalTarget) -> None:
    key = write(disk, "proofs", proofs_body([proof()]))
    assert key.startswith(f"{FOLDER}/20261120T022000123456Z-proofs-")
    assert key.endswith(".json")
    assert write(disk, "proofs", proofs_body([proof()])) != key


@pytest.mark.parametrize(
    "times", [None, ["x"], {"db": "soon"}, {"db": {"measured": "soon", "met": True}}, {"db": {}}]
)
def test_a_drill_of_odd_times_is_ignored_and_told(disk: LocalTarget, times: object) -> None:
    write(disk, "drill", body_of(DrillResult("run-1", AT, True, {"rto": times})))
    found = read(disk)
    assert found.drills == ()
    assert "is damaged and ignored" in found.notes[0]


def test_there_are_none_where_nothing_was_written(disk: LocalTarget) -> None:
    assert read(disk) == Records()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("20261120T022000123456Z-proofs-aaaaaa.json", b"{"),
        ("20261120T022000123456Z-proofs-aaaaaa.json", b"\xff\xfe"),
        ("20261120T022000123456Z-proofs-aaaaaa.json", b"[]"),
        ("20261120T022000123456Z-proofs-aaaaaa.json", b"[" * 100_000),
        ("20261120T022000123456Z-proofs-aaaaaa.json", b'{"format": 1, "kind": "pin", "body": {}}'),
        (
            "20261120T022000123456Z-proofs-aaaaaa.json",
            b'{"format": 1, "kind": "proofs", "body": {"proofs": [{"snapshot": []}]}}',
        ),
        (
            "20261120T022000123456Z-pin-aaaaaa.json",
            b'{"format": 1, "kind": "pin", "body": {"snapshot": "../..", "at": "x", "by": "y"}}',
        ),
        ("20261120T022000123456Z-wish-aaaaaa.json", b"{}"),
        ("README", b"hello"),
    ],
)
def test_unknown_and_broken_ones_are_noted_and_ignored(
    disk: LocalTarget, name: str, content: bytes
) -> None:
    write(disk, "proofs", proofs_body([proof()]))
    disk.put(f"{FOLDER}/{name}", [content])
    found = read(disk)
    assert found.proofs == (proof(),)
    assert len(found.notes) == 1
    assert name in found.notes[0]


def test_a_known_record_is_not_read_again(disk: LocalTarget, tmp_path: Path) -> None:
    write(disk, "proofs", proofs_body([proof()]))
    cache = Cache(tmp_path / "cache.json", "here")
    first = read_records(disk, "quaybot", "default", cache)
    cache.save()

    class Unreadable(LocalTarget):
        def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            raise AssertionError(f"{key} was read again")

    again = Unreadable("disk", disk.root)
    cache = Cache(tmp_path / "cache.json", "here")
    assert read_records(again, "quaybot", "default", cache) == first


def held(*words: Pin | Unpin, now: datetime = AT + timedelta(days=10)) -> set[str]:
    each = [
        Records(pins=(one,)) if isinstance(one, Pin) else Records(unpins=(one,)) for one in words
    ]
    return set(pins(each, now))


def test_a_pin_holds_until_its_time_is_over() -> None:
    pin = Pin(FIRST, AT, "ada", AT + timedelta(days=20))
    assert held(pin) == {FIRST}
    assert held(pin, now=AT + timedelta(days=20)) == set()
    assert held(Pin(FIRST, AT, "ada")) == {FIRST}


def test_the_latest_word_counts_whatever_target_it_lies_at() -> None:
    pin, unpin = Pin(FIRST, AT, "ada"), Unpin(FIRST, AT + timedelta(seconds=1), "ada")
    assert held(pin, unpin) == set()
    assert held(unpin, pin) == set()
    assert held(pin, unpin, Pin(FIRST, AT + timedelta(seconds=2), "bob")) == {FIRST}
    assert held(Unpin(FIRST, AT, "ada"), Pin(FIRST, AT, "ada")) == {FIRST}


def test_a_target_that_was_away_is_told_what_is_pinned() -> None:
    pin, over = Pin(FIRST, AT, "ada"), Pin(SECOND, AT, "ada", AT + timedelta(hours=2))
    every, now = {"disk": Records(pins=(pin, over)), "offsite": Records()}, AT + timedelta(days=1)
    assert untold(every, "offsite", {FIRST, SECOND}, now) == [pin]
    assert untold(every, "offsite", {SECOND}, now) == []
    assert untold(every, "disk", {FIRST, SECOND}, now) == []


def test_no_target_unpins_what_lies_at_another() -> None:
    pin, unpin = Pin(FIRST, AT, "ada"), Unpin(FIRST, AT + timedelta(days=999), "eve")
    every = {"disk": Records(pins=(pin,)), "offsite": Records(unpins=(unpin,))}
    assert untold(every, "disk", {FIRST}, AT + timedelta(days=1)) == []


def test_records_that_speak_only_of_what_is_gone_are_obsolete(disk: LocalTarget) -> None:
    gone = write(disk, "proofs", proofs_body([proof()]))
    write(disk, "proofs", proofs_body([proof(), proof(SECOND)]))
    pin = write(disk, "pin", body_of(Pin(FIRST, AT, "ada")))
    write(disk, "drill", body_of(DrillResult("run-1", AT, True)))
    assert obsolete(read(disk), {SECOND}) == sorted([gone, pin])
    assert obsolete(read(disk), {FIRST, SECOND}) == []
