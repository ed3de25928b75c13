"""A clock that is wrong or jumps, two runs at once, a prune under a reader."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bad_day import Steady, steady
from tests.faults.conftest import Fresh
from tests.service import Service
from tests.tools import Answer, clean_environment

SHIFTED = Path(__file__).with_name("shifted.py")
HOUR, DAY = 3600, 86400


def at(service: Service, shift: float, *arguments: str, status: int = 0) -> Answer:
    """Run a command while the clock is wrong by so many seconds."""
    done = subprocess.run(
        [sys.executable, "-P", str(SHIFTED), str(shift), *arguments],
        cwd=service.folder,
        env=clean_environment(service.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    answer = steady(Answer(("holdfast", *arguments), done.returncode, done.stdout, done.stderr))
    assert answer.status == status, str(answer)
    return answer


def back_up(service: Service, shift: float) -> str:
    """A backup under a wrong clock; its snapshot's id."""
    document = json.loads(at(service, shift, "backup", "--json").stdout)
    (snapshot,) = document["snapshots"]
    found: str = snapshot["id"]
    return found


def newest(holdfast: Steady) -> str:
    found: str = holdfast.json("list")["snapshots"][0]["id"]
    return found


@pytest.mark.parametrize("jump", [-2 * HOUR, -400 * DAY])
def test_after_a_jump_back_the_newest_is_the_one_made_last(fresh: Fresh, jump: float) -> None:
    service, holdfast = fresh("two")
    earlier = [one["id"] for one in holdfast.json("list")["snapshots"]]
    (service.folder / ".env").write_text("TOKEN=later\n")
    wanted = service.observe()
    last = back_up(service, jump)
    assert last < min(earlier)
    assert [one["id"] for one in holdfast.json("list")["snapshots"]] == [last, *earlier]
    status = holdfast.json("status", status=0 if jump == -2 * HOUR else 5)
    assert {one["newest"]["id"] for one in status["sources"]} == {last}
    assert {one["newest"] for one in status["targets"]} == {last}
    assert status["policies"][0]["last_run"]["status"] == "done"
    results = holdfast.json("verify")["results"]
    assert {one["snapshot"] for one in results} == {last}
    service.destroy()
    holdfast("dr-restore", "--confirm", "quaybot", status=0)
    assert service.observe() == wanted


