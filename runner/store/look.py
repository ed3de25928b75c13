"""Which snapshots a target holds: its folders, and how much of what is in them is looked at.

Where a listing can begin anywhere, a manifest that was never read is asked for by its name, and
those that were read before are listed in ranges, several at once, for their tags. A glance lists
the newest of these only: enough to show a list, and too little to decide anything by.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, cast

from runner.store.cache import Cache
from runner.store.read_ahead import at_once, reading_ahead
from runner.store.snapshot import MANIFEST, SnapshotId
from runner.target import Entry, Target

# What a glance believes of older snapshots was looked at no longer ago than this.
GLANCE_AGE = timedelta(days=1)

GLANCED = 100  # the newest snapshots, whose tags a glance looks at: one page of a server's list
RANGE = 500  # folders that are listed one after another


class Ranged(Protocol):
    """A target with `lists_ranges`."""

    def find_between(self, prefix: str, name: str, first: str, last: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>` of the folders `first` to `last`."""

    def entries_after(self, prefix: str, after: str) -> Iterator[Entry]:
        """The objects below the folder `prefix` whose keys come after that one."""


@dataclass
class Look:
    """The snapshots' folders at a target, by what is known of the manifest in them."""

    listed: dict[str, Entry] = field(default_factory=dict)  # by id
    unlisted: list[str] = field(default_factory=list)  # ids: there may be none in it
    believed: list[str] = field(default_factory=list)  # ids: the cache has it, and nobody looked
    lacking: list[str] = field(default_factory=list)  # ids: there is none
    is_glance: bool = False


def look(
    target: Target,
    parent: str,
    names: Callable[[], Iterable[str]],
    cache: Cache,
    now: datetime,
    *,
    known: Collection[str],
    glance: bool,
) -> Look:
    """Look for manifests below `parent`: `names` gives those of its folders, and `known` are the
    snapshots that the cache has. Raises what the target raises when it is listed.
    """
    if glance and getattr(target, "lists_ranges", False) and cache.looked_within(GLANCE_AGE, now):
        return _glance(target, parent, names, known)
    cache.looked(now)
    # Folders first: one that gets its manifest in between then counts as a snapshot.
    folders = [name for name in names() if SnapshotId.fits(name)]
    if not getattr(target, "lists_ranges", False):
        entries = {entry.key.rsplit("/", 2)[1]: entry for entry in target.find(parent, MANIFEST)}
        listed = {name: entry for name, entry in entries.items() if SnapshotId.fits(name)}
        return Look(listed, lacking=[name for name in folders if name not in entries])
    with _listing(target, parent, [name for name in folders if name in known]) as listing:
        listed = listing()
    return Look(listed, [name for name in folders if name not in listed])


def _glance(
    target: Target, parent: str, names: Callable[[], Iterable[str]], known: Collection[str]
) -> Look:
    """The newest are listed while the folders are."""
    newest = sorted(known)[-GLANCED:]
    with _listing(target, parent, newest) as listing:
        folders = [name for name in names() if SnapshotId.fits(name)]
        found = listing()
    listed = {name: found[name] for name in folders if name in found}
    older = set(known) - set(newest)
    believed = [name for name in folders if name in older]
    unlisted = [name for name in folders if name not in listed and name not in older]
    return Look(listed, unlisted, believed, is_glance=True)


def look_at_records(
    target: Target, folder: str, cache: Cache, *, glance: bool
) -> tuple[list[str], list[Entry]]:
    """The records in `folder`, whose names tell when they were written: the keys of those that a
    glance believes the cache, and the others. Raises what the target raises when it is listed.
    """
    known = sorted(key for key, _ in cache.items() if key.startswith(f"{folder}/"))
    if not glance or len(known) <= GLANCED:
        return [], sorted(target.entries(folder), key=lambda one: one.key)
    believed = known[:-GLANCED]
    newer = cast("Ranged", target).entries_after(folder, believed[-1])
    return believed, sorted(newer, key=lambda one: one.key)


@contextlib.contextmanager
def _listing(
    target: Target, parent: str, names: Sequence[str]
) -> Iterator[Callable[[], dict[str, Entry]]]:
    """Lists the manifests of folders, from now on; what it gives waits for them. Those are missing
    that the target does not show.
    """
    ranged = cast("Ranged", target)
    ranges = [
        (names[start], names[min(start + RANGE, len(names)) - 1])
        for start in range(0, len(names), RANGE)
    ]

    def listed(ends: tuple[str, str]) -> list[Entry]:
        return list(ranged.find_between(parent, MANIFEST, *ends))

    wanted = set(names)

    def waited_for() -> dict[str, Entry]:
        found = {one.key.rsplit("/", 2)[1]: one for ends in ranges for one in ahead.read(ends)}
        return {name: entry for name, entry in found.items() if name in wanted}

    with reading_ahead(listed, ranges, at_once(target)) as ahead:
        yield waited_for
