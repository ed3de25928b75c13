"""The catalog of real folders: what is there, what is damaged, what is newest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import StepFailed, UsageError
from runner.store.catalog import (
    Catalog,
    next_sequence,
    predecessor,
    read_catalog,
    read_manifest,
)
from runner.store.records import DrillResult, Pin, Proof, Unpin, body_of, proofs_body, write_record
from runner.target import Entry
from runner.target.local import LocalTarget
from tests.store.builders import PROFILE, PROJECT, START, Made, Recipe, make, series

NOW = START + timedelta(days=400)
DAY = timedelta(days=1)


class Watched(LocalTarget):
    """A folder that counts what is read from it."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.read: list[str] = []

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.read.append(key)
        return super().get(key, offset=offset, length=length)


class Gone(LocalTarget):
    """A folder on a disk that is not there any more."""

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        raise StepFailed(f"{self.name} does not answer.", remedy="Plug it in.")


@pytest.fixture
def disk(tmp_path: Path) -> Watched:
    return Watched("disk", tmp_path / "disk")


@pytest.fixture
def nas(tmp_path: Path) -> Watched:
    return Watched("nas", tmp_path / "nas")


def read(*targets: LocalTarget, cache: Path | None = None, now: datetime = NOW) -> Catalog:
    return read_catalog({one.name: one for one in targets}, PROJECT, PROFILE, cache=cache, now=now)


def folder(target: LocalTarget, made: Made) -> Path:
    return target.root / PROJECT / PROFILE / made.id


def proof(made: Made, level: str = "stored", **more: object) -> Proof:
    known: dict[str, object] = {
        "snapshot": made.id,
        "source": "",
        "target": "disk",
        "level": level,
        "verdict": "PASS",
        "at": NOW,
        "host": "harbour",
        "basis": "stored",
    }
    return Proof(**{**known, **more})  # type: ignore[arg-type]


def record(target: LocalTarget, *proofs: Proof) -> None:
    write_record(target, PROJECT, PROFILE, "proofs", proofs_body(proofs), NOW)


def test_nothing_anywhere_is_an_empty_catalog(disk: Watched) -> None:
    assert read(disk) == Catalog(records={"disk": read(disk).records["disk"]})
    assert next_sequence(read(disk)) == 1
    assert predecessor(read(disk)) is None


def test_a_snapshot_is_what_its_manifest_says(disk: Watched) -> None:
    made = make(
        Recipe(
            sequence=7,
            missing=("cache",),
            unchanged={"code": "20251231T021500Z-nightly-000000"},
            bases={"db": "20251231T021500Z-nightly-000000"},
            taken_at={"db": START + timedelta(seconds=9)},
            encrypted=True,
        )
    ).store(disk)
    (one,) = read(disk).snapshots
    assert (one.id, one.policy, one.sequence) == (made.id, "nightly", 7)
    assert (one.created_at, one.host, one.encrypted) == (START, "harbour", True)
    assert one.sources["db"].taken_at == START + timedelta(seconds=9)
    assert one.sources["db"].bytes == sum(a.bytes for a in made.manifest.of("db"))
    assert one.missing == ("cache",)
    assert one.bases == {"20251231T021500Z-nightly-000000"}
    assert one.covers == {
        "code": START,
        "db": START + timedelta(seconds=9),
        "config": START,
    }
    assert one.manifest_sha256 == made.link["sha256"]
    assert one.targets == ("disk",)


def test_the_sequence_decides_which_is_newest(disk: Watched) -> None:
    late = make(Recipe(sequence=1, at=START + 30 * DAY, token="aaaaaa")).store(disk)
    early = make(Recipe(sequence=2, at=START, token="bbbbbb")).store(disk)
    catalog = read(disk)
    assert [one.id for one in catalog.snapshots] == [early.id, late.id]
    assert next_sequence(catalog) == 3
    assert predecessor(catalog) == early.link


def test_a_folder_without_a_manifest_is_no_snapshot(disk: Watched) -> None:
    whole, half = (made.store(disk) for made in series(2))
    (folder(disk, half) / "manifest.json").unlink()
    (disk.root / PROJECT / PROFILE / "wal").mkdir()
    catalog = read(disk)
    assert [one.id for one in catalog.snapshots] == [whole.id]
    assert catalog.incomplete == (("disk", half.id),)


def test_other_profiles_are_not_seen(disk: Watched) -> None:
    make(Recipe(profile="prod")).store(disk)
    assert read(disk).snapshots == ()


