"""One source's artifacts in one snapshot, read back and held against what was sealed.

The hashes of the content stand in the fingerprint's document, which is sealed itself: a plain
hash of a short secret could be guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from runner.errors import StepFailed
from runner.source import Fingerprint
from runner.store.seal import Damaged, Sealed, unseal
from runner.store.snapshot import FINGERPRINT, ArtifactEntry, Manifest
from runner.target import Target
from runner.target.metered import Metered

FORMAT = 1
ENCRYPTED = ".age"


def fingerprint_document(
    source: str,
    type_name: str,
    fingerprint: Fingerprint,
    sealed: Mapping[str, Sealed],
) -> bytes:
    """What the artifact `<source>.fingerprint.json` holds: the fingerprint of the source's
    instant, and the content's size and hash of each artifact by its key.
    """
    document = {
        "format": FORMAT,
        "source": source,
        "type": type_name,
        "fingerprint": fingerprint,
        "artifacts": {
            key: {"bytes": one.content_bytes, "sha256": one.content_sha256}
            for key, one in sealed.items()
        },
    }
    # ASCII, so that names with undecodable bytes come back as they were.
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _bare(key: str) -> str:
    """A key as it was at the instant of what was encrypted only later."""
    return key.removesuffix(ENCRYPTED)


class SnapshotArtifacts:
    """Opens what a snapshot holds of one source. `checked` are the parts that were read to
    their end and found to be what was captured; `unreadable` is whether something that was read
    was not, or could not be read: another copy of the snapshot may serve.
    """

    def __init__(
        self,
        target: Target,
        folder: str,
        manifest: Manifest,
        source: str,
        identities: Callable[[], Sequence[str]],
        *,
        progress: Callable[[int], None] | None = None,
        restoring: bool = False,
        compared_later: bool = False,
    ) -> None:
        """With `compared_later`, the main part's content is not hashed on the way: what it
        becomes is compared with the fingerprint, which reads all of it once more. Who is
        `restoring` need not have all that is stored encrypted hashed either, but for the
        fingerprint that the content is compared with.
        """
        self._restoring = restoring
        self._compared_later = compared_later
        self.checked: set[str] = set()
        self.unreadable = False
        self._begun: set[str] = set()
        self._target = Metered(target)
        self._folder = folder
        self._source = source
        self._identities = identities
        self._progress = progress
        self._entries = {entry.part: entry for entry in manifest.of(source)}

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that was taken at the snapshot's instant."""
        with self._noting():
            fingerprint: Fingerprint = self._document["fingerprint"]
        return fingerprint

    @property
    def waited(self) -> float:
        """How many seconds of reading were spent waiting for the target."""
        return self._target.seconds

    @property
    def parts(self) -> Sequence[str]:
        """The parts there are, without the fingerprint; the main one is the empty string."""
        return [part for part in self._entries if part != FINGERPRINT]

    def read(self, part: str = "") -> Iterator[bytes]:
        """The content in chunks. Raises Damaged at its end, at the latest, unless it is what was
        captured; StepFailed when the target cannot be read; PersonNeeded when no identity fits.
        """
        with self._noting():
            entry = self._entry(part)
            self._begun.add(part)
            sealed = self._sealed.get(_bare(entry.key))
            if sealed is None:
                raise self._damaged(entry, "its fingerprint knows nothing of it")
            yield from self._content(entry, [(sealed["bytes"], sealed["sha256"])])
        self.checked.add(part)

    def judge(self) -> None:
        """Read to its end what somebody began to read, and could make nothing of: content that is
        not what was captured is told only there. Raises as `read` does.
        """
        for part in sorted(self._begun - self.checked):
            for _ in self.read(part):
                pass

    def finish(self) -> int:
        """Read all that was not read to its end yet; return its bytes. Raises as `read` does."""
        known = {_bare(entry.key) for part, entry in self._entries.items() if part != FINGERPRINT}
        with self._noting():
            for key in sorted({*self._sealed} - known):
                raise self._unlisted(key)
        rest = [part for part in self.parts if part not in self.checked]
        return sum(len(chunk) for part in rest for chunk in self.read(part))

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except StepFailed:
            self.unreadable = True
            raise

    @cached_property
    def _sealed(self) -> Mapping[str, Any]:
        """What each artifact's content was, by its key without what says that it is encrypted."""
        return {_bare(key): one for key, one in self._document["artifacts"].items()}

    @cached_property
    def _document(self) -> Mapping[str, Any]:
        entry = self._entry(FINGERPRINT)
        data = b"".join(self._content(entry, []))
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._damaged(entry, f"it is no JSON: {error}") from error
        if not _is_whole(document) or document["source"] != self._source:
            raise self._damaged(entry, f"it is no fingerprint of {self._source} of format {FORMAT}")
        self.checked.add(FINGERPRINT)
        whole: Mapping[str, Any] = document
        return whole

    def _content(self, entry: ArtifactEntry, expected: list[tuple[int, str]]) -> Iterator[bytes]:
        if self._compared_later and not entry.part:
            yield from self._unsealed(entry)
            return
        digest = hashlib.sha256()
        size = 0
        for chunk in self._unsealed(entry):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        found = (size, digest.hexdigest())
        if entry.content_sha256 is not None:
            expected = [*expected, (entry.content_bytes, entry.content_sha256)]
        if any(one != found for one in expected):
            raise self._damaged(entry, "its content is not what was captured")

    def _unsealed(self, entry: ArtifactEntry) -> Iterator[bytes]:
        trusted = self._restoring and entry.part != FINGERPRINT
        chunks = unseal(
            self._target,
            f"{self._folder}/{entry.key}",
            sha256=entry.sha256,
            size=entry.bytes,
            identities=self._identities() if entry.key.endswith(ENCRYPTED) else (),
            head_sha256=entry.head_sha256 if trusted else None,
        )
        try:
            for chunk in chunks:
                if self._progress is not None:
                    self._progress(len(chunk))
                yield chunk
        except Damaged:
            raise
        except StepFailed as error:
            error.local = True  # a target that cannot be read says nothing of what lies there
            raise

    def _entry(self, part: str) -> ArtifactEntry:
        if part in self._entries:
            return self._entries[part]
        raise self._unlisted(f"{self._source}.{part}" if part else self._source)

    def _unlisted(self, key: str) -> Damaged:
        path = f"{self._folder}/{key}"
        return Damaged(self._target.name, path, "the manifest lists no such artifact")

    def _damaged(self, entry: ArtifactEntry, reason: str) -> Damaged:
        return Damaged(self._target.name, f"{self._folder}/{entry.key}", reason)


def _is_whole(document: Any) -> bool:
    match document:
        case {
            "format": 1,
            "source": str(),
            "type": str(),
            "fingerprint": dict(),
            "artifacts": dict(sealed),
        }:
            return all(_is_sealed(one) for one in sealed.values())
    return False


def _is_sealed(one: Any) -> bool:
    match one:
        case {"bytes": int(), "sha256": str()}:
            return True
    return False
