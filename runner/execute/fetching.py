"""Artifacts brought here as files, as they are stored or decrypted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.durable import make_folder, write_chunks
from runner.errors import UsageError
from runner.execute.context import Context
from runner.execute.session import Session
from runner.plan.choose import LATEST
from runner.plan.outstanding import whole_first
from runner.prove.artifacts import ENCRYPTED, SnapshotArtifacts
from runner.store.catalog import Catalog, Snapshot, read_manifest
from runner.store.seal import unseal
from runner.store.signature import SIGNATURE, stored_signature
from runner.store.snapshot import (
    FINGERPRINT,
    MANIFEST,
    SUMS,
    ArtifactEntry,
    folder_of,
)
from runner.store.stored import Stored
from runner.target import Target


@dataclass(frozen=True)
class Fetched:
    """What was written, and what the snapshot has not itself."""

    files: Sequence[Path]
    elsewhere: Mapping[str, str] = field(default_factory=dict)  # source: the snapshot that has it
    missing: Sequence[str] = ()  # sources that could not be captured


def fetch_artifacts(
    session: Session, wanted: str, sources: Sequence[str], folder: Path, *, decrypt: bool
) -> Fetched:
    """Write the artifacts of a snapshot into `folder`. The latest is chosen for each source, where
    some are asked for.

    What is stored is copied with all that makes it checkable: a whole snapshot without what it
    calls unchanged. With `decrypt`, contents are written under their plain names, checked on the
    way, wherever they lie. Existing files are never overwritten.
    """
    catalog = session.catalog(needed=())
    asked, elsewhere, missing = list(sources), dict[str, str](), tuple[str, ...]()
    if not sources:
        one = catalog.find(wanted)
        wanted, elsewhere, missing = one.id, dict(one.unchanged), tuple(one.missing)
        if decrypt:
            asked, elsewhere = [*one.sources, *one.unchanged], {}
    holders: dict[str, list[str]] = {} if asked else {catalog.find(wanted).id: []}
    for name in asked:
        holders.setdefault(_holder(catalog, wanted, name).id, []).append(name)
    files = [
        file
        for snapshot, names in holders.items()
        for file in _fetched(session, catalog.find(snapshot), names, folder, decrypt=decrypt)
    ]
    return Fetched(files, elsewhere, missing)


def _holder(catalog: Catalog, wanted: str, source: str) -> Snapshot:
    """The snapshot that has the content of a source, which the one that is meant may only name."""
    newest = catalog.newest(source) if wanted == LATEST else None
    one = newest or catalog.find(wanted)
    return catalog.find(one.unchanged[source]) if source in one.unchanged else one


def _fetched(
    session: Session, one: Snapshot, sources: Sequence[str], folder: Path, *, decrypt: bool
) -> list[Path]:
    spec = session.spec
    target = session.targets[whole_first(one, one.targets)[0]]
    manifest, _ = read_manifest(target, spec.project, spec.profile, one.id)
    place = folder_of(spec.project, spec.profile, one.id)
    unknown = [name for name in sources if name not in manifest.sources]
    if unknown:
        raise UsageError(
            f"{one.id} has no source `{unknown[0]}`.",
            remedy=f"It has: {', '.join(manifest.sources)}.",
        )
    artifacts = [a for a in manifest.artifacts if not sources or a.source in sources]
    context = session.aside("fetch")
    make_folder(folder)
    if decrypt:
        opened = {
            name: SnapshotArtifacts(target, place, manifest, name, context.identities)
            for name in {a.source for a in artifacts}
        }
        contents = {
            a.key: _unsealed(target, f"{place}/{a.key}", a, context)
            if a.part == FINGERPRINT
            else opened[a.source].read(a.part)
            for a in artifacts
        }
        return [_write(folder / _plain_name(a), contents[a.key]) for a in artifacts]
    names = [] if sources else [*(one.key for one in manifest.files), SUMS, MANIFEST]
    written = [
        _write(folder / a.key, _stored(Stored(target, f"{place}/{a.key}", a.sha256, a.bytes)))
        for a in artifacts
    ]
    signature = None if sources else stored_signature(target, place)
    if signature is not None:
        written.append(_write(folder / SIGNATURE, iter([signature])))
    return written + [_write(folder / name, target.get(f"{place}/{name}")) for name in names]


def _plain_name(artifact: ArtifactEntry) -> str:
    pieces = (artifact.source, artifact.part, artifact.form)
    return ".".join(piece for piece in pieces if piece)


def _unsealed(
    target: Target, key: str, artifact: ArtifactEntry, context: Context
) -> Iterator[bytes]:
    """A fingerprint's content: it vouches for the others, and only its seal for itself."""
    identities = context.identities() if key.endswith(ENCRYPTED) else ()
    return unseal(target, key, sha256=artifact.sha256, size=artifact.bytes, identities=identities)


def _write(path: Path, chunks: Iterator[bytes]) -> Path:
    try:
        write_chunks(path, chunks, exclusive=True)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists already; nothing was overwritten.", remedy="Give an empty folder."
        ) from error
    return path


def _stored(stored: Stored) -> Iterator[bytes]:
    """What is stored, as it is; raises at the end unless it is what was written."""
    yield from stored
    stored.finish()