def test_copies_are_one_snapshot_at_several_targets(disk: Watched, nas: Watched) -> None:
    first, second = series(2)
    first.store(disk, nas)
    second.store(disk)
    catalog = read(disk, nas)
    assert [one.targets for one in catalog.snapshots] == [("disk",), ("disk", "nas")]
    assert [one.id for one in catalog.at_target("nas")] == [first.id]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"[" * 60_000),
        lambda path: path.write_bytes(b" " * 70_000),
        lambda path: path.write_bytes(make(Recipe(token="ffffff")).data),
        lambda path: path.write_bytes(make(Recipe(profile="prod", token="000002")).data),
    ],
)
def test_a_damaged_manifest_is_told_and_hides_nothing_else(
    disk: Watched, spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    whole, broken = (made.store(disk) for made in series(2))
    spoil(folder(disk, broken) / "manifest.json")
    for _ in range(2):
        catalog = read(disk, cache=tmp_path / "cache")
        assert [one.id for one in catalog.snapshots] == [whole.id]
        assert [one[:2] for one in catalog.damaged] == [("disk", broken.id)]
    with pytest.raises(StepFailed, match=f"{broken.id} at disk"):
        read_manifest(disk, PROJECT, PROFILE, broken.id)


def test_a_manifest_reads_back_with_its_bytes(disk: Watched) -> None:
    made = make(Recipe()).store(disk)
    assert read_manifest(disk, PROJECT, PROFILE, made.id) == (made.manifest, made.data)
    with pytest.raises(UsageError, match="no snapshot 20260101T021500Z-nightly-ffffff at disk"):
        read_manifest(disk, PROJECT, PROFILE, "20260101T021500Z-nightly-ffffff")
    with pytest.raises(UsageError, match="not a snapshot's id"):
        read_manifest(disk, PROJECT, PROFILE, "../../x")


def test_manifests_that_differ_are_damage_at_the_one_that_no_successor_knows(
    disk: Watched, nas: Watched
) -> None:
    true, after = series(2)
    true.store(nas)
    after.store(disk, nas)
    forged = replace(true.manifest, host="elsewhere")
    replace(true, manifest=forged, data=forged.to_bytes()).store(disk)
    catalog = read(disk, nas)
    assert catalog.find(true.id).manifest_sha256 == true.link["sha256"]
    assert catalog.find(true.id).targets == ("nas",)
    assert catalog.damaged == (("disk", true.id, "its manifest differs from that at nas"),)


def test_a_target_that_cannot_be_read_is_never_answered_from_the_cache(
    disk: Watched, nas: Watched, tmp_path: Path
) -> None:
    first, second = series(2)
    first.store(disk)
    second.store(nas)
    assert len(read(disk, nas, cache=tmp_path / "cache").snapshots) == 2
    gone = Gone("nas", nas.root)
    catalog = read(disk, gone, cache=tmp_path / "cache")
    assert [one.id for one in catalog.snapshots] == [first.id]
    assert catalog.unreachable == {"nas": "nas does not answer. Plug it in."}


def test_only_what_is_new_is_read(disk: Watched, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, second, third = series(3)
    first.store(disk)
    second.store(disk)
    record(disk, proof(first))
    before = read(disk, cache=cache)
    disk.read.clear()
    assert read(disk, cache=cache) == before
    assert disk.read == []
    third.store(disk)
    shutil.rmtree(folder(disk, first))
    assert [one.id for one in read(disk, cache=cache).snapshots] == [third.id, second.id]
    assert disk.read == [f"{PROJECT}/{PROFILE}/{third.id}/manifest.json"]


def test_a_changed_manifest_is_read_again(disk: Watched, tmp_path: Path) -> None:
    made = make(Recipe()).store(disk)
    read(disk, cache=tmp_path / "cache")
    other = replace(made.manifest, host="a-longer-name")
    (folder(disk, made) / "manifest.json").write_bytes(other.to_bytes())
    assert read(disk, cache=tmp_path / "cache").snapshots[0].host == "a-longer-name"


def test_an_odd_cache_is_ignored(disk: Watched, tmp_path: Path) -> None:
    for made in series(3):
        made.store(disk)
        record(disk, proof(made))
    right = read(disk, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    good = json.loads(file.read_bytes())
    oddities = [b"", b"{", b"null", b"[]", b"\xff", b'{"format": 1}', b"[" * 100_000]
    odd_values: list[object] = [{}, [[]], None, "x", [None], [1] * 13, ["x"] * 13]
    for odd in odd_values:
        known = {key: [tag, odd] for key, (tag, _) in good["known"].items()}
        oddities.append(json.dumps({**good, "known": known}).encode())
    oddities.append(json.dumps({**good, "known": dict.fromkeys(good["known"], 3)}).encode())
    oddities.append(json.dumps({**good, "place": "/elsewhere"}).encode())
    for data in oddities:
        file.write_bytes(data)
        assert read(disk, cache=tmp_path / "cache") == right, data[:100]
        assert json.loads(file.read_bytes()) == good, data[:100]


def test_a_cache_that_cannot_be_written_changes_nothing(disk: Watched, tmp_path: Path) -> None:
    make(Recipe()).store(disk)
    (tmp_path / "file").write_text("")
    assert len(read(disk, cache=tmp_path / "file" / "cache").snapshots) == 1


def test_pins_and_proofs_come_from_all_targets(disk: Watched, nas: Watched) -> None:
    made = make(Recipe()).store(disk, nas)
    record(disk, proof(made))
    record(nas, proof(made), proof(made, "restored", target="nas", at=NOW + DAY))
    pin = Pin(made.id, NOW, "ada", NOW + 2 * DAY)
    write_record(nas, PROJECT, PROFILE, "pin", body_of(pin), NOW)
    (one,) = read(disk, nas).snapshots
    assert one.proofs == (proof(made, "restored", target="nas", at=NOW + DAY), proof(made))
    assert (one.pinned, one.pinned_until) == (True, NOW + 2 * DAY)
    assert not read(disk, nas, now=NOW + 2 * DAY).snapshots[0].pinned
    unpin = Unpin(made.id, NOW + timedelta(hours=1), "ada")
    write_record(disk, PROJECT, PROFILE, "unpin", body_of(unpin), NOW)
    assert not read(disk, nas).snapshots[0].pinned


def test_drills_are_told_once_the_newest_first(disk: Watched, nas: Watched) -> None:
    first, second = (DrillResult(f"run-{day}", NOW + day * DAY, True) for day in (1, 2))
    for target in (disk, nas):
        for one in (first, second):
            write_record(target, PROJECT, PROFILE, "drill", body_of(one), one.at)
    assert read(disk, nas).drills == (second, first)


def test_newest_is_judged_for_each_source(disk: Watched, nas: Watched) -> None:
    old = make(Recipe(sequence=1, token="000001")).store(disk, nas)
    partial = make(
        Recipe(
            sequence=2,
            token="000002",
            at=START + DAY,
            sources=("config",),
            missing=("db",),
            taken_at={"config": START + DAY + timedelta(minutes=5)},
        )
    ).store(disk)
    catalog = read(disk, nas)

    def newest(source: str, **which: object) -> str | None:
        found = catalog.newest(source, **which)  # type: ignore[arg-type]
        return None if found is None else found.id

    assert newest("db") == old.id
    assert newest("config") == partial.id
    assert newest("config", target="nas") == old.id
    assert newest("config", policy="hourly") is None
    assert newest("nothing") is None
    assert newest("config", at=START + DAY) == old.id  # it was taken five minutes later
    assert newest("config", at=START + DAY + timedelta(minutes=5)) == partial.id
    assert newest("config", at=START - DAY) is None


def test_an_unchanged_source_is_fresh_in_the_snapshot_that_has_it(disk: Watched) -> None:
    first = make(Recipe(sequence=1, token="000001")).store(disk)
    for number in (2, 3):
        make(
            Recipe(
                sequence=number,
                token=f"00000{number}",
                at=START + number * DAY,
                sources=("config",),
                unchanged={"db": first.id},
            )
        ).store(disk)
    lost = make(
        Recipe(
            sequence=4,
            token="000004",
            at=START + 4 * DAY,
            sources=("config",),
            unchanged={"db": "20251231T021500Z-nightly-000000"},
        )
    ).store(disk)
    catalog = read(disk)
    newest = catalog.newest("db")
    assert newest is not None
    assert newest.id == first.id
    assert catalog.fresh_at("db") == START + 3 * DAY
    assert catalog.fresh_at("db", at=START + 2 * DAY) == START + 2 * DAY
    assert catalog.fresh_at("db", at=START + DAY) == START
    assert catalog.fresh_at("cache") is None
    assert catalog.holder(catalog.find(lost.id), "db") is None


def test_snapshots_that_call_each_other_unchanged_have_nothing(disk: Watched) -> None:
    ids = ["20260101T021500Z-nightly-000001", "20260102T021500Z-nightly-000002"]
    for number, other in ((1, ids[1]), (2, ids[0])):
        made = make(
            Recipe(
                sequence=number,
                token=f"00000{number}",
                at=START + (number - 1) * DAY,
                sources=("config",),
                unchanged={"db": other},
            )
        ).store(disk)
        assert made.id == ids[number - 1]
    assert read(disk).newest("db") is None


def test_a_snapshot_is_found_by_what_is_unique(disk: Watched) -> None:
    first, second = (made.store(disk) for made in series(2))
    catalog = read(disk)
    assert catalog.find(first.id).id == first.id
    assert catalog.find("20260102").id == second.id
    assert catalog.find("000001").id == first.id
    with pytest.raises(UsageError, match="any of 2") as many:
        catalog.find("2026")
    assert first.id in many.value.remedy
    with pytest.raises(UsageError, match="no snapshot") as none:
        catalog.find(first.id.replace("nightly", "nihgtly"))
    assert none.value.remedy.startswith(f"The nearest: {first.id}")
    for text in ("", "../..", "x" * 10_000, "\0"):
        with pytest.raises(UsageError):
            catalog.find(text)
    # What is not found may lie at a target out of reach: that is no wrong name.
    with pytest.raises(StepFailed, match=r"Not reached: nas\."):
        Catalog(unreachable={"nas": "away"}).find("2026")


def test_times_are_read_in_utc_whatever_zone_they_name(disk: Watched) -> None:
    made = make(Recipe())
    local = replace(made.manifest, created_at="2026-01-01T03:15:00+01:00")
    replace(made, manifest=local, data=local.to_bytes()).store(disk)
    (one,) = read(disk).snapshots
    assert one.created_at == START
    assert one.created_at.astimezone(UTC) == START
