"""Seal: compress, encrypt and hash a stream on its way to a target, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Protocol

from runner.errors import PersonNeeded
from runner.store import age, compression
from runner.store.age import NoIdentity, keygen, parse_identities
from runner.store.compression import Undecodable
from runner.store.stored import Damaged, Stored, check_stored
from runner.store.streams import BLOCK, HEAD_BYTES, Hashed, Headed, Pipe, Stages, keep_freed_memory
from runner.target import Target

__all__ = [
    "Damaged",
    "Seal",
    "Sealed",
    "Sink",
    "check_stored",
    "compression_of",
    "decode_command",
    "head_of",
    "keygen",
    "parse_identities",
    "unseal",
]

# What is no larger is read whole and checked before it is opened, without any thread.
SMALL = BLOCK

# What is written at once and no smaller is handed on without another copy.
LARGE = BLOCK // 8

_PROGRAMS = {".zst": "zstd -dc", ".gz": "gzip -dc"}


class Sink(Protocol):
    """Where a producer writes. A raised error in the producer leaves nothing at the target."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of `data`; block while the target is slower than the producer."""


@dataclass(frozen=True)
class Sealed:
    """What was stored, and what its content was."""

    key: str  # the file's name in the snapshot's folder
    bytes: int  # as stored
    sha256: str  # of what is stored, hex
    content_bytes: int
    content_sha256: str  # of the content before compression, hex
    head_sha256: str | None = None  # of the first HEAD_BYTES; None: not encrypted, or no larger


@dataclass(frozen=True)
class Seal:
    """How artifacts of a snapshot are written."""

    compression: str  # zstd | gzip | none, with `:level` if one was given
    recipients: tuple[str, ...] = ()  # age or ssh public keys; empty: not encrypted

    @property
    def suffix(self) -> str:
        """What is appended to a file's name: `.zst.age`, `.gz`, nothing."""
        method, _ = compression.parse(self.compression)
        return compression.SUFFIXES[method] + (age.SUFFIX if self.recipients else "")

    def write(
        self,
        target: Target,
        folder: str,
        name: str,
        produce: Callable[[Sink], object],
        *,
        progress: Callable[[int], None] | None = None,
        expected_bytes: int = 0,
    ) -> Sealed:
        """Run `produce` in a thread and store what it writes as `<folder>/<name><suffix>`.

        `progress` is called in that thread with the bytes of content that were taken since it
        was last called. `expected_bytes` is for the target's `put`. Whatever fails, nothing is left
        at the target, no thread goes on, and the error that began it is raised.
        """
        key = f"{name}{self.suffix}"
        encoder = compression.encoder(self.compression)
        with Stages() as stages:
            produced = stages.run(lambda pipe: _Intake(pipe, progress).take(produce))
            content = Hashed(produced)
            compressed = stages.run(lambda pipe: _compress(content, encoder, pipe))
            stored = Hashed(self._encrypted(compressed, stages))
            path = f"{folder}/{key}"
            headed = Headed(stored)
            stages.feed(lambda: target.put(path, headed, expected_bytes=expected_bytes))
        head = head_of(key, headed)
        return Sealed(key, stored.bytes, stored.sha256, content.bytes, content.sha256, head)

    def _encrypted(self, compressed: Pipe, stages: Stages) -> Iterator[bytes]:
        if not self.recipients:
            yield from compressed
            return
        first = next(compressed, b"")
        second = next(compressed, None)
        if second is None:
            yield age.encrypt_bytes(first, self.recipients)
            return
        chunks = chain([first, second], compressed)
        yield from stages.run(lambda pipe: age.encrypt(chunks, pipe, self.recipients))


def head_of(key: str, stored: Headed) -> str | None:
    """What an artifact's entry says of its head, when all of it has passed; None where it is not
    encrypted, or no larger.
    """
    return stored.sha256 if key.endswith(age.SUFFIX) and stored.bytes > HEAD_BYTES else None


def unseal(
    target: Target,
    path: str,
    *,
    sha256: str,
    size: int,
    identities: Sequence[str],
    head_sha256: str | None = None,
) -> Iterator[bytes]:
    """The content of the stored file `path`: hash checked, decrypted, decompressed, in chunks.

    What must be undone is told by the name's suffixes. `identities` are the texts of age
    identity files or ssh private keys. Raises StepFailed at the end, at the latest, when what is
    stored is not `size` bytes with that sha256; PersonNeeded when no identity opens it.

    With the hash of an encrypted file's head no more of it is hashed: the head names the key that
    this one file was encrypted with, and age authenticates with it each piece that follows.
    """
    keys, suffix = _opening(target, path, identities)
    head = None if keys is None else head_sha256
    stored = Stored(target, path, sha256, size, head_sha256=head)
    try:
        with Stages() as stages:
            if size <= SMALL:
                yield from filter(None, compression.decoded(suffix, _opened_whole(stored, keys)))
            else:
                keep_freed_memory()
                yield from _decoded(_opened(stored, keys, stages), suffix, stages)
        stored.finish()
    except Undecodable as error:
        raise stored.damaged(str(error)) from error
    except NoIdentity as error:
        raise stored.unopened() from error
    finally:
        stored.close()


