"""The seconds that a server waits for more replicas before it begins to send: 0 until it has begun.

What the setting was is noted in a file first. So whoever comes next puts it back where this
process was killed in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.source.redis_address import Address
from runner.source.redis_connect import RawConnection, Rejected, connect

DELAY = "repl-diskless-sync-delay"


@contextlib.contextmanager
def without_delay(address: Address, note: Path | None = None) -> Iterator[int | None]:
    """Let the server not wait while the block lasts.

    Yields the seconds that it would wait, None where that may not be asked or set.
    """
    try:
        settings = connect(address)
    except Rejected:
        yield None
        return
    with settings:
        delay = _noted(note) or _asked(settings)
        if not delay:
            yield delay
            return
        try:
            if note is not None:
                make_folder(note.parent)
                write_bytes(note, b"%d" % delay)
            settings.call("CONFIG", "SET", DELAY, 0)
        except (Rejected, OSError):  # better slowly than with a setting that nobody puts back
            _forget(note)
            yield None
            return
        try:
            yield delay
        finally:
            settings.call("CONFIG", "SET", DELAY, delay)
            _forget(note)


def put_back(address: Address, note: Path) -> None:
    """Put back what a killed process left, if it noted anything."""
    if delay := _noted(note):
        with connect(address) as settings:
            settings.call("CONFIG", "SET", DELAY, delay)
        _forget(note)


def _asked(settings: RawConnection) -> int | None:
    try:
        found = settings.call("CONFIG", "GET", DELAY)
    except Rejected:
        return None
    return int(found[1]) if found else 0


def _noted(note: Path | None) -> int | None:
    try:
        return int(note.read_text()) if note is not None else None
    except (FileNotFoundError, ValueError):
        return None


def _forget(note: Path | None) -> None:
    if note is not None:
        note.unlink(missing_ok=True)
