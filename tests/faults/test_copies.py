"""One capture, many targets: what fails at one of them is told, and leaves the others whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
