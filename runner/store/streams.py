"""Streams between threads: bounded pipes of bytes, and stages that end together."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from runner.errors import lacking

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

CAPACITY = 4 * 1024 * 1024
BLOCK = 1024 * 1024
HEAD_BYTES = 1024 * 1024

# Numbers of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 32 * 1024 * 1024  # the most that glibc lets this be
_MOST_KEPT = 64 * 1024 * 1024


class Abandoned(Exception):
    """Nobody reads any more: the writer should end."""


class Pipe:
    """Bytes from one thread to another, in order; `write` blocks while `CAPACITY` waits."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def write(self, data: bytes) -> None:
        """Hand on `data`. Raises Abandoned when the reading side was given up."""
        if not data:
            return
        with self._changed:
            while self._waiting >= CAPACITY and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Abandoned
            self._chunks.append(data)
            self._waiting += len(data)
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """End the stream; the reader gets `error`, if there is one, after what was written."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Give the stream up: both sides get Abandoned from now on."""
        with self._changed:
            self._abandoned = True
            self._chunks.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._chunks and not self._ended and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Abandoned
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                self._changed.notify_all()
                return chunk
            if self._error is not None:
                raise self._error
            raise StopIteration


class Hashed:
    """Chunks as they pass, counted and hashed."""

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        self.bytes = 0
        self._chunks = iter(chunks)
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The hash of what has passed, in hex."""
        return self._hash.hexdigest()

    def add(self, data: bytes) -> None:
        """Count and hash a chunk that passes elsewhere."""
        self._hash.update(data)
        self.bytes += len(data)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.add(chunk)
        return chunk


class Headed(Hashed):
    """Chunks as they pass, counted; no more than the first HEAD_BYTES are hashed."""

    def add(self, data: bytes) -> None:
        """Count a chunk that passes elsewhere, and hash what belongs to the head."""
        if self.bytes < HEAD_BYTES:
            self._hash.update(memoryview(data)[: HEAD_BYTES - self.bytes])
        self.bytes += len(data)


class Stages:
    """Threads that hand bytes on, each to the next. Leaving the block ends all of them.

    `error` is the first error that any of them raised: the cause of the others.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._pipes: list[Pipe] = []
        self._threads: list[threading.Thread] = []

    def run(self, work: Callable[[Pipe], None]) -> Pipe:
        """Start `work` in a thread with this one's context; return the pipe that it writes to."""
        pipe = Pipe()

        def body() -> None:
            try:
                work(pipe)
            except BaseException as error:  # noqa: BLE001 -- raised again where the pipe is read
                self.error = self.error or _error_not_end(error)
                pipe.close(self.error)
            else:
                pipe.close()

        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(body,), name="holdfast-stage", daemon=True
        )
        self._pipes.append(pipe)
        try:
            thread.start()
        except RuntimeError as error:
            raise lacking(error) or error from None
        self._threads.append(thread)
        return pipe

    def feed(self, take: Callable[[], object]) -> None:
        """Run what takes in the last stream. An error that a stage began is raised as it was."""
        try:
            take()
        except Exception as error:
            if self.error is not None and self.error is not error:
                raise self.error from self.error.__cause__
            raise

    def end(self) -> None:
        """Give up all pipes and wait until every thread has ended."""
        for pipe in self._pipes:
            pipe.abandon()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def _error_not_end(error: BaseException) -> BaseException:
    if not isinstance(error, StopIteration):
        return error
    # Raised where the pipe is read, it would pass for the stream's end, and cut it silently.
    hidden = RuntimeError("a stage raised StopIteration")
    hidden.__cause__ = error
    return hidden


def keep_freed_memory() -> None:
    """Have the memory of chunks used again, for as long as the process lasts.

    By itself glibc gives blocks of this size back to the system as they are freed, and gets them
    anew and emptied: a tenth of what it takes to read a stored file. See mallopt(3).
    """
    import ctypes

    with contextlib.suppress(AttributeError):  # other C libraries have no such thing
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
        mallopt(_M_ARENA_MAX, 1)


class ChunkReader(io.RawIOBase):
    """Chunks as a file to read. `error` is what the chunks raised, whoever hid it since."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill some of `buffer`; 0 at the end."""
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return 0
        except BaseException as error:
            self.error = error
            raise
        space = memoryview(buffer)
        count = min(len(space), len(self._rest))
        space[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class PipeWriter(io.RawIOBase):
    """A pipe as a file to write. `error` is what the pipe raised, whoever hid it since."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._pipe = pipe

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Hand on a copy of `data`: the buffer is used again."""
        copy = bytes(data)
        try:
            self._pipe.write(copy)
        except BaseException as error:
            self.error = error
            raise
        return len(copy)
