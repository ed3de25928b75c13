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
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import StepFailed
from runner.source.sqlite_names import SIDES, has_header, has_wal_mode, side, unchanging, uri

if TYPE_CHECKING:
    import sqlite3

BLOCK = 128 * 1024  # copied at once: more would not stay in the processor's own cache
PATIENCE = 30.0  # seconds that another's lock is waited for
WAL_HEADER = 32  # bytes; its salts are others whenever the WAL begins anew
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
    """Copy the live database, under any writers, into the file `copy`; return its instant.

    One read transaction is held from the first byte to the last. Without a WAL nobody writes to
    the file meanwhile. With one, only pages are written over that the WAL holds: file and WAL,
    copied one after the other, make a whole commit, the one that the transaction sees or a later
    one. Raises StepFailed when there is nothing to copy, or no room for it.
    """
    must_be_file(live)
    for suffix in ("", *SIDES):  # what a killed copy left
        side(copy, suffix).unlink(missing_ok=True)
    # Closed last: its end drops the locks of the connection.
    with alone_with(live), explained(live), live.open("rb", buffering=0) as file:
        without_locks = _cannot_lock(live)
        before = _standing(live)
        connection = _open_to_read(live, without_locks)
        try:
            # Before, not after: what was committed by then is in the copy.
            taken_at = datetime.now(UTC)
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not os.path.samestat(os.fstat(file.fileno()), live.stat()):
                raise StepFailed(f"{live} was replaced while it was opened.", remedy="Try again.")
            _copy_files(live, file, copy)
        finally:
            connection.close()
        if without_locks and _standing(live) != before:
            raise StepFailed(
                f"{live} changed while it was copied without locks.",
                remedy="Let this user write to its folder: SQLite keeps its locks there.",
            )
    _take_in_wal(copy)
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
        content = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
        local = code not in content
        raise StepFailed(f"{message}: {error}.", remedy=remedy, local=local) from error


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
                mark += [status.st_size, status.st_mtime_ns, file.read(WAL_HEADER).hex()]
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


def _copy_files(live: Path, file: FileIO, copy: Path) -> None:
    """Copy the open database and then its WAL, if there is one."""
    with contextlib.ExitStack() as stack:
        files: list[tuple[FileIO, Path, Callable[[FileIO, FileIO], None]]] = [(file, copy, _copy)]
        with contextlib.suppress(FileNotFoundError):
            wal = stack.enter_context(side(live, "-wal").open("rb", buffering=0))
            files.append((wal, side(copy, "-wal"), _copy_wal))
        sizes = sum(os.fstat(one.fileno()).st_size for one, *_ in files)
        needed = sizes + SPARE
        free = shutil.disk_usage(copy.parent).free
        if free < needed:
            raise StepFailed(
                f"The copy needs {needed:,} bytes in {copy.parent}, where {free:,} are free.",
                remedy="Free some room there, or point `state` to a larger disk.",
                local=True,
            )
        try:
            for one, new, copy_all in files:
                with new.open("wb", buffering=0) as output:
                    copy_all(one, output)
        except OSError as error:
            raise StepFailed(
                f"{live} cannot be copied to {copy.parent}: {error.strerror}.",
                remedy="Free some room there, and look for errors of both disks.",
            ) from error


def _copy(origin: FileIO, output: FileIO) -> None:
    block = memoryview(bytearray(BLOCK))
    while count := origin.readinto(block):
        rest = block[:count]
        while rest:
            rest = rest[output.write(rest) :]


def _copy_wal(wal: FileIO, output: FileIO) -> None:
    """Copy the WAL of a held read transaction, as one that was written from its header on.

    One that is in the database whole may begin anew under a reader, once: nothing more goes into
    the database while that reads. A mixture of both would end with old pages.
    """
    begun = None
    while (header := os.pread(wal.fileno(), WAL_HEADER, 0)) != begun:
        begun = header
        wal.seek(0)
        output.seek(0)
        output.truncate()
        _copy(wal, output)


def _take_in_wal(copy: Path) -> None:
    """Make a closed database one file."""
    import sqlite3

    if not side(copy, "-wal").exists():
        return
    with explained(copy):
        connection = sqlite3.connect(uri(copy, "mode=rw"), uri=True, isolation_level=None)
        try:
            # Nobody needs the copy after a crash, and nobody else has it open.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()


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
