"""SIGKILL between any two changes that a command makes, at every boundary of its steps, and at
random moments: nothing is lost, half visible, or left.

Each command is killed again and again, each time later, at changes that a seed chooses (that of the
environment, HOLDFAST_TESTS_SEED, or always the same one). Another command takes it from there,
which may itself be killed first. What a failing test prints names the seed, the changes and the
commands.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runner.execute.recoveries import RECOVERIES
from tests.faults.bad_day import Steady, snapshots
from tests.faults.conftest import KillBefore
from tests.service import Service

SEED = os.environ.get("HOLDFAST_TESTS_SEED", "20261122")

Words = tuple[str, ...]
Worlds = list[dict[str, Any]]  # what was observed, one after the other

BACKUP: Words = ("backup",)
VERIFY: Words = ("verify", "--level", "stored")
PRUNE: Words = ("prune", "--confirm", "quaybot")
DELETE: Words = ("delete", "--snapshot", "OLDEST", "--confirm", "OLDEST")
RECOVER: Words = ("dr-restore", "--confirm", "quaybot")
RESUME: Words = ("dr-restore", "--resume", "INTERRUPTED")
ROLLBACK: Words = ("dr-restore", "--rollback", "RECOVERY", "--confirm", "quaybot")
LET_GO: Words = ("prune", "--safety", "--confirm", "quaybot")
RESTORE: dict[str, Words] = {
    name: ("restore", "--source", name, "--confirm", name) for name in ("db", "config", "code")
}
SOURCES = {"db": "db", "files": "config", "code": "code"}  # by what a service observes

# Nothing is left to do, or nothing to do it with.
REFUSALS = (
    *("Nothing is known of what", "there is nothing to resume", "There is no snapshot"),
    "was about to be removed",
)


def changed(service: Service, holdfast: Steady) -> Worlds:
    """A backup, and a day on which everything changed."""
    before = service.observe()
    holdfast(*BACKUP, status=0)
    service.change()
    return [before, service.observe()]


def crowded(service: Service, holdfast: Steady) -> Worlds:
    """Three snapshots, of which retention keeps one."""
    worlds = changed(service, holdfast)
    for _ in range(2):
        holdfast(*BACKUP, "--no-prune", status=0)
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("last: 3", "last: 1"))
    return worlds


def recovered(service: Service, holdfast: Steady) -> Worlds:
    """A recovery, and another such day."""
    worlds = changed(service, holdfast)
    holdfast(*RECOVER, status=0)
    service.change()
    return [*worlds, service.observe()]


@dataclass(frozen=True)
class Story:
    """A command that is killed."""

    command: Words
    apart: int  # about so many changes lie between two kills
    then: tuple[Words, ...]  # what takes it from there, if it is not the same command again
    given: Callable[[Service, Steady], Worlds] = changed
    only: str = ""  # what those changes match


STORIES = {
    "backup": Story(BACKUP, 45, (RECOVER, PRUNE)),
    "prune": Story(PRUNE, 40, (BACKUP, VERIFY), crowded),
    "delete": Story(DELETE, 40, (PRUNE,), crowded),
    "pin": Story(("pin", "--snapshot", "OLDEST"), 25, (BACKUP,)),
    "restore-db": Story(RESTORE["db"], 25, (BACKUP, RECOVER)),
    "restore-config": Story(RESTORE["config"], 30, (BACKUP, VERIFY)),
    "restore-code": Story(RESTORE["code"], 30, (BACKUP, RECOVER)),
    "recovery": Story(
        RECOVER, 18, (RESUME, RESUME, ROLLBACK, BACKUP, VERIFY, RESTORE["db"], LET_GO)
    ),
    "rollback": Story(ROLLBACK, 35, (RESUME, BACKUP, RECOVER), recovered),
    "letting-go": Story(LET_GO, 40, (ROLLBACK, BACKUP), recovered),
    "drill": Story(("drill",), 140, (BACKUP,)),
}
# Between a step's work and its end, and between two steps: before each event.
STORIES |= {
    f"{name}-at-every-boundary": replace(STORIES[name], apart=1, only=r"^write .*/journal\.jsonl$")
    for name in ("backup", "prune", "restore-db", "recovery")
}


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_killed_between_two_changes(story: Story, kill_before: KillBefore, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {story.command}")
    service = Service(tmp_path / "service").build()
    holdfast = Steady(service.folder)
    worlds = story.given(service, holdfast)
    # Safety copies are known by where they are, so each life is led in the same folder.
    shutil.copytree(service.folder, tmp_path / "given", symlinks=True)
    nth, died = 0, "nothing yet"
    while died:
        shutil.rmtree(service.folder)
        shutil.copytree(tmp_path / "given", service.folder, symlinks=True)
        nth += chance.randrange(1, 2 * story.apart)
        print(f"seed {SEED}:")
        words = typed(service, holdfast, story.command)
        died = lead(kill_before, holdfast, words, nth, story.only)
        others = (story.command, *story.then)
        once_more = chance.choice(others) if chance.random() < 0.5 else ()
        if once_more:
            words = typed(service, holdfast, once_more)
            lead(kill_before, holdfast, words, chance.randrange(1, 200))
        then = chance.choice(others)
        goes_on(holdfast, typed(service, holdfast, then))
        let_go = LET_GO in (story.command, once_more, then)
        stands(service, worlds, set(SOURCES.values()) if let_go else kept(holdfast))
        is_brought_in_order(service, holdfast)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Not at what Python does alone: also while the programs work that it started."""
    chance = random.Random(SEED)
    service = Service(tmp_path / "service").build()
    holdfast = Steady(service.folder)
    holdfast(*BACKUP, status=0)
    wanted = service.observe()
    for _ in range(100):
        words = chance.choice((BACKUP, PRUNE, RESTORE["config"], RECOVER))
        with service.program.start(*words) as process:
            time.sleep(chance.uniform(0.05, 0.9))
            process.kill()
            process.communicate()
        assert holdfast.json("list")["snapshots"]
    is_brought_in_order(service, holdfast)
    assert service.observe() == wanted
    results = holdfast.json("verify", "--level", "restored")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}


