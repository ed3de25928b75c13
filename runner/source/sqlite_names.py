"""What SQLite calls things: the files beside a database, and a path as its URI."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

# Of the fingerprint: another way to hash a table is another form.
FORMAT = "sqlite-1"
SIDES = ("-wal", "-shm", "-journal")


def side(path: Path, suffix: str) -> Path:
    """The file that SQLite keeps beside a database under that suffix."""
    return path.with_name(path.name + suffix)


def uri(path: Path, options: str) -> str:
    """The SQLite URI of a path with any name: `#`, `?`, `%` and bytes that are no UTF-8."""
    return f"file:{quote(os.fsencode(path))}?{options}"


def unchanging(path: Path) -> str:
    """The URI of a file that no process writes to: no locks, and nothing made beside it."""
    return uri(path, "mode=ro&immutable=1")


def has_header(path: Path) -> bool:
    """Whether a file that no connection here has open begins as a SQLite database does."""
    return _head(path).startswith(b"SQLite format 3\0")


def has_wal_mode(path: Path) -> bool:
    """Whether the header of a database that no connection here has open says so."""
    return _head(path)[18:19] == b"\x02"


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(20)
