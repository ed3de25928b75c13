"""A dump brought from its artifact into an empty database."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from runner.errors import StepFailed
from runner.process import CommandFailed
from runner.source import postgres_behind
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_programs import Programs, explained, feeding_client, run_client
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, literal, open_session

MOST_JOBS = 4
ANALYZED_AT_ONCE = 100
BLOCK = 1024 * 1024
HEAD = 8 * 1024 * 1024  # bytes: the list of contents of a dump with few objects is shorter
MOST_LOCKED = 1000  # objects; a server with usual settings has room for a few thousand
MOSTLY = 0.6  # of all rows

# Of a partitioned table all partitions are analyzed along with it.
_ANALYZED = """
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""
# What must not be as a role or a database may have set it for its new sessions.
_NEEDED = {
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
# What pg_restore 17 and later set at first, whether or not the server knows it.
_UNKNOWN = "transaction_timeout"
_UNKNOWN_SINCE = 17
_NO_MATTER = re.compile(rf"could not execute query: [^\n]*\nCommand was: SET {_UNKNOWN} = 0;\s*")
_TO_ITS_END = re.compile(r"pg_restore: warning: errors ignored on restore: \d+")
# Several processes that connect at the same time may write into each other's lines.
_BEFORE_WORDS = re.compile(r"(pg_restore: |error: |while INITIALIZING:|\s)*")
_GIVEN = "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name IN ({names})"
REFUSED = "could not execute query"  # a statement, by the server
_MENDED = (
    "The dump is as it was written, and the server refuses this statement of it. What it needs and "
    "the backup leaves out must be in that too; a definition that cannot be made again must be "
    "mended in the live database. By hand, pg_restore without --exit-on-error goes on behind it."
)
# What calls a function, an index for one, calls it without a search path while it is made again.
_NO_SCHEMA = re.compile(r" does not exist .*\bCONTEXT: .*\bfunction ", re.DOTALL)
# With several jobs at once the trigger of a partitioned table may come before the rows of its
# partitions, and change them: so what has triggers comes after all rows.
_PASSES = [("--section=pre-data", "--section=data"), ("--section=post-data",)]

# Rows are checked as they come, by a function that may look at those of another table; indexes of
# partitions that are attached at the same time may wait for each other; and a key that leads to a
# partitioned table may come before all indexes of its partitions are attached.
_OF_ORDER = re.compile(
    r"COPY failed for table .*(violates check constraint|\bCONTEXT: .*\bfunction )"
    r"|deadlock detected|there is no unique constraint matching given keys",
    re.DOTALL,
)

_DUMP = b"PGDMP"
_INSIDE = re.compile(r"(?:[^/]+/)?([A-Za-z0-9_.]*[A-Za-z0-9_])")  # what a directory dump holds


class OutOfOrder(ServerSaid):
    """Rows were refused that may need those of another table, which were not there yet, or two
    processes waited for each other: several restore in any order, one in that of the names.
    """


def decode(chunks: Iterator[bytes], folder: Path) -> Path:
    """Write a dump to a file or, from a tar, to a folder, so that it can be read at any place.

    Raises StepFailed if what was stored is damaged.
    """
    first = next(chunks, b"")
    if first.startswith(_DUMP):
        dump = folder / "database.pgdump"
        with dump.open("wb") as file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
        return dump
    dump = folder / "database"
    dump.mkdir()
    stream = _Chunks(first, chunks)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=BLOCK) as tar:
            for entry in tar:
                _unpack(tar, entry, dump)
    except tarfile.TarError as error:
        stream.finish()
        raise StepFailed(f"The dump is neither one of pg_dump's nor a tar: {error}.") from error
    stream.finish()
    return dump


def mostly_one_table(described: Mapping[str, Any]) -> bool:
    """Whether several processes would help little with these rows, and one transaction with all
    of it holds a few locks alone.
    """
    rows = [one["rows"] for one in described.get("tables", {}).values()]
    few = len(described["objects"]) <= MOST_LOCKED and not described.get("large_objects", {}).get(
        "rows"
    )
    return few and bool(rows) and max(rows) > sum(rows) * MOSTLY


def unpacking(chunks: Iterator[bytes], folder: Path) -> tuple[Path, Iterator[bytes] | None]:
    """A dump whose list of contents is in its file already, and all of the dump's bytes: these are
    written to the file as they are taken. None where the dump is whole at once.
    """
    first = next(chunks, b"")
    if not first.startswith(_DUMP):
        return decode(chain([first], chunks), folder), None
    dump = folder / "database.pgdump"
    head = bytearray(first)
    while len(head) < HEAD and (chunk := next(chunks, b"")):
        head += chunk
    dump.write_bytes(head)

    def taken() -> Iterator[bytes]:
        yield bytes(head)
        with dump.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                yield chunk

    return dump, taken()


def _unpack(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    if entry.isdir():
        return
    name = _INSIDE.fullmatch(entry.name)
    content = tar.extractfile(entry) if entry.isfile() else None
    if name is None or content is None:
        raise StepFailed(f"The dump holds {entry.name!r}, which pg_dump does not write.")
    with (folder / name[1]).open("wb") as file:
        while block := content.read(BLOCK):
            file.write(block)


class _Chunks:
    """Chunks as a file to read from."""

    def __init__(self, first: bytes, chunks: Iterator[bytes]) -> None:
        self._left = first
        self._chunks = chunks

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._left) < size:
            more = next(self._chunks, None)
            if more is None:
                break
            self._left += more
        found, self._left = (self._left, b"") if size < 0 else (
            self._left[:size], self._left[size:])  # fmt: skip
        return found

    def finish(self) -> None:
        """Read to the end: what was stored is judged there."""
        for _ in self._chunks:
            pass


