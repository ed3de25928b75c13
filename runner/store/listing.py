"""What one target holds of a profile: its listing is the truth, a cache saves reading twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from runner.errors import StepFailed
from runner.store.cache import Cache, cache_file
from runner.store.look import Look, look
from runner.store.manifests import Answer, Bundle, Manifests, Unread, bundles, recalled
from runner.store.read_ahead import ReadAhead, at_once, reading_ahead
from runner.store.records import ODD, Records, read_records
from runner.store.snapshot import MANIFEST, folder_of
from runner.store.view import Snapshot
from runner.target import Target

# After so many manifests in a row that could not be read, it is the target that is gone.
FAILURES_IN_A_ROW = 5


@dataclass
class Holding:
    """What one target holds."""

    manifests: dict[str, Snapshot] = field(default_factory=dict)  # by id; at this target alone
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
    # The cache is read while the target answers. What is asked of a server is under way at once
    # only where it was reached before: whoever computes leaves others little time.
    if reach := getattr(target, "connect", None):
        reach()
    with reading_ahead(target.folders, [parent], at_once(target)) as asked:
        cache = Cache(file, target.location(parent))
        known = _known(cache, parent, target.name)
        names = partial(asked.read, parent)
        seen = look(target, parent, names, cache, now, known=known.keys(), glance=glance)
    held = Holding(incomplete=seen.lacking)
    unread = _recall(held, seen, parent, cache, known)
    _read_manifests(held, unread, cache, Manifests(target, project, profile))
    held.records = read_records(target, project, profile, cache, glance=seen.is_glance)
    cache.save()
    return held


def _known(cache: Cache, parent: str, target: str) -> dict[str, Snapshot]:
    """The snapshots that the cache has, by id; what is odd in it is read again."""
    found = {}
    start, end = len(parent) + 1, len(MANIFEST) + 1
    for key, summary in cache.items():
        if key.startswith(parent) and key.endswith(MANIFEST):
            name = key[start:-end]
            try:
                found[name] = recalled(name, summary, target)
            except ODD:
                continue
    return found


def _recall(
    held: Holding, seen: Look, parent: str, cache: Cache, known: Mapping[str, Snapshot]
) -> list[Unread]:
    """Take what the cache has; return what is to be read."""
    unread = []
    for name, entry in seen.listed.items():
        if cache.recall(entry) is not None and name in known:
            held.manifests[name] = known[name]
        else:
            unread.append(Unread(name, entry))
    unlisted = list(seen.unlisted)
    for name in seen.believed:
        if name in known:
            cache.trust(f"{parent}/{name}/{MANIFEST}")
            held.manifests[name] = known[name]
        else:
            unlisted.append(name)
    return [*unread, *(Unread(name, None) for name in unlisted)]


def _read_manifests(
    held: Holding, unread: Sequence[Unread], cache: Cache, manifests: Manifests
) -> None:
    threads = at_once(manifests.target)
    alone = len(unread) == 1 and not held.manifests
    failures = 0
    some = bundles(unread, threads)
    with reading_ahead(manifests.fetch_bundle, some, threads) as ahead:
        for one, answer in _answers(some, ahead, manifests):
            try:
                entry, data = answer()
                summary = manifests.sum_up(one.name, data)
                held.manifests[one.name] = recalled(one.name, summary, manifests.target.name)
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


def _answers(
    some: Sequence[Bundle], ahead: ReadAhead[Bundle, list[Answer]], manifests: Manifests
) -> Iterator[tuple[Unread, Answer]]:
    """Each one with its answer; what a bundle left out, since the target failed, is read now."""
    for bundle in some:
        answers = ahead.read(bundle)
        yield from zip(bundle, answers, strict=False)
        for one in bundle[len(answers) :]:
            yield one, partial(manifests.fetch, one)
