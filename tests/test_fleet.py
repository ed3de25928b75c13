"""One spec for a fleet: more services in one policy than anybody would list by hand."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import yaml

from tests.inside import Inside

SERVICES = [f"service-{number}-database" for number in range(60)]


def build(folder: Path) -> Inside:
    """A spec with a database for each service."""
    for name in SERVICES:
        (folder / name).mkdir()
        with contextlib.closing(sqlite3.connect(folder / name / "app.db")) as database:
            database.execute("CREATE TABLE owner (name)")
            database.execute("INSERT INTO owner VALUES (?)", (name,))
            database.commit()
    spec = {
        "version": 1,
        "project": "fleet",
        "sources": {name: {"type": "sqlite", "path": f"{name}/app.db"} for name in SERVICES},
        "targets": {"disk": {"type": "local", "path": "backups"}},
        "policies": {"nightly": {"schedule": "24h", "keep": {"daily": 7}}},
    }
    (folder / "backup.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return Inside(folder)


def owner(folder: Path, name: str) -> str:
    with contextlib.closing(sqlite3.connect(folder / name / "app.db")) as database:
        (row,) = database.execute("SELECT name FROM owner")
        return str(row[0])


def test_all_of_it_is_in_one_snapshot_and_comes_back(tmp_path: Path) -> None:
    holdfast = build(tmp_path)
    holdfast("backup", status=0)
    (snapshot,) = holdfast.json("list")["snapshots"]
    assert sorted(snapshot["sources"]) == sorted(SERVICES)
    assert "and 54 more" in holdfast("list", status=0).stdout
    for name in SERVICES:
        shutil.rmtree(tmp_path / name)
    document = holdfast.json("dr-restore", "--confirm", "fleet")
    assert [one["equal"] for one in document["proof"]] == [True] * len(SERVICES)
    assert [owner(tmp_path, name) for name in SERVICES] == SERVICES
    safety = holdfast.json("list", "--safety")["safety"]
    assert not any(one["unfinished"] for one in safety)
