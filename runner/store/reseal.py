"""Reseal: open stored files and encrypt them to other recipients, in one pass and constant memory.

Nothing of the content touches a disk, and the compression inside stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from runner.store import age
from runner.store.age import NoIdentity
from runner.store.compression import Undecodable
from runner.store.seal import SMALL, head_of
from runner.store.snapshot import StoredFile
from runner.store.stored import Stored
from runner.store.streams import Hashed, Headed, Pipe, Stages
from runner.target import Target


@dataclass(frozen=True)
class Reseal:
    """With what files are opened, and for whom they are encrypted."""

    identities: tuple[str, ...]  # single ones, parsed; needed where files are encrypted
    recipients: tuple[str, ...]  # none: files are copied as they are
    progress: Callable[[int], None]  # called with the bytes that were read since

    def write(
        self, origin: Target, folder: str, file: StoredFile, target: Target, new_folder: str
    ) -> tuple[StoredFile, str | None]:
        """Store a file of one folder in another one, encrypted, under the name that says so.
        Return it, and the hash of its head as artifacts have it.

        Whatever fails, nothing of it is visible there. Raises Damaged when it is not what was
        written, PersonNeeded when no identity opens it.
        """
        stored = Stored(origin, f"{folder}/{file.key}", file.sha256, file.bytes)
        key = file.key
        if self.recipients and not key.endswith(age.SUFFIX):
            key += age.SUFFIX
        try:
            with Stages() as stages:
                sealed = Hashed(self._sealed(stored, file, stages))
                headed = Headed(sealed)
                path = f"{new_folder}/{key}"
                stages.feed(lambda: target.put(path, headed, expected_bytes=file.bytes))
            return StoredFile(key, sealed.bytes, sealed.sha256), head_of(key, headed)
        except Undecodable as error:
            raise stored.damaged(str(error)) from error
        except NoIdentity as error:
            raise stored.unopened() from error
        finally:
            stored.close()

    def _sealed(self, stored: Stored, file: StoredFile, stages: Stages) -> Iterator[bytes]:
        counted = self._counted(stored)
        if not self.recipients:
            yield from _then(counted, stored.finish)
            return
        plain = not file.key.endswith(age.SUFFIX)
        if file.bytes <= SMALL:
            data = b"".join(counted)
            stored.finish()
            content = data if plain else age.decrypt_bytes(data, self.identities)
            yield age.encrypt_bytes(content, self.recipients)
            return
        opened: Iterable[bytes] = counted
        if not plain:
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
