"""PostgreSQL under load: 300 transactions a second, and every backup is of one instant."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.registry import open_source
from runner.source import Place
from runner.source.postgres_fingerprint import take
from runner.source.postgres_load import decode
from runner.source.postgres_moment import held
from runner.source.postgres_server import Server
from runner.source.postgres_session import open_session
from runner.source.postgres_tables import Selection
from runner.spec.model import SourceSpec
from runner.swap import remove_tree
from tests.postgres_server import Database
from tests.source.stack import FolderArtifacts, FolderCapture

TRANSACTIONS_PER_SECOND = 300
BACKUPS = 10
DEADLINE_SECONDS = 60.0
SHORTEST_PAUSE = 0.2  # seconds

TABLES = """
CREATE TABLE debit (id int PRIMARY KEY, amount bigint NOT NULL DEFAULT 0);
CREATE TABLE credit (id int PRIMARY KEY, amount bigint NOT NULL DEFAULT 0);
INSERT INTO debit SELECT generate_series(1, 500);
INSERT INTO credit SELECT generate_series(1, 500);
CREATE TABLE journal (
    id bigserial PRIMARY KEY, amount bigint NOT NULL, receipt oid, note text
);
CREATE TABLE churned (v int NOT NULL);
INSERT INTO churned SELECT generate_series(1, 100);
"""
MOVE = """
\\set one random(1, 500)
\\set other random(1, 500)
\\set amount random(1, 1000)
BEGIN;
UPDATE debit SET amount = amount - :amount WHERE id = :one;
INSERT INTO journal (amount, note) VALUES (:amount, md5(random()::text));
UPDATE credit SET amount = amount + :amount WHERE id = :other;
COMMIT;
"""
RECEIPT = """
BEGIN;
INSERT INTO journal (amount, receipt)
VALUES (0, lo_from_bytea(0, decode(repeat(md5(random()::text), 500), 'hex')));
COMMIT;
"""
CHURN = """
BEGIN;
TRUNCATE churned;
INSERT INTO churned SELECT generate_series(1, 100);
COMMIT;
"""
# All zero in every instant, though no two of these tables ever are, for those who read in turn.
INVARIANTS = """
SELECT (SELECT sum(amount) FROM debit) + (SELECT sum(amount) FROM credit),
       (SELECT sum(amount) FROM journal) - (SELECT sum(amount) FROM credit),
       (SELECT count(*) FROM churned) - 100,
       (SELECT count(*) FROM journal WHERE receipt IS NOT NULL)
           - (SELECT count(*) FROM pg_largeobject_metadata),
       (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT sum(bbalance) FROM pgbench_branches),
       (SELECT sum(delta) FROM pgbench_history) - (SELECT sum(tbalance) FROM pgbench_tellers)
"""


@contextlib.contextmanager
def busy(database: Database, folder: Path) -> Iterator[None]:
    """Writers at work while the block runs."""
    scripts = []
    for name, text, weight in (("move", MOVE, 60), ("receipt", RECEIPT, 4), ("churn", CHURN, 1)):
        (folder / f"{name}.sql").write_text(text)
        scripts += ["-f", f"{folder / name}.sql@{weight}"]
    pgbench = [str(database.cluster.bin / "pgbench")]
    environment = os.environ | database.cluster.environment(database.name)
    subprocess.run([*pgbench, "-i", "-q"], env=environment, check=True, capture_output=True)
    database.psql(stdin=TABLES)
    before = written(database)
    rate = ["-n", "-c", "6", "-R", str(TRANSACTIONS_PER_SECOND), "-T", "3600"]
    with subprocess.Popen(
        [*pgbench, *rate, "-b", "tpcb-like@35", *scripts],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as writers:
        try:
            wait_for_more(database, before)
            yield
            assert writers.poll() is None, writers.stderr and writers.stderr.read()
        finally:
            writers.kill()


def written(database: Database) -> int:
    """A number that grows with every transfer."""
    return int(database.rows("SELECT coalesce(max(id), 0) FROM journal")[0][0])


def wait_for_more(database: Database, before: int) -> int:
    """Wait until the writers have committed something since."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (now := written(database)) <= before:
        assert time.monotonic() < deadline, "the writers are stuck"
        time.sleep(0.02)
    return now