def test_after_a_jump_back_retention_keeps_the_newest(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    made = [back_up(service, -days * DAY) for days in (5, 9, 20)]
    holdfast.json("prune")
    left = [one["id"] for one in holdfast.json("list")["snapshots"]]
    assert left[:3] == [*reversed(made)]
    assert holdfast.json("prune")["removed"] == []
    last = back_up(service, 0)
    assert newest(holdfast) == last


def test_a_snapshot_from_the_future_is_neither_trusted_nor_lost(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("nightly: {", 'nightly: {schedule: "0 2 * * *", '))
    future = back_up(service, 300 * DAY)
    status = holdfast.json("status", status=7)
    assert {one["newest"]["id"] for one in status["sources"]} == {future}
    (db,) = (one for one in status["sources"] if one["source"] == "db")
    assert db["rpo"]["met"] is None
    assert "future" in status["error"]["message"]
    assert len(holdfast.json("backup", "--due")["snapshots"]) == 1
    later = newest(holdfast)
    assert later < future
    assert holdfast.json("backup", "--due")["snapshots"] == []
    status = holdfast.json("status")
    assert {one["newest"]["id"] for one in status["sources"]} == {later}
    assert next(one for one in status["sources"] if one["source"] == "db")["rpo"]["met"] is True
    assert future in [one["id"] for one in holdfast.json("list")["snapshots"]]


def test_what_a_wrong_clock_dated_is_no_news_for_years(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    spec = service.folder / "backup.yaml"
    promises = "{rto: 1h, drill_every: 90d}"
    text = (
        spec.read_text().replace("{rto: 1h}", promises).replace("26h}", "9000d, proof_every: 7d}")
    )
    spec.write_text(text)
    at(service, 800 * DAY, "drill")
    at(service, 800 * DAY, "verify", "--level", "restored")
    troubles = holdfast("status", status=5).stdout
    assert "A drill is overdue (the last one: never)" in troubles
    assert "The proof of db is overdue" in troubles
    points = holdfast.json("status", "--ready", status=5)["points"]
    assert {"drill", "proof of db"} <= {one["what"] for one in points if one["verdict"] == "FAIL"}
    spec.write_text(text.replace("select count(*) > 0", "select count(*) < 0"))
    holdfast("drill", status=4)
    assert "did not pass" in holdfast("status", status=4).stdout


def test_a_drill_that_failed_is_told_though_the_clock_of_one_that_passed_ran_ahead(
    fresh: Fresh,
) -> None:
    service, holdfast = fresh("two")
    at(service, 2 * HOUR, "drill")
    spec = service.folder / "backup.yaml"
    whole = spec.read_text()
    spec.write_text(whole.replace("select count(*) > 0", "select count(*) < 0"))
    failed = holdfast.json("drill", status=4)["run"]
    assert f"The last drill, {failed}, did not pass" in holdfast("status", status=4).stdout
    spec.write_text(whole)
    holdfast("drill", status=0)
    assert "All is well." in holdfast("status", status=0).stdout
    holdfast("history", "--drills", "--verify", status=0)


def test_the_age_of_a_snapshot_from_the_future_is_never_promised(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    back_up(service, 300 * DAY)
    points = holdfast.json("status", "--ready", status=7)["points"]
    assert "some clock is wrong" in next(p["found"] for p in points if p["what"] == "db at disk")
    document = holdfast.json("drill", status=7)
    assert document["rpo"]["db"] == {"objective": 93600.0, "measured": None, "met": None}
    assert "the clock" in document["error"]["message"]


def test_status_speaks_of_the_run_that_was_last(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    (service.folder / "data").rename(service.folder / "gone")
    at(service, -HOUR, "backup", status=4)
    status = holdfast.json("status", status=4)
    assert status["policies"][0]["last_run"]["status"] == "partial"
    assert "-backup-" in holdfast.json("history")["runs"][0]["run"]
    (service.folder / "gone").rename(service.folder / "data")
    at(service, -2 * HOUR, "backup")
    assert holdfast.json("status")["policies"][0]["last_run"]["status"] == "done"


def hold(service: Service, command: str, words: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start a run that stays in one of the user's commands until the file `go` is there."""
    file = service.folder / "backup.yaml"
    waits = "touch started; until test -e go; do sleep 0.05; done"
    assert command in file.read_text()
    file.write_text(file.read_text().replace(command, waits))
    process = service.program.start(*words)
    while not waiting_in(service):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def waiting_in(service: Service) -> list[Path]:
    """The folders in which a command waits; others come and go meanwhile."""
    return [Path(folder) for folder, _, files in os.walk(service.folder) if "started" in files]


def ended(service: Service, process: subprocess.Popen[str]) -> int:
    """Let a run go on, to its end."""
    for folder in waiting_in(service):
        (folder / "go").touch()
    (service.folder / "go").touch()
    process.communicate()
    return process.returncode


STOP = "echo stop >> service.log"


def runs(holdfast: Steady, kind: str) -> list[dict[str, Any]]:
    return [one for one in holdfast.json("history")["runs"] if one["kind"] == kind]


def test_a_second_run_is_refused_by_name_or_waits(fresh: Fresh) -> None:
    service, holdfast = fresh()
    with hold(service, STOP, ("restore", "--source", "db", "--confirm", "db")) as first:
        (mine,) = runs(holdfast, "restore")
        refused = holdfast.json("backup", status=6)
        assert refused["error"]["kind"] == "locked"
        assert mine["run"] in refused["error"]["message"]
        assert "--wait" in refused["error"]["message"]
        for words in (
            ("restore", "--source", "db", "--confirm", "db"),
            ("dr-restore", "--confirm", "quaybot"),
        ):
            assert mine["run"] in holdfast(*words, status=6).stderr
        began = time.monotonic()
        holdfast("backup", "--wait", "1s", status=6)
        assert time.monotonic() - began >= 1
        holdfast("list", status=0)
        holdfast("verify", status=0)
        waiting = service.program.start("backup", "--wait", "10m")
        with waiting:
            time.sleep(0.7)
            assert waiting.poll() is None
            assert ended(service, first) == 0
            waiting.communicate()
        assert waiting.returncode == 0
    assert service.leftovers() == []


def test_a_prune_never_takes_what_a_drill_reads(fresh: Fresh) -> None:
    service, holdfast = fresh()
    holdfast("backup", status=0)
    file = service.folder / "backup.yaml"
    file.write_text(file.read_text().replace("keep: {last: 3}", "keep: {last: 1}"))
    before = [one["id"] for one in holdfast.json("list")["snapshots"]]
    deploy = "test -s .env && echo deployed >> service.log"
    with hold(service, deploy, ("drill", "--snapshot", before[-1])) as drill:
        refused = holdfast.json("prune", "--confirm", "quaybot", status=6)
        assert refused["error"]["kind"] == "locked"
        holdfast("delete", "--snapshot", before[-1], "--confirm", before[-1], status=6)
        # A backup is worth more than its prune, which waits for the next one.
        holdfast("backup", status=0)
        now = [one["id"] for one in holdfast.json("list")["snapshots"]]
        assert now[1:] == before
        # The deploy step runs in the drill's own folder.
        assert ended(service, drill) == 0
    removed = holdfast.json("prune", "--confirm", "quaybot")["removed"]
    assert {one["id"] for one in removed} == set(before)


def test_the_lock_of_a_dead_run_is_taken_over(fresh: Fresh) -> None:
    service, holdfast = fresh()
    lock = service.folder / ".holdfast" / "locks" / "run.lock"
    gone = {"run": "20261119T000000Z-backup-0badad", "owner": {"pid": 1 << 22, "host": "elsewhere"}}
    lock.write_text(json.dumps(gone))
    holdfast("backup", status=0)
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_the_last_word_on_a_pin_counts_though_the_clock_jumped_back(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    snapshot = newest(holdfast)
    at(service, 2 * HOUR, "pin", "--snapshot", snapshot)
    holdfast("unpin", "--snapshot", snapshot, status=0)
    assert not holdfast.json("list")["snapshots"][0]["pinned"]
    holdfast("pin", "--snapshot", snapshot, status=0)
    assert holdfast.json("list")["snapshots"][0]["pinned"]


def test_damage_is_told_though_the_clock_of_an_earlier_pass_ran_ahead(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    snapshot = newest(holdfast)
    at(service, 2 * HOUR, "verify")
    (stored,) = (service.folder / "backups").rglob(f"{snapshot}/db.sqlite.zst")
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    holdfast("verify", status=4)
    assert f"copy of {snapshot} at disk is damaged" in holdfast("status", status=4).stdout
    # Nor does the next prune count it as proven.
    plan = holdfast("prune", "--dry-run", "--target", "disk", status=0).stdout
    (kept,) = [line for line in plan.splitlines() if f"# keep {snapshot}" in line]
    assert "newest proven stored of code, config," in kept
    holdfast("backup", status=0)
    assert "All is well." in holdfast("status", status=0).stdout
