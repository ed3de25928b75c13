"""A recovery that was killed, until a command takes back what it left."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.execute.journal import JOURNAL, run_folder
from runner.owner import lock
from runner.source import files_place
from runner.swap import remove_tree
from tests.inside import Inside
from tests.service import Service
from tests.tools import clean_environment

KILLED_AT = Path(__file__).parent / "faults" / "killed_at.py"
RESTORE = ("restore", "--source", "db", "--confirm", "db")


def killed(folder: Path, step: str, *command: str) -> Service:
    """A service whose command dies just before `step`."""
    service = Service(folder).build()
    service.program("backup", status=0)
    kill(service, step, *command)
    return service


def kill(service: Service, step: str, *command: str) -> None:
    """Run a command that dies just before `step`."""
    arguments = [sys.executable, str(KILLED_AT), step, *command]
    environment = clean_environment(service.folder)
    done = subprocess.run(arguments, cwd=service.folder, env=environment, check=False)
    assert done.returncode == -9


def runs(service: Service) -> Any:
    return service.program.json("history", "--runs")["runs"]


def test_status_is_not_well_while_a_recovery_lies_half_done(tmp_path: Path) -> None:
    """The bot is down, and nothing else says so to whom looks."""
    service = killed(tmp_path / "service", "bot.start", "dr-restore", "--confirm", "quaybot")
    (run,) = (one["run"] for one in runs(service) if one["kind"] == "dr-restore")
    said = service.program("status", status=4).stdout
    assert f"{run} was killed" in said
    assert f"Next: holdfast dr-restore --resume {run}" in said
    assert service.log()[-1] == "stop"
    service.program("verify", status=0)
    assert service.log()[-1] == "start"
    said = service.program("status", status=4).stdout
    assert f"{run} ended as interrupted (brought back: code, config, db; not done: deploy, " in said
    service.program("dr-restore", "--resume", run, status=0)
    service.program("status", status=0)


def test_status_tells_of_a_recovery_that_brought_back_a_part_until_that_is_taken_back(
    tmp_path: Path,
) -> None:
    """The nightly backup took back what lay half done, and backed up the rest of the mixture."""
    service = killed(tmp_path / "service", "db.swap", "dr-restore", "--confirm", "quaybot")
    service.program("backup", status=0)
    message = service.program.json("status", status=4)["error"]["message"]
    run = message.split()[2]
    assert f"{run} ended as interrupted (brought back: code" in message
    assert "db.swap" in message
    assert message.endswith(f"Next: holdfast dr-restore --resume {run}")
    service.program("dr-restore", "--rollback", run, "--confirm", "quaybot", status=0)
    service.program("status", status=0)


@pytest.mark.parametrize("step", ["code.stage", "code.confirm", "db.confirm", "bot.start"])
def test_a_killed_recovery_is_rolled_back_wherever_it_was(tmp_path: Path, step: str) -> None:
    """The kill itself may have left something to take back: that is done first, and may be all."""
    service = Service(tmp_path / "service").build()
    service.program("backup", status=0)
    service.change()
    before = service.observe()
    kill(service, step, "dr-restore", "--confirm", "quaybot")
    (run,) = (one["run"] for one in runs(service) if one["kind"] == "dr-restore")
    rollback = ("dr-restore", "--rollback", run)
    assert "--confirm quaybot" in service.program(*rollback, status=7).stderr
    done = service.program.json(*rollback, "--confirm", "quaybot")
    assert done["status"] == "done"
    assert service.observe() == before
    assert service.leftovers() == []
    assert service.log()[-1:] != ["stop"]
    service.program("status", status=0)


def test_what_a_killed_container_left_is_taken_back_by_the_next_one(tmp_path: Path) -> None:
    """Each has a name of its own, and nobody else is ever of the same."""
    service = killed(tmp_path / "service", "bot.start", "dr-restore", "--confirm", "quaybot")
    (run,) = (one["run"] for one in runs(service) if one["kind"] == "dr-restore")
    journal = run_folder(service.folder / ".holdfast", run) / JOURNAL
    journal.write_text(journal.read_text().replace(socket.gethostname(), "3f0c9d1e7a52"))
    with journal.open("rb") as held:
        assert lock(held.fileno())  # as long as it lives
        assert f"{run} was killed" not in service.program("status").stdout
        service.program("verify", status=0)
        assert service.log()[-1] == "stop"
    assert f"{run} was killed" in service.program("status", status=4).stdout
    service.program("verify", status=0)
    assert service.log()[-1] == "start"


@pytest.mark.parametrize("removed", ["config", "config/app.toml"])
def test_what_was_discarded_in_part_is_staged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    """It was proven while it was whole, and went live as equal to the snapshot."""
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    wanted = service.observe()
    holdfast("backup", status=0)
    service.change()
    kill(service, "config.swap", "dr-restore", "--confirm", "quaybot")

    def cut_off(container: Path) -> None:
        remove_tree(container / "tree" / removed)
        raise OSError("the power is cut")

    with monkeypatch.context() as patch:
        patch.setattr(files_place, "remove_tree", cut_off)
        holdfast("backup", status=7)
    (run,) = (one["run"] for one in runs(service) if one["kind"] == "dr-restore")
    holdfast("dr-restore", "--resume", run, status=0)
    assert service.observe() == wanted


def test_a_killed_rollback_is_begun_anew_by_the_same_line(tmp_path: Path) -> None:
    """It had moved the safety copy already, which was said to be gone for good."""
    service = Service(tmp_path / "service").build()
    service.program("backup", status=0)
    service.change()
    before = service.observe()
    run = service.program.json("dr-restore", "--confirm", "quaybot")["run"]
    rollback = ("dr-restore", "--rollback", run, "--confirm", "quaybot")
    kill(service, "code.confirm", *rollback)
    service.program(*rollback, status=0)
    assert service.observe() == before
    assert service.leftovers() == []


def test_a_recovery_that_ended_well_makes_good_one_that_did_not(tmp_path: Path) -> None:
    service = killed(tmp_path / "service", "db.swap", "dr-restore", "--confirm", "quaybot")
    run = service.program.json("dr-restore", "--confirm", "quaybot")["run"]
    service.program("status", status=0)
    for note in (service.folder / ".holdfast" / "safety").glob(f"{run}.*"):
        note.unlink()  # as `prune --safety` does, source after source
    service.program("status", status=0)


def test_what_a_killed_writer_left_in_the_state_folder_goes_an_hour_later(tmp_path: Path) -> None:
    """Half a dump of what a recovery was about to replace is as large as that."""
    service = Service(tmp_path / "service").build()
    left = service.folder / ".holdfast" / "safety" / ".0123456789abcdef.partial"
    left.parent.mkdir(parents=True)
    left.touch()
    service.program("backup", status=0)
    assert left.exists()
    os.utime(left, (time.time() - 3700, time.time() - 3700))
    service.program("backup", status=0)
    assert not left.exists()


def test_status_tells_of_a_killed_restore(tmp_path: Path) -> None:
    service = killed(tmp_path / "service", "db.confirm", *RESTORE)
    assert "Next: holdfast verify" in service.program("status", status=4).stdout


def test_a_restore_that_cannot_be_taken_back_names_no_line_that_is_not_there(
    tmp_path: Path,
) -> None:
    service = killed(tmp_path / "service", "bot.start", *RESTORE)
    spec = service.folder / "backup.yaml"
    whole = spec.read_text()
    spec.write_text(whole.replace('"echo start', '"exit 3; echo start'))
    refused = service.program("backup", status=7).stderr
    assert "bot.start, which takes it back, failed" in refused
    assert "--resume" not in refused
    spec.write_text(whole)
    service.program("backup", status=0)
    assert service.log()[-1] == "start"


def test_whoever_takes_it_back_leaves_the_flags_that_it_goes_on_with(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    service.program("backup", status=0)
    new, address = Service(tmp_path / "new"), str(service.folder / "backups")
    digest = hashlib.sha256((new.folder / "backup.yaml").read_bytes()).hexdigest()
    (new.folder / "backup.yaml").unlink()
    yes = ("--confirm-spec", digest, "--confirm", "quaybot")
    kill(new, "bot.start", "dr-restore", "--from", address, "--dir", ".", *yes)
    (run,) = (one["run"] for one in runs(new))
    line = f"Next: holdfast dr-restore --resume {run} --from {address}"
    assert line in new.program("status", status=4).stdout
    new.program("backup", status=0)
    assert line in new.program("status", status=4).stdout
