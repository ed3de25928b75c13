"""Stored files: read back from a target and compared with what was written."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from runner.errors import PersonNeeded, StepFailed
from runner.store.streams import Hashed, Headed
from runner.target import Target

# A wrong identity and a damaged header look alike. Up to here the rest is read to tell them apart.
MOST_READ_TO_EXPLAIN = 64 * 1024 * 1024


class Damaged(StepFailed):
    """A stored file, or a snapshot, is not what was written. `reason` goes on from "it is damaged:"
    and `where` names the file.
    """

    def __init__(self, target: str, path: str, reason: str) -> None:
        super().__init__(
            f"The stored copy of {path} at {target} is damaged: {reason}.",
            remedy="Begin anew with --from another target, or with --snapshot another one; "
            "`holdfast verify` says which are whole, and what begins after it uses those.",
        )
        self.reason = reason
        self.where = path.rpartition("/")[2]


class Stored:
    """A stored file's bytes, hashed as they pass. Iterating raises Damaged, or StepFailed when
    the target cannot be read; `finish` says whether all of it was as it was written.
    """

    def __init__(
        self, target: Target, path: str, sha256: str, size: int, *, head_sha256: str | None = None
    ) -> None:
        """With the hash of its head no more is hashed: see `unseal`."""
        self._target = target
        self._path = path
        self._sha256 = head_sha256 or sha256
        self._size = size
        self._source = self._read()
        self._seen = Headed(self._source) if head_sha256 else Hashed(self._source)

    def _read(self) -> Generator[bytes]:
        try:
            yield from self._target.get(self._path)
        except FileNotFoundError as error:
            raise self.damaged("it is missing") from error

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._seen)
        if self._seen.bytes > self._size:
            raise self.damaged(f"it has more than the {self._size} bytes that were written")
        return chunk

    def damaged(self, reason: str) -> Damaged:
        """The error to raise."""
        return Damaged(self._target.name, self._path, reason)

    def finish(self) -> None:
        """Read what is left. Raises Damaged unless size and hash are as written."""
        for _ in self:
            pass
        if self._seen.bytes < self._size:
            raise self.damaged(f"it has {self._seen.bytes} bytes, and {self._size} were written")
        if self._seen.sha256 != self._sha256:
            raise self.damaged("its sha256 is not that of what was written")

    def unopened(self) -> PersonNeeded:
        """The error to raise when no identity fits. Raises Damaged if that is why."""
        doubt = self._size - self._seen.bytes > MOST_READ_TO_EXPLAIN
        if not doubt:
            self.finish()
        return PersonNeeded(
            f"No given identity opens {self._path} at {self._target.name}.",
            remedy="Give the identity of one of the snapshot's recipients."
            + (
                " If it is the right one, the copy is damaged: use another target." if doubt else ""
            ),
        )

    def close(self) -> None:
        """Let go of the target."""
        self._source.close()


def check_stored(target: Target, path: str, sha256: str, size: int) -> str | None:
    """Read a stored file once: None if it is as written, else the reason why it is not.

    Raises StepFailed when the target cannot be read.
    """
    stored = Stored(target, path, sha256, size)
    try:
        stored.finish()
    except Damaged as error:
        return error.reason
    finally:
        stored.close()
    return None


def whole_file(target: Target, path: str, sha256: str, size: int) -> bytes:
    """A small stored file as it was written. Raises Damaged where it is not."""
    stored = Stored(target, path, sha256, size)
    try:
        data = b"".join(stored)
        stored.finish()
    finally:
        stored.close()
    return data
