"""The swap of a Redis server: a safety copy of what is live, then the keys, one by one.

Each key has one outcome in a file beside what is staged, written once the server has answered. So
a kill leaves a state from which `exchange` goes forward and `take_back` goes back: only the keys
of the last batches are in doubt, and these are looked up in the safety copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes, write_chunks
from runner.errors import HoldfastError, PersonNeeded, StepFailed
from runner.source import redis_delay, redis_files, redis_members, redis_scratch, redis_sync
from runner.source.redis_choose import among, as_list
from runner.source.redis_connect import RawConnection, Rejected, connect
from runner.source.redis_file import AT_ONCE, Batch, Summary, chunks, form_of, read, summarize
from runner.source.redis_live import count_keys, dump_functions, evicted, is_empty
from runner.source.redis_load import (
    RESTORED,
    Counts,
    Loader,
    load_functions,
    payload_version,
)
from runner.source.redis_some import SomeDatabases
from runner.source.redis_spot import PLACED, STAGED, Owned, Spot
from runner.source.redis_value import accepted
from runner.swap import remove_tree

IN_DOUBT = 2 * AT_ONCE  # keys that may be there without an outcome
SMALL = 64 * 1024  # bytes sent together to a server that may be full
ATTEMPTS = 4
BEGUN, DONE = "begun", "done"
KEYS, FILE = "keys", "file"  # two ways to bring the content in


def exchange(spot: Spot) -> list[str]:
    """Bring the staged keys in; return the safety copies, where there was anything live."""
    if spot.home is not None and redis_scratch.find(spot.home, PLACED) is None:
        spot.record.unlink(missing_ok=True)
        if why := spot.noted().unproven:
            # A server of this machine could not read it: no more can the one that would hold it.
            raise PersonNeeded(why, remedy=spot.noted().remedy)
        # What could read all that was staged takes it.
        able = spot.scratch.program if spot.scratch is not None else ""
        found = spot.noted().summary
        redis_scratch.start(
            spot.home, PLACED, memory=found.memory, databases=found.databases, first=able
        )
    record = spot.progress()
    if spot.owned is not None and (record["way"] == FILE if record else redis_files.applies(spot)):
        return _place_file(spot, spot.owned, record)
    return [copy for one in redis_members.find(spot) for copy in _exchange(one)]


def _exchange(spot: Spot) -> list[str]:
    """The same for one server."""
    record = spot.progress()
    if record is None or record["state"] != DONE:
        with connect(spot.address) as connection:
            again = record is not None
            record = record or _begin(spot, connection)
            _bring_in(spot, connection, record, again=again)
    copies: list[str] = record["copies"]
    return copies


def _place_file(spot: Spot, owned: Owned, record: dict[str, Any] | None) -> list[str]:
    record = record or {"state": BEGUN, "way": FILE, "copies": _kept_alive(spot)}
    if record["state"] != DONE:
        spot.write(spot.record, record)
        record["copies"] = alive(spot, record) + redis_files.exchange(spot, owned)
        spot.write(spot.record, record | {"state": DONE})
    copies: list[str] = record["copies"]
    return copies


def _kept_alive(spot: Spot) -> list[str]:
    """A copy of what a running server holds: its files may be older, or not there at all."""
    try:
        with connect(spot.address) as connection:
            empty = is_empty(connection)
    except HoldfastError:
        return []
    return [] if empty else [str(_keep(spot))]


def alive(spot: Spot, record: dict[str, Any]) -> list[str]:
    """The copies of what a server held, beside those of its files."""
    return [one for one in record["copies"] if Path(one).parent == spot.safety]


def swapped(spot: Spot) -> str:
    """How far it got: absent | partial | done."""
    records = [one.progress() for one in redis_members.known(spot)]
    if not any(records):
        return "absent"
    return "done" if all(one and one["state"] == DONE for one in records) else "partial"


def take_back(spot: Spot) -> None:
    """Bring back what was live, whatever the swap got to."""
    for one in redis_members.known(spot):
        record = one.progress()
        if record is not None:
            _take_back(one, record)
    redis_members.forget(spot)


def _take_back(spot: Spot, record: dict[str, Any]) -> None:
    if spot.home is not None:
        redis_scratch.stop(spot.home, PLACED)
    elif record["way"] == FILE and spot.owned is not None:
        redis_files.take_back(spot, spot.owned)
        _revive(spot, record)
    else:
        with connect(spot.address) as connection:
            _undo(spot, connection, record)
    for number in range(len(spot.noted().forms)):
        spot.outcomes(number).unlink(missing_ok=True)
    spot.functions.unlink(missing_ok=True)
    spot.record.unlink()
    if record["way"] == KEYS:
        for copy in record["copies"]:
            Path(copy).unlink(missing_ok=True)


def _revive(spot: Spot, record: dict[str, Any]) -> None:
    """Give a server whose files held nothing what it had held in memory alone."""
    for copy in map(Path, alive(spot, record)):
        with connect(spot.address) as connection:
            if not is_empty(connection):
                return
            with copy.open("rb") as file:
                form = form_of(file.read(9))
            reading = read(copy, form)
            Loader(connection, replace=False).load(reading.batches())
            load_functions(connection, reading.functions, replace=False)


def discard(spot: Spot) -> None:
    """Remove what is staged, and a drill's server unless all was brought in there."""
    if spot.home is None:
        for one in redis_members.known(spot):
            redis_delay.put_back(one.address, one.delay)
    if spot.home is not None and swapped(spot) == "partial":
        redis_scratch.stop(spot.home, PLACED)
    redis_scratch.stop(spot.servers, STAGED)
    if spot.owned is not None:
        redis_files.discard(spot, spot.owned)
    # First: without them nothing looks swapped, or staged.
    for one in redis_members.known(spot):
        one.record.unlink(missing_ok=True)
    remove_tree(spot.workspace)


