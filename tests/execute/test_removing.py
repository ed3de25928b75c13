"""What a prune takes of what it finds at a target, and what it leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner.execute.removing import ABANDONED_SECONDS, remove_snapshot, sweep_abandoned
from runner.target.local import LocalTarget

PARENT = "quaybot/prod"
ID = "20261120T021500Z-nightly-7f3a9c"
FOLDER = f"{PARENT}/{ID}"
OURS = [
    "RESTORE.md",
    "SHA256SUMS",
    "SHA256SUMS.sig",
    "db.fingerprint.json.zst",
    "db.sqlite.zst.age",
]


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget("disk", tmp_path)


def age(target: LocalTarget, seconds: float) -> None:
    then = time.time() - seconds
    for path in target.root.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def put(target: LocalTarget, *names: str) -> None:
    for name in names:
        target.put(name, [b"x"])


def keys(target: LocalTarget) -> list[str]:
    return [one.key for one in target.entries("")]


def test_what_an_interrupted_run_left_is_removed_once_it_is_old(target: LocalTarget) -> None:
    put(target, *(f"{FOLDER}/{name}" for name in OURS))
    assert sweep_abandoned(target, "quaybot", "prod", ["db"]).removed == []
    age(target, ABANDONED_SECONDS + 60)
    found = sweep_abandoned(target, "quaybot", "prod", ["db"])
    assert (found.removed, found.foreign) == ([ID], [])
    assert keys(target) == []


def test_a_removal_that_was_cut_off_leaves_no_empty_folder_for_ever(target: LocalTarget) -> None:
    (target.root / FOLDER).mkdir(parents=True)
    touched = target.root / ".0123456789abcdef.partial"
    touched.touch()
    os.utime(touched, (0, 0))
    sweep_abandoned(target, "quaybot", "prod", ["db"])
    assert list(target.root.iterdir()) == []


def test_what_others_put_there_stays_and_is_named(target: LocalTarget) -> None:
    others = [f"{FOLDER}/photos/db.jpg", f"{FOLDER}/holiday.jpg", f"{PARENT}/cat.jpg"]
    put(target, f"{FOLDER}/db.sqlite", f"{PARENT}/.records/note.json", *others)
    age(target, ABANDONED_SECONDS + 60)
    found = sweep_abandoned(target, "quaybot", "prod", ["db"])
    assert (found.removed, sorted(found.foreign)) == ([ID], sorted(others))
    assert sorted(keys(target)) == sorted([*others, f"{PARENT}/.records/note.json"])
    assert sweep_abandoned(target, "quaybot", "prod", ["db"]).removed == []


def test_a_snapshot_whose_manifest_cannot_be_read_loses_what_has_its_names(
    target: LocalTarget,
) -> None:
    put(target, *(f"{FOLDER}/{name}" for name in (*OURS, "manifest.json", "holiday.jpg")))
    assert remove_snapshot(target, FOLDER, ["db"]) == [f"{FOLDER}/holiday.jpg"]
    assert keys(target) == [f"{FOLDER}/holiday.jpg"]
