"""Targets: where snapshots are kept. One protocol, one module a type.

A key is a relative path with forward slashes. A target knows nothing of snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runner.errors import StepFailed


@dataclass(frozen=True)
class Entry:
    """One stored object, as a listing shows it."""

    key: str
    bytes: int
    modified: datetime  # by the target's clock
    tag: str  # changes when the content may have changed: an etag, or mtime and size


class KeyExists(Exception):
    """An exclusive put found the key taken. What was there stays."""


class NotAllowed(StepFailed):
    """The credentials do not allow it."""


class Target(Protocol):
    """What every type of target does. Failures raise StepFailed with the target's name.

    A missing key raises FileNotFoundError from `get`; `delete` of a missing key is no error.
    """

    name: str

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,
    ) -> int:
        """Store `chunks` under `key`, durable when this returns; return the bytes.

        Nothing is visible before it is whole, and nothing at all if `chunks` raises. With
        `exclusive`, raises KeyExists when the key is taken. `expected_bytes` is about how many
        there will be, 0 where nobody knows: what is sent in parts has them large enough.
        """

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes, or `length` of them from `offset`."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every visible object below the folder `prefix`; a missing folder has none."""

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every visible `<prefix>/<folder>/<name>`, in the cheapest way this target has.

        One look for each folder where that is cheap, one filtered listing where it is not.
        """

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below the folder `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove one object, and the folders that this leaves empty."""

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        """Remove what unfinished writes left below `prefix` that is older (in seconds)."""

    def now(self) -> datetime:
        """The target's own clock, in UTC."""

    def free(self) -> int | None:
        """Bytes that can still be written, reserve taken off; None where nobody knows."""

    def lock(self, key: str, owner: str) -> AbstractContextManager[None]:
        """Hold the lock `key`; raises Locked, naming the owner, while another holds it."""

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""

    def location(self, key: str) -> str:
        """Where a person finds that key: a path, a URL."""

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that bring the folder `prefix` to the local `folder` with common tools."""
