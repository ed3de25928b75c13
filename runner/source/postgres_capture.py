"""The capture of databases: each dumped at one instant, and described at that very instant."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from runner.errors import StepFailed
from runner.source import Capture, Captured
from runner.source.postgres_beside import Beside
from runner.source.postgres_databases import database_names, part_of
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_fingerprint import (
    ALGORITHM,
    CONNECTIONS,
    has_money,
    readers,
    sequences,
    settled,
    take,
)
from runner.source.postgres_globals import (
    GLOBALS,
    globals_fingerprint,
    globals_text,
    without_limit,
)
from runner.source.postgres_moment import (
    OVERTAKEN_SECONDS,
    Moment,
    Overtaken,
    held,
    join,
)
from runner.source.postgres_programs import Programs, programs_for, reading_client, run_client
from runner.source.postgres_server import APPLICATION, Server
from runner.source.postgres_session import (
    Row,
    Session,
    literal,
    open_session,
    value,
    version_of,
)
from runner.source.postgres_steady import changed, definitions, require_unchanged
from runner.source.postgres_tables import Selection
from runner.store.seal import Sink
from runner.swap import remove_tree

OLDEST_MAJOR = 12
BLOCK = 1024 * 1024
LOOKING_SECONDS = 0.02  # between two looks whether pg_dump has read what it needs

_MONETARY = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'lc_monetary'"

# What pg_dump says when it cannot lock a table, and what its helpers say.
_LOCKING = re.compile(r"timeout.*LOCK TABLE|could not obtain lock on relation")


@dataclass(frozen=True)
class Wanted:
    """What a spec asks a capture to hold."""

    databases: str | tuple[str, ...] = ""  # empty: the server's own; `all`; or names
    globals: bool = False
    selection: Selection = field(default_factory=Selection)
    level: str = "content"  # of the fingerprint
    counted: tuple[str, ...] = ()  # patterns of tables that are not hashed
    jobs: int = 1  # more than one: a directory-format dump, in a tar
    lock_seconds: float = 60.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wanted:
        """What a spec's options ask."""
        names = options.get("databases", "")
        return cls(
            names if isinstance(names, str) else tuple(names),
            bool(options.get("globals", False)),
            Selection.of(options),
            options.get("fingerprint", "content"),
            tuple(options.get("fingerprint_counts", ())),
            options.get("parallel", 1),
            options.get("lock_timeout", 60.0),
        )


def capture_server(server: Server, wanted: Wanted, capture: Capture) -> Captured:
    """Store a dump of each database that is wanted, and what belongs to none.

    Raises StepFailed, and stores nothing that anybody would take for whole, when any of it fails.
    """
    first = server
    if wanted.databases and not server.dbname:
        first = server.database("postgres")
    with open_session(first) as session:
        programs = programs_for(server, _major(session))
        names, notes = database_names(session, wanted.databases)
        version = value(session, "SELECT pg_catalog.current_setting('server_version')").split()[0]
        found: dict[str, Any] = {
            "algorithm": ALGORITHM,
            "level": wanted.level,
            "server": version,
            "databases": {},
        }
        if wanted.globals:
            found["globals"] = globals_fingerprint(session)
            text, missing = globals_text(session, programs)
            capture.store("sql", lambda sink: sink.write(text), part=GLOBALS)
            notes += missing
    instants: list[datetime] = []
    for name in names:
        part = part_of(name) if wanted.databases else ""
        at, one = _Capturing(first.database(name), programs, wanted, capture).run(part)
        instants.append(at)
        partial = wanted.selection != Selection()
        found["databases"][name] = {"part": part, "partial": partial, **one}
        notes += [f"{name}: {note}" if part else note for note in _notes(one)]
    if len(names) > 1:
        notes.append("the databases were taken one after another, each as of an instant of its own")
    versions = {"postgresql": version, "pg_dump": programs.version}
    return Captured(min(instants), found, versions=versions, notes=tuple(notes))


