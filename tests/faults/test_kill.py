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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Killed:
    """A service whose command was killed, or lived to its end."""

    service: Service
    before: dict[str, Any]  # what was there before the command
    event: int  # that was not written any more
    died: bool


def killed_at_every_event(
    make: Callable[[str], Service], *arguments: str, least: int
) -> Iterator[Killed]:
    """Kill a command before its first event, its second, …, each time in another service.

    The last one lives. Nothing half done is left once the block of the loop has brought a service
    in order. There must be more than `least` events.
    """
    for event in itertools.count(1):
        service = make(str(event))
        before = service.observe()
        died = kill_at(service, event, *arguments)
        yield Killed(service, before, event, died)
        assert half_done(service) == [], f"event {event}"
        shutil.rmtree(service.folder)
        if not died:
            assert event > least
            return


def half_done(service: Service) -> list[str]:
    """What is left over, but for records: a step beside the one that died may have been writing
    one, which is swept two days later.
    """
    return [one for one in service.leftovers() if "/.records/." not in one]


def changing(fresh: Callable[[str], Service]) -> Callable[[str], Service]:
    """The same copies, after a day on which everything changed."""

    def make(name: str) -> Service:
        service = fresh(name)
        service.change()
        return service

    return make


def stands_or_ran(service: Service) -> bool:
    """Whether nothing was stopped that was not started again, or deployed, afterwards."""
    log = service.log()
    return "stop" not in log or log[-1] in ("start", "deployed")


def sweep_what_is_old(service: Service) -> None:
    """Let a prune find what killed writers left at the targets, two days later."""
    for partial in service.folder.rglob(".*.partial"):
        os.utime(partial, (0, 0))
    service.program("prune", "--confirm", "quaybot", status=0)


@pytest.mark.slow
def test_backup_killed_at_every_boundary(fresh: Callable[[str], Service]) -> None:
    for killed in killed_at_every_event(fresh, "backup", least=10):
        program = killed.service.program
        assert len(program.json("list")["snapshots"]) in (1, 2)
        results = program.json("verify", "--level", "stored")["results"]
        assert {one["verdict"] for one in results} == {"PASS"}
        program("backup", status=0)


@pytest.mark.slow
def test_recovery_killed_at_every_boundary_resumes(fresh: Callable[[str], Service]) -> None:
    wanted = fresh("wanted").observe()
    recovery = ("dr-restore", "--confirm", "quaybot")
    for killed in killed_at_every_event(changing(fresh), *recovery, least=30):
        service = killed.service
        runs = service.program.json("history", "--runs")["runs"]
        mine = [one for one in runs if one["kind"] == "dr-restore"]
        if killed.died and mine and mine[0]["status"] == "interrupted":
            resume(service, mine[0]["run"])
        elif killed.died and not mine:
            service.program(*recovery, status=0)
        assert service.observe() == wanted, f"killed before event {killed.event}"
        assert service.log()[-1] == "deployed", service.log()
        assert [word for word in service.log() if word != "deployed"][-1] == "start"


@pytest.mark.slow
def test_recovery_killed_at_every_boundary_is_taken_back_by_the_next_command(
    fresh: Callable[[str], Service],
) -> None:
    restored = fresh("wanted").observe()
    recovery = ("dr-restore", "--confirm", "quaybot")
    for killed in killed_at_every_event(changing(fresh), *recovery, least=30):
        killed.service.program("backup", status=0)
        for name, content in killed.service.observe().items():
            either = (killed.before[name], restored[name])
            assert content in either, f"event {killed.event}: {name}"
        assert stands_or_ran(killed.service)


@pytest.mark.slow
def test_restore_killed_at_every_boundary_is_taken_back_or_done(
    fresh: Callable[[str], Service],
) -> None:
    restored = fresh("wanted").observe()
    restore = ("restore", "--source", "db", "--confirm", "db")
    for killed in killed_at_every_event(changing(fresh), *restore, least=12):
        killed.service.program("backup", status=0)
        now, before = killed.service.observe(), killed.before
        assert now["db"] in (before["db"], restored["db"]), f"event {killed.event}"
        assert (now["files"], now["code"]) == (before["files"], before["code"])
        assert stands_or_ran(killed.service)


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

    def with_many(name: str) -> Service:
        service = Service(original.folder.with_name(f"prune{name}"), spec.read_text())
        shutil.copytree(original.folder, service.folder, symlinks=True, dirs_exist_ok=True)
        return service

    prune = ("prune", "--confirm", "quaybot")
    for killed in killed_at_every_event(with_many, *prune, least=4):
        program = killed.service.program
        assert newest in [one["id"] for one in program.json("list")["snapshots"]]
        assert {one["verdict"] for one in program.json("verify")["results"]} == {"PASS"}
        program(*prune, status=0)
        assert [one["id"] for one in program.json("list")["snapshots"]] == [newest]


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
    # What dies within a write leaves that one file, which nobody lists.
    sweep_what_is_old(service)
    assert service.leftovers() == []
    results = service.program.json("verify", "--level", "restored")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
