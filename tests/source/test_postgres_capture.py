"""Captures of databases: of one instant, whole or not at all, and what is told of them."""

from __future__ import annotations

import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.errors import StepFailed
from runner.process import run
from runner.source import Captured
from runner.source.postgres_capture import Wanted, capture_server
from runner.source.postgres_compare import compare_database
from runner.source.postgres_fingerprint import database_fingerprint
from runner.source.postgres_programs import programs_for
from runner.source.postgres_server import Server
from tests.postgres_server import (
    DEADLINE_SECONDS,
    FOLLOWED,
    Database,
    Servers,
    debian_programs,
    fresh_database,
    start_cluster,
    start_standby,
)
from tests.source.postgres_restored import behind_a_prefix
from tests.source.stack import FolderCapture


@pytest.fixture
def elsewhere(tmp_path: Path, database: Database) -> str:
    return behind_a_prefix(database, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stored"


def captured(folder: Path, options: dict[str, Any], **more: Any) -> Captured:
    capture = FolderCapture(folder, "main", compressed=False, **more)
    return capture_server(Server.of(options, folder), Wanted.of(options), capture)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def restored(dump: Path, into: Database) -> Database:
    program = str(into.cluster.bin / "pg_restore")
    line = [program, "--exit-on-error", f"--dbname={into.name}", str(dump)]
    run(line, environment=into.cluster.environment(into.name))
    return into


def differences(expected: Any, found: Database) -> list[str]:
    server = Server.of(found.socket_options(), Path())
    return list(compare_database(expected, database_fingerprint(server, expected, "content")))


CONTENT = """
CREATE TABLE small AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 1000) g;
CREATE TABLE pairs (id int PRIMARY KEY, amount int);
INSERT INTO pairs VALUES (1, 500), (2, 500);
CREATE SEQUENCE counter;
SELECT lo_from_bytea(7, 'content');
"""


@pytest.fixture
def filled(database: Database) -> Database:
    database.psql(stdin=CONTENT)
    return database


@pytest.mark.parametrize("way", ["password", "socket", "exec", "parallel"])
def test_a_dump_comes_back_equal(
    servers: Servers, filled: Database, folder: Path, elsewhere: str, way: str
) -> None:
    options = {
        "password": filled.options(user="postgres"),
        "socket": filled.socket_options(),
        "exec": filled.options(user="postgres", exec=elsewhere),
        "parallel": filled.socket_options(parallel=2),
    }[way]
    found = captured(folder, options)
    assert found.consistency == "exact"
    assert found.versions["postgresql"].startswith(f"{filled.cluster.major}.")
    dump = folder / "main.pgdump"
    if way == "parallel":
        dump = folder / "dump"
        with tarfile.open(folder / "main.tar") as tar:
            tar.extractall(dump, filter="data")
    with fresh_database(servers.debian()) as copy:
        assert differences(found.fingerprint["databases"][filled.name], restored(dump, copy)) == []


@pytest.fixture
def writer(filled: Database) -> Iterator[None]:
    """Somebody who moves amounts from one to the other, fills, truncates, and changes objects."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with filled.connect() as connection, connection.transaction():
                moved = turn % 7 - 3
                connection.execute("UPDATE pairs SET amount = amount - %s WHERE id = 1", [moved])
                connection.execute("UPDATE pairs SET amount = amount + %s WHERE id = 2", [moved])
                connection.execute("INSERT INTO small SELECT nextval('counter'), 'new'")
                connection.execute("SELECT lo_put(7, %s, 'x')", [turn % 5000])
            if turn % 20 == 0:
                # Never empty for others; to a snapshot from before it, it would be.
                with filled.connect() as connection, connection.transaction():
                    connection.execute("TRUNCATE small")
                    connection.execute("INSERT INTO small VALUES (1, 'first again')")
                filled.execute(f"CREATE TABLE made_{turn} AS SELECT 1 AS v")

    def run_it() -> None:
        try:
            write()
        except psycopg.Error as error:
            failures.append(error)

    thread = threading.Thread(target=run_it)
    thread.start()
    yield
    stop.set()
    thread.join()
    assert failures == []


@pytest.mark.usefixtures("writer")
def test_the_fingerprint_is_of_the_instant_that_is_dumped(
    servers: Servers, filled: Database, tmp_path: Path
) -> None:
    for number in range(3):
        folder = tmp_path / f"stored {number}"
        found = captured(folder, filled.socket_options())
        with fresh_database(servers.debian()) as copy:
            restored(folder / "main.pgdump", copy)
            assert differences(found.fingerprint["databases"][filled.name], copy) == []
            assert copy.rows("SELECT sum(amount) FROM pairs") == [(1000,)]
            assert copy.rows("SELECT count(*) > 0 FROM small") == [(True,)]


def test_several_databases_and_what_belongs_to_none(filled: Database, folder: Path) -> None:
    evil = "-d evil=1"
    filled.execute(f'CREATE DATABASE "{evil}"', 'CREATE ROLE "Odd \' role"')
    with filled.cluster.connect(evil) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS v")
    options = filled.socket_options(databases=[filled.name, evil], globals=True)
    found = captured(folder, options)
    parts = {name: one["part"] for name, one in found.fingerprint["databases"].items()}
    assert parts[filled.name] == filled.name
    assert files(folder) == sorted(
        ["main.globals.sql", f"main.{filled.name}.pgdump", f"main.{parts[evil]}.pgdump"]
    )
    assert found.fingerprint["databases"][evil]["tables"]["public.t"]["rows"] == 1
    assert "Odd ' role" in found.fingerprint["globals"]["roles"]
    assert 'CREATE ROLE "Odd \' role"' in (folder / "main.globals.sql").read_text()
    assert any("one after another" in note for note in found.notes)


def test_all_databases_but_those_of_nobody(filled: Database, folder: Path) -> None:
    staged, kept = f"holdfast_{filled.name.replace('_', '')}_0", "x_before_20261120t021500z7f3a9c"
    for name in (staged, kept, f"closed_{filled.name}"):
        filled.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    filled.execute(f"ALTER DATABASE closed_{filled.name} ALLOW_CONNECTIONS false")
    options = filled.socket_options(databases="all")
    del options["dbname"]
    found = captured(folder, options)
    names = set(found.fingerprint["databases"])
    assert {filled.name, "postgres"} <= names
    assert names.isdisjoint({staged, kept, f"closed_{filled.name}", "template1", "template0"})
    assert any(note.startswith(f"{kept}: left out") for note in found.notes)


def test_a_database_that_is_missing(filled: Database, folder: Path) -> None:
    with pytest.raises(StepFailed, match="no database named nowhere"):
        captured(folder, filled.socket_options(databases=["nowhere"]))
    assert files(folder) == []


def test_globals_without_passwords_for_who_may_not_read_them(
    filled: Database, folder: Path
) -> None:
    filled.execute(f"GRANT SELECT ON small TO {filled.owner}")
    found = captured(folder, filled.options(globals=True, tables=["public.small"]))
    assert "globals: without passwords, the role may not read pg_authid" in found.notes
    assert "PASSWORD" not in (folder / "main.globals.sql").read_text()


def test_rows_that_are_left_out(filled: Database, folder: Path, servers: Servers) -> None:
    options = filled.socket_options(
        exclude_rows=["public.small"], fingerprint_counts=["public.pairs"]
    )
    found = captured(folder, options)
    expected = found.fingerprint["databases"][filled.name]
    assert expected["tables"] == {
        "public.pairs": {"rows": 2},
        "public.small": {"rows": 0, "sum": "0"},
    }
    assert "counted, not hashed: public.pairs" in found.notes
    with fresh_database(servers.debian()) as copy:
        assert differences(expected, restored(folder / "main.pgdump", copy)) == []


def test_a_lock_is_waited_for_and_told(filled: Database, folder: Path, elsewhere: str) -> None:
    with filled.connect() as other, other.transaction():
        other.execute("LOCK TABLE pairs IN ACCESS EXCLUSIVE MODE")
        for options in ({}, {"exec": elsewhere}):
            with pytest.raises(StepFailed, match=r"public\.pairs by process") as refused:
                captured(folder, filled.socket_options(lock_timeout=0.2, **options))
            assert "give more time" in refused.value.remedy
            (folder / "scratch of the capture").rmdir()
    assert files(folder) == []


def sessions(database: Database) -> list[Any]:
    return database.rows(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE application_name LIKE 'holdfast%' AND pid <> pg_backend_pid()"
    )


def nothing_is_left(database: Database, folder: Path) -> None:
    assert files(folder) == []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while sessions(database):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    mark = f"port='{database.cluster.port}'"
    assert [line for line in running.stdout.splitlines() if mark in line] == []


@pytest.mark.parametrize("way", ["socket", "exec"])
def test_a_target_that_is_full_ends_everything(
    filled: Database, folder: Path, elsewhere: str, way: str
) -> None:
    filled.execute(
        "INSERT INTO small SELECT g, repeat(md5(g::text), 9) FROM generate_series(1, 60000) g"
    )
    more = {"exec": elsewhere} if way == "exec" else {}
    with pytest.raises(StepFailed, match="full"):
        captured(folder, filled.socket_options(**more), full_after=1_000_000)
    nothing_is_left(filled, folder)


@pytest.mark.parametrize("query", ["COPY%", "%hashtextextended%"])
@pytest.mark.parametrize("way", ["socket", "exec"])
def test_a_connection_that_is_cut_ends_everything(
    filled: Database, folder: Path, elsewhere: str, way: str, query: str
) -> None:
    filled.execute(
        "INSERT INTO small SELECT g, repeat(md5(g::text), 9) FROM generate_series(1, 200000) g"
    )
    done = threading.Event()

    def cut() -> None:
        with psycopg.connect(
            host=str(filled.cluster.folder),
            port=filled.cluster.port,
            user="postgres",
            autocommit=True,
        ) as other:
            while not done.is_set():
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = %s AND query LIKE %s AND pid <> pg_backend_pid()",
                    [filled.name, query],
                )

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        with pytest.raises(StepFailed) as failed:
            captured(
                folder, filled.socket_options(**({"exec": elsewhere} if way == "exec" else {}))
            )
    finally:
        done.set()
        thread.join()
    assert "The server ended the connection" in failed.value.remedy
    nothing_is_left(filled, folder)


def test_a_standby_that_lost_its_primary_is_as_old_as_that(folder: Path) -> None:
    primary = start_cluster(debian_programs(), FOLLOWED)
    try:
        standby = start_standby(primary)
        try:
            primary.execute("CREATE TABLE t AS SELECT 1 AS v")
            options = {"host": str(standby.folder), "port": standby.port, "user": "postgres"}
            wait_until(lambda: standby.rows("SELECT 1 FROM pg_class WHERE relname = 't'"))
            before = datetime.now(UTC)
            primary.execute("INSERT INTO t VALUES (2)")
            wait_until(lambda: standby.rows("SELECT count(*) FROM t") == [(2,)])
            assert captured(folder, {**options, "dbname": "postgres"}).taken_at >= before
            primary.stop()
            gone = datetime.now(UTC)
            wait_until(lambda: not standby.rows("SELECT 1 FROM pg_stat_wal_receiver"))
            found = captured(folder / "later", {**options, "dbname": "postgres"})
            assert found.taken_at < gone
            assert found.fingerprint["databases"]["postgres"]["tables"]["public.t"]["rows"] == 2
        finally:
            standby.stop()
    finally:
        primary.stop()


def wait_until(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_programs_that_are_older_than_the_server(newer_database: Database, tmp_path: Path) -> None:
    older = tmp_path / "bin"
    older.mkdir()
    (older / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.22'\n")
    (older / "pg_dump").chmod(0o755)
    major = newer_database.cluster.major
    options = newer_database.socket_options(bin=str(older))
    with pytest.raises(StepFailed, match="there is only that of 12") as refused:
        captured(tmp_path / "stored", options)
    assert f"postgresql-client-{major}" in refused.value.remedy


def test_the_smallest_major_that_is_new_enough(
    database: Database, newer_database: Database
) -> None:
    own, newer = database.cluster, newer_database.cluster
    server = Server.of({}, Path())
    assert programs_for(server, own.major).major == own.major
    assert programs_for(Server.of({"bin": str(newer.bin)}, Path()), own.major).major == newer.major
    behind = Server.of({"exec": "env", "bin": str(newer.bin)}, Path("/"))
    assert programs_for(behind, newer.major).path("psql") == f"{newer.bin}/psql"
    with pytest.raises(StepFailed, match="there is none"):
        programs_for(Server.of({"exec": "env PATH=/nowhere"}, Path("/")), own.major)


def test_thousands_of_tables_need_no_more_locks_than_a_dump(filled: Database, folder: Path) -> None:
    number = 600
    filled.psql(
        stdin=f"SELECT format('CREATE TABLE t%s (id serial PRIMARY KEY)', g) "
        f"FROM generate_series(1, {number}) g \\gexec"
    )
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        with filled.connect() as connection:
            while not done.is_set():
                ((held,),) = connection.execute(
                    "SELECT count(*) FROM (SELECT DISTINCT relation FROM pg_locks l JOIN "
                    "pg_stat_activity a USING (pid) WHERE application_name LIKE 'holdfast%' "
                    "AND relation >= 16384)"
                    " o"
                ).fetchall()
                most = max(most, held)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        found = captured(folder, filled.socket_options())
    finally:
        done.set()
        thread.join()
    assert len(found.fingerprint["databases"][filled.name]["tables"]) == number + 2
    # Each table, each sequence, and what a few queries hold in passing.
    assert number < most < 2 * number + 200
