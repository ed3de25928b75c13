"""Whether a server holds what was restored to it: the value and the expiry of each key.


What DUMP answers is compared first: equal bytes are equal values. They may differ for equal values
too (a server chooses encodings), and then the values themselves decide, as the scratch server
loaded them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

from runner.errors import StepFailed
from runner.source import redis_fields, redis_members
from runner.source.redis_choose import among, named
from runner.source.redis_connect import RawConnection, connect
from runner.source.redis_file import TAIL, Summary, chunks, summarize
from runner.source.redis_fingerprint import compare, fingerprint, of_keys
from runner.source.redis_live import count_keys, evicted
from runner.source.redis_load import RESTORED, SKIPPED, Counts
from runner.source.redis_rdb import Entry
from runner.source.redis_spot import Spot
from runner.source.redis_swap import FILE, swapped

AT_ONCE = 200
MOST_NAMED = 3
SHORTEST_SECONDS = 30.0  # for two looks at all of the content
EXPIRED_SECONDS = 2.0  # servers' clocks are told apart by less


def confirm(spot: Spot) -> list[str]:
    """Raise StepFailed unless all that was restored stands at the destination; return which keys
    were there before and are others than in the snapshot, and which databases are not in it.
    """
    if swapped(spot) != "done":
        raise StepFailed(f"What was restored of {spot.name} does not stand in its place yet.")
    told = [told for one in redis_members.known(spot) for told in _confirm(one)]
    return [*told, *_left(spot)]


def _left(spot: Spot) -> Iterator[str]:
    """What the source is now, and was not when the snapshot was taken."""
    staged, chosen = spot.databases, spot.chosen
    if staged is None or (chosen is not None and chosen <= staged):
        return
    rest = "all but " + named(staged) if chosen is None else named(chosen - staged)
    yield f"not in the snapshot, so left as it was: {rest}"


def _confirm(spot: Spot) -> list[str]:
    with ExitStack() as stack:
        live = stack.enter_context(connect(spot.address))
        scratch = spot.scratch
        loaded = None if scratch is None else stack.enter_context(connect(scratch.address))
        if spot.place.running:
            return []  # whoever writes there may have changed any key since
        if (spot.progress() or {})["way"] == FILE:
            _equal(spot, live, loaded)
            return []
        wrong, other = _wrong(spot, live, loaded)
        extra, lost = _extra(spot, live), _evicted(spot, live)
    if wrong:
        raise StepFailed(
            f"{len(wrong):,} keys at {live.where} are not as they were restored: {_named(wrong)}.",
            remedy="Does somebody write there, or does it evict keys (maxmemory-policy)? "
            "Stop the app, or restore with --live.",
        )
    if lost > 0:
        # Whose keys these were, no server tells.
        other_way = "restore with --live" if spot.databases else "empty it with --existing flush"
        raise StepFailed(
            f"{live.where} is full: it evicted {lost:,} keys while it was restored.",
            remedy=f"Give it more memory (maxmemory), or {other_way}.",
        )
    if extra > 0:
        raise StepFailed(
            f"{extra:,} keys at {live.where} came into being while it was restored.",
            remedy="Stop the app that writes there, or restore with --live.",
        )
    told = (
        f"keys that were at {live.where} stay as they were there, {len(other):,} of them not as in "
        f"the snapshot: {_named(other)}. `restore` with `--existing overwrite` replaces such keys."
    )
    return [told] if other else []


def _named(keys: Sequence[bytes]) -> str:
    return ", ".join(repr(key)[1:] for key in keys[:MOST_NAMED])


def _equal(spot: Spot, live: RawConnection, loaded: RawConnection | None) -> None:
    """Raise StepFailed unless the server holds what the scratch server holds, and nothing else."""
    if loaded is None:
        found = sum(count_keys(live).values())
        keys = sum(spot.noted().summary.keys.values())
        if found > keys or (keys and not found):
            raise StepFailed(f"{live.where} has {found:,} keys instead of {keys:,}.")
        return
    seconds = SHORTEST_SECONDS
    while True:
        horizon = int((time.time() + seconds) * 1000)
        differences = compare(fingerprint(loaded, horizon), fingerprint(live, horizon))
        if time.time() * 1000 < horizon:
            break
        seconds *= 4  # keys have expired between the two looks
    if differences:
        raise StepFailed(
            f"{live.where} does not hold what was restored: {differences[0]}.",
            remedy="Did it read another file? Look into its log.",
        )


def _wrong(
    spot: Spot, live: RawConnection, loaded: RawConnection | None
) -> tuple[list[bytes], list[bytes]]:
    """The keys that are not there as in the snapshot: of those restored, and of those skipped."""
    restored: list[bytes] = []
    skipped: list[bytes] = []
    for number, form in enumerate(spot.noted().forms):
        outcomes = spot.outcomes(number).read_bytes()
        at = 0
        for entries in summarize(chunks(spot.file(number)), form, Summary()):
            here = list(zip(entries, outcomes[at : at + len(entries)], strict=True))
            at += len(entries)
            for outcome, wrong in ((RESTORED, restored), (SKIPPED, skipped)):
                for some in _some([entry for entry, had in here if had == outcome[0]]):
                    wrong.extend(_differing(some, live, loaded))
    return restored, skipped


def _some(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Lists of entries of one database."""
    for database in sorted({entry.database for entry in entries}):
        found = [entry for entry in entries if entry.database == database]
        for start in range(0, len(found), AT_ONCE):
            yield found[start : start + AT_ONCE]


