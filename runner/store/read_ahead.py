"""Small things read several at a time, where a target can do that: most of the time of reading
one is spent on waiting for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from runner.target import Target

Wanted = TypeVar("Wanted", bound=Hashable)
Read = TypeVar("Read")


def at_once(target: Target) -> int:
    """How many threads may read small objects of a target at the same time."""
    number: int = getattr(target, "reads_at_once", 1)
    return number


@contextlib.contextmanager
def reading_ahead(
    read: Callable[[Wanted], Read], wanted: Iterable[Wanted], threads: int
) -> Iterator[ReadAhead[Wanted, Read]]:
    """Reads what is wanted before it is asked for, in that order; with one thread, when it is."""
    ahead = ReadAhead(read, wanted, threads)
    try:
        yield ahead
    finally:
        ahead.end()


class ReadAhead(Generic[Wanted, Read]):
    """What was read, some of it already."""

    def __init__(
        self, read: Callable[[Wanted], Read], wanted: Iterable[Wanted], threads: int
    ) -> None:
        self._read = read
        self._wanted = iter(wanted)
        self._at_once = threads if threads > 1 else 0
        self._coming: dict[Wanted, Future[Read]] = {}
        self._tasks: SimpleQueue[tuple[Wanted, Future[Read]] | None] = SimpleQueue()
        self._fill()
        for _ in range(min(self._at_once, len(self._coming))):
            # Daemons, not a pool: a target that hangs must not keep the process from ending.
            threading.Thread(target=self._work, daemon=True).start()

    def read(self, one: Wanted) -> Read:
        """What was wanted. Raises what reading it raises."""
        coming = self._coming.pop(one, None)
        if coming is None:
            return self._read(one)
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
            one = next(self._wanted, None)
            if one is None:
                return
            coming = self._coming[one] = Future[Read]()
            self._tasks.put((one, coming))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            one, coming = task
            if not coming.set_running_or_notify_cancel():
                continue
            try:
                coming.set_result(self._read(one))
            except BaseException as error:  # noqa: BLE001 - whoever reads it gets it
                coming.set_exception(error)