def _begin(spot: Spot, connection: RawConnection) -> dict[str, Any]:
    """Look whether the server takes the keys, and keep what is live."""
    summary = spot.noted().summary
    _require_databases(connection, summary.wanted if spot.place.include else summary.keys)
    version = payload_version(connection, summary, spot.probe)
    copies: list[str] = []
    chosen = spot.databases
    if not is_empty(connection, chosen):
        copies.append(str(_keep(spot)))
        if chosen is None and (functions := dump_functions(connection)):
            write_bytes(spot.functions, functions)
    record = {"state": BEGUN, "way": KEYS, "copies": copies, "version": version,
              "evicted": evicted(connection), "databases": as_list(chosen)}  # fmt: skip
    spot.write(spot.record, record)
    return record


def _require_databases(connection: RawConnection, databases: Iterable[int]) -> None:
    """Raise StepFailed unless the server has them all: keys follow a SELECT at once, and would go
    where it failed to lead.
    """
    try:
        for number in sorted(databases, reverse=True):
            connection.select(number)
        connection.select(0)
    except Rejected as error:
        if "out of range" not in error.text:
            raise
        raise StepFailed(
            f"{error.message} The snapshot has keys in more databases than this server.",
            remedy="Raise `databases` in its configuration, and start it anew.",
        ) from error


def _keep(spot: Spot) -> Path:
    """Save what is live to the safety folder."""
    make_folder(spot.safety)
    chosen, file = spot.databases, spot.copy
    portable = file.with_suffix(".resp")
    try:
        with redis_sync.begin(spot.address, spot.delay) as snapshot:
            if chosen is None:
                write_chunks(file, snapshot.chunks())
                return file
            write_chunks(portable, SomeDatabases(snapshot.chunks(), chosen).chunks())
    except Rejected as error:
        if not redis_sync.sends_none(error):
            raise
        from runner.source.redis_keys import dump_keys

        write_chunks(portable, dump_keys(spot.address, chosen))
    return portable


def _bring_in(
    spot: Spot, connection: RawConnection, record: dict[str, Any], *, again: bool
) -> None:
    place, staged = spot.place, spot.noted()
    if place.existing == "flush" and not spot.outcomes(0).exists():
        _flush_first(spot, connection, record)
    totals: Counter[int] = Counter()
    for number, form in enumerate(staged.forms):
        reading = read(spot.file(number), form, record["version"])
        with spot.outcomes(number).open("a+b") as file:
            file.seek(0)
            before = file.read()
            totals.update(before)
            if again:
                _doubt(spot, record, number, len(before))
            loader = Loader(
                connection,
                replace=place.existing != "skip",
                wanted=spot.wanted,
                done=_written(file.write, file.flush, totals),
            )
            loader.load(_rest(reading.batches(), len(before)))
        if not place.include:
            load_functions(connection, reading.functions, replace=place.existing != "skip")
    counts = Counts.of(totals)
    record |= {"counts": vars(counts)}
    spot.write(spot.record, record)
    if counts.failed:
        raise StepFailed(
            f"The Redis server at {connection.where} cannot read {counts.failed:,} of the keys "
            f"({counts.describe()}).",
            remedy="It lacks a module, or is older than the captured one.",
        )
    record |= {"state": DONE}
    spot.write(spot.record, record)