def decode_command(key: str, path: str) -> str:
    """The shell pipeline that prints the content of the stored file `path` (already quoted).

    An encrypted file is opened with the identity file that `$AGE_IDENTITY` names.
    """
    suffix, encrypted = _layers(key)
    program = _PROGRAMS.get(suffix)
    if encrypted:
        opened = f'age -d -i "$AGE_IDENTITY" -- {path}'
        return f"{opened} | {program}" if program else opened
    return f"{program or 'cat'} -- {path}"


def compression_of(key: str) -> str:
    """How a stored file was compressed, told by its name, as a Seal is told."""
    suffix, _ = _layers(key)
    return next(name for name, one in compression.SUFFIXES.items() if one == suffix)


def _layers(key: str) -> tuple[str, bool]:
    """The compression's suffix, and whether there is encryption around it."""
    encrypted = key.endswith(age.SUFFIX)
    suffix = PurePosixPath(key.removesuffix(age.SUFFIX)).suffix
    return suffix if suffix in _PROGRAMS else "", encrypted


def _opening(
    target: Target, path: str, identities: Sequence[str]
) -> tuple[tuple[str, ...] | None, str]:
    """The identities to decrypt with, None for a plain file; and the compression's suffix."""
    suffix, encrypted = _layers(path)
    if not encrypted:
        return None, suffix
    if not identities:
        raise PersonNeeded(
            f"{path} at {target.name} is encrypted, and no identity is given.",
            remedy="Give the file of one with --identity, or declare encryption.identity.",
        )
    return tuple(one for text in identities for one in parse_identities(text)), suffix


def _opened_whole(stored: Stored, keys: tuple[str, ...] | None) -> Iterator[bytes]:
    data = b"".join(stored)
    stored.finish()
    yield data if keys is None else age.decrypt_bytes(data, keys)


def _opened(stored: Stored, keys: tuple[str, ...] | None, stages: Stages) -> Iterator[bytes]:
    def read(pipe: Pipe) -> None:
        for chunk in stored:
            pipe.write(chunk)

    def decrypt(pipe: Pipe) -> None:
        age.decrypt(stored, pipe, keys or ())

    return stages.run(read if keys is None else decrypt)


def _decoded(opened: Iterator[bytes], suffix: str, stages: Stages) -> Iterator[bytes]:
    """The content; decompressed in a thread of its own, so that who reads it is not held up."""
    if not suffix:
        return opened

    def decompress(pipe: Pipe) -> None:
        for chunk in filter(None, compression.decoded(suffix, opened)):
            pipe.write(chunk)

    return stages.run(decompress)


def _compress(content: Iterator[bytes], encoder: compression.Encoder, pipe: Pipe) -> None:
    """Compress in a thread of its own: hashing all of it takes its time beside the producer's."""
    held = b""
    for block in content:
        if held:
            pipe.write(encoder.block(held))
        held = block
    pipe.write(encoder.last(held))


class _Intake:
    """The producer's sink: hands on what is large as it is, and gathers what is small."""

    def __init__(self, pipe: Pipe, progress: Callable[[int], None] | None) -> None:
        self._pipe = pipe
        self._progress = progress
        self._gathered = bytearray()

    def take(self, produce: Callable[[Sink], object]) -> None:
        produce(self)
        self._hand_on(self._gathered)

    def write(self, data: bytes | memoryview, /) -> int:
        size = memoryview(data).nbytes
        if size < LARGE:
            self._gathered += data
            if len(self._gathered) < BLOCK:
                return size
        self._hand_on(self._gathered)
        self._gathered.clear()
        if size >= LARGE:
            self._hand_on(data)
        return size

    def _hand_on(self, data: bytes | bytearray | memoryview) -> None:
        block = _unchanging(data)
        self._pipe.write(block)
        if self._progress is not None and block:
            self._progress(len(block))


def _unchanging(data: bytes | bytearray | memoryview) -> bytes:
    """The data as bytes: no copy of a view of all of some bytes."""
    whole = data.obj if isinstance(data, memoryview) and data.c_contiguous else data
    return whole if isinstance(whole, bytes) and len(whole) == len(data) else bytes(data)
