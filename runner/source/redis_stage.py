"""What was stored of a Redis server, staged: written to a file, split to its end, and loaded into a
scratch server, where it is looked at.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.durable import make_folder
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import Artifacts, redis_fields, redis_names, redis_scratch
from runner.source.redis_choose import Chosen, both, from_list, named
from runner.source.redis_connect import connect
from runner.source.redis_file import Summary, form_of, read, summarize
from runner.source.redis_live import count_keys
from runner.source.redis_load import Loader, load_functions
from runner.source.redis_rdb import Entry
from runner.source.redis_scratch import ScratchServer
from runner.source.redis_some import Portable
from runner.source.redis_spot import STAGED, Spot, Staged

NOT_CONTENT = ("acl", "fingerprint")  # parts beside the keys
SOON = 3600.0  # seconds; no load takes longer


@dataclass
class _Written:
    """What was found in the artifacts while they were written."""

    forms: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    ends: array[int] = field(default_factory=lambda: array("q"))  # when keys expire soon, in ms
    # The same of hashes without a lasting field. A server may take one that is over, and then drop
    # it.
    fading: array[int] = field(default_factory=lambda: array("q"))
    chosen: Chosen = None  # the databases that were written; None: all, and the functions

    def note_soon(self, entries: Sequence[Entry]) -> None:
        """Take down which keys may expire before the load is over."""
        soon = (time.time() + SOON) * 1000
        self.ends.extend(one.expires for one in entries if one.expires and one.expires < soon)
        if not redis_fields.KINDS.isdisjoint(self.summary.kinds):
            found = (redis_fields.ends(one.value) for one in entries)
            self.fading.extend(end for end in found if end is not None and end < soon)

    def expired(self) -> int:
        """Keys whose time is over now."""
        return _past(self.ends)

    def may_be_gone(self) -> int:
        """These, and hashes all of whose fields are over."""
        return _past(self.ends) + _past(self.fading)


def stage(spot: Spot, artifacts: Artifacts) -> None:
    """Write the content into the workspace and load it into a scratch server.

    Raises StepFailed if what was stored is damaged. Where no scratch server can be had, that is
    noted: then nothing is proven, and `differences` says so.
    """
    place = spot.place
    if set(artifacts.parts) <= set(NOT_CONTENT):
        raise StepFailed(f"The snapshot has no content of {spot.name}.")
    try:
        make_folder(spot.workspace)
        written = _write(spot, artifacts)
    except OSError as error:
        raise StepFailed(
            f"{spot.name} cannot be staged in {spot.workspace}: {error.strerror or error}.",
            remedy="Free some room there.",
        ) from error
    if place.include and not written.summary.wanted:
        raise UsageError(
            f"No key of this snapshot matches {', '.join(place.include)}.",
            remedy="Patterns are those of Redis: session:*, user:[0-9]*.",
        )
    before = written.expired()
    try:
        loaded = _load(spot, written)
        unproven = None
    except PersonNeeded as error:
        loaded, unproven = 0, error
    staged = Staged(
        tuple(written.forms),
        tuple(written.hashes),
        written.summary,
        loaded,
        (before, written.may_be_gone()),
        unproven.message if unproven else "",
        unproven.remedy if unproven else "",
        written.chosen,
    )
    spot.write(spot.note, staged.to_json())


def staged(spot: Spot) -> Path | str | None:
    """The URL of the scratch server; a file where there can be none; None if neither is whole."""
    if not spot.note.exists():
        return None
    if spot.noted().unproven:
        return spot.file(0)
    server = spot.scratch
    return None if server is None else server.url(spot.live.database)


def stage_unseen(spot: Spot, artifacts: Artifacts, why: str) -> None:
    """Write each artifact of keys to a file, and load none: `why` is said of the proof."""
    written = _write(spot, artifacts)
    forms, hashes = tuple(written.forms), tuple(written.hashes)
    staged = Staged(forms, hashes, written.summary, 0, (0, 0), why, chosen=written.chosen)
    spot.write(spot.note, staged.to_json())


def _write(spot: Spot, artifacts: Artifacts) -> _Written:
    """Write each artifact of keys to a file, and split it on the way."""
    written = _Written()
    parts = [one for one in artifacts.parts if one not in NOT_CONTENT]
    asked = redis_names.matches(spot.place.include)
    written.chosen = chosen = _chosen(spot, from_list(artifacts.fingerprint.get("chosen")))
    for number, part in enumerate(parts):
        digest, portable = hashlib.sha256(), Portable()
        with spot.file(number).open("wb") as file:
            # Of some databases, what is written is no longer what was stored.
            whole = [file.write] if chosen is None else []
            chunks = _kept(artifacts.read(part), digest.update, *whole)
            first = next(chunks, b"")
            form = form_of(first)
            content = itertools.chain([first], chunks)
            for entries in summarize(content, form, written.summary, chosen):
                written.note_soon(entries)
                if chosen is not None:
                    file.write(portable.commands(entries, written.summary.version))
                if asked is not None:
                    wanted = (entry.database for entry in entries if asked(entry.key))
                    written.summary.wanted.update(wanted)
        written.forms.append(form if chosen is None else "resp")
        written.hashes.append(digest.hexdigest())
    return written


def _chosen(spot: Spot, stored: Chosen) -> Chosen:
    """What is staged. Raises PersonNeeded where nothing that is stored is the source's now: an
    empty restore would be equal to nothing.
    """
    found = both(spot.chosen, stored)
    if found is None or found:
        return found
    raise PersonNeeded(
        f"What was stored of {spot.name} is of {named(stored or ())}, and its spec names "
        f"{named(spot.chosen or ())}: nothing of it would come back.",
        remedy="Declare `databases` of the source as they were then, or take a newer snapshot.",
    )


def _past(times: Iterable[int]) -> int:
    now = time.time() * 1000
    return sum(1 for one in times if one <= now)


def _kept(chunks: Iterator[bytes], *takers: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        for take in takers:
            take(chunk)
        yield chunk


def _load(spot: Spot, written: _Written) -> int:
    """Start a scratch server with all that was written; return the keys that it took."""
    found = written.summary
    if written.forms == ["rdb"]:
        file = spot.file(0)
        server = redis_scratch.start(spot.servers, STAGED, file, found.memory, found.databases)
        with connect(server.address) as connection:
            return sum(count_keys(connection).values())
    taken = 0

    def fill(server: ScratchServer) -> None:
        nonlocal taken
        taken = _fill(spot, written, server)

    redis_scratch.start(spot.servers, STAGED, None, found.memory, found.databases, fill)
    return taken


def _fill(spot: Spot, written: _Written, server: ScratchServer) -> int:
    """Bring all keys in; return how many there were. Raises PersonNeeded if it cannot read one."""
    taken = 0
    with connect(server.address) as connection:
        for number, form in enumerate(written.forms):
            reading = read(spot.file(number), form)
            counts = Loader(connection, replace=True).load(reading.batches())
            if counts.failed:
                raise PersonNeeded(
                    f"The server installed here cannot read {counts.failed:,} of the keys.",
                    remedy="Install a Redis or Valkey server that is not older than the captured.",
                )
            load_functions(connection, reading.functions, replace=True)
            taken += counts.restored
    return taken
