"""Looking into a snapshot: a prompt at a scratch copy, and nothing left of it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.daemon import end_daemons
from runner.owner import Owner, alive
from tests.postgres_server import Database
from tests.redis_server import RedisServer
from tests.tools import clean_environment, require_program
from tests.whole_stack import WholeStack

DEADLINE_SECONDS = 60.0


@pytest.fixture
def stack(tmp_path: Path, database: Database, redis_server: RedisServer) -> WholeStack:
    stack = WholeStack(tmp_path / "service", tmp_path / "target", database, redis_server).build()
    stack("backup", status=0)
    stack.change()
    return stack


def scratch(stack: WholeStack) -> list[Path]:
    """What lies in the folder of scratch places."""
    return sorted((stack.folder / ".holdfast" / "scratch").glob("*"))


def wait_until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return found


def test_each_kind_is_asked_in_its_own_words(stack: WholeStack) -> None:
    require_program("sqlite3")
    before = stack.observe()
    asked = {
        "main": "select name from players where id = 7",
        "cache": "get coins:1",
        "db": "select count(*) from players",
        "config": "cat config/app.toml",
        "code": "git log -1 --format=%s; cat bot.py",
    }
    answers = {
        name: stack.json("open", "--source", name, "--run", text) for name, text in asked.items()
    }
    assert {name: one["differences"] for name, one in answers.items()} == {
        name: [] for name in asked
    }
    said = {name: one["output"] for name, one in answers.items()}
    assert "player 7" in said["main"]
    assert said["cache"].strip() == "10"
    assert said["db"].strip() == "200"
    assert said["config"] == "name = 'quay'\n"
    assert said["code"] == "one\nprint('quay')\n"
    mistakes = {"main": "selekt", "cache": "nonsense", "db": "selekt", "config": "cat nowhere"}
    for name, text in mistakes.items():
        stack("open", "--source", name, "--run", text, status=4)
    assert stack.observe() == before
    assert scratch(stack) == []


def test_a_row_is_piped_out_of_yesterday(stack: WholeStack) -> None:
    done = piped(stack, "copy (select * from players where id = 7) to stdout\n", "main")
    assert done.stdout == "7\tplayer 7\n"
    assert "as of" in done.stderr
    assert "postgresql://" in done.stderr
    assert done.returncode == 0
    assert piped(stack, "select * from nowhere;\n", "main").returncode == 4
    assert scratch(stack) == []


def piped(stack: WholeStack, text: str, source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*stack.program.arguments, "open", "--source", source],
        cwd=stack.folder,
        env=clean_environment(stack.folder, **stack.environment),
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def on_a_terminal(stack: WholeStack, source: str) -> tuple[subprocess.Popen[bytes], int]:
    """`open` with a terminal of its own, and the other end of that."""
    ours, theirs = pty.openpty()
    environment = clean_environment(stack.folder, SHELL="/bin/bash", PAGER="cat", TERM="dumb")
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *stack.program.arguments, "open", "--source", source],
        cwd=stack.folder,
        env=environment | stack.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, words: bytes) -> bytes:
    read = b""

    def found() -> bool:
        nonlocal read
        if select.select([terminal], [], [], 0.1)[0]:
            read += os.read(terminal, 4096)
        return words in read

    wait_until(found)
    return read


def test_a_person_types_and_interrupts(stack: WholeStack) -> None:
    process, terminal = on_a_terminal(stack, "main")
    read_until(terminal, b"=#")
    os.write(terminal, b"do $$begin raise notice 'run%','ning'; perform pg_sleep(999); end$$;\n")
    read_until(terminal, b"running")
    # Ctrl-C ends the query, not the visit.
    os.write(terminal, b"\x03")
    read_until(terminal, b"cancel")
    os.write(terminal, b"select 'still ' || 'here';\n")
    read_until(terminal, b"still here")
    os.write(terminal, b"\\q\n")
    assert process.wait(DEADLINE_SECONDS) == 0
    os.close(terminal)
    assert scratch(stack) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_nothing_stays(stack: WholeStack, number: signal.Signals) -> None:
    with stack.program.start("open", "--source", "cache", "--run", "blpop nothing 0") as process:
        assert process.stderr is not None
        assert "unix://" in process.stderr.readline()
        process.send_signal(number)
        # Not until its output ends: after SIGKILL the program that it started still has it.
        process.wait(DEADLINE_SECONDS)
    if number == signal.SIGKILL:
        assert scratch(stack) != []
        stack("open", "--source", "config", "--run", "true", status=0)
    else:
        assert process.returncode == 130
    assert scratch(stack) == []
    assert list(Path("/tmp").glob(f"holdfast-*/{stack.folder.name}")) == []


# What is typed that goes on until somebody ends it.
ENDLESS = {"main": "select pg_sleep(999)", "cache": "blpop nothing 0", "config": "sleep 999"}


def test_the_program_of_one_that_was_killed_is_swept(stack: WholeStack) -> None:
    left = []
    places = stack.folder / ".holdfast" / "scratch"
    for source, text in ENDLESS.items():
        with stack.program.start("open", "--source", source, "--run", text) as process:
            (note,) = wait_until(lambda: list(places.glob("scratch-*/prompt.process")))
            left.append(Owner.from_json(json.loads(note.read_text())["owner"]))
            process.kill()
            process.wait(DEADLINE_SECONDS)
        assert alive(left[-1])
        stack("open", "--source", "db", "--run", "select 1", status=0)
        assert not alive(left[-1]), source
    assert scratch(stack) == []


def test_what_cannot_be_is_told(stack: WholeStack) -> None:
    assert "--run" in stack("open", "--source", "db", "--json", status=1).json["error"]["message"]
    assert "nowhere" in stack("open", "--source", "nowhere", status=1).stderr
    assert "There is no" in stack("open", "--source", "db", "--at", "2001-01-01", status=1).stderr


@pytest.fixture(autouse=True)
def ends_what_was_killed(tmp_path: Path) -> Any:
    yield
    for folder in tmp_path.rglob("scratch-*"):
        end_daemons(folder)
