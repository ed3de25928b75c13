"""PostgreSQL on a bad day: what is said, how it ends, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.source import postgres_scratch
from tests.faults.bad_day import steady
from tests.faults.test_disk import small_disk
from tests.postgres_server import (
    PASSWORD,
    Cluster,
    Database,
    debian_programs,
    give_away,
    new_database,
    newer_programs,
    start_cluster,
)
from tests.postgres_service import VARIABLE, PostgresService, content, databases
from tests.tools import Answer, Program

DEADLINE_SECONDS = 60.0
BALLAST = """
CREATE TABLE ballast (id int, filler text);
INSERT INTO ballast
SELECT n, md5(n::text) || md5(n || 'a') || md5(n || 'b') || md5(n || 'c')
FROM generate_series(1, {rows}) AS n;
"""


@pytest.fixture
def service(tmp_path: Path, database: Database) -> PostgresService:
    return PostgresService(tmp_path / "service", database).fill()


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that a test may kill."""
    cluster = start_cluster(debian_programs())
    yield cluster
    cluster.stop()


def fails(service: PostgresService, *words: str, status: int = 4) -> str:
    """A backup that fails says these words, and leaves nothing."""
    before = databases(service.database.cluster), service.snapshots()
    document = service.json("backup", status=status)
    message: str = document["error"]["message"]
    for word in words:
        assert word.lower() in message.lower(), message
    assert document["snapshots"] == []
    assert (databases(service.database.cluster), service.snapshots()) == before
    assert service.leftovers() == []
    return message


def wait_until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)
    return found


def test_a_wrong_password(service: PostgresService) -> None:
    service.program = Program(service.folder, {VARIABLE: "not this one"})
    message = fails(service, "password authentication failed", service.database.owner)
    assert "not this one" not in message
    service.program = Program(service.folder, {VARIABLE: PASSWORD})
    service("backup", status=0)


def test_a_missing_database_and_a_server_that_is_not_there(service: PostgresService) -> None:
    service.source["dbname"] = "nobody knows"
    service.declare()
    fails(service, "nobody knows", "does not exist")
    service.source["port"] = 1
    service.declare()
    fails(service, "refused", "running")
    service("status")
    service("list", status=0)


def test_a_table_that_the_role_may_not_read(service: PostgresService) -> None:
    service.database.execute("CREATE TABLE private (v int)", "INSERT INTO private VALUES (1)")
    fails(service, "private", "permission denied", "pg_read_all_data")
    service.database.execute(f"GRANT pg_read_all_data TO {service.database.owner}")
    service("backup", status=0)


def test_rows_that_the_role_does_not_see(service: PostgresService) -> None:
    service.database.execute(
        "CREATE TABLE tenants (v int)",
        "INSERT INTO tenants VALUES (1), (2)",
        "ALTER TABLE tenants ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON tenants USING (v = 1)",
        f"GRANT SELECT ON tenants TO {service.database.owner}",
    )
    fails(service, "tenants", "BYPASSRLS")


def test_a_lock_that_is_held_for_too_long(service: PostgresService) -> None:
    service.source["lock_timeout"] = "300ms"
    service.declare()
    with service.database.connect() as other, other.transaction():
        other.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        fails(service, "items", "lock", str(other.info.backend_pid))
    service("backup", status=0)


