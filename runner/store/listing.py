"""What one target holds of a profile: its listing is the truth, a cache saves reading twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.store.cache import Cache, cache_file
from runner.store.read_ahead import ReadAhead, reading_ahead
from runner.store.records import ODD, Records, read_records
from runner.store.snapshot import MANIFEST, MOST_BYTES, Manifest, SnapshotId, folder_of, instant
from runner.store.view import SourceView
from runner.target import Entry, Target

# After so many manifests in a row that could not be read, it is the target that is gone.
FAILURES_IN_A_ROW = 5


@dataclass(frozen=True)
class Known:
    """A manifest that was read."""

    sha256: str
    facts: Mapping[str, Any]  # the fields of a Snapshot that the manifest gives


@dataclass
class Holding:
    """What one target holds."""

    manifests: dict[str, Known] = field(default_factory=dict)  # by id
    damaged: list[tuple[str, str]] = field(default_factory=list)  # id, reason
    incomplete: list[str] = field(default_factory=list)
    records: Records = field(default_factory=Records)


def read_target(target: Target, project: str, profile: str, folder: Path | None) -> Holding:
    """All manifests and records of a profile at a target. `folder` holds the caches.

    Raises what the target raises when it cannot be listed.
    """
    parent = folder_of(project, profile)
    file = cache_file(folder, project, profile, target.name)
    cache = Cache(file, target.location(parent))
    # Folders first: one that gets its manifest in between then counts as a snapshot.
    folders = target.folders(parent)
    found = {entry.key.rsplit("/", 2)[1]: entry for entry in target.find(parent, MANIFEST)}
    entries = {name: entry for name, entry in found.items() if SnapshotId.fits(name)}
    lacking = [name for name in folders if name not in found]
    held = Holding(incomplete=[name for name in lacking if SnapshotId.fits(name)])
    unread = [one for one in entries.values() if cache.recall(one) is None and not _too_large(one)]
    with reading_ahead(target, unread) as ahead:
        _read_manifests(held, entries, (project, profile), cache, ahead)
    held.records = read_records(target, project, profile, cache)
    cache.save()
    return held


def _read_manifests(
    held: Holding,
    entries: Mapping[str, Entry],
    own: tuple[str, str],
    cache: Cache,
    ahead: ReadAhead,
) -> None:
    failures = 0
    for name, entry in entries.items():
        try:
            held.manifests[name] = _known(entry, (*own, name), cache, ahead)
            failures = 0
        except FileNotFoundError:
            continue  # removed since it was listed
        except ValueError as error:
            held.damaged.append((name, str(error)))
        except StepFailed as error:
            failures += 1
            if failures == FAILURES_IN_A_ROW or len(entries) == 1:
                raise
            held.damaged.append((name, f"it cannot be read: {error.message}"))


def _too_large(entry: Entry) -> bool:
    return entry.bytes > MOST_BYTES + 1


def _known(entry: Entry, own: tuple[str, str, str], cache: Cache, ahead: ReadAhead) -> Known:
    """The manifest that `entry` is, from the cache if it has it. Raises ValueError on damage."""
    remembered = cache.recall(entry)
    if remembered is not None:
        try:
            return _recalled(own[2], remembered)
        except ODD:
            pass  # an odd cache: what the target has decides
    if _too_large(entry):
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    data = ahead.read(entry)
    summary = _summary(parse_manifest(data, *own), data)
    cache.remember(entry, summary)
    return _recalled(own[2], summary)


def parse_manifest(data: bytes, project: str, profile: str, snapshot: str) -> Manifest:
    """The manifest of that snapshot. Raises ValueError where `data` is not it, whole."""
    if len(data) > MOST_BYTES + 1:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    manifest = Manifest.from_bytes(data)
    own = (manifest.project, manifest.profile, manifest.id)
    if own != (project, profile, snapshot):
        raise ValueError(f"it is that of {'/'.join(own)}")
    return manifest


def _summary(manifest: Manifest, data: bytes) -> list[Any]:
    """What a catalog needs of a manifest, as JSON."""
    stored: Counter[str] = Counter()
    for one in manifest.artifacts:
        stored[one.source] += one.bytes
    before = manifest.predecessor
    return [
        hashlib.sha256(data).hexdigest(),
        manifest.policy,
        manifest.sequence,
        manifest.created_at,
        {key: [one.taken_at, one.type, stored[key]] for key, one in manifest.sources.items()},
        list(manifest.missing),
        dict(manifest.unchanged),
        sorted({one.base for one in manifest.artifacts if one.base is not None}),
        stored.total() + sum(one.bytes for one in manifest.files),
        manifest.encrypted,
        manifest.host,
        manifest.spec_digest,
        None if before is None else [before.get("id", ""), before.get("sha256", "")],
    ]


def _recalled(snapshot: str, summary: Any) -> Known:
    """A summary as the fields of a Snapshot. Raises one of ODD where it is none."""
    sha256, policy, sequence, created, sources, missing, unchanged, bases, *rest = summary
    size, encrypted, host, digest, before = rest
    facts = {
        "id": snapshot,
        "policy": policy,
        "sequence": int(sequence),
        "created_at": instant(created),
        "sources": {
            name: SourceView(instant(taken_at), kind, stored)
            for name, (taken_at, kind, stored) in sources.items()
        },
        "missing": tuple(missing),
        "unchanged": dict(unchanged),
        "bases": frozenset(bases),
        "bytes": int(size),
        "encrypted": encrypted,
        "host": host,
        "spec_digest": digest,
        "manifest_sha256": sha256,
        "predecessor": None if before is None else (before[0], before[1]),
    }
    return Known(sha256, facts)
