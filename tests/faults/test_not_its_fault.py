"""What goes wrong on the machine that verifies is never written down as damage of the copy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bad_day import Steady, snapshots
from tests.faults.conftest import Fresh
from tests.faults.test_copies import behind
from tests.faults.test_disk import small_disk
from tests.service import Service
from tests.tools import clean_environment

RESTORED = ("verify", "--level", "restored", "--target", "offsite")
UNKNOWN = "COULD-NOT-VERIFY"


@pytest.fixture
def two(fresh: Fresh) -> tuple[Service, Steady]:
    """A service with two snapshots at `disk` (backups) and `offsite` (elsewhere)."""
    service, holdfast = fresh("two")
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("nightly: {", "nightly: {schedule: 24h, "))
    return service, holdfast


def findings(holdfast: Steady, *more: str, status: int) -> dict[str, Any]:
    """What a verification by restoring found of each source."""
    results = holdfast.json(*RESTORED, *more, status=status)["results"]
    return {one["source"]: one for one in results}


def recorded(service: Service) -> list[str]:
    """The verdicts that lie at the target, in no order."""
    records = snapshots(service, "elsewhere")[-1].parent / ".records"
    documents = [json.loads(one.read_text()) for one in records.glob("*-proofs-*.json")]
    return [one["verdict"] for document in documents for one in document["body"]["proofs"]]


def counts_as_whole(service: Service, holdfast: Steady) -> None:
    """Nobody replaces the copy or passes it over, and a verification that can be made passes."""
    assert "FAIL" not in recorded(service)
    assert behind(holdfast) == {"disk": 0, "offsite": 0}
    assert holdfast.json("backup", "--due", "--dry-run")["steps"] == []
    found = findings(holdfast, status=0)
    assert {one["verdict"] for one in found.values()} == {"PASS"}


def programs(folder: Path, git: str) -> dict[str, str]:
    """An environment in which `git` is this shell script."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{git}\n")
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_scratch_disk_that_is_too_small(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    (service.folder / "config" / "ballast").write_bytes(os.urandom(3_000_000))
    holdfast("backup", status=0)
    with small_disk(service.folder / ".holdfast" / "scratch", "1m"):
        found = findings(holdfast, "--source", "db", "--source", "config", status=7)
    for name, words in (("db", "bytes beside it"), ("config", "No space left")):
        assert found[name]["verdict"] == UNKNOWN, found
        assert words in found[name]["reason"]
    assert UNKNOWN in recorded(service)
    counts_as_whole(service, holdfast)


def test_a_program_that_is_not_installed(two: tuple[Service, Steady], tmp_path: Path) -> None:
    service, holdfast = two
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    bare = Steady(service.folder, {"PATH": str(tmp_path / "bin")})
    code = findings(bare, "--source", "code", status=7)["code"]
    assert code["verdict"] == UNKNOWN
    assert "git was not found" in code["reason"]
    counts_as_whole(service, holdfast)


@pytest.mark.parametrize(
    ("git", "words"),
    [
        ("kill -9 $$", "was ended by signal 9"),
        ("echo 'fatal: out of memory, malloc failed' >&2; exit 128", "out of memory"),
        ("echo 'fatal: write error: No space left on device' >&2; exit 128", "No space left"),
    ],
)
def test_a_program_that_the_machine_ends(
    two: tuple[Service, Steady], tmp_path: Path, git: str, words: str
) -> None:
    service, holdfast = two
    ill = Steady(service.folder, programs(tmp_path / "bin", git))
    code = findings(ill, "--source", "code", status=7)["code"]
    assert code["verdict"] == UNKNOWN
    assert words in code["reason"]
    counts_as_whole(service, holdfast)


def test_a_temporary_folder_that_is_gone(
    two: tuple[Service, Steady], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, holdfast = two
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        code = findings(holdfast, "--source", "code", status=7)["code"]
    assert code["verdict"] == UNKNOWN
    assert "No temporary file can be made" in code["reason"]
    counts_as_whole(service, holdfast)


def test_an_interrupt(two: tuple[Service, Steady], tmp_path: Path) -> None:
    service, holdfast = two
    environment = programs(tmp_path / "bin", "kill -TERM $PPID; exec sleep 600")
    arguments = [sys.executable, "-P", "-m", "runner", *RESTORED, "--source", "code"]
    done = subprocess.run(
        arguments,
        cwd=service.folder,
        env=clean_environment(service.folder, **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    counts_as_whole(service, holdfast)


def test_a_check_that_says_no_is_no_damage_of_the_copy(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    spec = service.folder / "backup.yaml"
    before = spec.read_text()
    spec.write_text(before.replace("count(*) > 0", "count(*) > 1000000"))
    db = findings(holdfast, "--source", "db", status=4)["db"]
    assert (db["verdict"], db["basis"]) == ("FAIL", "source")
    assert behind(holdfast) == {"disk": 0, "offsite": 0}
    assert holdfast.json("backup", "--due", "--dry-run")["steps"] == []
    spec.write_text(before)
    assert findings(holdfast, status=0)["db"]["verdict"] == "PASS"


def test_a_copy_that_is_brought_back_counts_as_whole_once_it_passes(
    two: tuple[Service, Steady],
) -> None:
    service, holdfast = two
    (stored,) = snapshots(service, "elsewhere")[-1].glob("db.sqlite*")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1])
    assert findings(holdfast, status=4)["db"]["basis"] == "stored"
    assert behind(holdfast) == {"disk": 0, "offsite": 1}
    stored.write_bytes(whole)
    assert findings(holdfast, status=0)["db"]["verdict"] == "PASS"
    assert behind(holdfast) == {"disk": 0, "offsite": 0}
