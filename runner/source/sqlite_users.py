"""Who uses a live SQLite database: by the locks on it, and by the files that are open.

An idle app holds no lock in rollback-journal mode, and one in another container is not seen in
/proc: only both together tell. Neither changes a byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from runner.source.sqlite_live import alone_with
from runner.source.sqlite_names import SIDES, side

# The bytes that SQLite locks, in the database and in its -shm file.
_LOCKS = (("", 0x40000000, 512), ("-shm", 120, 9))
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, process
_PROCESSES = Path("/proc")


def users(live: Path) -> list[str]:
    """The processes that have the database open or locked: `4711 (bot)`."""
    found = set(_openers(live)) | set(_lockers(live))
    return [_named(number) for number in sorted(found - {os.getpid()})]


def _openers(live: Path) -> Iterator[int]:
    """Processes with an open descriptor of the database or of a file beside it."""
    files = set()
    for suffix in ("", *SIDES):
        with contextlib.suppress(OSError):
            status = side(live, suffix).stat()
            files.add((status.st_dev, status.st_ino))
    for process in _PROCESSES.iterdir():
        if process.name.isdigit() and _has_open(process, files):
            yield int(process.name)


def _has_open(process: Path, files: set[tuple[int, int]]) -> bool:
    # Gone, or another user's: whoever may not look learns it from the locks alone.
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                status = descriptor.stat()
                if (status.st_dev, status.st_ino) in files:
                    return True
    return False


def _lockers(live: Path) -> Iterator[int]:
    """Processes that hold one of SQLite's locks; 0 for one of another process namespace."""
    with alone_with(live):
        for suffix, start, length in _LOCKS:
            with contextlib.suppress(OSError), side(live, suffix).open("rb", buffering=0) as file:
                wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
                answer = fcntl.fcntl(file.fileno(), fcntl.F_GETLK, wanted)
                kind, _, _, _, holder = struct.unpack(_FLOCK, answer)
                if kind != fcntl.F_UNLCK:
                    yield max(0, holder)


def _named(number: int) -> str:
    if number == 0:
        return "a process that cannot be seen from here"
    with contextlib.suppress(OSError):
        return f"{number} ({(_PROCESSES / str(number) / 'comm').read_text().strip()})"
    return str(number)
