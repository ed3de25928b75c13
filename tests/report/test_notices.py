"""Whom the spec's `notify` tells how a command ended."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.report.outcome import stamp
from tests.chat_server import serving
from tests.service import Service
from tests.tools import Program

SECRET = "hook-T0P"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service").build()


def telling(service: Service, *notices: dict[str, Any], **environment: str) -> Program:
    """The service's program, once the spec declares these notices."""
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["notify"] = list(notices)
    spec["policies"]["nightly"]["schedule"] = "24h"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return Program(service.folder, environment)


def test_a_partial_backup_is_told_and_a_good_one_is_not(service: Service) -> None:
    with serving() as chat:
        address = f"http://127.0.0.1:{chat.server_port}/{SECRET}"
        notice = {"text": "@ops", "post": {"secret": "env:CHAT"}}
        program = telling(service, notice, CHAT=address)
        program("backup", status=0)
        assert chat.heard == []
        (service.folder / "elsewhere").rename(service.folder / "unplugged")
        (service.folder / "elsewhere").write_text("a file where the disk was")
        shown = program("backup", status=4)
    [(_, said)] = chat.heard
    assert said["text"].startswith("@ops\nquaybot: backup partial.\nError: ")
    assert "NOT at offsite: " in said["text"]
    assert (said["project"], said["command"], said["status"]) == ("quaybot", "backup", "partial")
    assert said["run"] == program.json("history", "--runs")["runs"][0]["run"]
    journals = "".join(one.read_text() for one in service.folder.rglob("journal.jsonl"))
    assert SECRET not in journals + str(shown)


def test_a_backup_that_could_not_begin_is_told(service: Service) -> None:
    with serving() as chat:
        program = telling(service, {"post": f"http://127.0.0.1:{chat.server_port}"})
        program("backup", "--policy", "nighly", status=1)
        assert chat.heard == [], "a typing error is nobody else's business"
        for name in ("backups", "elsewhere"):
            (service.folder / name).write_text("a file where the disk was")
        program("backup", status=4)
    [(_, said)] = chat.heard
    assert said["text"].startswith("quaybot: backup failed.\nError: ")


def two_that_fail(service: Service, **notice: Any) -> Program:
    """The service, with two databases that are gone, and a note of each message."""
    program = telling(
        service, {"run": 'echo "$HOLDFAST_TEXT" > "told.$(ls told.* | wc -l)"'} | notice
    )
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    for name in ("one", "two"):
        spec["sources"][name] = {"type": "sqlite", "path": f"{name}.db"}
        spec["policies"]["nightly"].get("sources", []).append(name)
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return program


def messages(service: Service) -> list[str]:
    return [one.read_text() for one in sorted(service.folder.glob("told.*"))]


def make_database(service: Service, name: str) -> None:
    with contextlib.closing(sqlite3.connect(service.folder / f"{name}.db")) as made:
        made.execute("create table a(b)")


def test_every_failure_is_told_and_by_the_json_too(service: Service) -> None:
    program = two_that_fail(service)
    document = program.json("backup", "--due", status=4)
    assert [one["step"] for one in document["failures"]] == [
        "nightly.one.capture",
        "nightly.two.capture",
    ]
    [said] = messages(service)
    assert said.count("Error: ") == 2
    assert "one.db is missing" in said
    assert "two.db is missing" in said
    assert said.index("two.db is missing") < said.index("Snapshot ")
    quiet = program("backup", "--due", "--quiet", status=4).stderr
    assert "one.db is missing" in quiet
    assert "two.db is missing" in quiet


def test_what_no_more_than_follows_from_a_failure_is_none(service: Service) -> None:
    program = two_that_fail(service)
    shutil.rmtree(service.folder / "elsewhere", ignore_errors=True)
    (service.folder / "elsewhere").write_text("a file where the disk was")
    steps = [one["step"] for one in program.json("backup", "--due", status=4)["failures"]]
    assert "nightly.copy.offsite" in steps
    assert "nightly.sweep.offsite" not in steps
    (service.folder / "elsewhere").unlink()
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["policies"]["nightly"]["sources"] = ["one", "two"]
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    steps = [one["step"] for one in program.json("backup", status=4)["failures"]]
    assert steps == ["nightly.one.capture", "nightly.two.capture"]


