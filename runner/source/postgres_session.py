"""A session with a PostgreSQL server: by psycopg, or by a psql that is held open behind a prefix.

Everything that comes back is text, as the server writes it; bytes that are no UTF-8 survive as
surrogates. Each session pins what would make the same value look different elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, Protocol, cast

from runner import process
from runner.source.postgres_errors import ServerSaid, said
from runner.source.postgres_server import APPLICATION, Server

Row = tuple[str | None, ...]

# How values are written, what is seen, and no limit of what may be done or for how long: those
# are for the application.
PINNED = {
    "client_min_messages": "warning",
    "search_path": "",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "max_parallel_workers_per_gather": "0",
}
# Where the server does not know what its bytes mean, it would refuse to give them as UTF-8.
_ENCODING = """(SELECT CASE current_setting('server_encoding')
                        WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)"""
# At once, since a database may have a limit that even the first statement exceeds.
_SERVED_BY = "BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_catalog.pg_backend_pid(); COMMIT"
# A limit of a few milliseconds may end the very statement that lifts it, or a session that has not
# spoken yet.
_LIMITS = {"57014", "57P05"}
ATTEMPTS = 5
CANCEL_SECONDS = 5.0


class Session(Protocol):
    """One connection. It is in no transaction unless `BEGIN` was executed.

    Whatever fails raises ServerSaid, and the session may be used on if the server still lives.
    """

    server: Server

    def rows(self, sql: str) -> list[Row]:
        """What a query answers: no semicolon at its end, nothing but a query."""

    def execute(self, sql: str) -> None:
        """Run one statement whose answer is not wanted."""

    def cancel(self) -> None:
        """End the statement that runs in another thread, if one does."""

    def close(self) -> None:
        """End the session; what it had not committed is undone."""


@contextlib.contextmanager
def open_session(
    server: Server, dbname: str | None = None, *, application: str = APPLICATION
) -> Iterator[Session]:
    """A session with a database of the server, pinned. It is closed when the block ends.

    Raises ServerSaid when the server cannot be reached or does not let the role in.
    """
    chosen = server if dbname is None else server.database(dbname)
    session = connect(chosen, application)
    try:
        yield session
    finally:
        session.close()


def connect(server: Server, application: str = APPLICATION) -> Session:
    """A session that the caller closes."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _connected(server, application)
        except ServerSaid as error:
            if error.state not in _LIMITS:
                raise
    return _connected(server, application)


def _connected(server: Server, application: str) -> Session:
    session: Session
    if server.exec:
        from runner.source.postgres_psql import PsqlSession

        session = PsqlSession(server, application)
    else:
        session = _own_connection(server, application)
    try:
        # First, since a database may have a limit that even the next statement exceeds.
        session.execute("SET statement_timeout = 0")
        values = ", ".join(f"({literal(name)}, {literal(to)})" for name, to in PINNED.items())
        values += f", ('client_encoding', {_ENCODING})"
        session.rows(
            "SELECT pg_catalog.set_config(name, v.wanted, false) "  # noqa: S608 - quoted
            f"FROM pg_catalog.pg_settings s JOIN (VALUES {values}) v(name, wanted) USING (name)"
        )
    except BaseException:
        session.close()
        raise
    return session


def _own_connection(server: Server, application: str) -> Session:
    """A connection that nobody else uses meanwhile, pooler or not; nothing is set there yet."""
    session = _LibpqSession(server, application)
    try:
        if not session.is_direct():
            from runner.source.postgres_pooler import require_own_connection

            require_own_connection(
                session, lambda: contextlib.closing(_LibpqSession(server, application))
            )
    except BaseException:
        session.close()
        raise
    return session


def identifier(name: str) -> str:
    """A name as SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL, on one line."""
    quoted = text.replace("'", "''")
    if not any(character in text for character in "\\\n\r"):
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"E'{escaped}'"


@contextlib.contextmanager
def passing(session: Session) -> Iterator[None]:
    """Within a transaction: give back at its end the locks that the block takes.

    A query locks the indexes of its table too, and the server has room for a few thousand locks.
    """
    session.execute("SAVEPOINT passing")
    yield
    session.execute("ROLLBACK TO SAVEPOINT passing")
    session.execute("RELEASE SAVEPOINT passing")


def value(session: Session, sql: str) -> str:
    """The one value that a query answers; nothing counts as an empty text."""
    return session.rows(sql)[0][0] or ""


def version_of(session: Session) -> int:
    """The server's version as a number: 150018 is 15.18."""
    return int(value(session, "SELECT pg_catalog.current_setting('server_version_num')"))


class _LibpqSession:
    """By psycopg."""

    def __init__(self, server: Server, application: str) -> None:
        import psycopg

        self.server = server
        self._error = psycopg.Error
        self._open = contextlib.ExitStack()
        password = server.secret()
        secret = {"password": password} if password else {}
        try:
            self._connection = psycopg.connect(
                server.conninfo(application),
                autocommit=True,
                prepare_threshold=None,
                cursor_factory=psycopg.Cursor,
                **cast("dict[str, Any]", secret),
            )
        except psycopg.Error as error:
            raise said(f"Connecting to {server.describe()}", str(error)) from error
        self._open.callback(self._connection.close)
        self._open.enter_context(process.stoppable(self._stop))

    def is_direct(self) -> bool:
        """Whether who let this session in is the process that serves it, and no pooler."""
        cursor = self._run(_SERVED_BY)
        while cursor.nextset():
            if cursor.description:
                return bool(cursor.fetchone() == (self._connection.info.backend_pid,))
        return False

    def rows(self, sql: str) -> list[Row]:
        result = self._run(sql).pgresult
        if result is None:
            return []
        columns = range(result.nfields)
        return [
            tuple(_text(result.get_value(row, column)) for column in columns)
            for row in range(result.ntuples)
        ]

    def execute(self, sql: str) -> None:
        self._run(sql)

    def cancel(self) -> None:
        with contextlib.suppress(self._error):
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)

    def close(self) -> None:
        self._open.close()

    def _stop(self) -> None:
        """End what runs, and let nothing run from now on."""
        self.cancel()
        with contextlib.suppress(self._error, OSError):
            descriptor = os.dup(self._connection.fileno())
            with socket.socket(fileno=descriptor) as connected:
                connected.shutdown(socket.SHUT_RDWR)

    def _run(self, sql: str) -> Any:
        try:
            return self._connection.execute(sql.encode(errors="surrogateescape"))
        except self._error as error:
            words = error.diag.message_primary or str(error)
            hint = error.diag.message_hint
            text = f"{words}\n({hint})" if hint else words
            caller = (error.diag.context or "").partition("\n")[0]
            text += f"\n({caller})" if "function" in caller else ""
            raise said(f"Asking {self.server.describe()}", text, error.sqlstate or "") from error


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="surrogateescape")
