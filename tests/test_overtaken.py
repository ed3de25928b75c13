"""A run that waits for another one does what is left to do then, not what it had in mind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.execute import journal as journals
from runner.execute.locks import RUN_LOCK, held
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.test_rekey import REKEY, declare, ids, make_key
from tests.tools import Program, clean_environment
from tests.whole_stack import KILLED_AT

WAITING = ("--wait", "5m")


def numbers(service: Service) -> list[int]:
    """The snapshots' sequence numbers, oldest first."""
    parent = service.folder / "backups" / "quaybot" / "default"
    found = [json.loads(one.read_bytes())["sequence"] for one in parent.glob("*/manifest.json")]
    return sorted(found)


def all_at_once(program: Program, *commands: tuple[str, ...]) -> None:
    """Run commands beside each other, and expect all of them to end well."""
    processes = [program.start(*one, *WAITING) for one in commands]
    for process in processes:
        said = process.communicate()
        assert process.returncode == 0, said


def test_each_backup_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Of two with the same number nobody could say which is the newest."""
    service = Service(tmp_path / "service").build()
    with held(service.folder / ".holdfast", RUN_LOCK, "test"):
        waiting = [service.program.start("backup", *WAITING) for _ in range(3)]
        for process in waiting:
            assert process.poll() is None
    for process in waiting:
        said = process.communicate()
        assert process.returncode == 0, said
    assert numbers(service) == [1, 2, 3]


def open_mark_of(service: Service, run: str) -> Path:
    return journals.open_mark(service.folder / ".holdfast", run)


def test_a_backup_that_was_killed_after_its_last_word_is_no_new_one_for_ever(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    run = holdfast.json("backup")["run"]
    open_mark_of(service, run).touch()
    holdfast("backup", status=0)
    assert not open_mark_of(service, run).exists()
    assert numbers(service) == [1, 2]


def test_a_backup_that_was_killed_before_its_first_word_is_settled_once(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    run = holdfast.json("backup")["run"]
    open_mark_of(service, run).touch()
    (journals.run_folder(service.folder / ".holdfast", run) / journals.JOURNAL).write_text('{"at"')
    holdfast("backup", status=0)
    assert not open_mark_of(service, run).exists()
    assert numbers(service) == [1, 2]


def test_what_another_run_did_meanwhile_is_not_due_any_more(tmp_path: Path) -> None:
    spec = SPEC.replace("nightly: {", 'nightly: {schedule: "0 2 * * *", ')
    service = Service(tmp_path / "service", spec).build()
    all_at_once(service.program, ("backup", "--due"), ("backup", "--due"))
    assert numbers(service) == [1]


def test_a_backup_is_not_resumed_once_another_one_was_made(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    died = subprocess.run(
        [sys.executable, "-P", str(KILLED_AT), "nightly.publish", "backup"],
        cwd=service.folder,
        env=clean_environment(service.folder),
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    holdfast = Inside(service.folder)
    (run,) = (one["run"] for one in holdfast.json("history", "--runs")["runs"])
    newest = holdfast.json("backup")["snapshots"][0]["id"]
    refused = holdfast("backup", "--resume", run, status=1)
    assert "a newer snapshot was made since" in refused.stderr
    assert "Start anew: holdfast backup" in refused.stderr
    assert ids(holdfast) == [newest]


def test_two_rekeys_write_each_snapshot_once(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    declare(service, make_key(service.folder, "old"))
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    declare(service, make_key(service.folder, "new"))
    all_at_once(service.program, REKEY, REKEY)
    assert len(ids(holdfast)) == 1


def test_what_was_pinned_while_a_delete_waited_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    (snapshot,) = ids(holdfast)
    pinned: list[object] = []

    def pin_meanwhile(*_arguments: object, **_more: object) -> object:
        if not pinned:
            pinned.append(holdfast("pin", "--snapshot", snapshot, status=0))
        return held(*_arguments, **_more)  # type: ignore[arg-type]

    monkeypatch.setattr("runner.execute.runs.held", pin_meanwhile)
    said = holdfast("delete", "--snapshot", snapshot, "--confirm", snapshot, status=7)
    assert "is pinned" in said.stderr
    assert ids(holdfast) == [snapshot]