def test_a_failure_that_lasts_is_told_once_and_after_a_while_again(service: Service) -> None:
    program = two_that_fail(service)
    for _ in range(3):
        program("backup", "--due", status=4)
    assert len(messages(service)) == 1, "nothing is new"
    program("backup", "--policy", "nightly", status=4)
    assert len(messages(service)) == 2, "who types it wants to see that somebody is told"

    told = service.folder / ".holdfast" / "told.json"
    before = datetime.now(UTC) - timedelta(hours=25)
    stamps = re.compile(r"\d{4}-\d\d-\d\dT[^\"]+")
    told.write_text(stamps.sub(before.isoformat(), told.read_text()))
    program("backup", "--due", status=4)
    program("backup", "--due", status=4)
    assert len(messages(service)) == 3
    assert f"It was told first at {stamp(before)}." in messages(service)[2]


def test_another_failure_is_told_at_once(service: Service) -> None:
    program = two_that_fail(service)
    make_database(service, "two")
    program("backup", "--due", status=4)
    assert "two.db" not in messages(service)[0]
    (service.folder / "one.db").mkdir()
    program("backup", "--due", status=4)
    assert len(messages(service)) == 2, "it fails in another way"
    (service.folder / "one.db").rmdir()
    make_database(service, "one")
    program("backup", "--due", status=0)
    assert not (service.folder / ".holdfast" / "told.json").exists(), "all is well again"


def test_each_time_where_the_spec_says_so_and_where_nobody_heard(service: Service) -> None:
    program = two_that_fail(service, again="0s")
    for _ in range(3):
        program("backup", "--due", status=4)
    assert len(messages(service)) == 3
    program = two_that_fail(service, run="false")
    for _ in range(2):
        assert "Nobody was told" in program("backup", "--due", status=4).stderr


def test_what_was_written_down_wrongly_is_told_again(service: Service) -> None:
    program = two_that_fail(service)
    told = service.folder / ".holdfast" / "told.json"
    for number, text in enumerate(("{", "[]", '{"a": 1}', '{"a": {"b": ["x", "y"]}}')):
        told.parent.mkdir(exist_ok=True)
        told.write_text(text)
        program("backup", "--due", status=4)
        assert len(messages(service)) == number + 1


def test_a_heartbeat_comes_with_each_success_and_not_when_nothing_was_due(
    service: Service,
) -> None:
    command = 'echo "$HOLDFAST_COMMAND $HOLDFAST_STATUS $HOLDFAST_PROJECT" >> beats'
    program = telling(service, {"of": ["backup", "verify"], "when": "success", "run": command})
    program("backup", status=0)
    program("backup", "--dry-run", status=0)
    program("backup", "--due", status=0)
    program("verify", status=0)
    program("prune", status=0)
    beats = (service.folder / "beats").read_text().splitlines()
    assert beats == ["backup done quaybot", "verify done quaybot"]


def test_a_missed_objective_and_a_failed_check_are_told_of_a_drill(service: Service) -> None:
    told = {"of": "drill", "run": 'printf "%s\\n" "$HOLDFAST_STATUS" "$HOLDFAST_TEXT" > told'}
    program = telling(service, told)
    path = service.folder / "backup.yaml"
    path.write_text(path.read_text().replace("rto: 10m", "rto: 0.001s"))
    program("backup", status=0)
    program("drill", "--report-dir", "reports", status=5)
    lines = (service.folder / "told").read_text().splitlines()
    assert lines[:2] == ["missed", "quaybot: drill missed."]
    assert any(line.startswith("RTO  db") and line.endswith("MISSED") for line in lines)


def test_nobody_there_to_be_told_changes_neither_the_status_nor_the_json(service: Service) -> None:
    with serving() as chat:
        gone = f"http://127.0.0.1:{chat.server_port}/missing"
        program = telling(
            service,
            {"when": "always", "post": gone},
            {"when": "always", "post": {"secret": "env:NOWHERE"}},
            {"when": "always", "run": "exit 3"},
            {"when": "always", "post": f"{gone.removesuffix('missing')}moved"},
        )
        answer = program("backup", "--json", status=0)
    assert json.loads(answer.stdout)["status"] == "done"
    # A redirect is followed without what was posted.
    reasons = ("the server answered 404", "NOWHERE", "3", "the server answered 301")
    for place, why in enumerate(reasons):
        line = answer.stderr.splitlines()[place]
        assert line.startswith(f"Nobody was told by notify[{place}]: ")
        assert why in line


def test_a_notice_has_one_way(service: Service) -> None:
    program = telling(service, {"run": "true", "post": "http://127.0.0.1"}, {"of": "backup"})
    messages = [one["message"] for one in program.json("validate", status=3)["errors"]]
    assert messages == [
        "`run` and `post` stand together. Make two of them.",
        "One of these is missing: run, post.",
    ]
