"""Snapshots made quickly: real folders with real files, sums and manifests at a target."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runner.store.snapshot import (
    INSTRUCTIONS,
    MANIFEST,
    SUMS,
    ArtifactEntry,
    Manifest,
    SourceEntry,
    StoredFile,
    folder_of,
    sums,
)
from runner.target import Target

PROJECT = "quaybot"
PROFILE = "default"
START = datetime(2026, 1, 1, 2, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """A snapshot's bytes before they are stored: the same for every target."""

    manifest: Manifest
    data: bytes  # the manifest's
    files: Mapping[str, bytes]  # all files but the manifest, in the order of writing

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def link(self) -> dict[str, str]:
        """How the next snapshot names this one."""
        return {"id": self.id, "sha256": hashlib.sha256(self.data).hexdigest()}

    def store(self, *targets: Target) -> Made:
        """Put it at targets, the manifest last."""
        folder = folder_of(self.manifest.project, self.manifest.profile, self.id)
        for target in targets:
            for name, data in {**self.files, MANIFEST: self.data}.items():
                target.put(f"{folder}/{name}", [data])
        return self

    def write(self, root: Path) -> Made:
        """Write it below a folder without waiting for the disk: for thousands of them."""
        folder = root / folder_of(self.manifest.project, self.manifest.profile, self.id)
        folder.mkdir(parents=True)
        for name, data in {**self.files, MANIFEST: self.data}.items():
            (folder / name).write_bytes(data)
        return self


@dataclass(frozen=True)
class Recipe:
    """What a made snapshot is like; each field has a plain default."""

    sources: Sequence[str] = ("db", "config")
    policy: str = "nightly"
    at: datetime = START
    sequence: int = 1
    token: str = "000001"
    missing: Sequence[str] = ()
    unchanged: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)  # source: the snapshot it needs
    taken_at: Mapping[str, datetime] = field(default_factory=dict)  # where it is not `at`
    predecessor: Mapping[str, str] | None = None
    encrypted: bool = False
    host: str = "harbour"
    content: bytes = b"content"
    profile: str = PROFILE


def make(recipe: Recipe) -> Made:
    """One snapshot: an artifact and a fingerprint for each source."""
    files: dict[str, bytes] = {}
    artifacts: list[ArtifactEntry] = []
    for source in recipe.sources:
        at = _stamp(recipe.taken_at.get(source, recipe.at))
        for part, form, name in (("", "tar", "tar"), ("fingerprint", "json", "fingerprint.json")):
            data = recipe.content + f" {source} {name} {recipe.token}".encode()
            key = f"{source}.{name}"
            files[key] = data
            digest = hashlib.sha256(data).hexdigest()
            base = None if part else recipe.bases.get(source)
            kind = "full" if base is None else "incremental"
            size = len(data)
            artifacts.append(
                ArtifactEntry(
                    source, part, form, key, at, size, digest, size, digest, kind=kind, base=base
                )
            )
    files[INSTRUCTIONS] = b"# How to restore\n"
    manifest = Manifest(
        id=f"{recipe.at:%Y%m%dT%H%M%SZ}-{recipe.policy}-{recipe.token}",
        project=PROJECT,
        profile=recipe.profile,
        policy=recipe.policy,
        sequence=recipe.sequence,
        created_at=_stamp(recipe.at),
        host=recipe.host,
        holdfast="0.1.0",
        spec_digest="5" * 64,
        sources={
            name: SourceEntry("files", _stamp(recipe.taken_at.get(name, recipe.at)))
            for name in recipe.sources
        },
        artifacts=tuple(artifacts),
        files=(_stored(INSTRUCTIONS, files[INSTRUCTIONS]),),
        missing=tuple(recipe.missing),
        unchanged=recipe.unchanged,
        encrypted=recipe.encrypted,
        predecessor=recipe.predecessor,
    )
    data = manifest.to_bytes()
    files[SUMS] = sums(manifest, data)
    return Made(manifest, data, files)


def series(
    count: int,
    *,
    every: timedelta = timedelta(days=1),
    start: datetime = START,
    policy: str = "nightly",
    sources: Sequence[str] = ("db", "config"),
    first: int = 1,
) -> Iterable[Made]:
    """`count` snapshots, oldest first, each naming the one before it; sequences from `first`."""
    before: Mapping[str, str] | None = None
    for number in range(first, first + count):
        made = make(
            Recipe(
                sources=sources,
                policy=policy,
                at=start + (number - first) * every,
                sequence=number,
                token=f"{number:06x}",
                predecessor=before,
            )
        )
        before = made.link
        yield made


def _stored(key: str, data: bytes) -> StoredFile:
    return StoredFile(key, len(data), hashlib.sha256(data).hexdigest())


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