@pytest.mark.slow
def test_ten_backups_under_load_are_each_of_one_instant(database: Database, tmp_path: Path) -> None:
    spec = SourceSpec("db", "postgres", database.options(user="postgres"), tmp_path)
    taken = []
    with busy(database, tmp_path):
        rows = 0
        for number in range(BACKUPS):
            rows = wait_for_more(database, rows)
            capture = FolderCapture(tmp_path / f"snapshot {number}", "db")
            captured = open_source(spec).capture(capture)
            assert captured.consistency == "exact"
            taken.append(FolderArtifacts(capture, captured.fingerprint))
    for number, artifacts in enumerate(taken):
        place = Place(
            f"token{number}", f"copy_{number}", workspace=tmp_path / "w", safety=tmp_path / "s"
        )
        source = open_source(spec)
        source.stage(artifacts, place)
        found = source.fingerprint(place)
        assert list(source.differences(artifacts.fingerprint, found, place)) == []
        tables = artifacts.fingerprint["databases"][database.name]["tables"]
        assert {"public.churned", "public.pgbench_accounts", "public.journal"} <= set(tables)
        source.swap(place)
        assert database.cluster.rows(INVARIANTS, place.destination) == [(0, 0, 0, 0, 0, 0)]
        source.discard(place)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"parallel": 2}], ids=["one stream", "parallel"])
def test_backups_do_not_wait_for_a_truncate_that_waits_for_them(
    database: Database, tmp_path: Path, options: dict[str, int]
) -> None:
    """A TRUNCATE queues behind whoever reads, and every later reader queues behind it.

    One that comes in between makes a backup begin anew. The longer one takes, the longer are the
    pauses: a machine with much else to do may need seconds until pg_dump has its locks.
    """
    database.psql(stdin=TABLES)
    options = database.options(user="postgres", lock_timeout=600.0, **options)
    source = open_source(SourceSpec("db", "postgres", options, tmp_path))
    stop = threading.Event()
    pauses = [SHORTEST_PAUSE]

    def truncate() -> None:
        with database.connect() as connection:
            while not stop.wait(pauses[-1]):
                with connection.transaction():
                    connection.execute("TRUNCATE churned")
                    connection.execute("INSERT INTO churned SELECT generate_series(1, 100)")
                pauses.append(pauses[-1] * 1.5)

    thread = threading.Thread(target=truncate)
    thread.start()
    try:
        for number in range(5):
            pauses.append(SHORTEST_PAUSE)
            capture = FolderCapture(tmp_path / f"snapshot {number}", "db")
            found = source.capture(capture).fingerprint["databases"][database.name]
            assert found["tables"]["public.churned"]["rows"] == 100
    finally:
        stop.set()
        thread.join()


def test_a_refresh_need_not_wait_for_who_describes(database: Database) -> None:
    """It would be what pg_dump waits for to see the view's text, and we wait for pg_dump."""
    database.execute(
        "CREATE TABLE visits AS SELECT 1 AS player",
        "CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM visits",
        "CREATE VIEW seen AS SELECT count FROM many",
    )
    locked = (
        "SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND c.oid >= 16384 AND c.relkind IN ('r', 'v', 'm') AND l.pid <> pg_backend_pid()"
    )
    server = Server.of(database.socket_options(), Path())
    with open_session(server) as session, held(session, Selection(), DEADLINE_SECONDS) as moment:
        take([session], moment.chosen, "content")
        assert database.rows(locked) == [("visits",)]


@pytest.mark.parametrize("options", [{}, {"parallel": 2}], ids=["one stream", "parallel"])
def test_definitions_that_change_meanwhile_are_dumped_as_of_one_instant_or_not_at_all(
    database: Database, tmp_path: Path, options: dict[str, int]
) -> None:
    """pg_dump has the server write down functions and views as they are by then: of one that was
    dropped in between it writes half a statement, and its status is 0.
    """
    new = "CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'"
    database.execute(new, "CREATE SEQUENCE numbers", "CREATE TABLE kept AS SELECT 1 AS v")
    options = database.options(user="postgres", lock_timeout=600.0, **options)
    source = open_source(SourceSpec("db", "postgres", options, tmp_path))
    stop = threading.Event()
    pauses = [SHORTEST_PAUSE]

    def migrate() -> None:
        with database.connect() as connection:
            while not stop.wait(pauses[-1]):
                connection.execute("DROP FUNCTION answer()")
                connection.execute(new.encode())
                connection.execute("DROP SEQUENCE numbers")
                connection.execute("CREATE SEQUENCE numbers")
                pauses.append(pauses[-1] * 1.5)

    thread = threading.Thread(target=migrate)
    thread.start()
    try:
        for number in range(5):
            pauses.append(SHORTEST_PAUSE)
            capture = FolderCapture(tmp_path / f"snapshot {number}", "db")
            artifacts = FolderArtifacts(capture, source.capture(capture).fingerprint)
            described = artifacts.fingerprint["databases"][database.name]
            assert "function public.answer()" in described["objects"]
            program = database.cluster.bin / "pg_restore"
            dump = tmp_path / "dump"
            dump.mkdir(exist_ok=True)
            found = decode(artifacts.read(), dump)
            said = subprocess.run([program, "--file=-", found], capture_output=True, check=True)
            assert b"RETURNS integer" in said.stdout.replace(b'"', b"")
            remove_tree(dump)
    finally:
        stop.set()
        thread.join()
