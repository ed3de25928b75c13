"""SIGKILL at every step boundary, and at random moments: nothing half done is ever visible."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service import Service
from tests.tools import clean_environment

KILLED = Path(__file__).with_name("killed.py")


def kill_at(service: Service, event: int, *arguments: str) -> bool:
    """Run a command that dies before its n-th event is written: between a step's work and its
    end, or between two steps. Whether it lived long enough."""
    done = subprocess.run(
        [sys.executable, "-P", str(KILLED), str(event), *arguments],
        cwd=service.folder,
        env=clean_environment(service.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    return done.returncode == -signal.SIGKILL


def kill_after(service: Service, seconds: float, *arguments: str) -> bool:
    """Run a command and kill it after some time; whether it was still running."""
    with service.program.start(*arguments) as process:
        time.sleep(seconds)
        running = process.poll() is None
        if running:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    return running


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[str], Service]:
    """Copies of one service with one snapshot, each in a folder of its own."""
    original = Service(tmp_path / "original").build()
    original.program("backup", status=0)

    def copy(name: str) -> Service:
        shutil.copytree(original.folder, tmp_path / name, symlinks=True)
        return Service(tmp_path / name)

    return copy


def resume(service: Service, run: str) -> None:
    """Finish a recovery; a command of the user that was interrupted is run again on our word."""
    answer = service.program("dr-restore", "--resume", run)
    if answer.status == 7 and "deploy was interrupted" in answer.stderr:
        answer = service.program("dr-restore", "--resume", run, "--start-at", "deploy")
    assert answer.status == 0, str(answer)


@pytest.mark.slow
def test_backup_killed_at_every_boundary(fresh: Callable[[str], Service]) -> None:
    for number in itertools.count(1):
        service = fresh(str(number))
        died = kill_at(service, number, "backup")
        listed = service.program.json("list")["snapshots"]
        assert len(listed) in (1, 2)
        results = service.program.json("verify", "--level", "stored")["results"]
        assert {one["verdict"] for one in results} == {"PASS"}
        service.program("backup", status=0)
        assert service.leftovers() == []
        shutil.rmtree(service.folder)
        if not died:
            break
    assert number > 10


@pytest.mark.slow
def test_recovery_killed_at_every_boundary_resumes(fresh: Callable[[str], Service]) -> None:
    wanted = fresh("wanted").observe()
    for number in itertools.count(1):
        service = fresh(str(number))
        service.change()
        died = kill_at(service, number, "dr-restore", "--confirm", "quaybot")
        runs = service.program.json("history", "--runs")["runs"]
        mine = [one for one in runs if one["kind"] == "dr-restore"]
        if died and mine and mine[0]["status"] == "interrupted":
            resume(service, mine[0]["run"])
        elif died and not mine:
            service.program("dr-restore", "--confirm", "quaybot", status=0)
        assert service.observe() == wanted, f"killed before event {number}"
        assert service.log()[-1] == "deployed", service.log()
        assert [word for word in service.log() if word != "deployed"][-1] == "start"
        assert service.leftovers() == []
        shutil.rmtree(service.folder)
        if not died:
            break
    assert number > 30


@pytest.mark.slow
def test_recovery_killed_at_every_boundary_is_taken_back_by_the_next_command(
    fresh: Callable[[str], Service],
) -> None:
    restored = fresh("wanted").observe()
    for number in itertools.count(1):
        service = fresh(str(number))
        service.change()
        changed = service.observe()
        died = kill_at(service, number, "dr-restore", "--confirm", "quaybot")
        service.program("backup", status=0)
        now = service.observe()
        for name, content in now.items():
            assert content in (changed[name], restored[name]), f"event {number}: {name}"
        assert "stop" not in service.log() or service.log()[-1] in ("start", "deployed")
        assert service.leftovers() == []
        shutil.rmtree(service.folder)
        if not died:
            break
    assert number > 30


@pytest.mark.slow
def test_restore_killed_at_every_boundary_is_taken_back_or_done(
    fresh: Callable[[str], Service],
) -> None:
    restored = fresh("wanted").observe()
    for number in itertools.count(1):
        service = fresh(str(number))
        service.change()
        changed = service.observe()
        died = kill_at(service, number, "restore", "--source", "db", "--confirm", "db")
        service.program("backup", status=0)
        now = service.observe()
        assert now["db"] in (changed["db"], restored["db"]), f"event {number}"
        assert (now["files"], now["code"]) == (changed["files"], changed["code"])
        assert "stop" not in service.log() or service.log()[-1] == "start"
        assert service.leftovers() == []
        shutil.rmtree(service.folder)
        if not died:
            break
    assert number > 12


@pytest.mark.slow
def test_prune_killed_at_every_boundary_is_finished_by_the_next(
    fresh: Callable[[str], Service],
) -> None:
    original = fresh("many")
    for _ in range(2):
        original.program("backup", "--no-prune", status=0)
    spec = original.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("last: 3", "last: 1"))
    newest = original.program.json("list")["snapshots"][0]["id"]
    for number in itertools.count(1):
        service = Service(original.folder.with_name(f"prune{number}"), spec.read_text())
        shutil.copytree(original.folder, service.folder, symlinks=True, dirs_exist_ok=True)
        died = kill_at(service, number, "prune", "--confirm", "quaybot")
        listed = service.program.json("list")["snapshots"]
        assert newest in [one["id"] for one in listed]
        assert {one["verdict"] for one in service.program.json("verify")["results"]} == {"PASS"}
        service.program("prune", "--confirm", "quaybot", status=0)
        assert [one["id"] for one in service.program.json("list")["snapshots"]] == [newest]
        shutil.rmtree(service.folder)
        if not died:
            break
    assert number > 4


@pytest.mark.slow
def test_killed_at_random_moments(fresh: Callable[[str], Service]) -> None:
    chance = random.Random(20261120)
    commands = (
        ("backup",),
        ("prune",),
        ("restore", "--source", "config", "--confirm", "config"),
        ("dr-restore", "--confirm", "quaybot"),
    )
    service = fresh("random")
    wanted = service.observe()
    for _ in range(100):
        kill_after(service, chance.uniform(0.05, 0.9), *chance.choice(commands))
        assert len(service.program.json("list")["snapshots"]) >= 1
    service.program("backup", status=0)
    assert service.observe() == wanted
    assert service.leftovers() == []
    results = service.program.json("verify", "--level", "restored")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