def lead(kill_before: KillBefore, holdfast: Steady, words: Words, nth: int, only: str = "") -> str:
    """Lead a life of the program to its n-th change; whoever looks then is answered in words."""
    died = kill_before(holdfast.folder, nth, *words, only=only)
    print(f"{' '.join(words)}: killed before change {nth}, {died}")
    for command in ("list", "status", "history"):
        assert holdfast(command).status in (0, 4, 5, 7)
    assert holdfast.json("list")["snapshots"]
    return died


def typed(service: Service, holdfast: Steady, words: Words) -> Words:
    """The words with the snapshot and the runs that they mean."""
    runs = holdfast.json("history", "--runs")["runs"]
    mine = [one for one in runs if one["kind"] in RECOVERIES]
    meant = {
        "OLDEST": [one.name for one in snapshots(service)[:1]],
        "RECOVERY": [one["run"] for one in mine if one["kind"] == "dr-restore"],
        "INTERRUPTED": [one["run"] for one in mine if one["status"] == "interrupted"],
    }
    if any(not meant.get(word, word) for word in words):
        return RECOVER  # it was killed before anybody could know of it
    return tuple(meant[word][0] if word in meant else word for word in words)


def goes_on(holdfast: Steady, words: Words) -> None:
    """A command that comes after a kill ends well; of a person's own command a person says that it
    may run again.
    """
    print(f"{' '.join(words)}: takes it from there")
    answer = holdfast(*words)
    if answer.status == 7 and "deploy was interrupted" in answer.stderr:
        answer = holdfast(*words, "--start-at", "deploy")
    refused = answer.status in (1, 4) and any(one in answer.stderr for one in REFUSALS)
    assert refused or answer.status == 0, str(answer)


def kept(holdfast: Steady) -> set[str]:
    """The sources of which there are safety copies."""
    return {one["source"] for one in holdfast.json("list", "--safety")["safety"]}


def stands(service: Service, worlds: Worlds, safe: set[str]) -> None:
    """Each source is as it was at one time; where that is not the last one, that is kept."""
    for name, content in service.observe().items():
        assert content in [one[name] for one in worlds], name
        assert content == worlds[-1][name] or SOURCES[name] in safe, name
    log = service.log()
    assert "stop" not in log or log[-1] in ("start", "deployed"), log


def is_brought_in_order(service: Service, holdfast: Steady) -> None:
    """The usual commands leave nothing of it, once what was written then is old."""
    if holdfast("status").status != 0:
        holdfast(*RECOVER, status=0)
    holdfast(*BACKUP, status=0)
    for path in [*service.folder.rglob(".*.partial"), *half_written(service)]:
        os.utime(path, (0, 0))
    for command in (PRUNE, LET_GO, ("status",)):
        holdfast(*command, status=0)
    assert list(left_over(service)) == []


def half_written(service: Service) -> Iterator[Path]:
    """What lies in folders of snapshots that have no manifest."""
    for folder in service.half_snapshots():
        yield from Path(folder).rglob("*")


def left_over(service: Service) -> Iterator[Path]:
    """What is neither the service's own, nor a snapshot, nor a record of what was done."""
    yield from map(Path, service.half_snapshots())
    state = service.folder / ".holdfast"
    begun = {path.parent.name for path in state.glob("runs/*/journal.jsonl")}
    marks = {state / "open-runs" / one for one in begun}
    for path in service.folder.rglob("*"):
        if path.parent.parent == state / "runs" and path.parent.name not in begun:
            continue  # of a run that was killed before its first word: it goes with the oldest
        named = any(one in path.name for one in (".holdfast-", ".before-", ".partial"))
        if named or path in marks or path.parent in (state / "scratch", state / "safety"):
            yield path
