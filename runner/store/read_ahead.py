"""Small objects read several at a time, where a target can do that: most of the time of reading
one is spent on waiting for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue

from runner.target import Entry, Target


@contextlib.contextmanager
def reading_ahead(target: Target, wanted: Iterable[Entry]) -> Iterator[ReadAhead]:
    """Reads the wanted objects before they are asked for, in the order in which they are wanted."""
    ahead = ReadAhead(target, wanted, getattr(target, "reads_at_once", 1))
    try:
        yield ahead
    finally:
        ahead.end()


class ReadAhead:
    """The bytes of objects, some of them read already."""

    def __init__(self, target: Target, wanted: Iterable[Entry], at_once: int) -> None:
        self._target = target
        self._wanted = iter(wanted)
        self._at_once = at_once if at_once > 1 else 0
        self._coming: dict[str, Future[bytes]] = {}
        self._tasks: SimpleQueue[tuple[Entry, Future[bytes]] | None] = SimpleQueue()
        for _ in range(self._at_once):
            # Daemons, not a pool: a target that hangs must not keep the process from ending.
            threading.Thread(target=self._work, daemon=True).start()
        self._fill()

    def read(self, entry: Entry) -> bytes:
        """The object. Raises what the target raises when it is read."""
        coming = self._coming.pop(entry.key, None)
        if coming is None:
            return self._get(entry)
        self._fill()
        return coming.result()

    def end(self) -> None:
        """Read nothing more."""
        for coming in self._coming.values():
            coming.cancel()
        for _ in range(self._at_once):
            self._tasks.put(None)

    def _fill(self) -> None:
        while len(self._coming) < 2 * self._at_once:
            entry = next(self._wanted, None)
            if entry is None:
                return
            coming = self._coming[entry.key] = Future[bytes]()
            self._tasks.put((entry, coming))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            entry, coming = task
            if not coming.set_running_or_notify_cancel():
                continue
            try:
                coming.set_result(self._get(entry))
            except BaseException as error:  # noqa: BLE001 - whoever reads it gets it
                coming.set_exception(error)

    def _get(self, entry: Entry) -> bytes:
        return b"".join(self._target.get(entry.key))