def _differing(
    entries: Sequence[Entry], live: RawConnection, loaded: RawConnection | None
) -> Iterator[bytes]:
    database = entries[0].database
    live.select(database)
    unlike: list[Entry] = []
    for entry, (dumped, expires) in zip(entries, _look(live, entries), strict=True):
        if _over(entry):
            continue
        if dumped is None and _faded(entry):
            continue
        if not isinstance(dumped, bytes) or not _same_expiry(entry, expires):
            yield entry.key
        elif dumped[:-TAIL] != entry.value:
            unlike.append(entry)
    if unlike and loaded is not None:
        loaded.select(database)
        yield from _unequal(unlike, live, loaded)


def _unequal(
    entries: Sequence[Entry], live: RawConnection, loaded: RawConnection
) -> Iterator[bytes]:
    """Those whose values differ: looked at together first, since they seldom do."""
    keys = [entry.key for entry in entries]
    if of_keys(live, keys) == of_keys(loaded, keys):
        return
    if len(entries) > 1:
        for entry in entries:
            yield from _unequal([entry], live, loaded)
    elif not (_over(entries[0]) or _faded(entries[0])):
        yield keys[0]


def _look(live: RawConnection, entries: Iterable[Entry]) -> list[tuple[object, object]]:
    """Of each key, what DUMP answers and when it expires."""
    commands: list[tuple[bytes, bytes]] = []
    for entry in entries:
        commands += [(b"DUMP", entry.key), (b"PEXPIRETIME", entry.key)]
    live.send_many(commands)
    replies = list(live.read_replies(len(commands)))
    return list(zip(replies[::2], replies[1::2], strict=True))


def _same_expiry(entry: Entry, found: object) -> bool:
    if not isinstance(found, int):  # before 7.0 no server tells it: RESTORE was told it exactly
        return True
    return found == (-1 if entry.expires is None else entry.expires)


def _over(entry: Entry) -> bool:
    """Whether its time is over, or nearly so."""
    return entry.expires is not None and _nearly_over(entry.expires)


def _faded(entry: Entry) -> bool:
    """Whether the time of all its fields is over, or nearly so."""
    end = redis_fields.ends(entry.value)
    return end is not None and _nearly_over(end)


def _nearly_over(at: int) -> bool:
    return at < (time.time() + EXPIRED_SECONDS) * 1000


def _evicted(spot: Spot, live: RawConnection) -> int:
    """Keys that the server gave up to make room: what was restored may be there, and what stood
    beside it be gone.
    """
    before, now = (spot.progress() or {}).get("evicted"), evicted(live)
    return 0 if before is None or now is None else now - before


def _extra(spot: Spot, live: RawConnection) -> int:
    """Keys beyond those that were restored, where everything else had to go."""
    record = spot.progress() or {}
    if not record.get("flushed"):
        return 0
    found = count_keys(live)
    there = sum(found[number] for number in among(found, spot.databases))
    return there - Counts(**record["counts"]).restored
