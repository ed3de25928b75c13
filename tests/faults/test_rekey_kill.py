"""SIGKILL at every step boundary of a rekey: one of the two snapshots is whole at every target."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from tests.faults.test_kill import half_done, kill_at
from tests.inside import Inside
from tests.service import Service
from tests.test_rekey import REKEY, declare, folders, make_key
from tests.tools import run


def whole(folder: Path) -> bool:
    """Whether a folder is a snapshot, by ordinary tools."""
    if not (folder / "manifest.json").exists():
        return False
    return run("sha256sum", "-c", "--quiet", "SHA256SUMS", folder=folder, check=False).status == 0


@pytest.mark.slow
def test_rekey_killed_at_every_boundary_goes_on(tmp_path: Path) -> None:
    original = Service(tmp_path / "original").build()
    old, new = (make_key(original.folder, name) for name in ("old", "new"))
    declare(original, old)
    Inside(original.folder)("backup", status=0)
    declare(original, new)
    (before,) = folders(original)
    for event in itertools.count(1):
        folder = tmp_path / str(event)
        shutil.copytree(original.folder, folder, symlinks=True)
        service = Service(folder, (original.folder / "backup.yaml").read_text())
        died = kill_at(service, event, *REKEY)
        for target in ("backups", "elsewhere"):
            assert any(map(whole, folders(service, target).values())), f"event {event}: {target}"
        holdfast = Inside(folder)
        assert len({one["taken_at"] for one in holdfast.json("list")["snapshots"]}) == 1
        holdfast(*REKEY, status=0)
        holdfast("verify", "--level", "readable", "--identity", "keys/new", status=0)
        there = folders(service)
        assert len(there) == 1
        assert before not in there
        assert set(there) == set(folders(service, "elsewhere"))
        assert half_done(service) == []
        shutil.rmtree(folder)
        if not died:
            assert event > 15
            return