def _doubt(spot: Spot, record: dict[str, Any], number: int, at: int) -> None:
    """Note which keys an interrupted try may have brought in without an outcome: when they are
    found there, nobody can tell whose they are.
    """
    record.setdefault("doubts", []).append([number, at])
    spot.write(spot.record, record)


def _flush_first(spot: Spot, connection: RawConnection, record: dict[str, Any]) -> None:
    spot.write(spot.record, record | {"flushed": True})
    try:
        _flush(spot, connection)
    except Rejected:
        spot.write(spot.record, record)
        raise
    record |= {"flushed": True}


def _written(
    write: Callable[[bytes], object], flush: Callable[[], None], totals: Counter[int]
) -> Callable[[bytes], None]:
    def done(outcomes: bytes) -> None:
        write(outcomes)
        flush()
        totals.update(outcomes)

    return done


def _rest(batches: Iterable[Batch], done: int) -> Iterator[Batch]:
    """What follows the first `done` entries."""
    for batch in batches:
        if done < len(batch):
            yield batch[done:]
        done = max(0, done - len(batch))


def _flush(spot: Spot, connection: RawConnection) -> None:
    chosen = spot.databases
    if chosen is not None:
        for number in among(count_keys(connection), chosen):
            connection.select(number)
            connection.call("FLUSHDB")
        return
    connection.call("FLUSHALL")
    if dump_functions(connection) is not None:
        connection.call("FUNCTION", "FLUSH")


def _undo(spot: Spot, connection: RawConnection, record: dict[str, Any]) -> None:
    """Remove what was brought in; then the safety copy's keys come back where there is none."""
    if record.get("flushed"):
        _flush(spot, connection)
    else:
        _remove(spot, connection, record)
    for copy in map(Path, record["copies"]):
        _bring_back(connection, copy)
    if not spot.place.include:
        _restore_functions(spot, connection)


def _bring_back(connection: RawConnection, copy: Path) -> None:
    """Bring in the keys of a safety copy that are not there; again where that made a full server
    give up others. Raises StepFailed if it goes on to.
    """
    with copy.open("rb") as file:
        form = form_of(file.read(9))
    for _ in range(ATTEMPTS):
        before = evicted(connection)
        Loader(connection, replace=False).load(_small(read(copy, form).batches()))
        if evicted(connection) == before:
            return
    raise StepFailed(
        f"{connection.where} is full: it evicts keys while what it held is put back.",
        remedy=f"Give it more memory (maxmemory), and resume. All that it held is in {copy}.",
    )


def _small(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same in small pieces: what is sent takes room of the server's, too."""
    for batch in batches:
        start = size = 0
        for end, (_, payload) in enumerate(batch):
            if size and size + len(payload) > SMALL:
                yield batch[start:end]
                start, size = end, 0
            size += len(payload)
        yield batch[start:]


def _remove(spot: Spot, connection: RawConnection, record: dict[str, Any]) -> None:
    """Remove each key that was brought in, or may have been."""
    for number, form in enumerate(spot.noted().forms):
        path = spot.outcomes(number)
        outcomes = bytearray(path.read_bytes() if path.exists() else b"")
        doubts = [at for one, at in record.get("doubts", ()) if one == number]
        for at in (*doubts, len(outcomes)):
            outcomes[at : at + IN_DOUBT] = RESTORED * IN_DOUBT
        asked = spot.wanted
        at = 0
        for entries in summarize(chunks(spot.file(number)), form, Summary()):
            here = zip(entries, outcomes[at : at + len(entries)], strict=False)
            at += len(entries)
            doomed = [entry for entry, outcome in here if outcome == RESTORED[0]]
            for database in sorted({entry.database for entry in doomed}):
                connection.select(database)
                keys = [one.key for one in doomed if one.database == database]
                keys = keys if asked is None else [key for key in keys if asked(key)]
                # One by one: a cluster takes no keys of several slots together.
                connection.send_many([(b"UNLINK", key) for key in keys])
                accepted(connection.read_replies(len(keys)))
            if at >= len(outcomes):
                break


def _restore_functions(spot: Spot, connection: RawConnection) -> None:
    if spot.functions.exists():
        connection.call("FUNCTION", "RESTORE", spot.functions.read_bytes(), "FLUSH")
    elif spot.noted().summary.functions and dump_functions(connection) is not None:
        connection.call("FUNCTION", "FLUSH")
