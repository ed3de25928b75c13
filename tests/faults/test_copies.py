"""One capture, many targets: what fails at one of them is told, and leaves the others whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.execute.journal import Journal
from tests.faults.bad_day import Steady, snapshots
from tests.faults.conftest import Fresh
from tests.faults.test_disk import remount, small_disk
from tests.service import Service

SPEC_TARGETS = "  offsite: {type: local, path: elsewhere}\n"


@pytest.fixture
def two(fresh: Fresh) -> tuple[Service, Steady]:
    """A service with two snapshots at `disk` (backups) and `offsite` (elsewhere)."""
    return fresh("two")


def block(folder: Path) -> None:
    """Make a target that nothing can be read from nor written to."""
    folder.rename(folder.with_name(f"{folder.name}.unplugged"))
    folder.write_text("no folder\n")


def unblock(folder: Path) -> None:
    folder.unlink()
    folder.with_name(f"{folder.name}.unplugged").rename(folder)


def same_bytes(service: Service, snapshot: str, *targets: str) -> bool:
    """Whether a snapshot's folders at these targets hold the same files."""
    contents = []
    for target in targets:
        folder = service.folder / target / "quaybot" / "default" / snapshot
        contents.append({one.name: one.read_bytes() for one in folder.iterdir()})
    return all(one == contents[0] and "manifest.json" in one for one in contents)


def behind(holdfast: Steady) -> dict[str, Any]:
    """By how many snapshots each target is behind, as `status` says."""
    return {one["target"]: one["behind"] for one in holdfast("status", "--json").json["targets"]}


def at_start_of(monkeypatch: pytest.MonkeyPatch, step: str, happen: Callable[[], None]) -> None:
    """Let something happen just before a step begins for the first time."""
    real = Journal.append
    left = [happen]

    def append(journal: Journal, event: str, **values: Any) -> None:
        if event == "started" and values["step"] == step and left:
            left.pop()()
        real(journal, event, **values)

    monkeypatch.setattr(Journal, "append", append)


