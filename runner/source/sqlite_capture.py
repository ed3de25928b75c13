"""The capture of a SQLite database: copied once, then stored and described at the same time.

What is described is the copy, so the fingerprint is of the very instant that is stored.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import hashlib
import json
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.process import reading
from runner.source import Capture, Captured, Fingerprint
from runner.source.sqlite_live import copy_live, explained
from runner.source.sqlite_names import FORMAT, has_wal_mode, unchanging
from runner.store.seal import Sink

BLOCK = 1024 * 1024
SMALL = 32 * 1024 * 1024  # bytes; below, a process of its own costs more than it saves
HASHED = 64 * 1024 * 1024  # bytes; beyond, `auto` counts rows: hashing each would double the time


def capture_database(live: Path, level: str, capture: Capture) -> Captured:
    """Store one instant of the database, and its schema.

    Raises StepFailed when there is nothing to read, or when it is malformed.
    """
    import sqlite3

    copy = capture.scratch / "copy.db"
    taken_at = copy_live(live, copy)
    if level == "auto":
        level = "content" if copy.stat().st_size <= HASHED else "counts"
    with explained(live), described_beside(copy, level) as described:

        def produce(sink: Sink) -> None:
            _send(copy, sink)
            _must_be_sound(live, described()["check"])

        sealed = capture.store("sqlite", produce)
        capture.store("sql", lambda sink: _send_schema(copy, sink), part="schema")
    file = {"bytes": sealed.content_bytes, "sha256": sealed.content_sha256}
    found = described()
    copy.unlink()
    return Captured(
        taken_at,
        {**found, "file": file, "stood": _standing(live)},
        versions={"sqlite": sqlite3.sqlite_version},
        notes=(*_other_names(live), *_notes(found)),
    )


def fingerprint_of(path: Path, level: str, known: Fingerprint) -> dict[str, Any]:
    """The fingerprint of a closed file. The same bytes have the content that is `known` of them."""
    file = {"bytes": path.stat().st_size, "sha256": _hash_of(path)}
    if file == known["file"]:
        return dict(known)
    with explained(path), described_beside(path, level) as described:
        return {**described(), "file": file}


@contextlib.contextmanager
def described_beside(copy: Path, level: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Begin to describe a closed file; what is called later waits for it.

    A large one is described by another process: Python would hold its lock row after row, and
    the compression would wait.
    """
    from runner.source import sqlite_content

    wal = has_wal_mode(copy)
    if copy.stat().st_size < SMALL:
        found = _complete(sqlite_content.describe(unchanging(copy), level), wal)
        yield lambda: found
        return
    program = [sys.executable, "-I", sqlite_content.__file__, unchanging(copy), level]
    with reading(program) as output:
        yield functools.cache(lambda: _complete(_parsed(output.read()), wal))


def _complete(found: dict[str, Any], wal: bool) -> dict[str, Any]:
    settings = {**found.get("settings", {}), "journal_mode": "wal" if wal else "rollback"}
    return {"format": FORMAT, **found, "settings": settings}


def _parsed(answer: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer or b'{"failed": "it was ended"}')
    if "failed" in found:
        raise StepFailed(f"The content of the database could not be read: {found['failed']}.")
    return found


def _must_be_sound(live: Path, check: dict[str, Any]) -> None:
    if check["verdict"] == "malformed":
        raise StepFailed(
            f"{live} is malformed: {'; '.join(check['words'][:3])}.",
            remedy="Restore it from a snapshot, or save what can be read: sqlite3 … .recover",
        )


def _send(copy: Path, sink: Sink) -> None:
    with copy.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sink.write(block)


def _send_schema(copy: Path, sink: Sink) -> None:
    from runner.source import sqlite_content

    with contextlib.closing(sqlite_content.open_copy(unchanging(copy))) as connection:
        for statement in sqlite_content.schema_text(connection):
            sink.write(statement.encode(errors="surrogateescape"))


def _hash_of(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _standing(live: Path) -> dict[str, Any]:
    """Whose the file was, for a host where it no longer stands."""
    status = live.stat()
    found: dict[str, Any] = {"mode": status.st_mode & 0o7777}
    with contextlib.suppress(KeyError):
        found["owner"] = pwd.getpwuid(status.st_uid).pw_name
        found["group"] = grp.getgrgid(status.st_gid).gr_name
    return found


def _other_names(live: Path) -> Iterator[str]:
    names = live.stat().st_nlink
    if names > 1:
        yield (
            f"the file has {names} names (hard links): what an app has committed to the WAL of "
            "another one is not in it, and a restore replaces this one alone"
        )


def _notes(found: dict[str, Any]) -> Iterator[str]:
    from runner.source.sqlite_content import ASTRAY

    words = found["check"]["words"]
    astray = dict.fromkeys(match[1] for one in words if (match := ASTRAY.match(one)))
    yield from [one for one in words if not ASTRAY.match(one)][:5]
    for name in list(astray)[:5]:
        yield (
            f"index {name} does not agree with its table, so that what is asked by it is answered "
            "wrongly, here and after a restore: the rows are in the snapshot; REINDEX it here"
        )
    tables = found.get("tables")
    if tables is not None and not any(one.get("rows", 1) for one in tables.values()):
        yield "it holds no row at all"
    for name, table in (tables or {}).items():
        if "unchecked" in table:
            yield f"table {name} could not be read here: {table['unchecked']}"
