"""Removing what backups wrote at a target, and nothing else: what others put there stays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from runner.store.documents import DOCUMENTS, is_document
from runner.store.signature import SIGNATURE
from runner.store.snapshot import (
    INSTRUCTIONS,
    MANIFEST,
    MOST_BYTES,
    SUMS,
    Manifest,
    SnapshotId,
    folder_of,
)
from runner.target import Entry, Target

# An unfinished run's folder may still be written to; a run is over long before this.
ABANDONED_SECONDS = 48 * 3600

OWN_FILES = (MANIFEST, SUMS, SIGNATURE, INSTRUCTIONS)


@dataclass
class Swept:
    """What a sweep found."""

    removed: list[str] = field(default_factory=list)  # ids of unfinished snapshots; keys of uploads
    foreign: list[str] = field(default_factory=list)  # keys that no backup wrote


def remove_snapshot(target: Target, folder: str, sources: Collection[str]) -> list[str]:
    """Remove a snapshot's files so that it is never half visible: its manifest first. Returns the
    keys that lie in its folder and that it never had: they stay.

    `sources` are the spec's: what has their names is taken for the snapshot's where its manifest
    cannot be read.
    """
    written = _listed(target, folder) or _by_name(sources)
    target.delete(f"{folder}/{MANIFEST}")
    return _remove(target, folder, list(target.entries(folder)), written)


def sweep_abandoned(target: Target, project: str, profile: str, sources: Collection[str]) -> Swept:
    """Remove what interrupted runs left without a manifest, once it is old, and unfinished uploads;
    name what lies among the snapshots and is none.
    """
    parent = folder_of(project, profile)
    now = target.now()
    found = Swept()
    folders: dict[str, list[Entry]] = {}
    for entry in target.entries(parent):
        name, below, _ = entry.key.removeprefix(f"{parent}/").partition("/")
        if below and SnapshotId.fits(name):
            folders.setdefault(name, []).append(entry)
        elif not name.startswith("."):
            found.foreign.append(entry.key)
    written = _by_name(sources)
    for name, entries in sorted(folders.items()):
        folder = f"{parent}/{name}"
        if any(entry.key == f"{folder}/{MANIFEST}" for entry in entries):
            continue
        if all((now - entry.modified).total_seconds() > ABANDONED_SECONDS for entry in entries):
            foreign = _remove(target, folder, entries, written)
            found.foreign += foreign
            if len(foreign) < len(entries):
                found.removed.append(name)
    # Empty ones, of a removal that was cut off before its last word.
    for name in filter(SnapshotId.fits, target.folders(parent)):
        if name not in folders:
            target.sweep(f"{parent}/{name}", ABANDONED_SECONDS)
    found.removed += target.sweep(parent, ABANDONED_SECONDS)
    return found


def _remove(
    target: Target, folder: str, entries: Iterable[Entry], written: Callable[[str], bool]
) -> list[str]:
    foreign = []
    for entry in entries:
        if written(entry.key.removeprefix(f"{folder}/")):
            target.delete(entry.key)
        else:
            foreign.append(entry.key)
    return foreign


def _listed(target: Target, folder: str) -> Callable[[str], bool] | None:
    """What a snapshot's own manifest lists; None where it cannot be read."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        data = b"".join(target.get(f"{folder}/{MANIFEST}", length=MOST_BYTES + 2))
        return {*OWN_FILES, *Manifest.from_bytes(data).file_names()}.__contains__
    return None


def _by_name(sources: Collection[str]) -> Callable[[str], bool]:
    """What has the name of a file that a snapshot of these sources can have."""

    def written(name: str) -> bool:
        if name in OWN_FILES or any(is_document(name, one) for one in DOCUMENTS):
            return True
        source, dot, _ = name.partition(".")
        return source in sources and dot == "." and "/" not in name

    return written