def _major(session: Session) -> int:
    major = version_of(session) // 10000
    if major < OLDEST_MAJOR:
        raise StepFailed(
            f"The server of {session.server.describe()} is PostgreSQL {major}.",
            remedy=f"PostgreSQL {OLDEST_MAJOR} and later can be backed up: upgrade the server.",
        )
    return major


@dataclass(frozen=True)
class _Capturing:
    """The capture of one database."""

    server: Server
    programs: Programs
    wanted: Wanted
    capture: Capture
    application: str = field(default_factory=lambda: f"{APPLICATION}-{os.urandom(4).hex()}")

    def run(self, part: str) -> tuple[datetime, dict[str, Any]]:
        """Capture; again if others got in between, for as long as one waits for a lock."""
        deadline = time.monotonic() + self.wanted.lock_seconds
        while True:
            try:
                return self._attempt(part)
            except Overtaken:
                if time.monotonic() >= deadline:
                    raise

    def _attempt(self, part: str) -> tuple[datetime, dict[str, Any]]:
        wanted, server = self.wanted, self.server
        with (
            _nothing_left(server, self.application),
            contextlib.ExitStack() as stack,
        ):
            sessions = [
                stack.enter_context(open_session(server, application=self.application))
                for _ in range(CONNECTIONS)
            ]
            first = sessions[0]
            encoding = value(first, "SELECT pg_catalog.getdatabaseencoding()")
            money = has_money(first)
            local = money and value(first, _MONETARY) not in ("C", "POSIX")
            moment = stack.enter_context(held(first, wanted.selection, wanted.lock_seconds))
            del sessions[readers(moment.chosen) :]
            for other in sessions[1:]:
                join(other, moment)
            before, there = self._sequences(moment), definitions(first)
            describe = functools.partial(self._describe, sessions, moment)
            with Beside(describe, sessions) as described:
                settings = without_limit(first) | ({"lc_monetary": "C"} if local else {})
                dumped = replace(self, server=server.having(settings))
                dumped.store(moment, encoding, part, described, there)
                found = described.result()
            after = {}
            with contextlib.suppress(ServerSaid):  # one was dropped this very moment
                after = self._sequences(moment)
        return moment.at, {**found, "sequences": settled(before, after), "money": money}

    def _describe(self, sessions: Sequence[Session], moment: Moment) -> dict[str, Any]:
        wanted = self.wanted
        try:
            return take(sessions, moment.chosen, wanted.level, wanted.counted)
        except ServerSaid as error:
            if other := changed(self.server, error):
                raise other from error
            raise

    def _sequences(self, moment: Moment) -> dict[str, Any]:
        """How far they are now. Whoever asks that keeps a lock until the end of a transaction, and
        pg_dump would wait for who waits for that to drop one: so not in the moment's.
        """
        with open_session(self.server, application=self.application) as session:
            session.execute("BEGIN")
            return sequences(session, moment.chosen)

    def store(
        self,
        moment: Moment,
        encoding: str,
        part: str,
        described: Beside[dict[str, Any]],
        there: set[Row],
    ) -> None:
        """Dump and store. Raises Overtaken, before anything is stored, as `join` does. `there` are
        the definitions that it sees.
        """
        if encoding != "SQL_ASCII" and not "".join(moment.chosen.arguments).isascii():
            encoding = "UTF8"  # that of the dump is that of its arguments too
        patience = OVERTAKEN_SECONDS * 1000 + len(moment.chosen.full)
        arguments = [
            f"--snapshot={moment.snapshot}",
            f"--lock-wait-timeout={patience:.0f}",
            f"--encoding={encoding}",
            # The next major may have more reserved words.
            "--quote-all-identifiers",
            "--compress=0",
            "--no-password",
            *moment.chosen.arguments,
        ]
        try:
            if self.wanted.jobs > 1:
                self._store_folder(arguments, part, there)
            else:
                self._store_stream(arguments, part, described, there)
        except ServerSaid as error:
            if _LOCKING.search(error.message):
                raise Overtaken(self.server.describe(), error) from error
            if other := changed(self.server, error):
                raise other from error
            raise

    def _store_stream(
        self,
        arguments: Sequence[str],
        part: str,
        described: Beside[dict[str, Any]],
        there: set[Row],
    ) -> None:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(
                reading_client(
                    self.server,
                    self.programs,
                    "pg_dump",
                    "--format=custom",
                    *arguments,
                    application=self.application,
                )
            )
            with contextlib.suppress(OSError):  # it would only be slower
                fcntl.fcntl(output.fileno(), fcntl.F_SETPIPE_SZ, BLOCK)
            first = output.read(BLOCK)  # it says nothing before it has read all definitions
            if not first:
                stack.close()
            require_unchanged(self.server, there, self.application)

            def produce(sink: Sink) -> None:
                block = first
                while block:
                    described.check()
                    sink.write(block)
                    block = output.read(BLOCK)
                stack.close()  # its status belongs to what is being stored

            self.capture.store("pgdump", produce, part=part)

    def _store_folder(self, arguments: Sequence[str], part: str, there: set[Row]) -> None:
        folder, ended = self.capture.scratch / "dump", threading.Event()
        remove_tree(folder)

        def look() -> None:
            while not (folder / "toc.dat").exists():  # it comes after all definitions
                if ended.wait(LOOKING_SECONDS):
                    break
            require_unchanged(self.server, there, self.application)

        with Beside(look, ()):
            try:
                run_client(
                    self.server,
                    self.programs,
                    "pg_dump",
                    "--format=directory",
                    f"--jobs={self.wanted.jobs}",
                    f"--file={folder}",
                    *arguments,
                    application=self.application,
                )
            finally:
                ended.set()
        self.capture.store("tar", functools.partial(_send_folder, folder), part=part)
        folder.rmdir()


