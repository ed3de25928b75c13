"""Removing a snapshot by hand, also one whose manifest nobody can read any more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runner.errors import StepFailed
from tests.inside import Inside
from tests.service import SPEC, Service


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with three snapshots."""
    service = Service(tmp_path_factory.mktemp("delete") / "original").build()
    for _ in range(3):
        Inside(service.folder)("backup", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


@pytest.fixture
def oldest(holdfast: Inside) -> str:
    found: str = holdfast.json("list")["snapshots"][-1]["id"]
    return found


def folder_of(service: Service, target: str, snapshot: str) -> Path:
    return service.folder / target / "quaybot" / "default" / snapshot


def damage(service: Service, snapshot: str, *targets: str) -> None:
    for target in targets:
        (folder_of(service, target, snapshot) / "manifest.json").write_text("{}\n")


class TestASnapshotWhoseManifestIsDamaged:
    def test_is_removed_by_its_id_and_a_yes(
        self, service: Service, holdfast: Inside, oldest: str
    ) -> None:
        damage(service, oldest, "backups", "elsewhere")
        asked = holdfast.json("delete", "--snapshot", oldest, status=7)
        assert "manifest at disk is damaged" in asked["error"]["message"]
        assert folder_of(service, "backups", oldest).exists()
        done = holdfast.json("delete", "--snapshot", oldest, "--confirm", oldest)
        assert done["removed"] == [
            {"id": oldest, "target": "disk"},
            {"id": oldest, "target": "offsite"},
        ]
        for target in ("backups", "elsewhere"):
            assert not folder_of(service, target, oldest).exists()
        assert len(holdfast.json("list")["snapshots"]) == 2

    def test_is_said_to_have_been_damaged(
        self, service: Service, holdfast: Inside, oldest: str
    ) -> None:
        damage(service, oldest, "backups", "elsewhere")
        answer = holdfast("delete", "--snapshot", oldest, "--confirm", oldest, status=0)
        assert f"the manifest of {oldest} at disk was damaged" in answer.stdout

    def test_is_removed_where_another_target_holds_it_whole(
        self, service: Service, holdfast: Inside, oldest: str
    ) -> None:
        damage(service, oldest, "backups")
        holdfast("delete", "--snapshot", oldest, "--confirm", oldest, status=0)
        assert not folder_of(service, "backups", oldest).exists()
        assert not folder_of(service, "elsewhere", oldest).exists()

    def test_must_be_named_by_its_whole_id(
        self, service: Service, holdfast: Inside, oldest: str
    ) -> None:
        damage(service, oldest, "backups", "elsewhere")
        holdfast.json("delete", "--snapshot", oldest[-6:], "--confirm", oldest, status=1)
        assert folder_of(service, "backups", oldest).exists()

    def test_stays_while_another_needs_its_content(
        self, service: Service, holdfast: Inside
    ) -> None:
        lazy = SPEC.replace("verify: stored", "verify: stored, skip_unchanged: true")
        (service.folder / "backup.yaml").write_text(lazy)
        holder, later = (holdfast.json("backup")["snapshots"][0] for _ in range(2))
        assert holder["id"] in later["unchanged"].values()
        damage(service, holder["id"], "backups", "elsewhere")
        asked = ("delete", "--snapshot", holder["id"], "--confirm", holder["id"])
        assert later["id"] in holdfast.json(*asked, status=7)["error"]["message"]

    @pytest.mark.parametrize("command", ["prune", "backup"])
    def test_is_left_alone_by_a_prune_that_says_how_to_remove_it(
        self, service: Service, holdfast: Inside, oldest: str, command: str
    ) -> None:
        damage(service, oldest, "backups", "elsewhere")
        answer = holdfast(command, status=0)
        line = f"holdfast delete --snapshot {oldest} --confirm {oldest}"
        assert f"To remove it: {line}" in answer.stdout
        assert folder_of(service, "backups", oldest).exists()
        (first, second) = holdfast.json("prune")["damaged"]
        assert (first["target"], first["next"]) == ("disk", line)
        assert (second["target"], second["next"]) == ("offsite", line)
        holdfast(*first["next"].split()[1:], status=0)
        assert holdfast.json("prune")["damaged"] == []


@pytest.mark.parametrize("command", ["prune", "backup"])
def test_nobody_is_told_how_to_remove_what_a_newer_version_wrote(
    service: Service, holdfast: Inside, oldest: str, command: str
) -> None:
    manifest = folder_of(service, "backups", oldest) / "manifest.json"
    manifest.write_text(json.dumps({"format": 2}))
    said = holdfast(command, status=0).stdout
    assert "update this one before you remove anything" in said
    assert "To remove it" not in said
    (left,) = holdfast.json("prune")["damaged"]
    assert left["next"] is None


def test_the_line_that_removes_it_names_the_profile(tmp_path: Path) -> None:
    spec = SPEC + "profiles:\n  prod: {targets: {offsite: null}}\n"
    service = Service(tmp_path / "service", spec).build()
    holdfast = Inside(service.folder)
    (made,) = holdfast.json("backup", "--profile", "prod")["snapshots"]
    holdfast("backup", "--profile", "prod", status=0)
    folder = service.folder / "backups" / "quaybot" / "prod" / made["id"]
    (folder / "manifest.json").write_text("{}\n")
    (damaged,) = holdfast.json("prune", "--profile", "prod")["damaged"]
    holdfast(*damaged["next"].split()[1:], status=0)
    assert not folder.exists()


def test_a_word_that_no_target_takes_changes_nothing(
    holdfast: Inside, oldest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise StepFailed("No space is left on the device.")

    def told(command: str) -> tuple[bool, list[str]]:
        with monkeypatch.context() as fault:
            fault.setattr("runner.execute.actions.record.write_record", full)
            said = holdfast.json(command, "--snapshot", oldest, status=4)
        return said["pinned"], said["targets"]

    assert told("pin") == (False, [])
    assert told("unpin") == (False, [])
    holdfast("pin", "--snapshot", oldest, status=0)
    assert told("pin") == (True, [])
    assert told("unpin") == (True, [])


def test_status_names_a_copy_that_is_damaged(service: Service, holdfast: Inside) -> None:
    newest = holdfast.json("list")["snapshots"][0]["id"]
    (stored,) = folder_of(service, "backups", newest).glob("db.sqlite*")
    stored.write_bytes(stored.read_bytes()[:-1])
    holdfast("verify", status=4)
    said = holdfast("status", status=4).stdout
    assert f"The copy of {newest} at disk is damaged: " in said
    assert "behind. Next" not in said
    holdfast("backup", status=0)
    assert "damaged" not in holdfast("status").stdout


class TestASavedPlan:
    def test_removes_nothing_that_was_pinned_since(
        self, service: Service, holdfast: Inside, oldest: str
    ) -> None:
        holdfast("delete", "--snapshot", oldest, "--dry-run", "--out", "plan", status=0)
        holdfast("pin", "--snapshot", oldest, status=0)
        answer = holdfast("apply", "--plan", "plan", "--confirm", oldest, status=7)
        assert "is pinned" in answer.stderr
        assert folder_of(service, "backups", oldest).exists()

    @pytest.mark.parametrize("command", ["pin", "unpin", "verify", "delete"])
    def test_of_a_snapshot_that_was_removed_is_stale(
        self, holdfast: Inside, oldest: str, command: str
    ) -> None:
        holdfast(command, "--snapshot", oldest, "--dry-run", "--out", "plan", status=0)
        holdfast("delete", "--snapshot", oldest, "--confirm", oldest, status=0)
        answer = holdfast("apply", "--plan", "plan", "--confirm", oldest, status=7)
        assert f"stale: {oldest} is not at disk any more" in answer.stderr
