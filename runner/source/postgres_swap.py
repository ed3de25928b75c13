"""Databases exchanged by renames: all of a restore in one transaction, or none.

What is live is renamed to `<name>_before_<token>`, what was staged gets its name. Both are known
by their oids, which renames do not change: so the catalog itself says how far a swap got, whoever
asks, and whatever was killed when.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass

from runner.durable import make_folder, sync_folder, write_bytes
from runner.errors import PersonNeeded, StepFailed
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_place import Spot, document, maintenance, names_of, oids
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, identifier, literal, open_session

SECONDS = 60.0  # that connections may take to end
LEAVING_SECONDS = 2.0  # that the server may take to forget who has left
PAUSE_SECONDS = 0.2
IN_USE = "55006"  # the code for a database that others are connected to
MOST_NAMED = 5

# One without rights sees of others' sessions who they are, but not what they are.
_CLIENTS = (
    "SELECT pid, datname, COALESCE(usename, '?'), application_name, client_addr "
    "FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid() "
    "AND COALESCE(backend_type, 'client backend') NOT LIKE 'autovacuum%' AND datname IN "
)
_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database IN "


@dataclass(frozen=True)
class Exchange:
    """One database that takes another's name."""

    live: str
    staged: str
    safety: str
    staged_oid: int
    live_oid: int  # of what is replaced; 0: there was nothing of that name
    limit: int = -1  # of connections, once it is live; -1: none


def exchange(spot: Spot) -> list[str]:
    """Swap every database of a restore; return the names of the safety copies.

    Raises StepFailed when somebody stays connected; then nothing is exchanged.
    """
    if not recorded(spot):
        noted = spot.noted()
        with maintenance(spot.server) as session:
            standing = oids(session, [one.live for one in noted.members])
        record(
            spot,
            [
                Exchange(one.live, one.staged, one.safety, one.oid, standing.get(one.live, 0),
                         one.limit)
                for one in noted.members
            ],
        )  # fmt: skip
    return carry_on(spot)


def record(spot: Spot, exchanges: Sequence[Exchange]) -> None:
    """Write down what is to be exchanged, durably, before the first rename."""
    make_folder(spot.workspace)
    write_bytes(spot.record, json.dumps([asdict(one) for one in exchanges]).encode())


def carry_on(spot: Spot) -> list[str]:
    """Do the recorded renames that are still to be done; return the names of the safety copies."""
    exchanges = recorded(spot)
    avoid = [name for one in exchanges for name in (one.live, one.staged)]
    with maintenance(spot.server, avoid) as session:
        _rename(spot.server, session, _forward(session, exchanges))
    return [one.safety for one in exchanges if one.live_oid]


def recorded(spot: Spot) -> list[Exchange]:
    """What a swap that was begun exchanges; nothing when none was."""
    return [Exchange(**one) for one in document(spot.record) or ()]


def progress(spot: Spot) -> str:
    """How far the swap got: absent | partial | done."""
    exchanges = recorded(spot)
    if not exchanges:
        return "absent"
    with maintenance(spot.server) as session:
        names = names_of(session, [one.staged_oid for one in exchanges])
    arrived = {names.get(one.staged_oid) == one.live for one in exchanges}
    return "partial" if len(arrived) > 1 else "done" if arrived == {True} else "absent"


def undo(spot: Spot) -> None:
    """Give every database the name back that it had before the swap."""
    exchanges = recorded(spot)
    if not exchanges:
        return
    avoid = [name for one in exchanges for name in (one.live, one.staged, one.safety)]
    with maintenance(spot.server, avoid) as session:
        _rename(spot.server, session, _backward(session, exchanges))
    forget(spot)


def forget(spot: Spot) -> None:
    """Drop the record of a swap: it can be neither undone nor resumed any more."""
    if spot.record.exists():
        spot.record.unlink()
        sync_folder(spot.record.parent)


def confirm(spot: Spot) -> None:
    """Raise StepFailed unless what was staged bears the live names now, and opens."""
    exchanges = recorded(spot)
    with maintenance(spot.server) as session:
        names = names_of(session, [one.staged_oid for one in exchanges])
    for one in exchanges:
        if names.get(one.staged_oid) != one.live:
            raise StepFailed(f"The database {one.live} is not the one that was restored.")
        with open_session(spot.server, one.live) as session:
            session.rows("SELECT count(*) FROM pg_catalog.pg_class")
    if not exchanges:
        raise StepFailed(f"What was restored does not stand at {spot.server.describe()} yet.")


