"""Bringing a snapshot's files from one target to another: the same bytes, the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from runner.errors import StepFailed
from runner.store.signature import SIGNATURE
from runner.store.snapshot import MANIFEST, SUMS, ArtifactEntry, Manifest, StoredFile, sums
from runner.target import KeyExists, Target
from runner.target.keys import Incoming
from runner.target.protection import protect

Progress = Callable[[int], None]
Listed = ArtifactEntry | StoredFile


class TargetFailed(StepFailed):
    """What failed is the target that is written to, so another one may do."""


class Watched:
    """A target whose own failures in a put are told apart from those of what is put there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.begun = False  # something was put, or was tried to
        self.failure: StepFailed | None = None

    def as_target(self) -> Target:
        """The same, for who wants a Target."""
        return cast("Target", self)

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,
    ) -> int:
        """Store `chunks`, as the target does."""
        incoming = Incoming(chunks)
        self.begun = True
        try:
            return self._target.put(
                key, incoming, exclusive=exclusive, expected_bytes=expected_bytes
            )
        except StepFailed as error:
            if incoming.error is None:
                self.failure = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def bring(
    origin: Target, target: Target, folder: str, files: Sequence[Listed], progress: Progress
) -> None:
    """Copy files of a snapshot's folder, each held against its hash on the way.

    Raises TargetFailed where it is `target` that fails, else StepFailed.
    """
    watched = Watched(target)
    for one in files:
        try:
            key = f"{folder}/{one.key}"
            chunks = _checked(origin, key, one.sha256, progress)
            watched.as_target().put(key, chunks, expected_bytes=one.bytes)
        except StepFailed as error:
            if watched.failure is not None:
                raise target_failed(error) from error
            raise


def target_failed(error: StepFailed) -> TargetFailed:
    """The same failure, as one of the target that is written to."""
    return TargetFailed(error.message, remedy=error.remedy, outputs=error.outputs)


def finish(
    target: Target, folder: str, manifest: Manifest, data: bytes, signature: bytes | None
) -> None:
    """Make a snapshot whose files lie at the target visible: the sums, their signature if there is
    one, then the manifest.

    It is locked after that, where the spec asks for it: what is not whole must stay removable.
    Raises StepFailed where a file is not there, or another manifest is, or the lock fails.
    """
    target.put(f"{folder}/{SUMS}", [sums(manifest, data)])
    if signature is not None:
        target.put(f"{folder}/{SIGNATURE}", [signature])
    there = {entry.key: entry.bytes for entry in target.entries(folder)}
    listed: list[Listed] = [*manifest.artifacts, *manifest.files]
    gone = [one.key for one in listed if there.get(f"{folder}/{one.key}") != one.bytes]
    if gone:
        raise StepFailed(
            f"{', '.join(gone)} vanished from {target.name} before the snapshot was published.",
            remedy="Something else removes files there; run the backup again.",
        )
    _put_manifest(target, folder, data)
    signed = [] if signature is None else [SIGNATURE]
    names = [*(one.key for one in listed), SUMS, *signed, MANIFEST]
    protect(target, [f"{folder}/{name}" for name in names])


def _put_manifest(target: Target, folder: str, data: bytes) -> None:
    try:
        target.put(f"{folder}/{MANIFEST}", [data], exclusive=True)
    except KeyExists:
        if b"".join(target.get(f"{folder}/{MANIFEST}")) != data:
            raise StepFailed(
                f"{folder} at {target.name} has another manifest already.",
                remedy="Two runs used the same id, or somebody changed it: look at both.",
            ) from None


def _checked(origin: Target, key: str, sha256: str, progress: Progress) -> Iterator[bytes]:
    digest = hashlib.sha256()
    try:
        for chunk in origin.get(key):
            digest.update(chunk)
            progress(len(chunk))
            yield chunk
    except FileNotFoundError as error:
        raise StepFailed(
            f"{key} at {origin.name} is missing.", remedy="Run the backup again."
        ) from error
    if digest.hexdigest() != sha256:
        raise StepFailed(
            f"{key} at {origin.name} is damaged: its checksum is not what was written.",
            remedy="Run the backup again.",
        )