@pytest.mark.parametrize("which", ["database", "newer_database"])
def test_timeouts_of_the_role_do_not_apply(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(which)
    programs = {"bin": str(database.cluster.bin)}
    service = PostgresService(tmp_path / "service", database, **programs).fill()
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    names += ["idle_session_timeout"] if database.cluster.major >= 14 else []
    names += ["transaction_timeout"] if database.cluster.major >= 17 else []
    for name in names:
        database.execute(f"ALTER ROLE {database.owner} SET {name} = '30ms'")
    database.psql(stdin=BALLAST.format(rows=100_000))
    database.execute(f"ALTER TABLE ballast OWNER TO {database.owner}")
    service("backup", status=0)
    service("restore", "--source", "db", "--to", "copy", status=0)
    assert content(database, "copy") == content(database)


def test_programs_that_are_older_than_the_server(tmp_path: Path, newer_database: Database) -> None:
    service = PostgresService(
        tmp_path / "service", newer_database, bin=str(debian_programs())
    ).fill()
    major = newer_database.cluster.major
    fails(service, f"PostgreSQL {major}", "pg_dump", f"postgresql-client-{major}")
    service.source["bin"] = str(newer_programs())
    service.declare()
    service("backup", status=0)


def frozen_dump(service: PostgresService) -> tuple[subprocess.Popen[str], int]:
    """A backup in the middle of a table, which the server's process has stopped to send."""
    database = service.database
    database.psql(user=database.owner, stdin=BALLAST.format(rows=200_000))
    backup = service.program.start("backup", "--json")
    copying = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY %' AND state = 'active'"
    ((pid,), *_) = wait_until(lambda: database.rows(copying))
    os.kill(pid, signal.SIGSTOP)
    return backup, pid


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_a_server_that_goes_away_in_the_middle_of_a_dump(
    tmp_path: Path, own_cluster: Cluster, how: str
) -> None:
    database = new_database(own_cluster)
    service = PostgresService(tmp_path / "service", database).fill()
    backup, pid = frozen_dump(service)
    if how == "killed":
        own_cluster.process.kill()
        os.kill(pid, signal.SIGKILL)
    else:
        database.rows(f"SELECT pg_terminate_backend({pid})")
        os.kill(pid, signal.SIGCONT)
    stdout, stderr = backup.communicate()
    document = steady(Answer(("backup",), backup.returncode, stdout, stderr)).json
    assert (backup.returncode, document["snapshots"]) == (4, [])
    assert f"database {database.name}" in document["error"]["message"]
    assert service.unfinished() == []
    if how == "terminated":
        assert service.leftovers() == []
        service("backup", status=0)


def test_a_killed_backup_leaves_no_connection(service: PostgresService) -> None:
    database = service.database
    backup, pid = frozen_dump(service)
    os.kill(backup.pid, signal.SIGKILL)
    backup.communicate()
    os.kill(pid, signal.SIGCONT)
    mine = f"SELECT 1 FROM pg_stat_activity WHERE usename = '{database.owner}'"
    wait_until(lambda: not database.rows(mine))
    database.execute("TRUNCATE ballast")  # nobody holds it any more
    service("backup", status=0)


def test_a_scratch_server_that_is_killed_says_nothing_of_the_copy(service: PostgresService) -> None:
    database = service.database
    database.psql(user=database.owner, stdin=BALLAST.format(rows=300_000))
    service("backup", status=0)

    def started() -> postgres_scratch.Cluster | None:
        homes = [one.parent for one in service.folder.rglob(postgres_scratch.FOUND)]
        return postgres_scratch.find(homes[0]) if homes else None

    verification = service.program.start("verify", "--level", "restored", "--json")
    server = wait_until(started)
    pid = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    stdout, stderr = verification.communicate()
    answer = steady(Answer(("verify",), verification.returncode, stdout, stderr))
    (found,) = answer.json["results"]
    assert (answer.status, found["verdict"]) == (7, "COULD-NOT-VERIFY"), str(answer)
    assert "What is stored is as it was written." in found["reason"]
    assert service.leftovers() == []
    (again,) = service.json("verify", "--level", "restored")["results"]
    assert again["verdict"] == "PASS"


def test_a_full_disk_at_the_server(tmp_path: Path, database: Database) -> None:
    home = Path(tempfile.mkdtemp(prefix="pg-small-", dir="/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        disk = stack.enter_context(small_disk(home / "disk", "28m"))
        give_away(home)
        give_away(disk)
        database.cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        stack.callback(database.cluster.execute, "DROP TABLESPACE small")
        stack.callback(database.cluster.execute, f"DROP DATABASE {database.name} WITH (FORCE)")
        database.execute(f"GRANT CREATE ON TABLESPACE small TO {database.owner}")
        service = PostgresService(tmp_path / "service", database).fill()
        database.psql(
            user=database.owner,
            stdin=f"SET default_tablespace = small; {BALLAST.format(rows=100_000)}",
        )
        service("backup", status=0)
        before, kept = content(database), databases(database.cluster)
        document = service.json("restore", "--source", "db", "--confirm", "db", status=4)
        assert "A disk is full" in document["error"]["message"]
        assert databases(database.cluster) == kept
        assert content(database) == before
        assert service.leftovers() == []


def command_lines() -> Iterator[str]:
    """The argument list and the environment of every process that can be seen."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_text(errors="replace")


@pytest.mark.parametrize("given", ["password", "url"])
def test_no_secret_in_any_argument_or_file(tmp_path: Path, database: Database, given: str) -> None:
    service = PostgresService(tmp_path / "service", database).fill()
    (tmp_path / "tmp").mkdir()
    variables = {VARIABLE: PASSWORD, "TMPDIR": str(tmp_path / "tmp")}
    if given == "url":
        from urllib.parse import quote

        where = f"{database.owner}:{quote(PASSWORD, safe='')}@127.0.0.1:{database.cluster.port}"
        variables[VARIABLE] = f"postgresql://{where}/{database.name}"
        service.source = {"type": "postgres", "url": {"secret": f"env:{VARIABLE}"}}
        service.declare()
    service.program = Program(service.folder, variables)
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            seen.update(command_lines())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        service("backup", status=0)
        service("verify", "--level", "restored", status=0)
        service("restore", "--source", "db", "--confirm", "db", status=0)
    finally:
        stop.set()
        watcher.join()
    assert any("pg_dump" in one for one in seen)
    assert any("pg_restore" in one for one in seen)
    secrets = [PASSWORD, variables[VARIABLE]]
    assert not [one for one in seen if any(secret in one for secret in secrets)]
    spellings = [secret.encode() for secret in secrets]
    spellings += [PASSWORD.replace("\\", "\\\\").replace(":", "\\:").encode()]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in spellings if one in data], path
