"""A limit on how many bytes a second go to a target and come from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from runner.errors import UsageError
from runner.target import Entry, Target

# A chunk is handed on in slices that take about this long each, so that no burst fills the line.
SLICE_SECONDS = 0.1


def paced(target: Target, bandwidth: int) -> Target:
    """The same target, which takes and gives at most `bandwidth` bytes a second in each direction,
    however many files are on their way. Raises UsageError for a limit that lets nothing through.
    """
    if bandwidth < 1:
        raise UsageError(
            f"Target {target.name}: a `bandwidth` of nothing lets nothing through.",
            remedy="Declare how much may pass in a second: `bandwidth: 10MiB`.",
        )
    return cast("Target", _Paced(target, bandwidth))


class _Paced:
    def __init__(self, target: Target, bandwidth: int) -> None:
        self._target = target
        self._up = Pace(bandwidth)
        self._down = Pace(bandwidth)

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,
    ) -> int:
        """Store `chunks`, as the target does."""
        slowed = self._up.slowed(chunks)
        return self._target.put(key, slowed, exclusive=exclusive, expected_bytes=expected_bytes)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes, as the target has them; a missing one raises at the call."""
        return self._down.slowed(self._target.get(key, offset=offset, length=length))

    def fetch(self, key: str, most: int) -> tuple[Entry, bytes]:
        """A small object as a listing shows it, and its bytes, where the target has that."""
        entry, data = cast("Any", self._target).fetch(key, most)
        return entry, b"".join(self._down.slowed([data]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Pace:
    """One direction: all that goes that way waits its turn."""

    def __init__(self, bandwidth: int) -> None:
        self._bandwidth = bandwidth  # bytes a second
        self._slice = max(1, int(bandwidth * SLICE_SECONDS))
        self._free_at = 0.0  # when all that was let through has had its time; monotonic
        self._taking = threading.Lock()

    def slowed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same bytes, no faster than the bandwidth."""
        for chunk in chunks:
            for start in range(0, len(chunk), self._slice):
                piece = chunk[start : start + self._slice]
                time.sleep(max(0.0, self._turn(len(piece)) - time.monotonic()))
                yield piece

    def _turn(self, size: int) -> float:
        """When so many bytes may go on. What was not used while nothing went is lost."""
        with self._taking:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + size / self._bandwidth
            return start
