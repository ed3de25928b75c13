"""Scratch PostgreSQL servers: by socket alone, and gone with their folder, whatever was killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from runner.daemon import end_daemons
from runner.errors import PersonNeeded
from runner.owner import Owner, alive
from runner.prove.scratch import scratch_folder, sweep
from runner.source import postgres_scratch
from runner.source.postgres_place import maintenance, scratch_server
from runner.source.postgres_server import Server
from runner.source.postgres_session import open_session, value
from tests.postgres_server import debian_programs, start_cluster


def noted(home: Path) -> Owner:
    """The process that the note in a scratch server's home names."""
    note = json.loads((home / postgres_scratch.NOTE).read_bytes())
    return Owner.from_json(note["owner"])


def setting(home: Path, name: str) -> str:
    with open_session(scratch_server(home)) as session:
        return value(session, f"SELECT current_setting('{name}')")


def test_it_listens_on_a_private_socket_alone(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "drill") as folder:
        home = folder / "main"
        cluster = postgres_scratch.start(home, debian_programs())
        assert setting(home, "listen_addresses") == ""
        assert setting(home, "archive_mode") == "off"
        assert stat.S_IMODE(cluster.socket.stat().st_mode) == 0o700
        assert postgres_scratch.start(home, debian_programs()) == cluster


def test_it_ends_with_its_folder(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "drill") as folder:
        cluster = postgres_scratch.start(folder / "main", debian_programs())
        owner = noted(folder / "main")
        assert alive(owner)
    assert not alive(owner)
    assert not cluster.socket.exists()
    assert not cluster.data.exists()
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_stopped_and_started_anew(tmp_path: Path) -> None:
    home = tmp_path / "main"
    try:
        first = postgres_scratch.start(home, debian_programs())
        with open_session(scratch_server(home)) as session:
            session.execute("CREATE DATABASE left_over")
        postgres_scratch.stop(home)
        assert postgres_scratch.find(home) is None
        assert not first.socket.exists()
        postgres_scratch.start(home, debian_programs())
        with open_session(scratch_server(home)) as session:
            assert value(session, "SELECT count(*) FROM pg_catalog.pg_database") == "3"
    finally:
        postgres_scratch.stop(home)
    assert list(home.iterdir()) == []
    postgres_scratch.stop(home)


KILLED = """
import os, signal, sys
from pathlib import Path
from runner.prove.scratch import scratch_folder
from runner.source import postgres_scratch
with scratch_folder(Path(sys.argv[1]), "drill") as folder:
    cluster = postgres_scratch.start(folder / "main", Path(sys.argv[2]))
    print(cluster.socket, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(debian_programs())],
        capture_output=True,
        text=True,
        check=False,
    )
    socket = Path(killed.stdout.strip())
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    owner = noted(folder / "main")
    assert alive(owner)
    assert socket.exists()
    assert sweep(tmp_path) == [folder]
    assert not alive(owner)
    assert not socket.exists()


def test_a_start_that_was_killed_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    home = tmp_path / "main"
    (home / "data").mkdir(parents=True)
    (home / "data" / "half").write_text("of an initdb that was killed")
    try:
        cluster = postgres_scratch.start(home, debian_programs())
        assert not (cluster.data / "half").exists()
    finally:
        end_daemons(home)


def test_a_machine_without_the_programs_says_so(tmp_path: Path) -> None:
    with pytest.raises(PersonNeeded, match="no initdb"):
        postgres_scratch.start(tmp_path / "main", tmp_path)
    assert not (tmp_path / "main").exists()


def test_one_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    tmp_path.chmod(0o755)
    for name in ("initdb", "pg_ctl", "postgres"):
        (programs / name).write_text("#!/bin/sh\necho 'no shared memory' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    with pytest.raises(PersonNeeded, match=r"shared memory|denied"):
        postgres_scratch.start(tmp_path / "main", programs)
    assert list((tmp_path / "main").iterdir()) == []


def test_a_server_that_starts_again_after_a_crash_is_waited_for() -> None:
    """Or what a restore has staged there would stay for ever."""
    cluster = start_cluster(debian_programs())
    try:
        server = Server.on_socket(cluster.folder, cluster.port, "postgres")
        for _ in range(3):
            with cluster.connect() as connection, cluster.connect() as another:
                os.kill(connection.info.backend_pid, signal.SIGKILL)
                # Once it knows of the crash, the server ends all other sessions.
                with pytest.raises(psycopg.OperationalError):
                    another.execute("SELECT pg_sleep(60)")
            with maintenance(server) as session:
                assert session.rows("SELECT 1") == [("1",)]
    finally:
        cluster.stop()
