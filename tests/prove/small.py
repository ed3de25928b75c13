"""A small real snapshot: two sources of type files, captured, sealed and published to a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from runner.prove.artifacts import SnapshotArtifacts, fingerprint_document
from runner.prove.levels import Finding, verify
from runner.source.files import FilesSource
from runner.spec.model import SourceSpec
from runner.store.seal import Seal, Sealed, Sink
from runner.store.snapshot import (
    FINGERPRINT,
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
from runner.target.local import LocalTarget

ID = "20261120T021500Z-nightly-7f3a9c"
PROJECT = "quaybot"
PROFILE = "prod"
TAKEN_AT = "2026-11-20T02:15:00Z"
TOKEN = "20261120t021500z7f3a9c"


@dataclass
class Snapshot:
    """A snapshot, its sources and what is needed to verify it."""

    root: Path
    seal: Seal = field(default_factory=lambda: Seal("zstd"))
    identity: str | None = None
    manifest: Manifest = field(init=False)

    def __post_init__(self) -> None:
        config = self.root / "live" / "config"
        notes = self.root / "live" / "notes"
        for folder in (config, notes):
            folder.mkdir(parents=True)
        (config / "app.yml").write_text("port: 8080\n")
        (config / ".env").write_text("TOKEN=0123\n")
        (notes / "todo.txt").write_text("water the plants\n")
        self.publish(["config", "notes"])

    @property
    def target(self) -> LocalTarget:
        return LocalTarget("disk", self.root / "backups")

    @property
    def key(self) -> str:
        return folder_of(PROJECT, PROFILE, ID)

    @property
    def folder(self) -> Path:
        return self.root / "backups" / self.key

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def spec(self, name: str) -> SourceSpec:
        return SourceSpec(name, "files", {"paths": [name], "exclude": []}, self.root / "live")

    def source(self, name: str) -> FilesSource:
        return FilesSource(self.spec(name))

    def identities(self) -> list[str]:
        return [] if self.identity is None else [self.identity]

    def publish(
        self,
        sources: Sequence[str],
        change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        consistency: str = "exact",
    ) -> None:
        """Capture and publish. `change` may alter the fingerprint's document."""
        entries: list[ArtifactEntry] = []
        described: dict[str, SourceEntry] = {}
        for name in sources:
            capturing = Capturing(self, name)
            captured = self.source(name).capture(capturing)
            document = json.loads(
                fingerprint_document(name, "files", captured.fingerprint, capturing.sealed)
            )
            data = json.dumps(change(document)).encode()
            capturing.store("json", partial(_write, data), part=FINGERPRINT)
            entries += capturing.entries
            described[name] = SourceEntry("files", TAKEN_AT, consistency)
        instructions = b"# How to bring this back\n\nThere is a way.\n"
        self.write_manifest(
            Manifest(
                id=ID,
                project=PROJECT,
                profile=PROFILE,
                policy="nightly",
                sequence=1,
                created_at=TAKEN_AT,
                host="quay1",
                holdfast="0.1.0",
                spec_digest="0" * 64,
                sources=described,
                artifacts=tuple(entries),
                files=(stored_file(INSTRUCTIONS, instructions),),
                missing=("cache",),
                unchanged={"code": "20261119T021500Z-nightly-000abc"},
                encrypted=bool(self.seal.recipients),
                recipients=self.seal.recipients,
            ),
            {INSTRUCTIONS: instructions},
        )

    def write_manifest(self, manifest: Manifest, others: dict[str, bytes] | None = None) -> None:
        """Publish under this manifest, whatever it says."""
        self.manifest = manifest
        data = manifest.to_bytes()
        files = {**(others or {}), SUMS: sums(manifest, data), MANIFEST: data}
        for name, content in files.items():
            self.target.put(f"{self.key}/{name}", [content])

    def change_manifest(self, **values: Any) -> None:
        self.write_manifest(replace(self.manifest, **values))

    def artifacts(
        self, source: str, *, restoring: bool = False, compared_later: bool = False
    ) -> SnapshotArtifacts:
        return SnapshotArtifacts(
            self.target,
            self.key,
            self.manifest,
            source,
            self.identities,
            restoring=restoring,
            compared_later=compared_later,
        )

    def verify(self, level: str, **options: Any) -> list[Finding]:
        given: dict[str, Any] = {
            "identities": self.identities,
            "open_source": self.source,
            "scratch": self.root / "scratch",
            "token": TOKEN,
        }
        return verify(level, self.target, PROJECT, PROFILE, ID, **(given | options))

    def verdicts(self, level: str, **options: Any) -> dict[str, str]:
        found = self.verify(level, **options)
        assert all(one.reason for one in found)
        return {one.source: one.verdict for one in found}


@dataclass
class Capturing:
    """What a source is given while it is captured into the snapshot's folder."""

    snapshot: Snapshot
    source: str
    excluded: Sequence[Path] = ()
    sealed: dict[str, Sealed] = field(default_factory=dict)
    entries: list[ArtifactEntry] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        path = self.snapshot.root / f"capture-{self.source}"
        path.mkdir(exist_ok=True)
        return path

    def store(self, form: str, produce: Callable[[Sink], object], *, part: str = "") -> Sealed:
        name = ".".join(filter(None, (self.source, part, form)))
        seal = self.snapshot.seal
        one = seal.write(self.snapshot.target, self.snapshot.key, name, produce)
        self.sealed[one.key] = one
        content = None if seal.recipients else one.content_sha256
        self.entries.append(
            ArtifactEntry(
                self.source, part, form, one.key, TAKEN_AT, one.bytes, one.sha256,
                one.content_bytes, content, head_sha256=one.head_sha256,
            )
        )  # fmt: skip
        return one


def stored_file(key: str, data: bytes) -> StoredFile:
    return StoredFile(key, len(data), hashlib.sha256(data).hexdigest())


def flipped(path: Path, position: int) -> None:
    """Flip one bit of a file in place."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, position)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)


def positions(size: int, step: int) -> Iterable[int]:
    """Every `step`th place of a file, its first and its last."""
    return sorted({*range(0, size, step), size - 1})


def _write(data: bytes, sink: Sink) -> None:
    sink.write(data)
