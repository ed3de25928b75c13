"""Poolers between a source and its server: one that hands connections on is refused."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runner.errors import StepFailed
from runner.source.postgres_server import Server
from runner.source.postgres_session import open_session, value
from tests.postgres_server import (
    DEADLINE_SECONDS,
    SUPERUSER,
    Database,
    as_user,
    free_port,
    give_away,
)
from tests.tools import require_program

SETTINGS = """\
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""

Pooler = Callable[[str], int]


@pytest.fixture
def pooler(database: Database) -> Iterator[Pooler]:
    """Starts a pooler of some mode before the test's server; its port."""
    program = require_program("pgbouncer")
    with contextlib.ExitStack() as stack:

        def start(mode: str) -> int:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pooler-")))
            give_away(folder)
            port, server = free_port(), database.cluster
            where = {"host": server.folder, "port": server.port, "user": SUPERUSER}
            settings = folder / "pgbouncer.ini"
            settings.write_text(SETTINGS.format(**where, own=port, mode=mode))
            arguments = [*as_user(), program, "--quiet", str(settings)]
            process = subprocess.Popen(arguments, cwd="/", stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not answers(port, database.name):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            return port

        yield start


def answers(port: int, name: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        application(port, name).close()
        return True
    return False


def application(port: int, name: str) -> psycopg.Connection[tuple[object, ...]]:
    """What uses the same pooler beside a backup."""
    return psycopg.connect(
        host="127.0.0.1", port=port, dbname=name, user=SUPERUSER, autocommit=True
    )


def through(port: int, name: str) -> Server:
    options = {"host": "127.0.0.1", "port": port, "user": SUPERUSER, "dbname": name}
    return Server.of(options, Path("/"))


@pytest.mark.parametrize("busy", [False, True])
def test_one_that_hands_connections_on_is_refused(
    pooler: Pooler, database: Database, busy: bool
) -> None:
    port = pooler("transaction")
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(application(port, database.name)) for _ in range(5)]
        if busy:
            # Some are taken meanwhile, and come back in another order.
            for one in others[:3]:
                one.execute("BEGIN; SELECT 1")
        with (
            pytest.raises(StepFailed, match="hands its connections on") as refused,
            open_session(through(port, database.name)),
        ):
            pass
        assert "a whole session" in refused.value.remedy
        found = {one.execute("SHOW search_path").fetchone() for one in others}
        assert found == {('"$user", public',)}
        assert {one.execute("SHOW row_security").fetchone() for one in others} == {("on",)}


def test_one_that_keeps_a_connection_for_a_session_is_used(
    pooler: Pooler, database: Database
) -> None:
    port = pooler("session")
    with (
        open_session(through(port, database.name)) as one,
        open_session(through(port, database.name)) as other,
    ):
        pids = {value(session, "SELECT pg_catalog.pg_backend_pid()") for session in (one, other)}
        assert len(pids) == 2
