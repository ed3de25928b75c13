"""One capture, many targets: what fails at one of them is told, and leaves the others whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.execute import driver
from runner.execute.journal import Journal
from runner.target.local import LocalTarget
from tests.faults.bad_day import Steady, reseal, snapshots
from tests.faults.conftest import Fresh
from tests.faults.test_disk import remount, small_disk
from tests.service import Service
from tests.tools import clean_environment

NEW_AFTER = "  offsite: {type: local, path: elsewhere}\n"
NAS = "  nas: {type: local, path: nas}\n"
KILLED = Path(__file__).with_name("killed_at.py")


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


def backup_killed_at(service: Service, moment: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-P", str(KILLED), moment, "backup"],
        cwd=service.folder,
        env=clean_environment(service.folder),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL


def same_bytes(service: Service, snapshot: str, *targets: str) -> bool:
    """Whether a snapshot's folders at these targets hold the same files."""
    contents = []
    for target in targets:
        folder = service.folder / target / "quaybot" / "default" / snapshot
        contents.append({one.name: one.read_bytes() for one in folder.iterdir()})
    return all(one == contents[0] and "manifest.json" in one for one in contents)


def test_a_pin_that_a_target_missed_is_told_to_it_later(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    spec = service.folder / "backup.yaml"
    text = spec.read_text().replace("keep: {last: 3}", "keep: {last: 1}")
    other = "policies:\n  other: {sources: [config], keep: {last: 1}}"
    spec.write_text(text.replace("policies:", other))
    first = holdfast.json("list")["snapshots"][-1]["id"]
    there = service.folder / "elsewhere" / "quaybot" / "default" / first
    block(service.folder / "elsewhere")
    told = holdfast("pin", "--snapshot", first, status=4)
    assert "pinned at disk." in told.stdout
    assert "offsite cannot be read now" in told.stderr
    assert "A copy there is pinned by the next backup or prune that reaches it" in told.stderr
    unblock(service.folder / "elsewhere")
    holdfast("prune", "--confirm", "quaybot", status=0)
    assert len(list(there.parent.glob(".records/*-pin-*"))) == 1
    holdfast("backup", status=0)
    # By now it keeps the copy although nothing else says that it is pinned.
    block(service.folder / "backups")
    partly = holdfast.json("prune", "--confirm", "quaybot", status=4)
    assert "Not pruned: " in partly["error"]["message"]
    assert there.exists()
    unblock(service.folder / "backups")
    # An unpin is not passed on: one target must not have what is pinned removed from another.
    block(service.folder / "elsewhere")
    told = holdfast("unpin", "--snapshot", first, status=4)
    assert "A copy there stays pinned until you unpin it again" in told.stderr
    unblock(service.folder / "elsewhere")
    holdfast("prune", "--confirm", "quaybot", status=0)
    assert there.exists()
    holdfast("unpin", "--snapshot", first, status=0)
    holdfast("prune", "--confirm", "quaybot", status=0)
    assert not there.exists()


def test_a_pin_says_which_disk_is_not_mounted(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    first = holdfast.json("list")["snapshots"][-1]["id"]
    (service.folder / "elsewhere").rename(service.folder / "elsewhere.unplugged")
    (service.folder / "elsewhere").mkdir()
    told = holdfast.json("pin", "--snapshot", first, status=4)
    assert told["pinned"]
    assert told["targets"] == ["disk"]
    assert "offsite cannot be read now, or lost what it held" in told["error"]["message"]


def test_a_pin_is_told_to_a_target_that_is_reached_alone(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("keep: {last: 3}", "keep: {last: 1}"))
    first = holdfast.json("list")["snapshots"][-1]["id"]
    there = service.folder / "elsewhere" / "quaybot" / "default" / first
    block(service.folder / "elsewhere")
    holdfast("pin", "--snapshot", first, status=4)
    unblock(service.folder / "elsewhere")
    # Of two disks that take turns, none is ever there together with the other.
    block(service.folder / "backups")
    assert [one["pinned"] for one in holdfast.json("list", status=4)["snapshots"]] == [False, True]
    holdfast("prune", "--confirm", "quaybot", status=4)
    assert there.exists()
    assert len(list(there.parent.glob(".records/*-pin-*"))) == 1


def test_a_copy_that_a_deletion_could_not_reach_is_told(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    newest = holdfast.json("list")["snapshots"][0]["id"]
    words = ("delete", "--snapshot", newest, "--confirm", newest)
    block(service.folder / "elsewhere")
    asked = holdfast.json(*words[:-2], status=7)["error"]["message"]
    assert "offsite cannot be read: a copy there stays." in asked
    left = holdfast.json(*words, status=4)
    assert [one["target"] for one in left["removed"]] == ["disk"]
    assert "delete it again once offsite can be read" in left["error"]["message"]
    unblock(service.folder / "elsewhere")
    assert [one["target"] for one in holdfast.json(*words)["removed"]] == ["offsite"]


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
        # While one is written too much, no other finds the disk full.
        spec = service.folder / "backup.yaml"
        spec.write_text(f"{spec.read_text()}\nparallel: 1\n")
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

    def test_that_lost_an_artifact_before_it_was_published_takes_it_from_another(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two
        lost = "*/db.sqlite.zst"
        parent = service.folder / "backups" / "quaybot" / "default"
        at_start_of(monkeypatch, "nightly.publish", lambda: max(parent.glob(lost)).unlink())
        answer = holdfast("backup", status=0)
        assert "nightly.publish went to offsite instead of disk" in answer.stdout
        assert "db.sqlite.zst vanished from disk before the snapshot was published" in answer.stdout
        assert same_bytes(service, snapshots(service)[-1].name, "backups", "elsewhere")

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


def missed(service: Service, holdfast: Steady) -> str:
    """Make a backup whose copy to `offsite` fails, and have `offsite` back; the snapshot's id."""
    block(service.folder / "elsewhere")
    document = holdfast.json("backup", status=4)
    unblock(service.folder / "elsewhere")
    return str(document["snapshots"][0]["id"])


def flip(folder: Path, name: str) -> None:
    """Change one byte of a stored file."""
    (path,) = folder.glob(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def scheduled(service: Service) -> None:
    """Give the policy a time that has not come yet: only what is due runs with --due."""
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("nightly: {keep", "nightly: {schedule: 30d, keep"))


class TestMissingCopies:
    def test_are_made_by_the_next_backup(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        lost = missed(service, holdfast)
        plan = holdfast.json("backup", "--dry-run")["steps"]
        (step,) = [one for one in plan if one["id"] == f"nightly.{lost}.copy.offsite"]
        assert step["reason"] == f"offsite lacks {lost}: copied from disk"
        answer = holdfast("backup", status=0)
        assert f"Snapshot {lost}: now at offsite too, copied from disk." in answer.stdout
        assert same_bytes(service, lost, "backups", "elsewhere")
        assert behind(holdfast) == {"disk": 0, "offsite": 0}
        assert holdfast("status").status == 0

    def test_are_made_without_a_new_dump_where_nothing_is_due(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        scheduled(service)
        first, second = missed(service, holdfast), missed(service, holdfast)
        assert behind(holdfast) == {"disk": 0, "offsite": 2}
        shutil.rmtree(service.folder / "data")
        document = holdfast.json("backup", "--due")
        assert document["snapshots"] == []
        assert [one["id"] for one in document["completed"]] == [first, second]
        assert same_bytes(service, first, "backups", "elsewhere")
        assert same_bytes(service, second, "backups", "elsewhere")
        assert behind(holdfast) == {"disk": 0, "offsite": 0}
        assert holdfast.json("backup", "--due")["completed"] == []

    def test_that_fail_again_are_told_with_the_line_to_type(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        scheduled(service)
        lost = missed(service, holdfast)
        with small_disk(service.folder / "elsewhere", "32m") as disk:
            remount(disk, "ro")
            document = holdfast.json("backup", "--due", status=4)
            (lacking,) = document["lacking"]
            assert (lacking["id"], lacking["target"]) == (lost, "offsite")
            assert "read-only" in lacking["reason"]
            remount(disk, "rw")
            again = holdfast.json(*document["next"].split()[1:])
            assert [one["id"] for one in again["completed"]] == [lost]

    def test_go_to_a_new_target_too(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        spec = service.folder / "backup.yaml"
        spec.write_text(spec.read_text().replace(NEW_AFTER, NEW_AFTER + NAS))
        newest = holdfast.json("list")["snapshots"][0]["id"]
        document = holdfast.json("backup", "--due")
        assert [(one["id"], one["target"]) for one in document["completed"]] == [(newest, "nas")]
        assert behind(holdfast) == {"disk": 0, "offsite": 0, "nas": 0}

    def test_replace_half_and_damaged_ones(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        newest = snapshots(service, "elsewhere")[-1]
        (newest / "manifest.json").unlink()
        flip(newest, "db.sqlite*")
        assert behind(holdfast)["offsite"] == 1
        plan = holdfast.json("backup", "--due", "--dry-run")["steps"]
        assert plan[0]["reason"] == f"offsite has lost {newest.name}: copied from disk"
        holdfast.json("backup", "--due")
        assert same_bytes(service, newest.name, "backups", "elsewhere")
        flip(newest, "config.tar*")
        holdfast("verify", status=4)
        assert behind(holdfast)["offsite"] == 1
        plan = holdfast.json("backup", "--due", "--dry-run")["steps"]
        assert plan[0]["reason"].startswith(f"offsite has a damaged copy of {newest.name}")
        holdfast.json("backup", "--due")
        assert same_bytes(service, newest.name, "backups", "elsewhere")
        assert behind(holdfast)["offsite"] == 0
        assert {one["verdict"] for one in holdfast.json("verify")["results"]} == {"PASS"}

    def test_that_are_damaged_are_not_restored_where_another_is_whole(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        newest = snapshots(service)[-1]
        flip(newest, "db.sqlite*")
        before = service.observe()
        holdfast("verify", status=4)
        holdfast("verify", "--source", "config", status=0)  # which says nothing of the damage
        holdfast("drill", status=0)
        service.destroy()
        holdfast("dr-restore", "--confirm", "quaybot", status=0)
        assert service.observe() == before

    @pytest.mark.parametrize("how", [(), ("--decrypt",), ("--source", "db")])
    def test_that_are_damaged_are_not_fetched_where_another_is_whole(
        self, two: tuple[Service, Steady], how: tuple[str, ...]
    ) -> None:
        service, holdfast = two
        flip(snapshots(service)[-1], "db.sqlite*")
        told = holdfast("fetch", "--to", "first", *how, status=4).stderr
        assert "`holdfast verify` says which are whole, and what begins after it uses" in told
        holdfast("verify", status=4)
        holdfast("fetch", "--to", "fetched", *how, status=0)
        (fetched,) = (service.folder / "fetched").glob("db.sqlite*")
        if "--decrypt" not in how:
            whole = snapshots(service, "elsewhere")[-1] / fetched.name
            assert fetched.read_bytes() == whole.read_bytes()

    def test_are_not_taken_from_a_damaged_one(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        spec = service.folder / "backup.yaml"
        spec.write_text(spec.read_text().replace(NEW_AFTER, NEW_AFTER + NAS))
        newest = snapshots(service)[-1]
        flip(newest, "db.sqlite*")  # and nobody has noticed
        answer = holdfast("backup", "--due", status=0)
        assert f"{newest.name}: now at nas too, copied from offsite." in answer.stdout
        assert "could not take it from disk: " in answer.stdout
        assert "is damaged" in answer.stdout
        assert same_bytes(service, newest.name, "elsewhere", "nas")

    def test_leave_a_strange_manifest_to_a_person(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        manifest = snapshots(service, "elsewhere")[-1] / "manifest.json"
        manifest.write_bytes(manifest.read_bytes().replace(b"nightly", b"nighty!"))
        before = manifest.read_bytes()
        assert holdfast.json("backup", "--due")["completed"] == []
        assert manifest.read_bytes() == before
        assert behind(holdfast)["offsite"] == 1

    def test_of_a_manifest_that_was_exchanged_are_not_made(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two

        def exchange() -> None:
            newest = snapshots(service)[-1]
            reseal(newest, json.loads((newest / "manifest.json").read_text()) | {"host": "another"})

        at_start_of(monkeypatch, "nightly.copy.offsite", exchange)
        told = holdfast.json("backup", status=4)
        assert "at disk is not the one that was written" in told["error"]["message"]
        assert snapshots(service)[-1].name not in {
            one.name for one in snapshots(service, "elsewhere")
        }

    def test_never_replace_the_manifest_of_somebody_else(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two
        strange: list[Path] = []

        def write_meanwhile() -> None:
            folder = (
                service.folder / "elsewhere" / "quaybot" / "default" / snapshots(service)[-1].name
            )
            folder.mkdir()
            strange.append(folder / "manifest.json")
            strange[0].write_text("of another run\n")

        at_start_of(monkeypatch, "nightly.copy.offsite", write_meanwhile)
        told = holdfast.json("backup", status=4)
        assert "at offsite has another manifest already" in told["error"]["message"]
        assert strange[0].read_text() == "of another run\n"

    @pytest.mark.parametrize("moment", ["nightly.publish:ended", "nightly.copy.offsite:ended"])
    def test_go_on_from_what_was_published_when_the_run_was_killed(
        self, two: tuple[Service, Steady], moment: str
    ) -> None:
        service, holdfast = two
        backup_killed_at(service, moment)
        newest = snapshots(service)[-1]
        published = {one.name: one.read_bytes() for one in newest.iterdir()}
        (run, *_) = holdfast.json("history", "--runs")["runs"]
        holdfast("backup", "--resume", run["run"], status=0)
        assert {one.name: one.read_bytes() for one in newest.iterdir()} == published
        assert same_bytes(service, newest.name, "backups", "elsewhere")
        holdfast("verify", status=0)

    def test_are_not_made_of_what_was_captured_anew_into_what_was_published(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        backup_killed_at(service, "nightly.publish:ended")
        newest = snapshots(service)[-1]
        manifest = (newest / "manifest.json").read_bytes()
        (newest / "db.sqlite.zst").unlink()
        (service.folder / "config" / "app.conf").write_text("changed = since\n")
        (newest / "config.tar.zst").unlink()
        (run, *_) = holdfast.json("history", "--runs")["runs"]
        told = holdfast.json("backup", "--resume", run["run"], status=4)
        assert "was published at disk with other content" in told["error"]["message"]
        assert (newest / "manifest.json").read_bytes() == manifest
        assert newest.name not in {one.name for one in snapshots(service, "elsewhere")}

    def test_of_a_run_that_was_killed_between_two(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        spec = service.folder / "backup.yaml"
        spec.write_text(spec.read_text().replace(NEW_AFTER, NEW_AFTER + NAS))
        backup_killed_at(service, "nightly.copy.nas")
        new = snapshots(service)[-1].name
        assert behind(holdfast)["nas"] == 3
        (service.folder / "data" / "quaybot.db").unlink()
        document = holdfast.json("backup", "--due")
        assert (new, "nas") in [(one["id"], one["target"]) for one in document["completed"]]
        assert same_bytes(service, new, "backups", "elsewhere", "nas")
        assert service.half_snapshots() == []

    def test_are_waited_for_until_they_can_be_made(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        scheduled(service)
        elsewhere = service.folder / "elsewhere"
        block(elsewhere)
        assert holdfast.json("backup", "--due")["lacking"] == [], "it had got everything"
        holdfast("backup", status=4)
        newest = snapshots(service)[-1].name
        for _ in range(2):
            document = holdfast.json("backup", "--due", status=4)
            assert document["status"] == "partial"
            assert [(one["id"], one["target"]) for one in document["lacking"]] == [
                (newest, "offsite")
            ]
            assert f"{newest} is still to be copied there" in document["error"]["message"]
        shutil.rmtree(service.folder / ".holdfast" / "newest")
        holdfast("backup", "--due", status=0)  # nothing is known of what it has
        unblock(elsewhere)
        assert holdfast.json("backup", "--due")["completed"] != []
        block(elsewhere)
        holdfast("backup", "--due", status=0)

    def test_keep_what_they_need_from_being_pruned(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        spec = service.folder / "backup.yaml"
        short = spec.read_text().replace("keep: {last: 3}", "keep: {last: 1}")
        spec.write_text(short.replace("path: elsewhere}", "path: elsewhere, keep: {last: 9}}"))
        first, second = missed(service, holdfast), missed(service, holdfast)
        kept = {
            one["id"]: one["reasons"]
            for one in holdfast.json("prune", "--confirm", "quaybot")["kept"]
            if one["target"] == "disk"
        }
        assert set(kept) == {first, second}
        assert "still to be copied to offsite" in kept[first]
        holdfast("backup", status=0)
        assert same_bytes(service, first, "backups", "elsewhere")
        holdfast("prune", "--confirm", "quaybot", status=0)
        assert len(snapshots(service)) == 1
        assert len(snapshots(service, "elsewhere")) == 5


def _fail() -> None:
    raise OSError("the power went")


class TestSnapshotsThatWereTakenAway:
    """A target that is set back to an older state: the next backup is the last that knows."""

    def test_from_every_target_are_told_by_the_next_backup(
        self, two: tuple[Service, Steady]
    ) -> None:
        service, holdfast = two
        gone = snapshots(service)[-1].name
        for target in ("backups", "elsewhere"):
            shutil.rmtree(service.folder / target / "quaybot" / "default" / gone)
        document = holdfast.json("backup", status=4)
        assert (
            f"{gone} at disk: it was the newest here, and is gone" in document["error"]["message"]
        )
        assert len(document["snapshots"]) == 1
        holdfast("backup", status=0)

    def test_from_one_are_brought_back_and_told(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        gone = snapshots(service)[-1].name
        shutil.rmtree(service.folder / "backups" / "quaybot" / "default" / gone)
        said = holdfast("backup", status=0).stdout
        assert f"Note: {gone} at disk: it was the newest here, and is gone." in said
        assert same_bytes(service, gone, "backups", "elsewhere")

    def test_are_told_of_a_saved_plan_and_of_one_that_goes_on(
        self, two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = two
        gone = snapshots(service)[-1].name
        holdfast("backup", "--dry-run", "--out", "stale.json", status=0)
        for target in ("backups", "elsewhere"):
            shutil.rmtree(service.folder / target / "quaybot" / "default" / gone)
        told = f"{gone} at disk: it was the newest here, and is gone"
        stale = holdfast("apply", "--plan", "stale.json", status=7).stderr
        assert f"{gone}, the newest snapshot that it knew, is gone" in stale
        holdfast("backup", "--dry-run", "--out", "plan.json", status=0)
        with monkeypatch.context() as broken:
            at_start_of(broken, "nightly.publish", _fail)
            run = holdfast.json("backup", status=4)["run"]
        copied = service.folder.with_name("copied")
        shutil.copytree(service.folder, copied, symlinks=True)
        document = Steady(copied).json("backup", "--resume", run, status=4)
        assert told in document["error"]["message"]
        document = holdfast.json("apply", "--plan", "plan.json", status=4)
        assert told in document["error"]["message"]

    def test_by_a_person_are_not_missed(self, two: tuple[Service, Steady]) -> None:
        service, holdfast = two
        newest = snapshots(service)[-1].name
        holdfast("delete", "--snapshot", newest, "--confirm", newest, status=0)
        holdfast("backup", status=0)


def test_the_next_number_is_counted_on_from_a_snapshot_that_cannot_be_seen_now(
    two: tuple[Service, Steady],
) -> None:
    """Of two with the same number nobody could say which is the newest."""
    service, holdfast = two
    for blocked in ("elsewhere", "backups"):
        block(service.folder / blocked)
        holdfast("backup", status=4)
        unblock(service.folder / blocked)
    unseen, newest = (
        json.loads((snapshots(service, target)[-1] / "manifest.json").read_text())
        for target in ("backups", "elsewhere")
    )
    assert (unseen["sequence"], newest["sequence"]) == (3, 4)
    assert newest["predecessor"]["id"] == unseen["id"]


def test_a_target_keeps_as_its_own_rules_say(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    spec = service.folder / "backup.yaml"
    text = spec.read_text().replace("keep: {last: 3}", "keep: {last: 1}")
    spec.write_text(text.replace("path: elsewhere}", "path: elsewhere, keep: {last: 9}}"))
    dry = holdfast("prune", "--dry-run", status=0).stdout
    assert "because offsite's own `keep` says how long" in dry
    first, second = (one.name for one in snapshots(service))
    assert f"# keep {first}: among the last 9" in dry
    answer = holdfast("prune", "--confirm", "quaybot", status=0)
    assert f"removed  {first} at disk" in answer.stdout
    assert f"kept     {first} at offsite: among the last 9" in answer.stdout
    assert [one.name for one in snapshots(service)] == [second]
    assert [one.name for one in snapshots(service, "elsewhere")] == [first, second]
    assert behind(holdfast) == {"disk": 0, "offsite": 0}


def slow_target(monkeypatch: pytest.MonkeyPatch, name: str, wait: Callable[[], object]) -> None:
    """Let a target take nothing before `wait` returns."""
    real = LocalTarget.put

    def put(target: LocalTarget, key: str, *arguments: Any, **options: Any) -> int:
        if target.name == name:
            wait()
        return real(target, key, *arguments, **options)

    monkeypatch.setattr(LocalTarget, "put", put)


class TestTargetThatIsSlow:
    @pytest.fixture
    def three(self, two: tuple[Service, Steady]) -> tuple[Service, Steady]:
        """The service with a third target, `nas`, and one step at a time."""
        service, holdfast = two
        spec = service.folder / "backup.yaml"
        text = spec.read_text().replace(NEW_AFTER, NAS + NEW_AFTER)
        spec.write_text(text.replace("version: 1\n", "version: 1\nparallel: 1\n"))
        return service, holdfast

    def test_does_not_hold_up_the_verdict_of_another(
        self, three: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, holdfast = three
        verified = threading.Event()
        real = Journal.append

        def append(journal: Journal, event: str, **values: Any) -> None:
            real(journal, event, **values)
            if event == "ended" and values["step"] == "nightly.verify.offsite":
                verified.set()

        monkeypatch.setattr(Journal, "append", append)
        slow_target(monkeypatch, "nas", lambda: verified.wait(120))
        document = holdfast.json("backup")
        assert verified.is_set()
        assert document["snapshots"][0]["targets"] == ["disk", "nas", "offsite"]
        run = holdfast.json("show", "--run", document["run"])
        seconds = {one["id"]: one["seconds"] for one in run["steps"]}
        assert seconds["nightly.copy.nas"] < 120

    @pytest.mark.slow
    def test_is_given_up_once_its_time_is_over(
        self, three: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, holdfast = three
        spec = service.folder / "backup.yaml"
        spec.write_text(spec.read_text().replace("nightly: {keep", "nightly: {timeout: 12s, keep"))
        monkeypatch.setattr(driver, "GRACE_SECONDS", 1.0)
        over = threading.Event()
        slow_target(monkeypatch, "nas", over.wait)
        try:
            document = holdfast.json("backup", status=4)
        finally:
            over.set()
        (snapshot,) = document["snapshots"]
        assert snapshot["targets"] == ["disk", "offsite"]
        (lacking,) = snapshot["lacking"]
        assert lacking["target"] == "nas"
        assert "took longer than its timeout of 12 s" in lacking["reason"]
        assert behind(holdfast)["offsite"] == 0


def test_a_recovery_from_a_copy_that_nobody_knew_to_be_damaged_says_how_to_begin_anew(
    two: tuple[Service, Steady],
) -> None:
    """To resume it would read the same copy again."""
    service, holdfast = two
    stored = snapshots(service)[-1] / "config.tar.zst"
    stored.write_bytes(bytes(stored.stat().st_size))
    recover = ("dr-restore", "--confirm", "quaybot")
    failed = holdfast(*recover, "--from", "disk", status=4)
    assert "Begin anew with --from another target" in failed.stderr
    holdfast("verify", status=4)
    holdfast(*recover, status=0)