@contextlib.contextmanager
def _nothing_left(server: Server, application: str) -> Iterator[None]:
    """End what a failed capture left at the server.

    A prefix command that is killed may leave what it started: docker exec, for one.
    """
    try:
        yield
    except BaseException:
        if server.exec:
            with contextlib.suppress(StepFailed), open_session(server) as session:
                session.rows(
                    "SELECT pg_catalog.pg_terminate_backend(pid) "  # noqa: S608 - quoted
                    "FROM pg_catalog.pg_stat_activity "
                    f"WHERE application_name = {literal(application)}"
                )
        raise


def _send_folder(folder: Path, sink: Sink) -> None:
    """A tar of the folder's files, each removed once it is in it."""
    with tarfile.open(
        mode="w|", fileobj=cast("Any", sink), bufsize=BLOCK, format=tarfile.PAX_FORMAT
    ) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, recursive=False, filter=_anonymous)
            path.unlink()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    counted = [name for name, table in found.get("tables", {}).items() if "sum" not in table]
    objects = found.get("large_objects", {})
    if objects.get("rows") and "sum" not in objects:
        yield "large objects are counted, not hashed: the role may not read pg_largeobject"
    if counted and any("sum" in table for table in found["tables"].values()):
        yield f"counted, not hashed: {', '.join(counted[:10])}"
    if needs := found.get("needs"):
        yield f"cannot be restored by itself, it needs what is left out: {', '.join(needs[:5])}"
    unread = found.get("unread", {})
    if "subscriptions" in unread:
        yield f"{unread['subscriptions']} subscriptions not included: the role is no superuser"
    if "options" in unread:
        yield (
            f"the options of {unread['options']} user mappings (passwords are among them) not "
            "included: the role is no superuser"
        )
    if slots := found.get("slots"):
        yield (
            f"{slots} logical replication slot{'s' * (slots != 1)} not included, as in no dump: "
            "who reads there needs a new one after a restore, and a new copy of all"
        )
    foreign = [name for name in found["objects"] if name.startswith("foreign table ")]
    if foreign:
        yield f"the rows of foreign tables are elsewhere: {len(foreign)} not included"
