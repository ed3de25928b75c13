"""What the tests of the `files` source start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source.tree import Snapshots


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    (tmp_path / "snapshots").mkdir()
    return Snapshots(tmp_path / "snapshots")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with a spec, state, a target and another source's database inside it."""
    folder = tmp_path / "app"
    for name in ("config/sub", "data", "var/state [*]?\n", "backups", "logs"):
        (folder / name).mkdir(parents=True)
    for name in ("backup.yaml", "config/app.yml", "config/sub/deep.yml", "data/db.sqlite"):
        (folder / name).write_text(name)
    for name in ("data/notes.txt", "var/state [*]?\n/journal", "backups/snapshot", "logs/today"):
        (folder / name).write_text(name)
    (folder / "config").chmod(0o750)
    return folder
