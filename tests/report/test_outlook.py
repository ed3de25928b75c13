"""What `status` says of recoveries to come, from the records and sizes that there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.report.drill_facts import past
from runner.report.evidence import examine_chain
from runner.report.foresight import foreseen, forget, remember
from runner.report.opened import was_opened
from runner.report.outlook import outlook, seen, warnings
from runner.spec.check import warnings as doubts
from runner.spec.load import load_spec
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.records import DrillResult, Records
from runner.store.seal import keygen
from runner.store.view import Snapshot, SourceView
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.spec.builders import SMALL, write_spec

NOW = datetime(2026, 11, 20, tzinfo=UTC)
_, MINE = keygen()
GB = 10**9


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    more = "objectives: {db: {rto: 2h}}\nrecovery: [{restore: [db, config]}]\n"
    return load_spec(write_spec(tmp_path, SMALL + more), None, environment={})


def snapshot(week: int, size: int) -> Snapshot:
    at = NOW + timedelta(weeks=week)
    views = {"db": SourceView(at, "sqlite", size), "config": SourceView(at, "files", 1000)}
    return Snapshot.expected(
        id=f"{at:%Y%m%dT%H%M%SZ}-nightly-{week + 9:06x}",
        policy="nightly",
        sequence=week + 9,
        created_at=at,
        sources=views,
        target="disk",
    )


def drill(size: int, seconds: float) -> DrillResult:
    details: dict[str, Any] = {
        "rto": {"db": {"measured": seconds}, "system": {"measured": seconds}},
        "sources": {"db": {"restore": seconds}, "config": {"restore": 0.0}},
        "bytes": {"db": size, "config": 1000},
    }
    return DrillResult(f"20261101T000000Z-drill-{size // GB:06x}", NOW, ok=True, details=details)


def catalog(sizes: list[int], drills: list[DrillResult]) -> Catalog:
    snapshots = [snapshot(week - len(sizes), size) for week, size in enumerate(sizes)]
    return Catalog(tuple(reversed(snapshots)), records={"disk": Records(drills=tuple(drills))})


def test_growth_is_told_weeks_before(spec: Spec) -> None:
    drills = [drill(size * GB, 6.0 * size) for size in (100, 200, 300)]
    rows = outlook(spec, seen(spec, catalog([400 * GB, 500 * GB, 600 * GB], drills)))
    assert [row["of"] for row in rows] == ["system", "db"]
    (words,) = warnings(rows)
    assert "the RTO of db, 2h, is missed in 6 weeks" in words
    assert "1h to 1h" in words


def test_what_is_missed_already_and_what_is_not(spec: Spec) -> None:
    drills = [drill(size * GB, 6.0 * size) for size in (100, 200, 300)]
    (words,) = warnings(outlook(spec, seen(spec, catalog([2000 * GB], drills))))
    assert words.startswith("By its size now, recovering db takes ")
    assert list(warnings(outlook(spec, seen(spec, catalog([400 * GB], drills))))) == []
    assert outlook(spec, seen(spec, catalog([400 * GB], []))) == []


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"rto": {"system": 12.5}, "sources": [], "bytes": 3},
        {"rto": {"db": {"measured": "soon"}}, "sources": {"db": {"x": 1}}, "bytes": {"db": 1}},
        {"rto": {"db": {"measured": -1}}, "sources": {"db": {"x": 1e999}}, "bytes": {"db": 1}},
        {"rto": None, "sources": {"db": None}, "bytes": {"db": None}},
    ],
)
def test_an_odd_record_foretells_nothing(spec: Spec, details: dict[str, Any]) -> None:
    odd = DrillResult("20261101T000000Z-drill-000001", NOW, ok=True, details=details)
    assert outlook(spec, seen(spec, catalog([GB], [odd]))) == []
    assert past([odd])[0]["run"] == odd.run
    (row,) = examine_chain(spec, [odd], Path("/nowhere"), None)
    assert row["verdict"] == "COULD-NOT-VERIFY"


@pytest.mark.parametrize(
    ("details", "opened"),
    [
        ({"encrypted": True, "recipients": [MINE]}, True),
        ({"encrypted": True, "recipients": ["age1other", MINE]}, True),
        ({"encrypted": True, "recipients": ["age1other"]}, False),
        ({"encrypted": True, "recipients": []}, False),
        ({"encrypted": True, "recipients": [{}, [MINE], None]}, False),
        ({"encrypted": True, "recipients": MINE}, True),
        ({"encrypted": True}, True),
        ({"encrypted": "yes"}, False),
        ({}, False),
    ],
)
def test_which_drills_have_tried_the_declared_keys(
    tmp_path: Path, details: dict[str, Any], opened: bool
) -> None:
    """Those of older versions said only that something was encrypted."""
    more = f"encryption: {{recipients: [{MINE}]}}\n"
    spec = load_spec(write_spec(tmp_path, SMALL + more), None, environment={})
    result = DrillResult("20261101T000000Z-drill-000001", NOW, ok=True, details=details)
    assert was_opened(spec, catalog([GB], [result])) is opened
    missed = replace(result, ok=False)  # the objectives, say
    known = isinstance(details.get("recipients"), list)
    assert was_opened(spec, catalog([GB], [missed])) is (opened and known)


def test_status_foretells_after_a_drill(tmp_path: Path) -> None:
    service = Service(tmp_path / "service", SPEC.replace("rto: 10m", "rto: 1ms")).build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    assert holdfast.json("status")["forecasts"] == []
    holdfast("drill", status=5)
    document = holdfast.json("status", status=4)  # the last drill did not pass
    (db,) = [row for row in document["forecasts"] if row["of"] == "db"]
    assert 0 < db["low"] < db["seconds"] < db["high"]
    assert db["missed_in"] == 0
    assert "Warning: By its size now, recovering db" in holdfast("status", status=4).stdout


def test_validate_says_what_this_machine_saw_last(spec: Spec) -> None:
    assert foreseen(spec) == ()
    drills = [drill(size * GB, 6.0 * size) for size in (100, 200, 300)]
    growing = catalog([400 * GB, 500 * GB, 600 * GB], drills)
    remember(spec, seen(spec, growing), NOW)
    (one,) = foreseen(spec)
    assert one.message.startswith("As this machine saw it at 2026-11-20T00:00:00Z: At this growth")
    assert (one.path, one.line) == ("objectives.db.rto", spec.text.count(b"\n") - 1)
    kept = next((spec.state / "cache").iterdir())
    for odd in (b"", b"{}", b"[1]", kept.read_bytes().replace(b"20", b"2O")):
        kept.write_bytes(odd)
        assert foreseen(spec) == ()
    remember(spec, seen(spec, growing), NOW)
    forget(spec)
    assert foreseen(spec) == ()


def test_validate_warns_of_keys_that_nobody_tried(tmp_path: Path) -> None:
    identity, recipient = keygen()
    (tmp_path / "key").write_text(identity)
    (tmp_path / "key").chmod(0o600)
    declared = f"encryption: {{recipients: [{recipient}], identity: {{secret: 'file:../key'}}}}\n"
    service = Service(tmp_path / "service", SPEC + declared).build()
    holdfast = Inside(service.folder)

    def warned() -> bool:
        found = holdfast.json("validate")["warnings"]
        return any("has ever opened a snapshot" in one["message"] for one in found)

    assert not warned(), "there is nothing to open yet"
    holdfast("backup", "--no-prune", status=0)
    assert warned()
    holdfast("verify", "--level", "restored", status=0)
    assert not warned()
    for command in ("status", "backup"):
        holdfast(command, status=0)
        assert not warned()


def test_a_backup_that_opens_what_it_wrote_has_tried_the_identity(tmp_path: Path) -> None:
    recipient = Inside(tmp_path).json("keygen", "--out", "key")["recipient"]
    declared = f"encryption: {{recipients: [{recipient}], identity: {{secret: 'file:../key'}}}}\n"
    spec = SPEC.replace("verify: stored", "verify: readable") + declared
    holdfast = Inside(Service(tmp_path / "service", spec).build().folder)
    holdfast("backup", status=0)
    found = holdfast.json("validate")["warnings"]
    assert not any("has ever opened" in one["message"] for one in found)


def test_a_drill_that_missed_its_objectives_has_tried_the_key(tmp_path: Path) -> None:
    recipient = Inside(tmp_path).json("keygen", "--out", "key")["recipient"]
    spec = SPEC.replace("rto: 10m", "rto: 1ms") + f"encryption: {{recipients: [{recipient}]}}\n"
    holdfast = Inside(Service(tmp_path / "service", spec).build().folder)
    holdfast("backup", status=0)
    assert "has ever opened" in holdfast("status").stdout
    (tmp_path / "other").write_text(keygen()[0])
    (tmp_path / "other").chmod(0o600)
    holdfast("drill", "--identity", tmp_path / "other", status=5)
    assert "has ever opened" in holdfast("status").stdout
    holdfast("drill", "--identity", tmp_path / "key", status=5)
    assert "has ever opened" not in holdfast("status").stdout


def test_keys_that_were_exchanged_are_to_be_tried_again(tmp_path: Path) -> None:
    made = [Inside(tmp_path).json("keygen", "--out", name)["recipient"] for name in ("old", "new")]
    declared = [SPEC + f"encryption: {{recipients: [{one}]}}\n" for one in made]
    service = Service(tmp_path / "service", declared[0]).build()
    holdfast = Inside(service.folder)

    def warned() -> bool:
        found = holdfast.json("validate")["warnings"]
        return any("identity of a declared recipient" in one["message"] for one in found)

    holdfast("backup", status=0)
    assert warned()
    holdfast("drill", "--identity", tmp_path / "old", status=0)
    holdfast("backup", status=0)
    assert not warned()
    (service.folder / "backup.yaml").write_text(declared[1])
    holdfast("backup", status=0)
    assert warned(), "what opens these was never tried"
    holdfast("drill", "--identity", tmp_path / "new", status=0)
    holdfast("status")
    assert not warned()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('{name: dns, manual: "Point it.", expected: 2h}', "cannot be back within 1h"),
        ('{name: dns, manual: "Point it."}', "A drill leaves `dns` out"),
        ('{name: deploy, run: "make"}', "A drill leaves `deploy` out"),
        ('{name: deploy, run: "make", timeout: 5m}', ""),
        ('{name: deploy, run: "make", drill: same}', ""),
        ('{name: clean, run: "make", when: failure}', ""),
    ],
)
def test_what_the_spec_alone_knows(tmp_path: Path, step: str, words: str) -> None:
    more = f"objectives: {{system: {{rto: 1h}}}}\nrecovery: [{{restore: [db, config]}}, {step}]\n"
    spec = load_spec(write_spec(tmp_path, SMALL + more), None, environment={})
    found = [
        one.message for one in doubts(spec) if "leaves" in one.message or "back" in one.message
    ]
    found = [one for one in found if "backed up" not in one]
    assert bool(found) is bool(words)
    assert all(words in one for one in found)
