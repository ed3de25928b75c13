"""`make demo` and `make bench` work, in a copy of what they need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT, Answer, clean_environment

PARTS = ("backup.yaml", "tasks.py", "demo", "bench")
MADE = shutil.ignore_patterns("stack", "backups", "offsite", "keys", "reports", ".holdfast")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the shipped spec, the demo and the bench, none of them run yet."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=MADE)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run_module(name: str, *arguments: str, folder: Path) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=folder,
        env=clean_environment(folder, COLUMNS="120"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer((name, *arguments), done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_the_demo_loses_everything_and_gets_it_back(copy: Path) -> None:
    for _ in range(2):
        answer = run_module("demo.run", folder=copy)
        assert answer.status == 0, str(answer)
        assert answer.stdout.count("EQUAL") == 3
        assert "no database" in answer.stdout
        assert "missed" not in answer.stdout


@pytest.mark.slow
def test_after_the_demo_the_profile_of_the_readme_works(copy: Path) -> None:
    assert run_module("demo.run", folder=copy).status == 0
    answer = run_module("invoke", "backup", "--profile", "prod", folder=copy)
    assert answer.status == 0, str(answer)


@pytest.mark.slow
def test_the_bench_measures_a_small_bot(copy: Path) -> None:
    answer = run_module("bench.run", "--small", "--runs", "1", "bot", folder=copy)
    assert answer.status == 0, str(answer)
    assert "small bot: backup" in answer.stdout
