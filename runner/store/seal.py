"""Seal: compress, encrypt and hash a stream on its way to a target, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from runner.target import Target


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


@dataclass(frozen=True)
class Seal:
    """How artifacts of a snapshot are written."""

    compression: str  # zstd | gzip | none, with `:level` if one was given
    recipients: tuple[str, ...] = ()  # age or ssh public keys; empty: not encrypted

    @property
    def suffix(self) -> str:
        """What is appended to a file's name: `.zst.age`, `.gz`, nothing."""
        raise NotImplementedError

    def write(
        self,
        target: Target,
        folder: str,
        name: str,
        produce: Callable[[Sink], None],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Sealed:
        """Run `produce` in a thread and store what it writes as `<folder>/<name><suffix>`."""
        raise NotImplementedError


def unseal(
    target: Target, path: str, *, sha256: str, size: int, identities: Sequence[str] = ()
) -> Iterator[bytes]:
    """The content of the stored file `path`: hash checked, decrypted, decompressed, in chunks.

    What must be undone is told by the name's suffixes. `identities` are the texts of age
    identity files or ssh private keys. Raises StepFailed at the end, at the latest, when what is
    stored is not `size` bytes with that sha256; PersonNeeded when no identity opens it.
    """
    raise NotImplementedError


def decode_command(key: str, path: str) -> str:
    """The shell pipeline that prints the content of the stored file `path` (already quoted).

    An encrypted file is opened with the identity file that `$AGE_IDENTITY` names.
    """
    raise NotImplementedError
