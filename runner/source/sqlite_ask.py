"""SQL asked of a SQLite database, which is opened so that nothing can change it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runner.errors import StepFailed
from runner.source import Refused

if TYPE_CHECKING:
    import sqlite3

LOCK_SECONDS = 5.0
STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's virtual machine, between two looks at the clock

# In the file's header: how it is written and read; 2 means a write-ahead log.
_JOURNAL_BYTES = slice(18, 20)

# What a wrong or incomplete content answers. Other errors say something of the question, of this
# SQLite or of the moment: a collation that only the application knows, a lock.
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_ABSENT = ("no such table", "no such column")


def ask(path: Path, query: str, timeout: float) -> Any:
    """The first column of the first row; None without one.

    Raises Refused when the content says no, StepFailed when it could not be asked.
    """
    import sqlite3

    if not path.is_file():
        raise Refused("the database file does not exist")
    try:
        connection = _open(path, min(LOCK_SECONDS, timeout))
        try:
            _guard(connection, timeout)
            row = connection.execute(query).fetchone()
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError, OSError) as error:
        raise (Refused if _says_no(error) else StepFailed)(str(error)) from error
    return None if row is None else row[0]


def _open(path: Path, timeout: float) -> sqlite3.Connection:
    import sqlite3

    path = Path(os.path.realpath(path))  # the log stands beside the file, not beside a link to it
    # Without its log nobody has it open; a plain reader would create the log and leave it there.
    unused = _has_log_mode(path) and not path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if unused else "mode=ro"
    return sqlite3.connect(
        f"file:{quote(bytes(path))}?{mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
    )


def _has_log_mode(path: Path) -> bool:
    with path.open("rb") as file:
        return 2 in file.read(20)[_JOURNAL_BYTES]


def _guard(connection: sqlite3.Connection, timeout: float) -> None:
    """Allow reading of this one database alone, and no longer than `timeout` seconds."""
    import sqlite3

    # Also what VACUUM INTO is made of. Virtual tables need the other permissions merely to open.
    def authorize(action: int, *_what: Any) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK

    connection.execute("PRAGMA query_only=ON")
    deadline = time.monotonic() + timeout
    connection.set_authorizer(authorize)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)


def _says_no(error: Exception) -> bool:
    if getattr(error, "sqlite_errorname", "") in _DAMAGED:
        return True
    return any(words in str(error) for words in _ABSENT)
