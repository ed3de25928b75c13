"""`--at TIME` where each source was captured at another time: each comes from its newest snapshot
not after it, and how far apart they are is said.
"""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.inside import Inside
from tests.service import Service
from tests.tools import run


def taken(service: Service) -> dict[str, list[tuple[str, str]]]:
    """The instants of each source and their snapshots, oldest first, as the manifests have them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in service.folder.glob("backups/quaybot/default/*/manifest.json"):
        manifest = json.loads(path.read_text())
        for name, one in manifest["sources"].items():
            found.setdefault(name, []).append((one["taken_at"], manifest["id"]))
    return {name: sorted(rows) for name, rows in found.items()}


def another_day(service: Service, name: str) -> None:
    """New players, other settings, a commit."""
    with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
        database.execute("insert into players(name) values(?)", [name])
    database.close()
    (service.folder / "config" / "app.toml").write_text(f"name = '{name}'\n")
    code = service.folder / "code"
    (code / "bot.py").write_text(f"print('{name}')\n")
    run("git", "commit", "-q", "-a", "-m", name, folder=code)


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, dict[str, Any]]:
    """A service whose sources were captured one at a time, and what each was like then."""
    service = Service(tmp_path_factory.mktemp("aged") / "service").build()
    holdfast = Inside(service.folder)
    seen: dict[str, Any] = {}
    for name, part in (("db", "db"), ("config", "files"), ("code", "code")):
        holdfast("backup", "--source", name, "--no-prune", status=0)
        seen[part] = service.observe()[part]
        another_day(service, f"after {name}")
        if name == "db":
            time.sleep(1.1)  # how far apart they are is told in seconds
    # All of them again, later.
    holdfast("backup", "--no-prune", status=0)
    return service, seen


def test_each_source_is_the_newest_of_its_own_not_after_it(
    aged: tuple[Service, dict[str, Any]],
) -> None:
    service, seen = aged
    holdfast, instants = Inside(service.folder), taken(service)
    (oldest, first), (middle, second), (at, third) = (
        instants[name][0] for name in ("db", "config", "code")
    )
    apart = (datetime.fromisoformat(at) - datetime.fromisoformat(oldest)).total_seconds()
    assert oldest < middle < at < instants["db"][1][0]
    words = ("dr-restore", "--at", at)
    shown = holdfast(*words, "--dry-run", status=0).stdout
    assert "db is the oldest, code the newest" in shown
    asked = holdfast(*words, status=7)
    assert "db is the oldest, code the newest" in asked.stderr
    drilled = holdfast.json("drill", "--at", at)
    assert drilled["skew"] == {"seconds": round(apart, 3), "oldest": "db", "newest": "code"}
    document = holdfast.json(*words, "--confirm", "quaybot")
    assert document["skew"] == drilled["skew"]
    report = json.loads(Path(drilled["report"]).with_suffix(".json").read_text())
    found = {name: one["id"] for name, one in report["snapshots"].items()}
    assert found == {"db": first, "config": second, "code": third}
    assert service.observe() == seen
    assert {one["equal"] for one in document["proof"]} == {True}


def test_a_source_that_had_none_by_then_is_named(aged: tuple[Service, dict[str, Any]]) -> None:
    service, _ = aged
    middle = taken(service)["config"][0][0]
    answer = Inside(service.folder)("dr-restore", "--at", middle, "--confirm", "quaybot", status=1)
    assert "of code" in answer.stderr
    assert "db" not in answer.stderr.partition("of code")[2].partition(".")[0]
    alone = ("restore", "--source", "db", "--at", middle, "--to", "copies/db.sqlite")
    Inside(service.folder)(*alone, status=0)


def test_a_new_machine_goes_back_to_that_time_too(
    aged: tuple[Service, dict[str, Any]], tmp_path: Path
) -> None:
    service, seen = aged
    at = taken(service)["code"][0][0]
    holdfast = Inside(tmp_path)
    flags = ("--from", service.folder / "backups", "--dir", tmp_path / "new", "--at", at)
    refused = holdfast("dr-restore", *flags, "--confirm", "quaybot", status=7)
    digest = refused.stderr.partition("--confirm-spec ")[2].split()[0]
    done = ("--confirm-spec", digest, "--confirm", "quaybot")
    document = holdfast.json("dr-restore", *flags, *done)
    assert (document["skew"]["oldest"], document["skew"]["newest"]) == ("db", "code")
    found = Service.__new__(Service)
    found.folder = tmp_path / "new"
    assert found.observe() == seen
