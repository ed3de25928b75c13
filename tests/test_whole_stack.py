"""PostgreSQL, Redis, SQLite, files and git: destroyed together, recovered together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres_server import Database
from tests.redis_server import RedisServer
from tests.tools import clean_environment
from tests.whole_stack import SOURCES, WholeStack

KILLED_AT = Path(__file__).parent / "faults" / "killed_at.py"


@pytest.fixture
def stack(tmp_path: Path, database: Database, redis_server: RedisServer) -> WholeStack:
    return WholeStack(tmp_path / "service", tmp_path / "target", database, redis_server).build()


@contextmanager
def writers(stack: WholeStack) -> Iterator[None]:
    """Somebody who writes to both servers all the time."""
    done = threading.Event()

    def write() -> None:
        with stack.server.connect() as client, stack.database.connect() as connection:
            number = 1000
            while not done.is_set():
                number += 1
                client.incr("visits")
                connection.execute("INSERT INTO players VALUES (%s, 'new')", [number])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_everything_is_lost_and_comes_back(stack: WholeStack, tmp_path: Path) -> None:
    stack("backup", status=0)
    wanted = stack.observe()
    stack.destroy()
    host = stack.moved(tmp_path / "a new host")
    document = host.json("dr-restore", "--confirm", "quaybot")
    assert document["status"] == "done"
    assert {one["source"]: one["equal"] for one in document["proof"]} == dict.fromkeys(
        SOURCES, True
    )
    assert host.observe() == wanted
    assert host.log() == ["provisioned", "stop", "start", "deployed"]
    assert host.leftovers() == []


def test_what_is_captured_under_writers_comes_back_equal(stack: WholeStack, tmp_path: Path) -> None:
    with writers(stack):
        stack("backup", status=0)
    stack.destroy()
    document = stack.moved(tmp_path / "a new host").json("dr-restore", "--confirm", "quaybot")
    assert {one["source"]: one["equal"] for one in document["proof"]} == dict.fromkeys(
        SOURCES, True
    )


def die_at(stack: WholeStack, moment: str, *arguments: str) -> None:
    """Run a command that is killed at a moment of its plan."""
    done = subprocess.run(
        [sys.executable, "-P", str(KILLED_AT), moment, *arguments],
        cwd=stack.folder,
        env=clean_environment(stack.folder, **stack.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_killed_after_each_destroying_step_and_resumed(stack: WholeStack, tmp_path: Path) -> None:
    stack("backup", status=0)
    wanted = stack.observe()
    for name in SOURCES:
        stack.destroy()
        stack = stack.moved(tmp_path / f"killed at {name}")
        die_at(stack, f"{name}.swap:ended", "dr-restore", "--confirm", "quaybot")
        (run,) = (one["run"] for one in stack.json("history", "--runs")["runs"])
        document = stack.json("dr-restore", "--resume", run)
        assert document["status"] == "done"
        assert stack.observe() == wanted, name
        assert stack.log()[-2:] == ["start", "deployed"]
        assert stack.leftovers() == []
