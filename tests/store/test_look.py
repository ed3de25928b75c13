"""What is looked at in a bucket of many snapshots: by name, in ranges, or at a glance."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from runner.spec.model import TargetSpec
from runner.store import look
from runner.store.catalog import Catalog, read_catalog
from runner.store.records import Proof, proofs_body, write_record
from runner.target import Entry
from runner.target.local import LocalTarget
from runner.target.paced import paced
from runner.target.s3 import S3Target, open_target
from tests.s3_server import S3Server
from tests.store.builders import PROFILE, PROJECT, START, Made, Recipe, make, series

NOW = START + timedelta(days=400)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Reads:
    """What was read of a bucket, by the names of the snapshots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched: list[str] = []
        fetch = S3Target.fetch

        def counted(target: S3Target, key: str, most: int) -> tuple[Entry, bytes]:
            self.fetched.append(key.split("/")[-2])
            return fetch(target, key, most)

        monkeypatch.setattr(S3Target, "fetch", counted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Target:
    """A new bucket; a glance looks at the two newest, and a range is three folders."""
    monkeypatch.setattr(look, "GLANCED", 2)
    monkeypatch.setattr(look, "RANGE", 3)
    return open_target(TargetSpec("offsite", "s3", s3_server.options(), tmp_path))


def key_of(made: Made, name: str = "manifest.json") -> str:
    return f"{PROJECT}/{PROFILE}/{made.id}/{name}"


def whole(target: S3Target, folder: Path, later: timedelta = HOUR * 0) -> Catalog:
    return read_catalog({"offsite": target}, PROJECT, PROFILE, cache=folder, now=NOW + later)


def glance(target: S3Target, folder: Path, later: timedelta = HOUR * 0) -> Catalog:
    return read_catalog(
        {"offsite": target}, PROJECT, PROFILE, cache=folder, now=NOW + later, glance=True
    )


def exchanged(target: S3Target, made: Made) -> None:
    """Put another manifest of the same length where that one was."""
    other = replace(made.manifest, host="another")
    assert len(other.to_bytes()) == len(made.data)
    target.put(key_of(made), [other.to_bytes()])


def proven(target: S3Target, made: Made, hour: int) -> str:
    """The key of a record of a proof, written at that hour."""
    at = NOW + hour * HOUR
    one = Proof(made.id, "", "offsite", "stored", "PASS", at, "harbour", "stored")
    return write_record(target, PROJECT, PROFILE, "proofs", proofs_body([one]), at)


def proofs_of(catalog: Catalog) -> list[int]:
    """The hours of the proofs of the one snapshot there is, the oldest first."""
    (one,) = catalog.snapshots
    return [round((proof.at - NOW) / HOUR) for proof in reversed(one.proofs)]


def hosts(catalog: Catalog) -> dict[str, str]:
    return {one.id: one.host for one in catalog.snapshots}


def test_a_bucket_holds_what_a_folder_holds(bucket: S3Target, reads: Reads, tmp_path: Path) -> None:
    disk = LocalTarget("offsite", tmp_path / "disk")
    made = [one.store(bucket, disk) for one in series(8)]
    for target in (bucket, disk):
        target.put(key_of(make(Recipe(token="00000a")), "db.tar"), [b"no manifest"])
        target.put(f"{PROJECT}/{PROFILE}/notes/manifest.json", [b"no snapshot"])
        target.delete(key_of(made[3]))
        target.put(key_of(made[4]), [b"{}"])
    folder = read_catalog({"offsite": disk}, PROJECT, PROFILE, cache=None, now=NOW)
    for _ in range(2):
        assert whole(bucket, tmp_path / "cache") == folder
        assert glance(bucket, tmp_path / "cache") == folder
    assert len(folder.snapshots) == 6
    assert len(folder.incomplete) == 2
    assert [one[1] for one in folder.damaged] == [made[4].id]
    assert all(reads.fetched.count(one.id) == 1 for one in made[:3] + made[5:])


def test_a_bandwidth_changes_nothing_of_it(bucket: S3Target, reads: Reads, tmp_path: Path) -> None:
    made = [one.store(bucket) for one in series(4)]
    slow = cast("S3Target", paced(bucket, 10_000_000))
    assert whole(slow, tmp_path / "cache").by_id.keys() == {one.id for one in made}
    assert len(reads.fetched) == 4
    assert glance(slow, tmp_path / "cache") == whole(bucket, tmp_path / "other")


def test_what_is_new_is_read_by_its_name_and_nothing_else(
    bucket: S3Target, reads: Reads, tmp_path: Path
) -> None:
    *_, new = [one.store(bucket) for one in series(7)]
    bucket.delete(key_of(new))
    whole(bucket, tmp_path / "cache")
    new.store(bucket)
    reads.fetched.clear()
    assert len(glance(bucket, tmp_path / "cache").snapshots) == 7
    assert reads.fetched == [new.id]
    assert len(whole(bucket, tmp_path / "cache").snapshots) == 7
    assert reads.fetched == [new.id]


@pytest.mark.parametrize("which", [0, 3, 7])
def test_a_manifest_that_was_exchanged_is_read_again(
    bucket: S3Target, tmp_path: Path, which: int
) -> None:
    made = [one.store(bucket) for one in series(8)]
    whole(bucket, tmp_path / "cache")
    exchanged(bucket, made[which])
    assert hosts(whole(bucket, tmp_path / "cache"))[made[which].id] == "another"


@pytest.mark.parametrize("which", [0, 3, 7])
def test_a_manifest_that_was_removed_is_missed(
    bucket: S3Target, tmp_path: Path, which: int
) -> None:
    made = [one.store(bucket) for one in series(8)]
    whole(bucket, tmp_path / "cache")
    bucket.delete(key_of(made[which]))
    catalog = whole(bucket, tmp_path / "cache")
    assert made[which].id not in catalog.by_id
    assert catalog.incomplete == (("offsite", made[which].id),)


class TestGlance:
    def test_sees_at_once_what_came_what_went_and_what_the_newest_are(
        self, bucket: S3Target, tmp_path: Path
    ) -> None:
        made = [one.store(bucket) for one in series(8)]
        glance(bucket, tmp_path / "cache")
        for name in [*made[1].files, "manifest.json"]:
            bucket.delete(key_of(made[1], name))
        exchanged(bucket, made[6])
        bucket.delete(key_of(made[7]))
        catalog = glance(bucket, tmp_path / "cache")
        assert set(catalog.by_id) == {one.id for one in made} - {made[1].id, made[7].id}
        assert hosts(catalog)[made[6].id] == "another"
        assert catalog.incomplete == (("offsite", made[7].id),)

    def test_believes_for_a_day_what_an_older_one_was(
        self, bucket: S3Target, tmp_path: Path
    ) -> None:
        made = [one.store(bucket) for one in series(8)]
        whole(bucket, tmp_path / "cache")
        exchanged(bucket, made[0])
        assert hosts(glance(bucket, tmp_path / "cache", DAY))[made[0].id] == "harbour"
        assert hosts(glance(bucket, tmp_path / "cache", DAY + HOUR))[made[0].id] == "another"

    def test_believes_nothing_of_the_future(self, bucket: S3Target, tmp_path: Path) -> None:
        made = [one.store(bucket) for one in series(8)]
        whole(bucket, tmp_path / "cache", DAY)
        exchanged(bucket, made[0])
        assert hosts(glance(bucket, tmp_path / "cache"))[made[0].id] == "another"

    def test_sees_new_records_and_the_newest(self, bucket: S3Target, tmp_path: Path) -> None:
        made = make(Recipe()).store(bucket)
        keys = [proven(bucket, made, hour) for hour in range(6)]
        before = whole(bucket, tmp_path / "cache")
        assert glance(bucket, tmp_path / "cache") == before
        bucket.delete(keys[0])
        bucket.delete(keys[5])
        proven(bucket, made, 7)
        hours = [0, 1, 2, 3, 4, 7]
        assert proofs_of(glance(bucket, tmp_path / "cache")) == hours
        assert proofs_of(glance(bucket, tmp_path / "cache")) == hours
        assert proofs_of(whole(bucket, tmp_path / "cache")) == hours[1:]
        assert proofs_of(glance(bucket, tmp_path / "cache")) == hours[1:]

    def test_is_not_what_decides(self, bucket: S3Target, tmp_path: Path) -> None:
        made = [one.store(bucket) for one in series(8)]
        whole(bucket, tmp_path / "cache")
        exchanged(bucket, made[0])
        glance(bucket, tmp_path / "cache")
        assert hosts(whole(bucket, tmp_path / "cache"))[made[0].id] == "another"
        assert hosts(glance(bucket, tmp_path / "cache"))[made[0].id] == "another"

    def test_needs_the_target(self, bucket: S3Target, tmp_path: Path) -> None:
        make(Recipe()).store(bucket)
        whole(bucket, tmp_path / "cache")
        gone = open_target(
            TargetSpec(
                "offsite",
                "s3",
                {
                    "endpoint": "http://127.0.0.1:9",
                    "bucket": bucket._bucket.account.bucket,
                    "retry": 0.1,
                },
                tmp_path,
            )
        )
        catalog = glance(gone, tmp_path / "cache")
        assert catalog.snapshots == ()
        assert set(catalog.unreachable) == {"offsite"}


def test_a_server_that_keeps_no_order_hides_nothing(
    bucket: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [one.store(bucket) for one in series(8)]
    right = whole(bucket, tmp_path / "cache")
    monkeypatch.setattr(S3Target, "find_between", lambda *_: iter(()))
    assert whole(bucket, tmp_path / "cache") == right
    assert glance(bucket, tmp_path / "cache").by_id.keys() == {one.id for one in made}
