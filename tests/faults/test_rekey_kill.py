"""SIGKILL between two changes of a rekey: one of the two snapshots is whole at every target."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.faults.conftest import KillBefore
from tests.faults.test_kill import PRUNE, SEED, left_over
from tests.inside import Inside
from tests.service import Service
from tests.test_rekey import REKEY, declare, folders, make_key
from tests.tools import run

APART = 35  # about so many changes lie between two kills


def whole(folder: Path) -> bool:
    """Whether a folder is a snapshot, by ordinary tools."""
    if not (folder / "manifest.json").exists():
        return False
    return run("sha256sum", "-c", "--quiet", "SHA256SUMS", folder=folder, check=False).status == 0


@pytest.mark.slow
def test_rekey_killed_between_two_changes_goes_on(kill_before: KillBefore, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    original = Service(tmp_path / "original").build()
    old, new = (make_key(original.folder, name) for name in ("old", "new"))
    declare(original, old)
    Inside(original.folder)("backup", status=0)
    declare(original, new)
    (before,) = folders(original)
    nth, died = 0, "nothing yet"
    while died:
        nth += chance.randrange(1, 2 * APART)
        folder = tmp_path / str(nth)
        shutil.copytree(original.folder, folder, symlinks=True)
        service = Service(folder, (original.folder / "backup.yaml").read_text())
        died = kill_before(folder, nth, *REKEY)
        print(f"seed {SEED}: killed before change {nth}, {died}")
        for target in ("backups", "elsewhere"):
            assert any(map(whole, folders(service, target).values())), target
        holdfast = Inside(folder)
        assert len({one["taken_at"] for one in holdfast.json("list")["snapshots"]}) == 1
        holdfast(*REKEY, status=0)
        holdfast("verify", "--level", "readable", "--identity", "keys/new", status=0)
        for partial in folder.rglob(".*.partial"):
            os.utime(partial, (0, 0))
        holdfast(*PRUNE, status=0)
        there = folders(service)
        assert len(there) == 1
        assert before not in there
        assert set(there) == set(folders(service, "elsewhere"))
        assert list(left_over(service)) == []
        shutil.rmtree(folder)
    assert nth > 5 * APART
