"""Reseal: open stored files and encrypt them to other recipients, in one pass and constant memory.

Nothing of the content touches a disk, and the compression inside stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from runner.store import age
from runner.store.age import NoIdentity
from runner.store.compression import Undecodable
from runner.store.seal import SMALL
from runner.store.snapshot import StoredFile
from runner.store.stored import Stored
from runner.store.streams import Hashed, Pipe, Stages
from runner.target import Target


@dataclass(frozen=True)
class Reseal:
    """With what files are opened, and for whom they are encrypted."""

    identities: tuple[str, ...]  # single ones, parsed; none: files are copied as they are
    recipients: tuple[str, ...]  # never empty
    progress: Callable[[int], None]  # called with the bytes that were read since

    def write(
        self, origin: Target, folder: str, file: StoredFile, target: Target, new_folder: str
    ) -> StoredFile:
        """Store an encrypted file of one folder in another one, under the same name.

        Whatever fails, nothing of it is visible there. Raises Damaged when it is not what was
        written, PersonNeeded when no identity opens it.
        """
        stored = Stored(origin, f"{folder}/{file.key}", file.sha256, file.bytes)
        try:
            with Stages() as stages:
                sealed = Hashed(self._sealed(stored, file.bytes, stages))
                try:
                    target.put(f"{new_folder}/{file.key}", sealed)
                except Exception as error:
                    if stages.error is not None and stages.error is not error:
                        raise stages.error from stages.error.__cause__
                    raise
            return StoredFile(file.key, sealed.bytes, sealed.sha256)
        except Undecodable as error:
            raise stored.damaged(str(error)) from error
        except NoIdentity as error:
            raise stored.unopened() from error
        finally:
            stored.close()

    def _sealed(self, stored: Stored, size: int, stages: Stages) -> Iterator[bytes]:
        counted = self._counted(stored)
        if not self.identities:
            yield from _then(counted, stored.finish)
            return
        if size <= SMALL:
            data = b"".join(counted)
            stored.finish()
            yield age.encrypt_bytes(age.decrypt_bytes(data, self.identities), self.recipients)
            return
        opened = stages.run(lambda pipe: age.decrypt(counted, pipe, self.identities))

        def encrypt(pipe: Pipe) -> None:
            age.encrypt(_then(opened, stored.finish), pipe, self.recipients)

        yield from stages.run(encrypt)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.progress(len(chunk))
            yield chunk


def opens(recipients: Sequence[str], identities: Sequence[str]) -> bool:
    """Whether what is encrypted to `recipients` can be opened with one of `identities`."""
    if not identities:
        return False
    try:
        age.decrypt_bytes(age.encrypt_bytes(b"holdfast", recipients), identities)
    except NoIdentity:
        return False
    return True


def _then(chunks: Iterable[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    """The chunks, and before their end a check that may raise: what follows is not whole then."""
    yield from chunks
    check()
