"""What one target holds of a profile: its listing is the truth, a cache saves reading twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from runner.errors import StepFailed
from runner.store.cache import Cache, cache_file
from runner.store.look import Look, look
from runner.store.read_ahead import ReadAhead, at_once, reading_ahead
from runner.store.records import ODD, Records, read_records
from runner.store.snapshot import MANIFEST, MOST_BYTES, Manifest, folder_of, instant
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


def read_target(
    target: Target,
    project: str,
    profile: str,
    folder: Path | None,
    *,
    now: datetime,
    glance: bool = False,
) -> Holding:
    """All manifests and records of a profile at a target. `folder` holds the caches; see `look`
    for what a glance is.

    Raises what the target raises when it cannot be listed.
    """
    parent = folder_of(project, profile)
    file = cache_file(folder, project, profile, target.name)
    cache = Cache(file, target.location(parent))
    seen = look(target, parent, cache, now, glance=glance)
    held = Holding(incomplete=seen.lacking)
    unread = _recall(held, seen, parent, cache)
    with reading_ahead(Manifests(target, project, profile), unread, at_once(target)) as ahead:
        _read_manifests(held, unread, cache, ahead)
    held.records = read_records(target, project, profile, cache)
    cache.save()
    return held


class Unread(NamedTuple):
    """A manifest to read."""

    name: str  # the snapshot's id
    entry: Entry | None  # None: nobody listed it, and it may not be there


@dataclass(frozen=True)
class Manifests:
    """Reads manifests."""

    target: Target
    project: str
    profile: str

    def __call__(self, one: Unread) -> tuple[Entry, list[Any]]:
        """A manifest's entry and summary. Raises FileNotFoundError, and ValueError on damage."""
        entry, chunks = one.entry, None
        if entry is None:
            key = f"{folder_of(self.project, self.profile, one.name)}/{MANIFEST}"
            entry, chunks = cast("Any", self.target).fetch(key)
        if entry.bytes > MOST_BYTES + 1:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        data = b"".join(self.target.get(entry.key) if chunks is None else chunks)
        return entry, _summary(parse_manifest(data, self.project, self.profile, one.name), data)


def _recall(held: Holding, seen: Look, parent: str, cache: Cache) -> list[Unread]:
    """Take what the cache has; return what is to be read."""
    unread = [
        Unread(name, entry)
        for name, entry in seen.listed.items()
        if not _taken(held, name, cache.recall(entry))
    ]
    odd = [
        name
        for name in seen.believed
        if not _taken(held, name, cache.trust(f"{parent}/{name}/{MANIFEST}"))
    ]
    return [*unread, *(Unread(name, None) for name in (*odd, *seen.unlisted))]


def _taken(held: Holding, name: str, summary: Any) -> bool:
    if summary is None:
        return False
    try:
        held.manifests[name] = _recalled(name, summary)
    except ODD:
        return False  # an odd cache: what the target has decides
    return True


def _read_manifests(
    held: Holding,
    unread: Sequence[Unread],
    cache: Cache,
    ahead: ReadAhead[Unread, tuple[Entry, list[Any]]],
) -> None:
    failures = 0
    alone = len(unread) == 1 and not held.manifests
    for one in unread:
        try:
            entry, summary = ahead.read(one)
            held.manifests[one.name] = _recalled(one.name, summary)
            cache.remember(entry, summary)
            failures = 0
        except FileNotFoundError:
            if one.entry is None:
                held.incomplete.append(one.name)
        except ValueError as error:
            held.damaged.append((one.name, str(error)))
        except StepFailed as error:
            failures += 1
            if failures == FAILURES_IN_A_ROW or alone:
                raise
            held.damaged.append((one.name, f"it cannot be read: {error.message}"))


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
        list(manifest.recipients),
        None if manifest.rekeyed is None else [manifest.rekeyed["id"], manifest.rekeyed["at"]],
    ]


def _recalled(snapshot: str, summary: Any) -> Known:
    """A summary as the fields of a Snapshot. Raises one of ODD where it is none."""
    sha256, policy, sequence, created, sources, missing, unchanged, bases, *rest = summary
    size, encrypted, host, digest, before, recipients, rekeyed = rest
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
        "recipients": tuple(recipients),
        "rekeyed": None if rekeyed is None else (rekeyed[0], instant(rekeyed[1])),
    }
    return Known(sha256, facts)
