"""Sessions with a server: by psycopg, and by a psql behind a prefix command."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import process
from runner.errors import UsageError
from runner.secret import Secret
from runner.source import postgres_session
from runner.source.postgres_errors import ServerSaid, said
from runner.source.postgres_server import Server, environment
from runner.source.postgres_session import Session, identifier, literal, open_session, version_of
from tests.postgres_server import DEADLINE_SECONDS, PASSWORD, Database

ODD = "a\tb\nc\r\\d\\\\n 'e' \"f\" \\. \\N €\x01"


def eventually(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=["psycopg", "psql"])
def server(request: pytest.FixtureRequest, database: Database) -> Server:
    """A server that wants a password, reached in each of the two ways."""
    more = {"exec": f"env PATH={database.cluster.bin}:/usr/bin:/bin"}
    return Server.of(database.options(**(more if request.param == "psql" else {})), Path("/"))


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    with open_session(server) as one:
        yield one


def test_values_come_back_as_they_are(session: Session) -> None:
    found = session.rows(
        f"SELECT 1, NULL, '', {literal(ODD)}, true UNION ALL SELECT 2, 'x', '', '', NULL"
    )
    assert found == [("1", None, "", ODD, "t"), ("2", "x", "", "", None)]
    assert session.rows("SELECT 1 WHERE false") == []
    assert session.rows("SELECT repeat('x', 300000)") == [("x" * 300_000,)]
    assert session.rows("SELECT '' UNION ALL SELECT NULL ORDER BY 1") == [("",), (None,)]


def test_names_are_names_whatever_they_hold(session: Session) -> None:
    name = 'x"; DROP TABLE y; -- \\! touch pwned \\q :HOST'
    session.execute("BEGIN")
    session.execute(f"CREATE TEMPORARY TABLE {identifier(name)} (v text)")
    session.execute(f"INSERT INTO {identifier(name)} VALUES ({literal(name)})")
    assert session.rows(f"SELECT v FROM {identifier(name)}") == [(name,)]
    session.execute("ROLLBACK")


@pytest.mark.parametrize("program", ["psycopg", "psql"])
def test_a_server_that_is_not_there_is_told_once(program: str, database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    value = f"postgresql://quay:hidden@127.0.0.1:{port}/quay"
    url = Secret("env:APP_URL", environment={"APP_URL": value})
    more = {"exec": f"env PATH={database.cluster.bin}:/usr/bin:/bin"} if program == "psql" else {}
    server = Server.of({"url": url, **more}, Path("/"))
    with pytest.raises(ServerSaid) as refused, open_session(server):
        pass
    assert "database of secret env:APP_URL" in refused.value.message
    assert refused.value.message.endswith("Connection refused.")
    assert refused.value.remedy.startswith("Is the server running there")
    assert "hidden" not in refused.value.message


def test_an_error_says_what_and_leaves_the_session_usable(session: Session) -> None:
    with pytest.raises(ServerSaid, match='relation "nowhere" does not exist') as refused:
        session.rows("SELECT * FROM nowhere")
    assert refused.value.state == "42P01"
    with pytest.raises(ServerSaid, match="syntax error") as refused:
        session.execute("NONSENSE")
    assert refused.value.state == "42601"
    with pytest.raises(ServerSaid, match="division by zero"):
        session.rows("SELECT 1 / (3 - g) FROM generate_series(1, 5) g")
    assert session.rows("SELECT 1") == [("1",)]


def test_a_session_pins_how_values_look(server: Server, database: Database) -> None:
    settings = (
        "DateStyle = 'German'",
        "bytea_output = 'escape'",
        "TimeZone = 'Asia/Kathmandu'",
        "statement_timeout = '1ms'",
        "search_path = 'public'",
        "standard_conforming_strings = off",
    )
    database.execute(*(f"ALTER DATABASE {database.name} SET {setting}" for setting in settings))
    with open_session(server) as session:
        found = session.rows(
            "SELECT '\\x00ff'::bytea, '2026-11-21 10:00+01'::timestamptz, "
            "current_setting('statement_timeout'), current_setting('search_path')"
        )
    assert found == [("\\x00ff", "2026-11-21 09:00:00+00", "0", "")]


@pytest.mark.parametrize("state", ["57014", "57P05"])
def test_a_limit_that_ends_the_first_statement_is_met_again(
    server: Server, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ServerSaid("too late", state=state)] * (postgres_session.ATTEMPTS - 1)
    truly = postgres_session._connected

    def connected(*arguments: Any) -> Session:
        if failures:
            raise failures.pop()
        return truly(*arguments)

    monkeypatch.setattr(postgres_session, "_connected", connected)
    with open_session(server) as session:
        assert session.rows("SELECT 1") == [("1",)]
    failures[:] = [ServerSaid("too late", state=state)] * postgres_session.ATTEMPTS
    with pytest.raises(ServerSaid, match="too late"), open_session(server):
        pytest.fail("nothing was said")


def test_bytes_that_are_no_text_survive(server: Server, database: Database) -> None:
    name = f"{database.name}_bytes"
    database.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    )
    with database.cluster.connect(name, client_encoding="SQL_ASCII") as connection:
        connection.execute(b"CREATE TABLE \"t\xff\" AS SELECT 'v\xfe'::text AS v")
        connection.execute(b'GRANT SELECT ON "t\xff" TO PUBLIC')
    with open_session(server, name) as session:
        found = session.rows("SELECT relname FROM pg_class WHERE relname LIKE 't%' AND oid > 16383")
        odd = "t\udcff"
        assert found == [(odd,)]
        assert session.rows(f"SELECT v FROM public.{identifier(odd)}") == [("v\udcfe",)]


def test_a_statement_can_be_cancelled(session: Session) -> None:
    failures: list[ServerSaid] = []

    def wait() -> None:
        try:
            session.rows("SELECT pg_sleep(600)")
        except ServerSaid as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while thread.is_alive():
        session.cancel()
        thread.join(0.1)
    assert failures[0].state == "57014"
    assert session.rows("SELECT 1") == [("1",)]


def test_a_step_that_is_stopped_ends_its_sessions(server: Server, database: Database) -> None:
    waiting = (
        "SELECT 1 FROM pg_stat_activity "
        "WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    )

    def stop() -> None:
        eventually(lambda: database.rows(waiting))
        process.stop_scope("the step")

    with process.scope("the step"), open_session(server) as session:
        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(ServerSaid):
            session.rows("SELECT pg_sleep(600)")
        thread.join()


def test_a_closed_session_is_gone_from_the_server(server: Server, database: Database) -> None:
    with open_session(server, application="holdfast-test") as session:
        session.execute("BEGIN")
        assert version_of(session) // 10000 == database.cluster.major
    left = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'holdfast-test'"
    eventually(lambda: not database.rows(left))


def test_a_wrong_password_is_told_without_it(server: Server) -> None:
    wrong = Secret("env:WRONG", environment={"WRONG": "not the password"})
    with (
        pytest.raises(ServerSaid, match="password authentication failed") as refused,
        open_session(Server(server.fields, wrong, exec=server.exec, folder=Path("/"))),
    ):
        pass
    assert "Check `user` and `password`" in refused.value.remedy
    assert "not the password" not in str(refused.value)


def test_a_url_leads_to_the_same(database: Database) -> None:
    from urllib.parse import quote

    port = database.cluster.port
    url = (
        f"postgresql://{database.owner}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/{database.name}"
    )
    secret = Secret("env:URL", environment={"URL": url})
    with open_session(Server.of({"url": secret}, Path())) as session:
        assert session.rows("SELECT current_database()") == [(database.name,)]
    server = Server.of({"url": secret, "dbname": "other"}, Path())
    assert server.address() == f"postgresql://{database.owner}@127.0.0.1:{port}/other"
    assert PASSWORD not in repr(server) + server.describe() + server.conninfo()


def test_a_url_that_is_none_is_not_repeated() -> None:
    secret = Secret("env:URL", environment={"URL": "postgresql://u:hush@[h/x"})
    with pytest.raises(UsageError) as refused:
        Server.of({"url": secret}, Path()).keywords()
    assert "hush" not in str(refused.value)
    assert "env:URL" in str(refused.value)


def test_no_variable_leads_elsewhere(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    for options in (database.options(), database.socket_options()):
        with open_session(Server.of(options, Path())) as session:
            assert session.rows("SELECT current_database()") == [(database.name,)]


def test_another_database_another_server(database: Database) -> None:
    server = Server.of(database.options(), Path())
    port = database.cluster.port
    assert server.at("") is server
    assert server.at("-d evil=1").dbname == "-d evil=1"
    same = server.at(f"postgresql://{database.owner}@127.0.0.1:{port}/other")
    assert same.password == server.password
    assert server.at(f"postgresql://{database.owner}@192.0.2.1:{port}/other").password is None


def test_a_password_file_is_in_memory_and_ends(database: Database) -> None:
    with environment(Server.of(database.options(), Path())) as variables:
        path = Path(variables["PGPASSFILE"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() != ""
        assert PASSWORD not in str(variables)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "address"),
    [
        (
            {"host": "db", "port": 5432, "dbname": "-d evil=1", "user": "a@b"},
            "postgresql://a%40b@db:5432/-d%20evil%3D1",
        ),
        ({"host": "/run/pg", "dbname": "x"}, "postgresql:///x?host=%2Frun%2Fpg"),
        ({"host": "::1", "sslmode": "require"}, "postgresql://[::1]/?sslmode=require"),
        ({"service": "prod"}, "postgresql:///?service=prod"),
    ],
)
def test_addresses(options: dict[str, Any], address: str) -> None:
    assert Server.of(options, Path()).address() == address


def test_a_server_that_rejects_by_its_rules_is_told_where_they_are() -> None:
    words = 'FATAL:  pg_hba.conf rejects connection for host "192.0.2.1", user "app", no encryption'
    assert "see pg_hba.conf there" in said("Connecting", words).remedy


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('FATAL:  Peer authentication failed for user "postgres"', "exec: sudo -u postgres"),
        ("failed to resolve host 'db': Temporary failure in name resolution", "Check `host`."),
    ],
)
def test_what_a_first_try_meets_is_told_with_what_to_do(words: str, remedy: str) -> None:
    assert remedy in said("Connecting", words, "28000" if "FATAL" in words else "").remedy
