"""Locks between real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import Locked
from runner.execute.locks import held

HOLDER = """
import sys, time
from pathlib import Path
from runner.execute.locks import held
with held(Path(sys.argv[1]), "run", "other-run", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def another(state: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is told to let go, or is killed."""
    arguments = [sys.executable, "-c", HOLDER, str(state), how]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("\n")


def test_names_the_run_and_the_process_that_hold_it(tmp_path: Path) -> None:
    with (
        another(tmp_path) as other,
        pytest.raises(Locked) as refused,
        held(tmp_path, "run", "mine"),
    ):
        pass
    assert "other-run" in refused.value.message
    assert f"process {other.pid} on" in refused.value.message
    with held(tmp_path, "run", "mine"):
        pass


def test_another_name_is_another_lock(tmp_path: Path) -> None:
    with another(tmp_path), held(tmp_path, "snapshots", "mine"):
        pass


def test_waits_as_long_as_it_may(tmp_path: Path) -> None:
    with another(tmp_path) as other:
        began = time.monotonic()
        with pytest.raises(Locked), held(tmp_path, "run", "mine", wait=0.5):
            pass
        assert time.monotonic() - began >= 0.5
        threading.Timer(0.3, other.terminate).start()
        with held(tmp_path, "run", "mine", wait=60):
            pass


def test_a_killed_owners_lock_is_taken_over_aloud(tmp_path: Path) -> None:
    with another(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    said: list[str] = []
    with held(tmp_path, "run", "mine", say=said.append):
        pass
    assert said == ["Took over the lock `run` of run other-run, whose process died."]
    with held(tmp_path, "run", "mine", say=said.append):
        pass
    assert len(said) == 1


def test_whoever_ended_badly_did_not_die(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), held(tmp_path, "run", "mine"):
        raise ValueError
    said: list[str] = []
    with held(tmp_path, "run", "another", say=said.append):
        pass
    assert said == []


def test_readers_share_and_a_remover_waits_for_them(tmp_path: Path) -> None:
    with another(tmp_path, "shared"):
        with held(tmp_path, "run", "mine", shared=True):
            pass
        with pytest.raises(Locked), held(tmp_path, "run", "mine"):
            pass
    with another(tmp_path), pytest.raises(Locked), held(tmp_path, "run", "mine", shared=True):
        pass
