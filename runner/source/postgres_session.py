"""A session with a PostgreSQL server: by psycopg, or by a psql that is held open behind a prefix.

Everything that comes back is text, as the server writes it; bytes that are no UTF-8 survive as
surrogates. Each session pins what would make the same value look different elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

from runner import process
from runner.errors import StepFailed
from runner.source.postgres_errors import ServerSaid, said
from runner.source.postgres_programs import Client, Programs, client
from runner.source.postgres_server import APPLICATION, Server

Row = tuple[str | None, ...]

# How values are written, what is seen, and no limit of time: those are for the application.
PINNED = {
    "client_encoding": "UTF8",
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
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "max_parallel_workers_per_gather": "0",
}
_END = 4  # lines that say how a statement of psql ended


class Session(Protocol):
    """One connection. It is in no transaction unless `BEGIN` was executed.

    Whatever fails raises ServerSaid, and the session may be used on if the server still lives.
    """

    server: Server

    def rows(self, sql: str) -> list[Row]:
        """What a query answers: no semicolon at its end, nothing but a query."""

    def execute(self, sql: str) -> None:
        """Run statements whose answer is not wanted."""

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
    session: Session = (
        _PsqlSession(server, application) if server.exec else _LibpqSession(server, application)
    )
    try:
        values = ", ".join(f"({literal(name)}, {literal(to)})" for name, to in PINNED.items())
        session.rows(
            "SELECT pg_catalog.set_config(s.name, v.wanted, false) FROM pg_catalog.pg_settings s "
            f"JOIN (VALUES {values}) v(name, wanted) ON v.name = s.name"  # noqa: S608 - quoted
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
            self._connection.cancel()

    def close(self) -> None:
        self._connection.close()

    def _run(self, sql: str) -> Any:
        try:
            return self._connection.execute(sql.encode(errors="surrogateescape"))
        except self._error as error:
            words = error.diag.message_primary or str(error)
            hint = error.diag.message_hint
            text = f"{words}\n({hint})" if hint else words
            raise said(f"Asking {self.server.describe()}", text, error.sqlstate or "") from error


class _PsqlSession:
    """By a psql that reads statements from a pipe, and says after each how it ended.

    What a query answers comes as COPY writes it: one line a row, whatever the values hold.
    """

    def __init__(self, server: Server, application: str) -> None:
        self.server = server
        self._mark = os.urandom(16).hex()
        self._open = contextlib.ExitStack()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with all that is open
        self._open.callback(self._errors.close)
        # The version of a psql says nothing that matters here: any of the last ten years will do.
        programs = Programs(server.bin, "", 0)
        arguments = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password")
        try:
            one: Client = self._open.enter_context(
                client(server, programs, "psql", *arguments, application=application)
            )
            self._process = self._open.enter_context(
                process.started(
                    one.arguments,
                    stdin=-1,
                    stdout=-1,
                    stderr=self._errors,
                    environment=one.environment,
                    folder=one.folder,
                )
            )
            self._send(one.first)
            self._backend = self.rows("SELECT pg_catalog.pg_backend_pid()")[0][0]
        except BaseException:
            self._open.close()
            raise

    def rows(self, sql: str) -> list[Row]:
        lines = self._run(f"COPY ({sql}) TO STDOUT")
        return [tuple(_uncopied(part) for part in line.split("\t")) for line in lines]

    def execute(self, sql: str) -> None:
        self._run(sql)

    def cancel(self) -> None:
        # A signal would end the prefix command, and leave what it started in a container.
        with contextlib.suppress(StepFailed), open_session(self.server) as other:
            other.rows(f"SELECT pg_catalog.pg_cancel_backend({self._backend})")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        if self._process.poll() is None:
            with contextlib.suppress(Exception):
                self._process.wait(process.GRACE_SECONDS)
        self._open.close()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _run(self, sql: str) -> list[str]:
        mark = self._mark
        text = (
            f"{sql.rstrip().rstrip(';')}\n;\n"
            f"\\echo {mark} :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo {mark}\n"
        )
        self._send(text.encode(errors="surrogateescape"))
        lines = list(self._until(mark))
        state = lines.pop().removeprefix(mark).strip()
        words = "\n".join(self._until(mark, whole=True))
        if state not in ("00000", "02000"):
            raise said(f"Asking {self.server.describe()}", words, state)
        return lines

    def _until(self, mark: str, *, whole: bool = False) -> Iterator[str]:
        """Lines up to the one with the mark, which is given too unless it is nothing else."""
        output = self._process.stdout
        assert output is not None
        while True:
            line = output.readline()
            if not line.endswith(b"\n"):
                raise self._gone()
            text = line[:-1].decode(errors="surrogateescape")
            if whole and text == mark:
                return
            yield text
            if not whole and text.startswith(mark):
                return

    def _send(self, data: bytes) -> None:
        try:
            self._input.write(data)
            self._input.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._gone() from error

    def _gone(self) -> ServerSaid:
        with contextlib.suppress(Exception):
            self._process.wait(process.GRACE_SECONDS)
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - process.TAIL_BYTES))
        words = self._errors.read().decode(errors="replace")
        text = words.removeprefix("psql: error: ") or "the connection is lost"
        return said(f"Asking {self.server.describe()}", text)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="surrogateescape")


_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _uncopied(part: str) -> str | None:
    """A value as COPY's text form writes it."""
    if part == "\\N":
        return None
    if "\\" not in part:
        return part
    pieces = part.split("\\")
    found = [pieces[0]]
    after_pair = False
    for piece in pieces[1:]:
        if after_pair:
            found.append(piece)
            after_pair = False
        elif piece:
            found.append(_ESCAPES.get(piece[0], piece[0]) + piece[1:])
        else:
            found.append("\\")
            after_pair = True
    return "".join(found)
