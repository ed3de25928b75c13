"""Manifests as a target has them: read a bundle at a time, checked, and summed up for a catalog."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

from runner.errors import StepFailed
from runner.store.snapshot import MANIFEST, MOST_BYTES, Manifest, folder_of, instant
from runner.store.view import Snapshot, SourceView
from runner.target import Entry, Target

# Handing one from thread to thread costs as much as reading it does.
MOST_IN_A_BUNDLE = 25
BUNDLES = 8  # at least so many for each thread, so that all end at about the same time


class Unread(NamedTuple):
    """A manifest to read."""

    name: str  # the snapshot's id
    entry: Entry | None  # None: nobody listed it, and it may not be there


class Fetched(NamedTuple):
    """One as it lies there."""

    entry: Entry
    data: bytes


Bundle: TypeAlias = tuple[Unread, ...]
Answer: TypeAlias = Callable[[], Fetched]  # raises what reading it raised


@dataclass(frozen=True)
class Manifests:
    """The manifests of one profile at one target."""

    target: Target
    project: str
    profile: str

    def fetch(self, one: Unread) -> Fetched:
        """Read one. Raises FileNotFoundError, ValueError for its size, and StepFailed."""
        entry, data = one.entry, None
        if entry is None:
            key = f"{folder_of(self.project, self.profile)}/{one.name}/{MANIFEST}"
            entry, data = cast("Any", self.target).fetch(key, MOST_BYTES + 1)
        if entry.bytes > MOST_BYTES + 1:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return Fetched(entry, b"".join(self.target.get(entry.key)) if data is None else data)

    def sum_up(self, name: str, data: bytes) -> list[Any]:
        """What a catalog needs of the manifest of that snapshot. Raises ValueError on damage."""
        return summarized(parse_manifest(data, self.project, self.profile, name), data)

    def fetch_bundle(self, bundle: Bundle) -> list[Answer]:
        """Read some in their order, up to the first for which the target itself fails."""
        answers: list[Answer] = []
        for one in bundle:
            try:
                answers.append(_giving(self.fetch(one)))
            except (FileNotFoundError, ValueError) as error:
                answers.append(_raising(error))
            except StepFailed as error:
                answers.append(_raising(error))
                break
        return answers


def bundles(unread: Sequence[Unread], threads: int) -> list[Bundle]:
    """The same in bundles, which are small where there are few."""
    size = max(1, min(MOST_IN_A_BUNDLE, len(unread) // (BUNDLES * threads)))
    return [tuple(unread[start : start + size]) for start in range(0, len(unread), size)]


def _giving(fetched: Fetched) -> Answer:
    return lambda: fetched


def _raising(error: Exception) -> Answer:
    def answer() -> Fetched:
        raise error

    return answer


def parse_manifest(data: bytes, project: str, profile: str, snapshot: str) -> Manifest:
    """The manifest of that snapshot. Raises ValueError where `data` is not it, whole."""
    if len(data) > MOST_BYTES + 1:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    manifest = Manifest.from_bytes(data)
    own = (manifest.project, manifest.profile, manifest.id)
    if own != (project, profile, snapshot):
        raise ValueError(f"it is that of {'/'.join(own)}")
    return manifest


def summarized(manifest: Manifest, data: bytes) -> list[Any]:
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


def recalled(name: str, summary: Any, target: str) -> Snapshot:
    """A summary as the snapshot that one target has. Raises one of ODD where it is none."""
    sha256, policy, sequence, created, sources, missing, unchanged, bases, *rest = summary
    size, encrypted, host, digest, before, recipients, rekeyed = rest
    return Snapshot(
        id=name,
        policy=policy,
        sequence=int(sequence),
        created_at=instant(created),
        sources={
            source: SourceView(instant(taken_at), kind, stored)
            for source, (taken_at, kind, stored) in sources.items()
        },
        missing=tuple(missing),
        unchanged=dict(unchanged),
        bases=frozenset(bases),
        bytes=int(size),
        encrypted=encrypted,
        host=host,
        spec_digest=digest,
        manifest_sha256=sha256,
        predecessor=None if before is None else (before[0], before[1]),
        recipients=tuple(recipients),
        rekeyed=None if rekeyed is None else (rekeyed[0], instant(rekeyed[1])),
        targets=(target,),
    )
