"""Byte-perfect but dead: every hash agrees, and the drill fails all the same, by name."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bad_day import Steady, replace_content, snapshots, unpacked
from tests.faults.conftest import Fresh
from tests.tools import run

PROVEN = {"code": True, "config": True, "db": True}


def drill(holdfast: Steady, folder: Path) -> tuple[dict[str, Any], str]:
    """A drill that must fail and clean up; its JSON and its report."""
    document = holdfast.json("drill", "--report-dir", folder, status=4)
    report = Path(document["report"]).read_text()
    assert "FAILED" in report.splitlines()[0]
    assert document["cleanup"] == "clean"
    return document, report


def equal(document: dict[str, Any]) -> dict[str, bool]:
    return {one["source"]: one["equal"] for one in document["proof"]}


@pytest.mark.parametrize("sql", ["delete from players", "drop table players"])
def test_an_emptied_table_fails_its_check(fresh: Fresh, tmp_path: Path, sql: str) -> None:
    service, holdfast = fresh()
    with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
        database.execute(sql)
    database.close()
    before = service.observe()
    holdfast("backup", status=0)
    assert holdfast.json("verify", "--level", "stored")["ok"]
    document, report = drill(holdfast, tmp_path / "reports")
    assert equal(document) == PROVEN
    assert document["error"]["step"] == "db.check"
    assert "players exist" in report
    assert service.observe() == before
    refused = holdfast("restore", "--source", "db", "--confirm", "db", status=4)
    assert "players exist" in refused.stderr
    assert service.observe() == before


def yesterdays(old: Path, new: Path) -> None:
    """Today's name, yesterday's rows."""
    key = "db.sqlite.zst"
    replace_content(new, {key: unpacked(old / key)})


def yesterdays_whole(old: Path, new: Path) -> None:
    """Also yesterday's fingerprint: nothing but a question of what must be new can tell."""
    keys = ("db.sqlite.zst", "db.schema.sql.zst", "db.fingerprint.json.zst")
    replace_content(new, {key: unpacked(old / key) for key in keys})


def without_a_ref(_old: Path, new: Path) -> None:
    """A bundle that is whole, of a repository that lost a branch."""
    workshop = new.parents[3] / "workshop"
    workshop.mkdir()
    (workshop / "all.bundle").write_bytes(unpacked(new / "code.bundle.zst"))
    run("git", "clone", "-q", "--mirror", "all.bundle", "mirror", folder=workshop)
    run("git", "update-ref", "-d", "refs/heads/next", folder=workshop / "mirror")
    bundle = ("git", "bundle", "create", "-q", "../less.bundle", "--all", "HEAD")
    run(*bundle, folder=workshop / "mirror")
    replace_content(new, {"code.bundle.zst": (workshop / "less.bundle").read_bytes()})


def fingerprint_of_another_source(_old: Path, new: Path) -> None:
    replace_content(new, {"db.fingerprint.json.zst": unpacked(new / "config.fingerprint.json.zst")})


def fingerprint_of_another_database(old: Path, new: Path) -> None:
    def exchange(document: dict[str, Any]) -> None:
        other = json.loads(unpacked(old / "db.fingerprint.json.zst"))
        document["fingerprint"] = other["fingerprint"]

    replace_content(new, {"db.sqlite.zst": unpacked(new / "db.sqlite.zst")}, exchange)


def another_tree(old: Path, new: Path) -> None:
    """Yesterday's files, with the list that belongs to them, under today's fingerprint."""
    keys = ("config.tar.zst", "config.entries.json.zst")
    replace_content(new, {key: unpacked(old / key) for key in keys})


@pytest.mark.parametrize(
    ("forge", "source", "word"),
    [
        (yesterdays, "db", "players"),
        (without_a_ref, "code", "next"),
        (fingerprint_of_another_source, "db", "no fingerprint of db"),
        (fingerprint_of_another_database, "db", "players"),
        (another_tree, "config", "fingerprint"),
    ],
)
def test_a_forgery_whose_hashes_agree_fails_by_its_fingerprint(
    fresh: Fresh,
    tmp_path: Path,
    forge: Callable[[Path, Path], None],
    source: str,
    word: str,
) -> None:
    service, holdfast = fresh()
    before = service.observe()
    forge(*snapshots(service))
    document, report = drill(holdfast, tmp_path / "reports")
    assert equal(document)[source] is not True
    assert document["error"]["step"].startswith(f"{source}.")
    assert word in document["error"]["message"]
    assert word in report
    refused = holdfast.json("restore", "--source", source, "--confirm", source, status=4)
    assert word in refused["error"]["message"]
    assert service.observe() == before
    assert service.log() == []
    assert service.leftovers() == []


def test_a_whole_snapshot_of_yesterday_fails_a_check_of_what_must_be_new(
    fresh: Fresh, tmp_path: Path
) -> None:
    service, holdfast = fresh()
    file = service.folder / "backup.yaml"
    late = "select count(*) > 0 from players where name = 'late'"
    asked = '{name: players exist, sql: "select count(*) > 0 from players"}'
    assert asked in file.read_text()
    file.write_text(file.read_text().replace(asked, f'{{name: late is there, sql: "{late}"}}'))
    holdfast("drill", status=0)
    yesterdays_whole(*snapshots(service))
    document, report = drill(holdfast, tmp_path / "reports")
    assert document["error"]["step"] == "db.check"
    assert "late is there" in report