def write_list(folder: Path, lines: Sequence[str]) -> Path:
    """A file of lines from a dump's list of contents."""
    path = folder / postgres_behind.LIST
    path.write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")
    return path


def load(
    server: Server,
    programs: Programs,
    dump: Path,
    *,
    listed: Path | None = None,
    no_tablespaces: bool = False,
    more: Sequence[str] = (),
    unpacked: Iterator[bytes] | None = None,
    one_by_one: bool = False,
    money: bool = False,
) -> None:
    """Restore a dump into a database, with several processes where the file can be reached, unless
    `one_by_one` is asked. Raises OutOfOrder where that may help, in an empty database again.

    With `listed`, from `write_list`, nothing but those entries.
    With `unpacked`, from `unpacking`, one process restores the rows while they are unpacked. In
    one transaction: rows of a table that it has made itself need no log of their own.
    `money`: sums of money in it are as in the locale C.
    """
    server, lacking = _prepared(server, _NEEDED | ({"lc_monetary": "C"} if money else {}))
    goes_on = lacking and programs.major >= _UNKNOWN_SINCE
    arguments = [*([] if goes_on else ["--exit-on-error"]), *more]
    if no_tablespaces:
        arguments.append("--no-tablespaces")
    jobs = 1 if one_by_one else max(1, min(MOST_JOBS, os.cpu_count() or 1))
    several = jobs > 1 and unpacked is None and not server.exec
    passing_over = _passing_over if goes_on else contextlib.nullcontext
    with _explained(several=several):
        if server.exec:
            with passing_over(server):
                postgres_behind.restore(server, programs, dump, listed, arguments)
            return
        if listed is not None:
            arguments.append(f"--use-list={listed}")
        passes = _PASSES
        if unpacked is not None:
            first, *passes = _PASSES
            whole = [] if goes_on else ["--single-transaction"]
            with passing_over(server):
                _feed(server, programs, [*arguments, *first, *whole], unpacked)
        for sections in passes:
            with passing_over(server):
                run_client(
                    server, programs, "pg_restore",
                    *arguments, *sections, f"--jobs={jobs}", str(dump),
                )  # fmt: skip


def _prepared(server: Server, needed: Mapping[str, str]) -> tuple[Server, bool]:
    """The server, asked not to end idle connections, since those of pg_restore wait for each
    other, to let them write, and to read what pg_dump wrote as that was meant; and whether it
    lacks a setting that newer programs set.

    pg_restore switches every other timeout off itself, though not before its first statement.
    """
    names = ", ".join(map(literal, (*needed, _UNKNOWN)))
    with open_session(server) as session:
        given = {str(name): str(to) for name, to in session.rows(_GIVEN.format(names=names))}
    lacking = given.pop(_UNKNOWN, None) is None
    asked = {name: needed[name] for name in given if given[name] != needed[name]}
    return server.having(asked), lacking


@contextlib.contextmanager
def _passing_over(server: Server) -> Iterator[None]:
    """Let pg_restore fail at the setting that the server lacks, and at nothing else."""
    try:
        yield
    except ServerSaid as error:
        failed = error.__cause__
        if not isinstance(failed, CommandFailed):
            raise
        words = _NO_MATTER.sub("", failed.outcome.stderr)
        left = _TO_ITS_END.sub("", words)
        if left == words or not _BEFORE_WORDS.fullmatch(left):
            with explained(server, "pg_restore"):
                raise CommandFailed(
                    failed.message, replace(failed.outcome, stderr=words)
                ) from error


@contextlib.contextmanager
def _explained(*, several: bool) -> Iterator[None]:
    try:
        yield
    except ServerSaid as error:
        if several and _OF_ORDER.search(error.message):
            raise OutOfOrder(error.message, remedy=error.remedy, state=error.state) from error
        if REFUSED in error.message and not error.remedy and not _NO_SCHEMA.search(error.message):
            raise ServerSaid(f"{error.message} {_MENDED}", state=error.state) from error
        if not _NO_SCHEMA.search(error.message):
            raise
        raise ServerSaid(
            f"{error.message} A function that an index, a constraint or a view calls asks for it. "
            "In a restore in part, name that too (--include). Else the function does not say in "
            "which schema it is, and no dump of pg_dump can make it again: at the live database "
            "ALTER FUNCTION … SET search_path = …; then take another backup.",
            state=error.state,
        ) from error


def analyze(session: Session) -> None:
    """Gather statistics, or the first questions of an application would take ages.

    A table that cannot be read (one of its partitions may be on a server that is not there) has
    none.
    """
    names = [str(name) for (name,) in session.rows(_ANALYZED)]
    for start in range(0, len(names), ANALYZED_AT_ONCE):
        some = names[start : start + ANALYZED_AT_ONCE]
        try:
            session.execute(f"ANALYZE {', '.join(some)}")
        except ServerSaid:
            for name in some:
                with contextlib.suppress(ServerSaid):
                    session.execute(f"ANALYZE {name}")


def _feed(
    server: Server, programs: Programs, arguments: Sequence[str], dump: Iterator[bytes]
) -> None:
    with feeding_client(server, programs, "pg_restore", *arguments) as feed:
        for chunk in dump:
            feed.write(chunk)
