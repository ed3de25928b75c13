"""Small tar streams: written to a sink, read from chunks, never held as a whole."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator

from runner.errors import StepFailed
from runner.store.seal import Sink

BUFFER = 1 << 18


@contextlib.contextmanager
def writing(sink: Sink) -> Iterator[tarfile.TarFile]:
    """A tar that streams to `sink`. Names are kept byte for byte, times to the second."""
    with tarfile.open(
        fileobj=_SinkFile(sink), mode="w|", bufsize=BUFFER, format=tarfile.GNU_FORMAT,
        encoding="utf-8", errors="surrogateescape",
    ) as archive:  # fmt: skip
        yield archive


@contextlib.contextmanager
def reading(chunks: Iterator[bytes], name: str) -> Iterator[tarfile.TarFile]:
    """The tar in `chunks`, which are read to their end, so that the store can judge them.

    Raises StepFailed, naming the artifact `name`, when it is damaged.
    """
    stream = _ChunkFile(chunks)
    try:
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=BUFFER, encoding="utf-8", errors="surrogateescape"
        ) as archive:
            yield archive
    except tarfile.TarError as error:
        stream.drain()
        raise StepFailed(f"The artifact `{name}` is damaged: {error}.") from error
    stream.drain()


class _SinkFile(io.RawIOBase):
    """A sink as tarfile wants it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        return self._sink.write(data)


class _ChunkFile(io.RawIOBase):
    """Chunks as a file that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""

    def read(self, size: int = -1, /) -> bytes:
        """`size` bytes, or fewer at the end alone; all that is left when it is negative."""
        pieces, have = [self._buffer], len(self._buffer)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            pieces.append(chunk)
            have += len(chunk)
        joined = b"".join(pieces)
        cut = have if size < 0 else size
        self._buffer = joined[cut:]
        return joined[:cut]

    def drain(self) -> None:
        for _ in self._chunks:
            pass
