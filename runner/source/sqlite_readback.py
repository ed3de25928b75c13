"""Read a file again while it is being written, so that the proof of a restore takes no time more.

What is hashed is what the file holds, behind its writer, never what was handed to that.
"""

from __future__ import annotations

import hashlib
import os
import threading
from types import TracebackType

BLOCK = 1024 * 1024


class ReadBack:
    """The hash of a file's content so far. Tell it how far that is; use it in a `with`."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._descriptor = -1  # of its own, once there is something to read
        self._written = 0  # bytes that can be read
        self._ended = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="holdfast-readback", daemon=True)

    def __call__(self, descriptor: int, written: int) -> None:
        """So many bytes can be read from `descriptor` by now."""
        with self._changed:
            if self._descriptor < 0:
                self._descriptor = os.dup(descriptor)
                self._thread.start()
            self._written = written
            self._changed.notify()

    def sha256(self) -> str:
        """The hash of all of the file, in hex. Raises OSError when it could not be read."""
        self._end()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def __enter__(self) -> ReadBack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        position = 0
        try:
            while position < (end := self._reached(position)):
                count = os.preadv(self._descriptor, [buffer[: end - position]], position)
                if count == 0:
                    raise OSError("it is shorter than what was written")
                self._hash.update(buffer[:count])
                position += count
        except OSError as error:
            self._error = error

    def _reached(self, position: int) -> int:
        """Wait until there is more than `position`, or the end."""
        with self._changed:
            while self._written == position and not self._ended:
                self._changed.wait()
            return self._written
