"""What a closed SQLite file contains: settings, schema, and a hash of every table's rows.

It reads a file that nobody writes to, and imports the standard library alone, so that it also
runs as a process of its own beside the compression: `python -I sqlite_content.py URI LEVEL`
prints the JSON of `describe`, or `{"failed": "why"}`.

A table's hash is over its rows in the order of their keys, and over what each value is (an
integer, a real, a text, a blob, nothing), never over how the file lays it out: a VACUUM keeps it.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import re
import sqlite3
import struct
import sys
from collections.abc import Iterator
from typing import Any, Protocol

ROWS = 128  # read at once; with the next line, what bounds the memory
LARGE = 256 * 1024  # bytes; a longer value is read alone, a blob piece by piece
PIECE = 1024 * 1024

# marshal's second form has been the same in every Python 3, and writes each value alone: its
# type, and its bytes. The list around the rows is cut off, so that chunks do not matter.
_MARSHAL = 2
_LIST_HEAD = 5

# What `quick_check` says of rows that break a promise of the schema: the file is sound.
_BROKEN_PROMISES = ("NULL value in ", "CHECK constraint failed", "NUMERIC value in ",
                    "TEXT value in ", "non-INTEGER value in ", "non-REAL value in ",
                    "non-TEXT value in ", "non-BLOB value in ")  # fmt: skip
# What `integrity_check` says of an index beside its table: the rows are all there.
ASTRAY = re.compile(r"(?:row \d+ missing from|wrong # of entries in|non-unique entry in|"
                    r"row \d+ values differ from|rowid not at end-of-record for row \d+ of) "
                    r"index (.+)", re.DOTALL)  # fmt: skip
_CACHE = 64 * 1024  # KiB; an index is compared with its table at random places
_MALFORMED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def open_copy(address: str) -> sqlite3.Connection:
    """Open a file that no process writes to, by its URI."""
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    connection.text_factory = lenient
    return connection


def lenient(data: bytes) -> str:
    """A name or an SQL text, whatever its bytes are."""
    return data.decode(errors="backslashreplace")


def is_malformed(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, and not what this SQLite lacks to read it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _MALFORMED


def describe(address: str, level: str) -> dict[str, Any]:
    """The content of a closed file as JSON; `check` says first whether it is sound at all.

    `level` is content (row counts and hashes), counts, or none. Raises sqlite3.Error when the
    file cannot be read; a malformed one is no error but what `check` says.
    """
    connection = open_copy(address)
    found: dict[str, Any] = {"level": level}
    try:
        found["check"] = check(connection, indexes=level == "content")
        if found["check"]["verdict"] == "malformed":
            return found
        found["settings"] = _settings(connection)
        found["schema"] = _schema_hash(connection)
        if level != "none":
            found["tables"] = {
                name: _table(connection, name, level) for name in _table_names(connection)
            }
    except sqlite3.DatabaseError as error:
        if not is_malformed(error):
            raise
        found["check"] = {"verdict": "malformed", "words": [str(error)]}
    finally:
        connection.close()
    return found


def check(connection: sqlite3.Connection, *, indexes: bool) -> dict[str, Any]:
    """Whether the file is sound: `verdict` is ok, malformed or unchecked; `words` say why.

    `unchecked` is what needs a collation or an extension that is not here. With `indexes` they are
    compared with their tables, which takes several times as long; `ASTRAY` tells those words.
    """
    connection.execute("PRAGMA ignore_check_constraints=ON")
    connection.execute(f"PRAGMA cache_size=-{_CACHE}")
    pragmas = ("integrity_check", "quick_check") if indexes else ("quick_check",)
    try:
        return _judge(_asked(connection, pragmas[0], ""))
    except sqlite3.DatabaseError as error:
        if is_malformed(error):
            return {"verdict": "malformed", "words": [str(error)]}
    words, unchecked = [], []
    for name in _table_names(connection):
        try:
            words += _first_that_can(connection, pragmas, f"({_quoted(name)})")
        except sqlite3.DatabaseError as error:
            if is_malformed(error):
                return {"verdict": "malformed", "words": [f"{name}: {error}"]}
            unchecked.append(f"{name}: {error}")
    judged = _judge(words)
    if judged["verdict"] == "ok" and unchecked:
        return {"verdict": "unchecked", "words": judged["words"] + unchecked}
    return judged


def schema_text(connection: sqlite3.Connection) -> Iterator[str]:
    """The SQL that makes the same empty database, statement by statement, as it was created."""
    made_by_others = _shadow_tables(connection)
    for name in ("user_version", "application_id"):
        yield f"PRAGMA {name}={connection.execute(f'PRAGMA {name}').fetchone()[0]};\n"
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    for name, sql in connection.execute(query):
        if not name.startswith("sqlite_") and name not in made_by_others:
            yield f"{sql}{_end(sql)}\n"


def _end(sql: str) -> str:
    """What ends a statement that may itself end with a comment."""
    return next((end for end in (";", "\n;", "*/;") if sqlite3.complete_statement(sql + end)), ";")


def _first_that_can(connection: sqlite3.Connection, pragmas: tuple[str, ...], of: str) -> list[str]:
    """What the first check says that needs no function that is not here, else the last one's."""
    *better, last = pragmas
    for pragma in better:
        try:
            return _asked(connection, pragma, of)
        except sqlite3.DatabaseError as error:
            if is_malformed(error):
                raise
    return _asked(connection, last, of)


def _asked(connection: sqlite3.Connection, pragma: str, of: str) -> list[str]:
    return [row[0] for row in connection.execute(f"PRAGMA {pragma}{of}")]


