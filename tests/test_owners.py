"""Who is not root cannot give files away: a restore by such a user says what it could not do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.tools import Answer, Program, cannot_run, clean_environment, require_program

NOBODY = 65534
WORDS = "Note: docs: owners and privileged attributes were not restored: that needs root"


@pytest.fixture
def service() -> Iterator[Path]:
    """A folder of a user's, with one file that is root's; anybody may reach it."""
    if os.geteuid() != 0:
        cannot_run("only root can become another user: run this test as root")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "docs").mkdir()
        (folder / "docs/own").write_text("of a user")
        spec = {
            "version": 1,
            "project": "quay",
            "sources": {"docs": {"type": "files", "paths": ["docs"]}},
            "targets": {"disk": {"type": "local", "path": "backups"}},
        }
        (folder / "backup.yaml").write_text(yaml.safe_dump(spec))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield folder


def as_nobody(folder: Path, *arguments: str) -> Answer:
    identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    done = subprocess.run(
        [require_program("setpriv", "util-linux"), *identity,
         sys.executable, "-P", "-m", "runner", *arguments],
        cwd=folder,
        env=clean_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return Answer(arguments, done.returncode, done.stdout, done.stderr)


def test_owners_that_were_not_restored_are_told(service: Path) -> None:
    (service / "docs/roots").write_text("of root")
    assert as_nobody(service, "backup").status == 0
    told = as_nobody(service, "restore", "--source", "docs", "--to", "copy")
    assert told.status == 0, told
    assert WORDS in told.stdout
    drilled = as_nobody(service, "drill")
    assert WORDS in drilled.stdout, drilled
    as_root = Program(service)("restore", "--source", "docs", "--to", "other", status=0)
    assert WORDS not in as_root.stdout


def test_a_user_s_own_files_are_whole_without_a_word(service: Path) -> None:
    assert as_nobody(service, "backup").status == 0
    told = as_nobody(service, "restore", "--source", "docs", "--to", "copy")
    assert told.status == 0, told
    assert WORDS not in told.stdout
