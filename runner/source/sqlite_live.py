"""The live SQLite database: copied under writers, brought to rest, written to under an app.

POSIX locks belong to a process and an inode: closing *any* descriptor of a file drops every lock
that the process holds on it, SQLite's too. So whoever opens the live file here, even for four
bytes of its header, does it alone, in `alone_with`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import StepFailed
from runner.source.sqlite_names import has_header, has_wal_mode, side, unchanging, uri

if TYPE_CHECKING:
    import sqlite3

PAGES = 1000  # copied at once; between two of these a copy can be ended
PATIENCE = 30.0  # seconds that another's lock is waited for
SPARE = 16 * 1024 * 1024  # bytes left free beside a copy
SETTLED = 50_000_000  # ns; a WAL written to since then may change again within the same time stamp

_guards: dict[str, threading.RLock] = {}
_guards_lock = threading.Lock()


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep every other thread of this process away from the database's file."""
    with _guards_lock:
        guard = _guards.setdefault(os.path.realpath(path), threading.RLock())
    with guard:
        yield


def copy_live(live: Path, copy: Path) -> datetime:
    """Copy the live database, under any writers, into the new file `copy`; return its instant.

    One read transaction is held from the first page to the last: a writer can neither change
    what is copied nor make the copy start again. Raises StepFailed when there is nothing to
    copy, or no room for it.
    """
    must_be_file(live)
    with alone_with(live), explained(live):
        without_locks = _cannot_lock(live)
        before = _standing(live)
        connection = _open_to_read(live, without_locks)
        try:
            # Before, not after: what was committed by then is in the copy.
            taken_at = datetime.now(UTC)
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            _check_room(connection, copy.parent)
            _copy_pages(connection, copy)
        finally:
            connection.close()
        if without_locks and _standing(live) != before:
            raise StepFailed(
                f"{live} changed while it was copied without locks.",
                remedy="Let this user write to its folder: SQLite keeps its locks there.",
            )
    return taken_at


def must_be_file(live: Path) -> None:
    """Raise StepFailed, in words that fit, unless there is a file to read."""
    if live.is_dir():
        raise StepFailed(f"{live} is a folder, not a SQLite database.", remedy="Name the file.")
    if not live.exists():
        raise StepFailed(f"{live} is missing.", remedy="Check `path`, and that its disk is there.")
    if not os.access(live, os.R_OK):
        raise StepFailed(f"{live} may not be read.", remedy="Run as a user who may read it.")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into words about `path`."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            message = f"{path} is no SQLite database, or it is encrypted"
            remedy = "Check `path`; an encrypted database is captured as a file, its app stopped."
        elif code == sqlite3.SQLITE_CORRUPT:
            message = f"{path} is malformed"
            remedy = "Restore it from a snapshot, or save what can be read: sqlite3 … .recover"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            message = f"{path} stayed locked for {PATIENCE:g} s"
            remedy = "See who holds it (fuser), and try again."
        elif code == sqlite3.SQLITE_FULL:
            message = f"There is no room left while {path} is copied"
            remedy = "Free some room on the disk of the state folder."
        else:
            message = f"{path} cannot be used"
            remedy = "Check the permissions of the file and of its folder."
        raise StepFailed(f"{message}: {error}.", remedy=remedy) from error


def changed_mark(live: Path) -> str | None:
    """A value that differs whenever the content may have changed; None when nobody can tell."""
    wal = side(live, "-wal")
    try:
        with alone_with(live), live.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            counter = os.pread(file.fileno(), 4, 24).hex()
        mark = [status.st_ino, status.st_size, status.st_mtime_ns, counter]
        with contextlib.suppress(FileNotFoundError), wal.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_size and time.time_ns() - status.st_mtime_ns < SETTLED:
                return None
            if status.st_size:
                mark += [status.st_size, status.st_mtime_ns, file.read(32).hex()]
    except OSError:
        return None
    return "-".join(str(one) for one in mark)


def must_open(live: Path) -> None:
    """Raise StepFailed unless the live database opens and its schema can be read."""
    must_be_file(live)
    with alone_with(live), explained(live):
        connection = _open_to_read(live, _cannot_lock(live))
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()


def settle(live: Path) -> None:
    """Bring a database that nobody uses to rest: all in one file, as its own app would.

    What a crash left behind is rolled back, or taken over from the WAL. What is no database any
    more stays as it is, with its WAL: SQLite would remove that as meaningless.
    """
    import sqlite3

    with alone_with(live), contextlib.suppress(sqlite3.DatabaseError):
        if not has_header(live):
            return
        connection = sqlite3.connect(uri(live, "mode=rw"), uri=True, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()


def write_live(origin: Path, live: Path) -> None:
    """Replace the content of a running app's database by that of the closed file `origin`.

    One transaction: the app sees all of it or, if this is killed, nothing. Raises StepFailed.
    """
    import sqlite3

    with alone_with(live), explained(live):
        source = sqlite3.connect(unchanging(origin), uri=True)
        target = sqlite3.connect(uri(live, "mode=rw"), uri=True, timeout=PATIENCE)
        try:
            sizes = [one.execute("PRAGMA page_size").fetchone()[0] for one in (source, target)]
            if sizes[0] != sizes[1]:
                raise StepFailed(
                    f"{live} has pages of {sizes[1]} bytes, the snapshot of {sizes[0]}: "
                    "a running database cannot take them.",
                    remedy="Stop the app, and restore without --live.",
                )
            # In one step: a restart after another's write would begin from the first page.
            source.backup(target, pages=-1, progress=_impatient(live))
        finally:
            target.close()
            source.close()


def _open_to_read(live: Path, without_locks: bool) -> sqlite3.Connection:
    import sqlite3

    # Where there is no WAL, a connection that may write removes the -wal and -shm that it makes;
    # one that may only read would leave them. Where there is one, a connection that may write
    # would move a dead app's WAL into the database: that is left to the app. A rollback journal
    # left by a crash must be played back before anybody can read.
    mode = "ro" if side(live, "-wal").exists() else "rw"
    address = unchanging(live) if without_locks else uri(live, f"mode={mode}")
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=PATIENCE)


def _cannot_lock(live: Path) -> bool:
    """Whether nobody uses a database in WAL mode, and this user cannot make its lock file."""
    if os.access(live.parent, os.W_OK) or side(live, "-wal").exists():
        return False
    return has_wal_mode(live)


def _standing(live: Path) -> tuple[int, int, int, bool]:
    status = live.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, side(live, "-wal").exists())


def _check_room(connection: sqlite3.Connection, folder: Path) -> None:
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0]
                   for name in ("page_count", "page_size"))  # fmt: skip
    free = shutil.disk_usage(folder).free
    if free < pages * size + SPARE:
        raise StepFailed(
            f"The copy needs {pages * size:,} bytes in {folder}, where {free:,} are free.",
            remedy="Free some room there, or point `state` to a larger disk.",
        )


def _copy_pages(source: sqlite3.Connection, copy: Path) -> None:
    import sqlite3

    target = sqlite3.connect(uri(copy, "mode=rwc"), uri=True, isolation_level=None)
    try:
        # Nobody needs the copy after a crash.
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        source.backup(target, pages=PAGES)
    finally:
        target.close()


def _impatient(live: Path) -> Callable[[int, int, int], None]:
    """A progress handler that gives up when a lock is not had for `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE

    def progress(status: int, remaining: int, _total: int) -> None:
        if remaining and status and time.monotonic() > deadline:
            raise StepFailed(
                f"{live} stayed locked for {PATIENCE:g} s.",
                remedy="See who holds it (fuser), or stop the app and restore without --live.",
            )

    return progress