def require_idle(session: Session, databases: Sequence[str]) -> None:
    """Raise PersonNeeded, naming who is connected, unless nobody uses these databases. The server
    needs a moment to forget who has just left.
    """
    if not databases:
        return
    wanted = _listed(databases)
    prepared = [str(gid) for (gid,) in session.rows(f"{_PREPARED}({wanted})")]
    if prepared:
        raise PersonNeeded(
            f"A prepared transaction ({prepared[0]}) holds a database that is to be replaced.",
            remedy="COMMIT PREPARED or ROLLBACK PREPARED it there.",
        )
    users = clients(session, databases)
    deadline = time.monotonic() + LEAVING_SECONDS
    while users and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
        users = clients(session, databases)
    if users:
        raise PersonNeeded(
            f"{databases[0] if len(databases) == 1 else 'A database'} is in use by {told(users)}.",
            remedy="Stop the app (declare it under `services`) and go on, or restore with --live: "
            "connections are then ended at the exchange.",
        )


def clients(session: Session, databases: Sequence[str]) -> list[tuple[int, str]]:
    """Who is connected to these databases: process ids of the server, and words."""
    found = []
    for pid, name, user, application, address in session.rows(
        f"{_CLIENTS}({_listed(databases)}) ORDER BY pid"
    ):
        words = f"{application or 'a program'} as {user}"
        words += f" from {address}" if address else ""
        found.append((int(pid or 0), f"{words} (database {name})"))
    return found


def told(users: Sequence[tuple[int, str]]) -> str:
    """The first few of those who are connected, for a person."""
    more = len(users) - MOST_NAMED
    words = "; ".join(one for _, one in users[:MOST_NAMED])
    return f"{words}; and {more} more" if more > 0 else words


def _forward(session: Session, exchanges: Sequence[Exchange]) -> list[tuple[str, str]]:
    """The renames that are still to be done."""
    now = names_of(session, [oid for one in exchanges for oid in (one.staged_oid, one.live_oid)])
    standing = oids(session, [one.live for one in exchanges])
    moves = []
    for one in exchanges:
        if now.get(one.staged_oid) == one.live:
            continue
        if one.staged_oid not in now:
            raise StepFailed(f"What was staged for {one.live} is gone from the server.")
        if standing.get(one.live, one.live_oid) not in (one.live_oid, 0):
            raise StepFailed(
                f"A database {one.live} came into being while it was being replaced.",
                remedy="Stop what made it, rename or drop it, and resume.",
            )
        if now.get(one.live_oid) == one.live:
            moves.append((one.live, one.safety))
        moves.append((one.staged, one.live))
        if one.limit >= 0:
            session.execute(f"ALTER DATABASE {identifier(one.staged)} CONNECTION LIMIT {one.limit}")
    return moves


def _backward(session: Session, exchanges: Sequence[Exchange]) -> list[tuple[str, str]]:
    now = names_of(session, [oid for one in exchanges for oid in (one.staged_oid, one.live_oid)])
    moves = []
    for one in reversed(exchanges):
        if now.get(one.staged_oid) == one.live:
            moves.append((one.live, one.staged))
        if now.get(one.live_oid) == one.safety:
            moves.append((one.safety, one.live))
    return moves


def _rename(server: Server, session: Session, moves: Sequence[tuple[str, str]]) -> None:
    """Rename databases in one transaction, ending all connections that are in its way."""
    if not moves:
        return
    old = sorted({name for name, _ in moves})
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with _ending(server, old, moves):
                _transact(session, moves)
        except ServerSaid as error:
            if error.state != IN_USE:
                raise
            if time.monotonic() > deadline:
                users = clients(session, old)
                raise StepFailed(
                    f"Nothing was exchanged: {old[0]} stays in use by {told(users)}, and its "
                    "connections do not end.",
                    remedy="Stop what connects there, and go on.",
                ) from error
        else:
            return


def _transact(session: Session, moves: Sequence[tuple[str, str]]) -> None:
    session.execute("BEGIN")
    try:
        for old, new in moves:
            session.execute(f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)}")
        session.execute("COMMIT")
    except ServerSaid:
        with contextlib.suppress(ServerSaid):
            session.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _ending(
    server: Server, databases: Sequence[str], moves: Sequence[tuple[str, str]]
) -> Iterator[None]:
    """Keep ending the connections to databases, in a session beside, while the block runs.

    A rename lets nobody new in while it waits for those who are there: so an application that
    connects again and again is kept out, and no state is left that a kill could make last.
    """
    done = threading.Event()

    def work() -> None:
        avoid = [name for move in moves for name in move]
        with contextlib.suppress(StepFailed), maintenance(server, avoid) as session:
            while not done.is_set():
                end_clients(session, databases)
                done.wait(PAUSE_SECONDS)

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="ends connections")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def end_clients(session: Session, databases: Sequence[str]) -> None:
    """End every connection to databases that the role may end."""
    for pid, _ in clients(session, databases):
        with contextlib.suppress(ServerSaid):
            session.rows(f"SELECT pg_catalog.pg_terminate_backend({pid})")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(literal(name) for name in names)
