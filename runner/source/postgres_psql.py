"""A session by a psql that is held open, behind the command that reaches the database.

It reads statements from a pipe, and says after each how it ended. What a query answers comes as
CSV, with a mark for what is null. (COPY would not do: psql does not say of one that it failed.)
"""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
import threading
from typing import IO

from runner import process
from runner.errors import StepFailed
from runner.source.postgres_errors import ServerSaid, said
from runner.source.postgres_programs import Client, Programs, client
from runner.source.postgres_server import APPLICATION, Server
from runner.source.postgres_session import Row

LONGEST = 2**30  # characters of one value; PostgreSQL has no longer ones


class PsqlSession:
    """See the protocol `runner.source.postgres_session.Session`."""

    def __init__(self, server: Server, application: str) -> None:
        self.server = server
        self._lock = threading.Lock()  # one statement at a time
        self._mark = os.urandom(16).hex()
        self._open = contextlib.ExitStack()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with all that is open
        self._open.callback(self._errors.close)
        # The version of a psql says nothing that matters here: any of the last ten years will do.
        programs = Programs(server.bin, "", 0)
        arguments = ["--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--no-password"]
        arguments.append(f"--pset=null={self._mark}")
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
            # First, since a database may have a limit that even the next statement exceeds.
            self.execute("SET statement_timeout = 0")
            self._backend = self.rows("SELECT pg_catalog.pg_backend_pid()")[0][0]
        except BaseException:
            self._open.close()
            raise

    def rows(self, sql: str) -> list[Row]:
        """What a query answers."""
        csv.field_size_limit(LONGEST)
        # A row of one empty text is an empty line.
        return [
            tuple(None if one == self._mark else one for one in row or [""])
            for row in csv.reader(self._run(sql))
        ]

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self._run(sql)

    def cancel(self) -> None:
        """End the statement that runs."""
        # A signal would end the prefix command, and leave what it started in a container.
        with (
            contextlib.suppress(StepFailed),
            contextlib.closing(PsqlSession(self.server, APPLICATION)) as other,
        ):
            other.rows(f"SELECT pg_catalog.pg_cancel_backend({self._backend})")

    def close(self) -> None:
        """Let psql end by itself, since a prefix command may not pass a signal on."""
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
        with self._lock:
            self._send(text.encode(errors="surrogateescape"))
            lines = self._until(f"{mark} ")
            words = "".join(self._until(f"{mark}\n")[:-1])
        state = lines.pop().removeprefix(mark).strip()
        if state not in ("00000", "02000"):
            raise said(f"Asking {self.server.describe()}", words, state)
        return lines

    def _until(self, end: str) -> list[str]:
        """Lines, with their ends, up to and with the one that begins so."""
        output = self._process.stdout
        assert output is not None
        found = [""]
        while not found[-1].startswith(end):
            line = output.readline()
            if not line.endswith(b"\n"):
                raise self._gone()
            found.append(line.decode(errors="surrogateescape"))
        return found[1:]

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
