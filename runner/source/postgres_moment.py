"""One instant of a database, held: its tables locked against all but readers, its snapshot open.

The locks come first. A TRUNCATE or a rewriting ALTER after the snapshot would make the snapshot
see no rows: PostgreSQL keeps no old version for those.

Whoever wants a table for himself meanwhile waits for us, and every later reader queues behind him.
So whoever else of ours reads, pg_dump for one, has to lock too before he comes: to wait for him
would be to wait for ourselves, which no server notices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from runner.errors import StepFailed
from runner.source.postgres_errors import ServerSaid, said
from runner.source.postgres_session import Session, literal, value
from runner.source.postgres_tables import Chosen, Relation, Selection, choose

OVERTAKEN_SECONDS = 1.0  # to lock what we hold already: longer only behind one who waits for us

_ATTEMPTS = 5
_LOCKED_AT_ONCE = 200
_GONE = ("42P01", "3F000", "42809")  # a table was dropped, its schema too, or is another thing now
_LOCK_TIMEOUT = "55P03"

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# A standby is at the present while it receives and has replayed all that it received.
_REPLAYED = """
SELECT extract(epoch FROM coalesce(pg_last_xact_replay_timestamp(),
                                   (SELECT checkpoint_time FROM pg_control_checkpoint())))
WHERE NOT (EXISTS (SELECT FROM pg_stat_wal_receiver)
           AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn())
"""
_HOLDERS = """
SELECT n.nspname || '.' || c.relname, l.pid, pg_catalog.left(a.query, 60)
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND n.nspname !~ '^pg_'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                    WHERE d.datname = pg_catalog.current_database())
ORDER BY 1 LIMIT 3
"""


class Overtaken(StepFailed):
    """Somebody who waits for us is in the way of another of ours: another moment is needed."""

    def __init__(self, server: str, error: ServerSaid) -> None:
        super().__init__(
            f"Tables of {server} are locked against readers over and over: {error.message}",
            remedy="A TRUNCATE or an ALTER does that. Try at a quieter time, or leave the table "
            "out. Without `parallel` less is in the way.",
        )


@dataclass(frozen=True)
class Moment:
    """What others need to see the same instant, while the session that holds it is in it."""

    snapshot: str  # for SET TRANSACTION SNAPSHOT and pg_dump --snapshot
    chosen: Chosen
    # In UTC, by this machine's clock, just before the instant; at a standby that lags behind, when
    # the primary wrote what it replayed last.
    at: datetime


@contextlib.contextmanager
def held(session: Session, selection: Selection, wait: float) -> Iterator[Moment]:
    """Hold an instant of the session's database while the block runs.

    Waits at most `wait` seconds for each lock. Raises StepFailed, naming who holds it, after that.
    """
    moment = _hold(session, selection, wait)
    yield moment
    session.execute("COMMIT")


def join(session: Session, moment: Moment) -> None:
    """Begin a transaction that sees the instant. Raises Overtaken when it cannot lock too."""
    session.execute(_BEGIN)
    session.execute(f"SET TRANSACTION SNAPSHOT {literal(moment.snapshot)}")
    try:
        _lock(session, moment.chosen.full, OVERTAKEN_SECONDS)
    except ServerSaid as error:
        if error.state != _LOCK_TIMEOUT:
            raise
        raise Overtaken(session.server.describe(), error) from error


def _hold(session: Session, selection: Selection, wait: float) -> Moment:
    """Choose, lock, look again: what came or went in between is another attempt."""
    in_recovery = value(session, "SELECT pg_catalog.pg_is_in_recovery()") == "t"
    for _ in range(_ATTEMPTS):
        before = choose(session, selection)
        lagging = session.rows(_REPLAYED) if in_recovery else []
        session.execute(_BEGIN)
        try:
            _lock(session, _readable(before.full, in_recovery), wait)
        except ServerSaid as error:
            session.execute("ROLLBACK")
            if error.state in _GONE:
                continue
            raise _explained(session, error, wait) from error
        at = datetime.now(UTC)
        if lagging:
            at = min(at, datetime.fromtimestamp(float(lagging[0][0] or 0), UTC))
        snapshot = value(session, "SELECT pg_catalog.pg_export_snapshot()")
        after = choose(session, selection)
        if after.names() == before.names():
            return Moment(snapshot, _without_unlogged(after, in_recovery), at)
        session.execute("ROLLBACK")
    raise StepFailed(
        f"Tables of {session.server.describe()} are made and dropped all the while: no instant "
        "could be held.",
        remedy="Leave the schema of those out (`exclude_schemas`), or try at a quieter time.",
    )


def _lock(session: Session, tables: Sequence[Relation], wait: float) -> None:
    # As a setting of the transaction: a query here would take the snapshot before the locks.
    session.execute(f"SET LOCAL lock_timeout = {max(1, round(wait * 1000))}")
    for start in range(0, len(tables), _LOCKED_AT_ONCE):
        names = ", ".join(f"ONLY {one.sql}" for one in tables[start : start + _LOCKED_AT_ONCE])
        session.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    session.execute("SET LOCAL lock_timeout = 0")


def _readable(tables: Sequence[Relation], in_recovery: bool) -> list[Relation]:
    """A standby has no rows of unlogged tables, and pg_dump leaves them out there."""
    return [one for one in tables if not (in_recovery and one.unlogged)]


def _without_unlogged(chosen: Chosen, in_recovery: bool) -> Chosen:
    full = tuple(_readable(chosen.full, in_recovery))
    lost = tuple(one for one in chosen.full if one not in full)
    return replace(chosen, full=full, empty=(*chosen.empty, *lost))


def _explained(session: Session, error: ServerSaid, wait: float) -> StepFailed:
    if error.state != _LOCK_TIMEOUT:
        return error
    holders = "; ".join(
        f"{name} by process {pid} ({(query or '').strip()})"
        for name, pid, query in session.rows(_HOLDERS)
    )
    words = f"lock timeout after {wait:g} s; held: {holders or 'nothing any more'}"
    return said(f"Locking the tables of {session.server.describe()}", words, error.state)
