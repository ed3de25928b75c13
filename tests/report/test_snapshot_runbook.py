"""The runbook in a snapshot: had with nothing but a target and the identity, and enough alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import StepFailed
from runner.report import snapshot_runbook
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.store.builders import Recipe, make
from tests.test_journeys import IDENTITY, first_snapshot, protected, run_blocks
from tests.tools import clean_environment, require_program
from tests.whole_stack import KILLED_AT


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_what_it_says_brings_everything_back(tmp_path: Path, kind: str) -> None:
    require_program("age")
    service = protected(kind, tmp_path / "service")
    before = service.observe()
    key = (service.folder / IDENTITY).rename(tmp_path / "key") if kind == "encrypted" else None
    given = ("--identity", key) if key else ()
    workshop = tmp_path / "workshop"
    workshop.mkdir()
    # Nothing is known here but the address and the identity.
    address = service.folder / "elsewhere"
    document = Inside(workshop).json("runbook", "--from", address, *given)["document"]
    (stored,) = first_snapshot(service, "elsewhere").glob("RUNBOOK.md*")
    opened = ["age", "-d", "-i", str(key), str(stored)] if key else ["cat", str(stored)]
    assert subprocess.run(opened, capture_output=True, check=True).stdout.decode() == document
    service.destroy()
    shutil.rmtree(service.folder / ".holdfast")
    (service.folder / "backup.yaml").unlink()
    run_blocks(document, workshop, AGE_IDENTITY=str(key))
    assert service.observe() == before
    assert service.log() == ["stop", "start", "deployed"]


def test_a_folder_at_hand_is_enough_when_every_target_is_gone(tmp_path: Path) -> None:
    require_program("age")
    service = protected("encrypted", tmp_path / "service")
    before = service.observe()
    key = str((service.folder / IDENTITY).rename(tmp_path / "key"))
    copied = first_snapshot(service, "elsewhere")
    workshop = tmp_path / "workshop"
    at_hand = workshop / "recovery" / copied.name
    shutil.copytree(copied, at_hand)
    shutil.rmtree(service.folder)
    run_blocks((at_hand / "RESTORE.md").read_text(), at_hand, AGE_IDENTITY=key)
    document = (at_hand / "restored" / "RUNBOOK.md").read_text()
    shutil.rmtree(at_hand / "restored")
    run_blocks(document, workshop, AGE_IDENTITY=key)
    assert service.observe() == before


def test_it_has_its_place_in_the_sums_and_is_verified(tmp_path: Path) -> None:
    service = protected("plain", tmp_path / "service")
    folder = first_snapshot(service)
    assert "  RUNBOOK.md\n" in (folder / "SHA256SUMS").read_text()
    (folder / "RUNBOOK.md").write_text("# Send your keys to me\n")
    answer = Inside(service.folder)("verify", "--target", "disk", status=4)
    assert "RUNBOOK.md" in answer.stdout + answer.stderr


def test_a_backup_that_was_killed_and_resumed_has_one(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    killed = subprocess.run(
        [sys.executable, "-P", str(KILLED_AT), "nightly.publish", "backup"],
        cwd=service.folder,
        env=clean_environment(service.folder),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    holdfast = Inside(service.folder)
    (run,) = (one["run"] for one in holdfast.json("history", "--runs")["runs"])
    holdfast("backup", "--resume", run, status=0)
    assert (first_snapshot(service) / "RUNBOOK.md").is_file()


def test_no_backup_fails_for_its_runbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(tmp_path / "service").build()

    def refuse(*_parts: object) -> str:
        raise StepFailed("Nobody can write this.")

    monkeypatch.setattr(snapshot_runbook, "runbook_of", refuse)
    answer = Inside(service.folder)("backup", status=0)
    assert "gets no runbook: Nobody can write this." in answer.stdout + answer.stderr
    assert list(first_snapshot(service).glob("RUNBOOK*")) == []
    Inside(service.folder)("verify", status=0)


def test_what_did_not_change_comes_from_where_it_lies(tmp_path: Path) -> None:
    service = Service(
        tmp_path / "service",
        SPEC.replace("nightly: {", "nightly: {skip_unchanged: true, "),
    ).build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    (service.folder / "config" / "app.toml").write_text("name = 'changed'\n")
    holdfast("backup", status=0)
    newest, first = (one["id"] for one in holdfast.json("list")["snapshots"])
    document = holdfast.json("runbook", "--snapshot", newest)["document"]
    assert f"What did not change lies in {first}: that is needed, too." in document
    rows = [line for line in document.splitlines() if line.startswith("| ")]
    assert any(row.startswith(f"| db | {first} |") for row in rows)
    assert any(row.startswith(f"| config | {newest} |") for row in rows)


def test_a_source_that_is_not_in_the_snapshot_is_named(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    holdfast("backup", "--source", "db", status=0)
    document = holdfast.json("runbook", "--snapshot", "latest", "--from", "offsite")["document"]
    assert "Not in it: config, code." in document
    assert "Put db in its place" in document
    assert "Put code in its place" not in document


def test_a_snapshot_of_an_older_version_has_none(tmp_path: Path) -> None:
    made = make(Recipe())
    made.write(tmp_path / "backups")
    service = Service(tmp_path)
    holdfast = Inside(service.folder)
    answer = holdfast("runbook", "--snapshot", made.id, status=4)
    assert "carries no runbook" in answer.stderr
