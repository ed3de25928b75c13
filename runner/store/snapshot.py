"""A snapshot's name, layout and manifest.

The manifest's bytes are fixed first and list every file but SHA256SUMS; SHA256SUMS lists them
and the manifest; the manifest is written last, and without it there is no snapshot.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from itertools import product
from operator import attrgetter
from typing import Any

from runner.errors import StepFailed, UsageError

MANIFEST = "manifest.json"
FINGERPRINT = "fingerprint"  # the part that holds no content, but says what it was
SUMS = "SHA256SUMS"
INSTRUCTIONS = "RESTORE.md"
MOST_BYTES = 1024 * 1024  # of a manifest: some 700 sources, or 900 databases of one
MOST_CONTENT = 2**63 - 1  # what a file can hold

_ID = re.compile(r"([0-9]{8}T[0-9]{6}Z)-([a-z0-9][a-z0-9_-]{0,62})-([0-9a-f]{6})")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_SUFFIXES = (".zst", ".gz", ".age", ".zst.age", ".gz.age")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "str | None": (str, type(None)),
}


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
            at = datetime.fromisoformat(match[1])
        except ValueError as error:
            raise UsageError(f"{text!r} is not a snapshot's id: {error}.") from error
        return cls(at, match[2], match[3])

    @classmethod
    def fits(cls, text: str) -> bool:
        """Whether a folder's name has the form of an id."""
        return _ID.fullmatch(text) is not None

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
    # of the first MiB as stored, where that is encrypted and larger
    head_sha256: str | None = None


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
    """What a snapshot is. Never larger than 1 MiB; the same bytes at every target."""

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
    # Of one that was encrypted anew: id and sha256 of the snapshot that it stands for, and when.
    rekeyed: Mapping[str, str] | None = None
    format: int = 1

    def as_json(self) -> dict[str, Any]:
        """What it says, for JSON."""
        document = asdict(self)
        for one in document["artifacts"]:
            if one["head_sha256"] is None:
                del one["head_sha256"]
        return document

    def to_bytes(self) -> bytes:
        """The manifest's one text. Raises StepFailed when it is too large."""
        document = self.as_json()
        if self.rekeyed is None:
            del document["rekeyed"]  # what says nothing new stays readable for older versions
        data = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode()
        if len(data) > MOST_BYTES:
            raise StepFailed(
                f"The manifest of {self.id} would have {len(data)} bytes, more than {MOST_BYTES}.",
                remedy="Split the policy: fewer sources in each.",
            )
        return data + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises ValueError when it is none, or names what it may not."""
        try:
            manifest = cls(**_parts(json.loads(data)))
            _check(manifest)
            SnapshotId.parse(manifest.id)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            _, unknown, key = str(error).partition("unexpected keyword argument ")
            why = f"it has {key}: {NEWER}" if unknown else f"not a whole manifest: {error}"
            raise ValueError(why) from error
        except UsageError as error:
            raise ValueError(error.message) from error
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
        return sorted(own, key=lambda one: (one.part == FINGERPRINT, one.part))

    def content_of(self, source: str) -> list[ArtifactEntry]:
        """The artifacts that hold the content of one source."""
        return [one for one in self.of(source) if one.part != FINGERPRINT]


def _shape(kind: type) -> tuple[Callable[[Any], Any], set[tuple[type, ...]]]:
    """What reads the plain fields of a class, and the types that they may have together."""
    names = [one.name for one in fields(kind) if one.type in _TYPES]
    return attrgetter(*names), set(product(*(_TYPES[kind.__annotations__[one]] for one in names)))


_SHAPES = {kind: _shape(kind) for kind in (Manifest, SourceEntry, ArtifactEntry, StoredFile)}


# Two hosts with two versions: the older one must not have what the newer one wrote removed.
NEWER = "a newer Holdfast may have written it, so update this one before you remove anything"


def _parts(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("format") != 1:
        later = isinstance(document, dict) and isinstance(document.get("format"), int)
        if later and document["format"] > 1:
            raise ValueError(f"it is of format {document['format']}, and not of format 1: {NEWER}")
        raise ValueError("not a manifest of format 1")
    parts: dict[str, Any] = dict(document)
    parts["artifacts"] = tuple(ArtifactEntry(**one) for one in document["artifacts"])
    parts["files"] = tuple(StoredFile(**one) for one in document["files"])
    parts["sources"] = {
        name: SourceEntry(**{**one, "notes": tuple(one.get("notes", ()))})
        for name, one in document["sources"].items()
    }
    for name in ("missing", "recipients"):
        parts[name] = tuple(document.get(name, ()))
    return parts


def _check(manifest: Manifest) -> None:
    """Raise TypeError or ValueError where a value is not what is declared."""
    dated: list[ArtifactEntry | SourceEntry] = [*manifest.artifacts, *manifest.sources.values()]
    parts: list[Manifest | StoredFile | ArtifactEntry | SourceEntry]
    parts = [manifest, *manifest.files, *dated]
    for part in parts:
        values, types = _SHAPES[type(part)]
        if tuple(map(type, values(part))) not in types:
            raise TypeError(f"a value in its {type(part).__name__} has the wrong type")
    _check_names(manifest)
    listed: list[ArtifactEntry | StoredFile] = [*manifest.artifacts, *manifest.files]
    for file in listed:
        if not 0 <= file.bytes <= MOST_CONTENT:
            raise ValueError(f"not a size of {file.key!r}: {str(file.bytes)[:30]}")
    for one in manifest.artifacts:
        # So no path and no shell can be in a source's, a part's or a form's name either.
        name = ".".join(filter(None, (one.source, one.part, one.form)))
        if one.key not in (name, *(f"{name}{suffix}" for suffix in _SUFFIXES)):
            raise ValueError(f"{one.key!r} is not the file of {name!r}")
        if not 0 <= one.content_bytes <= MOST_CONTENT:
            raise ValueError(f"not a size of what is in {one.key!r}")
    for at in (manifest.created_at, *(one.taken_at for one in dated)):
        instant(at)


def _check_names(manifest: Manifest) -> None:
    links = (manifest.unchanged, manifest.predecessor or {}, manifest.rekeyed or {})
    names = [one for link in links for one in link.values()]
    if not all(isinstance(one, str) for one in (*names, *manifest.missing, *manifest.recipients)):
        raise TypeError("a name in it is no text")
    if manifest.rekeyed is not None:
        SnapshotId.parse(manifest.rekeyed["id"])
        instant(manifest.rekeyed["at"])


def instant(text: str) -> datetime:
    """Read an RFC 3339 time. Raises ValueError, also when it names no zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} names no zone")
    return at


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
