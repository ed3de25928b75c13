"""The capture of a Redis server or cluster: an RDB where the server sends one, else every key."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runner.source import Capture, Captured, redis_sync
from runner.source.redis_address import Address
from runner.source.redis_choose import Chosen, as_list, chosen_of, named
from runner.source.redis_cluster import layout_of
from runner.source.redis_connect import RawConnection, Rejected, connect
from runner.source.redis_fingerprint import databases
from runner.source.redis_keys import KeyDump, paused
from runner.source.redis_rdb import TYPES, Rdb
from runner.source.redis_some import SomeDatabases
from runner.store.seal import Sink

FORMAT = 1
USERS = "acl"  # the part that holds the ACL list
_SERVERS = {"valkey-ver": "valkey", "redis-ver": "redis"}
COUNTED = 100_000  # keys; more are counted one by one only if the server has several databases
ANY = -1  # a kind of value that was not looked at
_SKEW = timedelta(hours=1)  # a server's clock that is further off is not believed


@dataclass(frozen=True)
class _Taken:
    """What was captured of one server."""

    at: datetime
    form: str  # rdb | resp
    kinds: Mapping[int, Mapping[int, int]]  # keys by database and first byte of their values
    functions: int  # libraries
    versions: Mapping[str, str]
    exact: bool = True
    notes: tuple[str, ...] = ()


def capture_server(address: Address, options: Mapping[str, Any], capture: Capture) -> Captured:
    """Store one artifact for each primary, and the users.

    Raises StepFailed when the server is not there, refuses, or ends in the middle.
    """
    chosen = chosen_of(options)
    with connect(address) as connection:
        layout = layout_of(connection, address)
    taken = [_take(one.address, one.part, options, capture) for one in layout.primaries]
    notes = [*layout.notes, *dict.fromkeys(note for one in taken for note in one.notes)]
    if not any(count for one in taken for kinds in one.kinds.values() for count in kinds.values()):
        empty = "it holds no key at all"
        notes.append(empty if chosen is None else f"there is no key in {named(chosen)}")
    found = _fingerprint(taken, chosen)
    if modules := found["types"].get("module"):
        notes.append(
            f"{modules} key{'s' * (modules != 1)} of modules: only a server that has the same ones "
            "loads them (Redis 8 has that of vector sets); where it is not JSON or a vector set, a "
            "restore compares their names and expiries alone"
        )
    with connect(layout.primaries[0].address) as connection:
        notes += _store_users(connection, capture)
    return Captured(
        min(one.at for one in taken),
        found,
        consistency="exact" if all(one.exact for one in taken) else "fuzzy",
        versions=taken[0].versions,
        notes=tuple(notes),
    )


def _take(address: Address, part: str, options: Mapping[str, Any], capture: Capture) -> _Taken:
    method, chosen = options.get("method", "auto"), chosen_of(options)
    refused: tuple[str, ...] = ()
    if method != "keys":
        try:
            with redis_sync.begin(address, _note_of(address, capture)) as snapshot:
                if chosen is not None:
                    return _take_some(snapshot, chosen, part, capture)
                return _take_rdb(snapshot, _has_one_database(address), part, capture)
        except Rejected as error:
            if method == "sync" or not redis_sync.sends_none(error):
                raise
            refused = (f"the server sends no RDB ({error.text[:100]}), so each key was read alone",)
    dump = KeyDump(address, chosen)
    return _take_keys(dump, part, options.get("pause"), refused, capture)


def _note_of(address: Address, capture: Capture) -> Path:
    """A file for what is to be put back at this server: not in the scratch folder, which goes."""
    name = hashlib.sha256(address.where.encode()).hexdigest()[:16]
    return capture.scratch.parent / f"redis-delay-{name}"


def _take_rdb(snapshot: redis_sync.Snapshot, alone: bool, part: str, capture: Capture) -> _Taken:
    """`alone`: the server has no more than one database."""
    found: dict[int, dict[int, int]] = {}
    read: list[Rdb] = []

    def produce(sink: Sink) -> None:
        rdb = Rdb(_passed(snapshot.chunks(), sink.write))
        read.append(rdb)
        announced = rdb.announced()
        if announced is None or announced <= COUNTED or not alone:
            found.update(rdb.tally())
        else:
            found.update({number: {ANY: count} for number, count in rdb.sizes.items()})
            rdb.pass_over()

    capture.store("rdb", produce, part=part)
    rdb = read[0]
    beside = ["what modules keep beside the keys is in it"] if rdb.beside else []
    return _taken(snapshot, rdb, "rdb", found, len(rdb.functions), beside)


def _take_some(
    snapshot: redis_sync.Snapshot, chosen: frozenset[int], part: str, capture: Capture
) -> _Taken:
    """The keys of some databases, out of the RDB that the server sends of all."""
    read: list[SomeDatabases] = []

    def produce(sink: Sink) -> None:
        some = SomeDatabases(snapshot.chunks(), chosen)
        read.append(some)
        for chunk in some.chunks():
            sink.write(chunk)

    capture.store("resp", produce, part=part)
    rdb, found = read[0].rdb, read[0].kinds
    others = [("functions", rdb.functions), ("what modules keep beside the keys", rdb.beside)]
    left = [f"{what} of the whole server: not in it" for what, there in others if there]
    return _taken(snapshot, rdb, "resp", found, 0, left)


def _taken(
    snapshot: redis_sync.Snapshot,
    rdb: Rdb,
    form: str,
    kinds: Mapping[int, Mapping[int, int]],
    functions: int,
    notes: Iterable[str],
) -> _Taken:
    at = _forked(snapshot.asked_at, rdb.auxiliary.get("ctime", ""))
    versions = {
        name: rdb.auxiliary[field] for field, name in _SERVERS.items() if field in rdb.auxiliary
    }
    versions["rdb"] = str(rdb.version)
    return _Taken(at, form, kinds, functions, versions, notes=(*snapshot.notes, *notes))


def _take_keys(
    dump: KeyDump, part: str, limit: float | None, notes: tuple[str, ...], capture: Capture
) -> _Taken:
    address = dump.address
    with connect(address) as connection:
        versions = _versions(connection)
        alone = _told(connection, "replication").get("master_link_down_since_seconds")
    with contextlib.ExitStack() as stack:
        held: Callable[[], bool] = lambda: False  # noqa: E731
        if limit is not None:
            try:
                held = stack.enter_context(paused(address, limit))
            except Rejected as error:
                notes += (f"writers could not be paused ({error.text[:100]})",)
        at = datetime.now(UTC)
        if alone is not None:
            notes += (f"a replica without its primary for {alone} s: nothing newer is in it",)
            at -= timedelta(seconds=max(0, int(alone)))

        def produce(sink: Sink) -> None:
            for chunk in dump.chunks():
                sink.write(chunk)

        capture.store("resp", produce, part=part)
        exact = held()
    notes += tuple(dump.unread)
    if limit is not None and not exact:
        notes += (f"keys took longer to read than the pause of writers lasts ({limit:g} s)",)
    return _Taken(at, "resp", dump.kinds, dump.functions, versions, exact, notes)


def _fingerprint(taken: Iterable[_Taken], chosen: Chosen) -> dict[str, Any]:
    """What is known without decoding values; the content itself is proven by loading it."""
    databases: Counter[int] = Counter()
    types: Counter[str] = Counter()
    forms, functions = set(), 0
    for one in taken:
        forms.add(one.form)
        functions = max(functions, one.functions)
        for database, kinds in one.kinds.items():
            databases[database] += sum(kinds.values())
            for kind, count in kinds.items():
                types[TYPES.get(kind, "other")] += count
    return {
        "format": FORMAT,
        "forms": sorted(forms),
        "databases": {
            str(one): {"keys": databases[one]} for one in sorted(databases) if databases[one]
        },
        "types": dict(sorted(types.items())),  # "other": not looked at, or not known
        "functions": functions,
        **({} if chosen is None else {"chosen": as_list(chosen)}),
    }


def _store_users(connection: RawConnection, capture: Capture) -> list[str]:
    """Store the ACL list, as the server writes it: with the hashes of passwords."""
    try:
        found = connection.call("ACL", "LIST")
    except Rejected as error:
        return [f"users were not saved: {error.text[:100]}"]
    lines = [line.decode(errors="surrogateescape") for line in found]
    text = json.dumps({"users": lines}, indent=1).encode() + b"\n"
    capture.store("json", lambda sink: sink.write(text), part=USERS)
    return []


def _has_one_database(address: Address) -> bool:
    """Whether all keys are in one database, so that the server's count of it is that of all."""
    try:
        with connect(address) as connection:
            return len(databases(connection)) == 1
    except Rejected:
        return False


def _versions(connection: RawConnection) -> dict[str, str]:
    known = _told(connection, "server")
    name = "valkey" if "valkey_version" in known else "redis"
    return {name: known[f"{name}_version"]} if known else {}


def _told(connection: RawConnection, section: str) -> dict[str, str]:
    """What INFO says in a section; nothing where it may not be asked."""
    try:
        text = connection.call("INFO", section).decode(errors="replace")
    except Rejected:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _forked(asked_at: datetime, told: str) -> datetime:
    """The instant of an RDB. A server may send the one that another replica asked for before."""
    if not told.isdigit():
        return asked_at
    began = datetime.fromtimestamp(int(told), UTC)
    return began if asked_at - _SKEW < began < asked_at else asked_at


def _passed(chunks: Iterator[bytes], take: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        take(chunk)
        yield chunk
