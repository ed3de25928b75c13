"""A snapshot's name, layout and manifest.

The manifest's bytes are fixed first and list every file but SHA256SUMS; SHA256SUMS lists them
and the manifest; the manifest is written last, and without it there is no snapshot.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from runner.errors import StepFailed, UsageError

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
INSTRUCTIONS = "RESTORE.md"
MOST_BYTES = 64 * 1024

_ID = re.compile(r"(\d{8}T\d{6}Z)-([a-z0-9][a-z0-9_-]{0,62})-([0-9a-f]{6})")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True)
class SnapshotId:
    """`20261120T021500Z-nightly-7f3a9c`: when, of which policy, and six random hex digits."""

    at: datetime  # UTC, whole seconds
    policy: str
    token: str

    @classmethod
    def parse(cls, text: str) -> SnapshotId:
        """Read an id. Raises UsageError: an unparsed id is never joined into a path."""
        match = _ID.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text!r} is not a snapshot's id.",
                remedy="`list` shows them: 20261120T021500Z-nightly-7f3a9c, for example.",
            )
        try:
            at = datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise UsageError(f"{text!r} is not a snapshot's id: {error}.") from error
        return cls(at, match[2], match[3])

    def __str__(self) -> str:
        return f"{self.at:%Y%m%dT%H%M%SZ}-{self.policy}-{self.token}"


@dataclass(frozen=True)
class StoredFile:
    """A file of a snapshot that is no artifact."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ArtifactEntry:
    """One artifact in a manifest."""

    source: str
    part: str  # empty: the main one; `fingerprint` is the sealed fingerprint
    form: str
    key: str  # the file's name in the snapshot's folder
    taken_at: str  # RFC 3339 in UTC: the consistent instant of this artifact
    bytes: int
    sha256: str
    content_bytes: int
    content_sha256: str | None  # None when encrypted: a plain hash of a short secret is a hint
    kind: str = "full"
    base: str | None = None  # the id of the snapshot that an increment needs


@dataclass(frozen=True)
class SourceEntry:
    """What a manifest says of one source."""

    type: str
    taken_at: str
    consistency: str = "exact"
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mark: str | None = None  # what `changed_mark` said; for skip_unchanged


@dataclass(frozen=True)
class Manifest:
    """What a snapshot is. Never larger than 64 KiB; the same bytes at every target."""

    id: str
    project: str
    profile: str
    policy: str
    sequence: int  # not the clock decides which snapshot is newest
    created_at: str
    host: str
    holdfast: str  # the version that wrote it
    spec_digest: str
    sources: Mapping[str, SourceEntry]
    artifacts: tuple[ArtifactEntry, ...]
    files: tuple[StoredFile, ...]  # the others but SHA256SUMS and the manifest
    missing: tuple[str, ...] = ()  # sources that failed in this run
    unchanged: Mapping[str, str] = field(default_factory=dict)  # source: the snapshot that has it
    encrypted: bool = False
    recipients: tuple[str, ...] = ()
    predecessor: Mapping[str, str] | None = None  # id and sha256 of the manifest before this one
    format: int = 1

    def to_bytes(self) -> bytes:
        """The manifest's one text. Raises StepFailed when it is too large."""
        data = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False).encode()
        if len(data) > MOST_BYTES:
            raise StepFailed(
                f"The manifest of {self.id} would have {len(data)} bytes, more than {MOST_BYTES}.",
                remedy="Split the policy: fewer sources in each.",
            )
        return data + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises ValueError when it is none, or names what it may not."""
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != 1:
            raise ValueError("not a manifest of format 1")
        try:
            document["artifacts"] = tuple(ArtifactEntry(**one) for one in document["artifacts"])
            document["files"] = tuple(StoredFile(**one) for one in document["files"])
            document["sources"] = {
                name: SourceEntry(**{**one, "notes": tuple(one.get("notes", ()))})
                for name, one in document["sources"].items()
            }
            for name in ("missing", "recipients"):
                document[name] = tuple(document.get(name, ()))
            manifest = cls(**document)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a whole manifest: {error}") from error
        SnapshotId.parse(manifest.id)
        for key in manifest.file_names():
            if not _KEY.fullmatch(key) or key in (MANIFEST, SUMS):
                raise ValueError(f"not a file name of a snapshot: {key!r}")
        return manifest

    def file_names(self) -> list[str]:
        """The names of all listed files."""
        return [one.key for one in self.artifacts] + [one.key for one in self.files]

    def of(self, source: str) -> list[ArtifactEntry]:
        """The artifacts of one source, the fingerprint last."""
        own = [one for one in self.artifacts if one.source == source]
        return sorted(own, key=lambda one: (one.part == "fingerprint", one.part))


def sums(manifest: Manifest, manifest_bytes: bytes) -> bytes:
    """The content of SHA256SUMS, as `sha256sum -c` reads it; a pure function of the manifest."""
    lines = {one.key: one.sha256 for one in manifest.artifacts}
    lines |= {one.key: one.sha256 for one in manifest.files}
    lines[MANIFEST] = hashlib.sha256(manifest_bytes).hexdigest()
    return "".join(f"{digest}  {key}\n" for key, digest in sorted(lines.items())).encode()


def folder_of(project: str, profile: str, snapshot: str | None = None) -> str:
    """The folder of a profile's snapshots at a target, or of one of them."""
    parent = f"{project}/{profile}"
    return parent if snapshot is None else f"{parent}/{SnapshotId.parse(snapshot)}"