def _judge(words: list[str]) -> dict[str, Any]:
    lines = [line for text in words if text != "ok" for line in text.splitlines()]
    sound = [line for line in lines if line.startswith(_BROKEN_PROMISES) or ASTRAY.match(line)]
    verdict = "ok" if len(sound) == len(lines) else "malformed"
    return {"verdict": verdict, "words": lines}


def _settings(connection: sqlite3.Connection) -> dict[str, Any]:
    names = ("user_version", "application_id", "encoding", "page_size", "auto_vacuum")
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def _schema_hash(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    ordered = sorted(rows, key=lambda row: row[:3])
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest()


def _table_names(connection: sqlite3.Connection) -> list[str]:
    # A virtual table has no page of its own: its shadow tables hold what it is.
    query = "SELECT name FROM sqlite_master WHERE type='table' AND rootpage>0 ORDER BY name"
    return [name for (name,) in connection.execute(query)]


def _shadow_tables(connection: sqlite3.Connection) -> set[str]:
    try:
        rows = connection.execute("SELECT name FROM pragma_table_list WHERE type='shadow'")
        return {name for (name,) in rows}
    except sqlite3.DatabaseError:  # SQLite before 3.37, or a module that is not here
        return set()


def _table(connection: sqlite3.Connection, name: str, level: str) -> dict[str, Any]:
    try:
        if level == "content":
            return _hashed(connection, name)
        query = f"SELECT count(*) FROM {_quoted(name)}"  # noqa: S608 - quoted above
        return {"rows": connection.execute(query).fetchone()[0]}
    except sqlite3.DatabaseError as error:
        if is_malformed(error):
            raise
        return {"unchecked": str(error)}


def _hashed(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    table = _Table(connection, name)
    longest = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGE)
    try:
        rows, digest = table.fast()
    except (sqlite3.DataError, sqlite3.OperationalError) as error:
        if is_malformed(error) or not _needs_care(error):
            raise
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        rows, digest = table.careful()
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        connection.text_factory = lenient
    return {"rows": rows, "sha256": digest}


def _needs_care(error: sqlite3.Error) -> bool:
    """Whether a value was too long, or a text was no UTF-8."""
    too_long = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG
    return too_long or "Could not decode to UTF-8" in str(error)


class _Table:
    """The rows of one table in the order of their keys."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        # Generated columns follow from the others, and may need functions that are not here.
        columns = connection.execute(f"PRAGMA table_xinfo({_quoted(name)})").fetchall()
        self.columns = [column[1] for column in columns if column[6] == 0]
        self.key = _row_key(connection, name, {column[1].lower() for column in columns})
        order = f" ORDER BY {self.key}" if self.key else ""
        self.rows_of = f"FROM main.{_quoted(name)} NOT INDEXED{order}"

    def fast(self) -> tuple[int, str]:
        """The number of rows and their hash, when every value is short and every text UTF-8."""
        self.connection.text_factory = str
        listed = ", ".join(_quoted(column) for column in self.columns)
        cursor = self.connection.execute(f"SELECT {listed} {self.rows_of}")
        digest = hashlib.sha256()
        count = 0
        while rows := cursor.fetchmany(ROWS):
            digest.update(marshal.dumps(rows, _MARSHAL)[_LIST_HEAD:])
            count += len(rows)
        return count, digest.hexdigest()

    def careful(self) -> tuple[int, str]:
        """The same for any values, row by row; blobs in pieces where SQLite can read them so."""
        self.connection.text_factory = bytes
        key = self.key or "NULL"
        listed = ", ".join(self._typed(_quoted(column)) for column in self.columns)
        digest = hashlib.sha256()
        count = 0
        for row in self.connection.execute(f"SELECT {key}, {listed} {self.rows_of}"):
            for column, kind, value in zip(self.columns, row[1::2], row[2::2], strict=True):
                if kind == b"blob" and value is None:
                    self._hash_pieces(digest, column, row[0])
                else:
                    _hash_value(digest, kind, value)
            count += 1
        return count, digest.hexdigest()

    def _typed(self, column: str) -> str:
        if self.key is None:
            return f"typeof({column}), {column}"
        return (
            f"typeof({column}), CASE WHEN typeof({column})='blob' AND length({column})>{LARGE} "
            f"THEN NULL ELSE {column} END"
        )

    def _hash_pieces(self, digest: _Hash, column: str, key: int) -> None:
        with self.connection.blobopen(self.name, column, key, readonly=True) as blob:
            digest.update(b"blob" + struct.pack(">Q", len(blob)))
            while piece := blob.read(PIECE):
                digest.update(piece)


def _hash_value(digest: _Hash, kind: bytes, value: Any) -> None:
    if kind == b"real":
        data = struct.pack(">d", value)
    elif kind == b"integer":
        data = struct.pack(">q", value)
    else:
        data = value or b""
    digest.update(kind + struct.pack(">Q", len(data)) + data)


def _row_key(connection: sqlite3.Connection, table: str, columns: set[str]) -> str | None:
    """A name of the row's number; None for a table without one, or whose columns hide it."""
    # For a table WITHOUT ROWID, and for no other, this pragma answers with its primary key.
    if connection.execute(f"PRAGMA index_info({_quoted(table)})").fetchone() is not None:
        return None
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), None)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    try:
        json.dump(describe(sys.argv[1], sys.argv[2]), sys.stdout)
    except sqlite3.Error as failure:
        json.dump({"failed": str(failure)}, sys.stdout)