class TestCopyThatFails:
    def test_makes_the_run_partial_and_says_what_lacks_where(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        block(service.folder / "elsewhere")
        document = holdfast.json("backup", status=4)
        (snapshot,) = document["snapshots"]
        assert document["status"] == "partial"
        assert snapshot["targets"] == ["disk"]
        (lacking,) = snapshot["lacking"]
        assert lacking["target"] == "offsite"
        assert str(service.folder / "elsewhere") in lacking["reason"]
        assert document["next"] == f"holdfast backup --resume {document['run']}"
        results = holdfast.json("verify", "--target", "disk")["results"]
        assert {one["verdict"] for one in results} == {"PASS"}
        holdfast("restore", "--source", "db", "--to", "copy.db", status=0)
        assert behind(holdfast) == {"disk": 0, "offsite": None}
        unblock(service.folder / "elsewhere")
        assert behind(holdfast) == {"disk": 0, "offsite": 1}

    def test_says_so_to_a_person(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        block(service.folder / "elsewhere")
        answer = holdfast("backup", status=4)
        assert "at disk." in answer.stdout
        assert "  NOT at offsite: Target offsite at" in answer.stdout
        assert "Backup partial" in answer.stdout
        assert "Next: holdfast backup --resume 2" in answer.stderr

    def test_is_made_good_by_the_line_that_was_told(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        with small_disk(service.folder / "elsewhere", "32m") as disk:
            remount(disk, "ro")
            document = holdfast.json("backup", status=4)
            new = document["snapshots"][0]["id"]
            assert "read-only" in document["snapshots"][0]["lacking"][0]["reason"]
            remount(disk, "rw")
            captures = [one.stat().st_mtime_ns for one in snapshots(service)[-1].iterdir()]
            again = holdfast.json(*document["next"].split()[1:])
            assert again["snapshots"][0]["targets"] == ["disk", "offsite"]
            assert again["snapshots"][0]["lacking"] == []
            assert again["next"] is None
            # Nothing was dumped anew.
            assert captures == [one.stat().st_mtime_ns for one in snapshots(service)[-1].iterdir()]
            assert same_bytes(service, new, "backups", "elsewhere")
            assert behind(holdfast) == {"disk": 0, "offsite": 0}


class TestPrimaryThatFails:
    def test_yields_to_the_next_target(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        before = holdfast.json("list")["snapshots"][0]
        block(service.folder / "backups")
        plan = holdfast.json("backup", "--dry-run")
        publish = next(one for one in plan["steps"] if one["action"] == "snapshot.publish")
        assert publish["title"].endswith("at offsite")
        assert "disk cannot be read, so offsite takes its place" in publish["reason"]
        document = holdfast.json("backup", status=4)
        (snapshot,) = document["snapshots"]
        assert (snapshot["targets"], snapshot["missing"]) == (["offsite"], [])
        assert [one["target"] for one in snapshot["lacking"]] == ["disk"]
        assert document["status"] == "partial"
        # It comes after what only the lost target may know.
        manifest = holdfast.json("show", "--snapshot", snapshot["id"])
        assert manifest["predecessor"]["id"] == before["id"]
        holdfast("restore", "--source", "db", "--to", "copy.db", status=0)
        unblock(service.folder / "backups")
        assert behind(holdfast) == {"disk": 1, "offsite": 0}
        holdfast(*document["next"].split()[1:], status=0)
        assert same_bytes(service, snapshot["id"], "backups", "elsewhere")
        assert behind(holdfast) == {"disk": 0, "offsite": 0}

    def test_that_may_not_be_written_takes_nothing_and_has_nothing_read_twice(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        with small_disk(service.folder / "backups", "32m") as disk:
            remount(disk, "ro")
            answer = holdfast("backup", status=4)
            assert "went to offsite instead of disk" in answer.stdout
            assert "NOT at disk: Target disk" in answer.stdout
            assert "read again" not in answer.stdout
        assert len(snapshots(service, "elsewhere")) == 3
        assert service.half_snapshots() == []

    def test_that_is_not_mounted_is_not_written_beneath(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        (service.folder / "backups").rename(service.folder / "unplugged")
        (service.folder / "backups").mkdir()
        document = holdfast.json("backup", status=4)
        assert document["snapshots"][0]["targets"] == ["offsite"]
        assert "Is its disk mounted?" in document["error"]["message"]
        assert list((service.folder / "backups").iterdir()) == []

    def test_in_the_middle_has_only_the_cut_source_read_again(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        (service.folder / "config" / "ballast").write_bytes(os.urandom(3_000_000))
        with small_disk(service.folder / "backups", "2m"):
            answer = holdfast("backup", status=4)
            assert "config was read again" in answer.stdout
            assert "db was read again" not in answer.stdout
            assert "code was read again" not in answer.stdout
            (new,) = snapshots(service, "elsewhere")[2:]
            manifest = holdfast.json("show", "--snapshot", new.name)
            assert (sorted(manifest["sources"]), manifest["missing"]) == (
                ["code", "config", "db"],
                [],
            )
            assert service.half_snapshots() == []
            assert service.leftovers() == []
            results = holdfast.json("verify", "--level", "restored", "--target", "offsite")
            assert {one["verdict"] for one in results["results"]} == {"PASS"}

    def test_after_the_captures_is_given_up_without_reading_them_again(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two
        with small_disk(service.folder / "backups", "8m") as disk:
            at_start_of(monkeypatch, "nightly.publish", lambda: remount(disk, "ro"))
            answer = holdfast("backup", status=4)
            assert "nightly.publish went to offsite instead of disk" in answer.stdout
            assert "read again" not in answer.stdout
        results = holdfast.json("verify", "--level", "restored", "--target", "offsite")["results"]
        assert {one["verdict"] for one in results} == {"PASS"}

    def test_and_takes_what_was_captured_with_it_has_all_read_again(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two
        at_start_of(monkeypatch, "nightly.publish", lambda: block(service.folder / "backups"))
        answer = holdfast("backup", status=4)
        for source in ("db", "config", "code"):
            assert f"{source} was read again" in answer.stdout
        results = holdfast.json("verify", "--level", "restored", "--target", "offsite")["results"]
        assert {one["verdict"] for one in results} == {"PASS"}

    def test_leaves_nothing_to_publish_where_no_target_works(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        block(service.folder / "backups")
        block(service.folder / "elsewhere")
        document = holdfast.json("backup", status=4)
        assert (document["status"], document["snapshots"]) == ("failed", [])
        unblock(service.folder / "backups")
        unblock(service.folder / "elsewhere")
        assert holdfast.json("backup")["snapshots"][0]["targets"] == ["disk", "offsite"]
