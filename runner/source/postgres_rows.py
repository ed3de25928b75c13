"""The rows of tables as numbers: how many there are, and a sum over the hashes of all.

A sum does not depend on the order of the rows, and unlike an exclusive or it sees a row that is
there twice. A generated column follows from the others, and is left out.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_hash import Column, row_hash
from runner.source.postgres_session import Session, passing, value, version_of
from runner.source.postgres_tables import Chosen, Relation, matcher, matches

LARGE_OBJECTS = ""  # the name under which those are counted; no table has it

# A large table is read in pieces, so that two connections have the same to do.
PIECE_PAGES = 32 * 1024
_TID_RANGES = 140000  # from this version on, a range of ctid reads those pages alone
_AT_ONCE = 1000
DENIED = "permission denied for "
_IN_PASSING = 50  # queries whose locks are kept together

_SHAPES = """
SELECT c.oid, pg_catalog.pg_relation_size(c.oid)
              / pg_catalog.current_setting('block_size')::pg_catalog.int8,
       (SELECT m.amname FROM pg_catalog.pg_am m WHERE m.oid = c.relam), a.attname,
       CASE WHEN a.atttypid <> 'bpchar'::pg_catalog.regtype OR a.atttypmod > 0
            THEN pg_catalog.format_type(a.atttypid, NULL) END, a.attnotnull
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_attribute a
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.oid IN ({oids}) ORDER BY c.oid, a.attname COLLATE "C"
"""

# pg_dump reads holes as zeros and writes them back as such, so a page counts as what it holds
# up to its last byte that is not zero, and a page of zeros as none.
_PAGES = """
SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata), coalesce(sum(h), 0) FROM (
  SELECT pg_catalog.hashtextextended(concat(p.loid, ':', p.pageno, ':',
    rtrim(pg_catalog.encode(p.data, 'hex'), '0')) COLLATE "C", 0)
  FROM pg_catalog.pg_largeobject p
  WHERE rtrim(pg_catalog.encode(p.data, 'hex'), '0') <> '') o(h)
"""
_OBJECTS = "SELECT count(*), NULL FROM pg_catalog.pg_largeobject_metadata"
_MAY_READ_PAGES = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')"


@dataclass(frozen=True)
class Task:
    """One query for a number of rows and a sum: a table, a piece of one, the large objects."""

    name: str  # of the table, as shown
    sql: str
    pages: int  # how much there is to read


@dataclass
class Rows:
    """What is known of one table. The sums of its pieces add up."""

    rows: int = 0
    sum: int | None = None  # None: not hashed

    def to_json(self) -> dict[str, Any]:
        """As a fingerprint holds it; a sum may be larger than what JSON's readers can hold."""
        found: dict[str, Any] = {"rows": self.rows}
        return found if self.sum is None else {**found, "sum": str(self.sum)}


def tasks(session: Session, chosen: Chosen, level: str, counted: Sequence[str] = ()) -> list[Task]:
    """What must be asked for a fingerprint of that level, the largest first.

    `counted` are patterns of tables whose rows are not hashed.
    """
    if level == "none":
        return []
    hashed = level == "content"
    pattern = matcher(counted)
    shapes = _shapes(session, chosen.full)
    in_pieces = version_of(session) >= _TID_RANGES
    found = [
        task
        for one in chosen.full
        for task in _table(
            one,
            shapes[one.oid],
            hashed=hashed and not matches(pattern, one.schema, one.name),
            in_pieces=in_pieces,
        )
    ]
    if chosen.large_objects:
        readable = hashed and value(session, _MAY_READ_PAGES) == "t"
        found.append(Task(LARGE_OBJECTS, _PAGES if readable else _OBJECTS, 0))
    return sorted(found, key=lambda one: -one.pages)


def measure(sessions: Sequence[Session], wanted: Sequence[Task]) -> dict[str, Rows]:
    """Ask all of it, on all sessions at once; by name.

    Raises what the first of them raises, once the others have ended.
    """
    shared = _Shared(sessions, wanted)
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(shared.work, one))
        for one in sessions[1:]
    ]
    for thread in threads:
        thread.start()
    shared.work(sessions[0])
    for thread in threads:
        thread.join()
    if shared.failures:
        raise shared.failures[0]
    return shared.found


class _Shared:
    """What several sessions do together."""

    def __init__(self, sessions: Sequence[Session], wanted: Sequence[Task]) -> None:
        self.found: dict[str, Rows] = {}
        self.failures: list[BaseException] = []
        self._sessions = sessions
        self._waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for task in wanted:
            self._waiting.put(task)

    def work(self, session: Session) -> None:
        try:
            while not self.failures and not self._waiting.empty():
                with passing(session):
                    self._some(session)
        except BaseException as error:  # noqa: BLE001 - raised by `measure`
            self.failures.append(error)
            for other in self._sessions:
                if other is not session:
                    other.cancel()

    def _some(self, session: Session) -> None:
        for _ in range(_IN_PASSING):
            try:
                task = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                rows, total = session.rows(task.sql)[0]
            except ServerSaid as error:
                raise _at(task, error) from error
            self._add(task.name, int(rows or 0), total)

    def _add(self, name: str, rows: int, total: str | None) -> None:
        with self._lock:
            known = self.found.setdefault(name, Rows())
            known.rows += rows
            if total is not None:
                known.sum = (known.sum or 0) + int(total)


def _at(task: Task, error: ServerSaid) -> ServerSaid:
    """The error with the table that was read. A plan for that works out what in its indexes and
    statistics is constant, by functions that may fail, and that no dump calls.
    """
    where = f"{task.name}: " if task.name else ""
    remedy = error.remedy or (
        "What its types and indexes call must work for this role, and with an empty `search_path`: "
        "ALTER FUNCTION … SET search_path."
    )
    if DENIED in error.message:
        remedy = (
            "GRANT SELECT on the table. If the role has that: an index or extended statistics of "
            "the table (psql shows them: \\d) call this whenever it is read. GRANT that too, or "
            "declare the function SECURITY DEFINER."
        )
    return ServerSaid(f"{where}{error.message}", remedy=remedy, state=error.state)


@dataclass(frozen=True)
class _Shape:
    pages: int
    heap: bool
    columns: tuple[Column, ...]


def _shapes(session: Session, tables: Sequence[Relation]) -> Mapping[int, _Shape]:
    found: dict[int, tuple[int, bool, list[Column]]] = {}
    for start in range(0, len(tables), _AT_ONCE):
        oids = ", ".join(str(one.oid) for one in tables[start : start + _AT_ONCE])
        for oid, pages, method, *column in session.rows(_SHAPES.format(oids=oids)):
            _, _, columns = found.setdefault(int(oid or 0), (int(pages or 0), method == "heap", []))
            name, kind, always = column
            if name is not None:
                columns.append(Column(name, kind or "", always == "t"))
    return {oid: _Shape(pages, heap, tuple(names)) for oid, (pages, heap, names) in found.items()}


def _table(one: Relation, shape: _Shape, *, hashed: bool, in_pieces: bool) -> Iterator[Task]:
    total = f"coalesce(sum({row_hash(shape.columns)}), 0)" if hashed else "NULL"
    sql = f"SELECT count(*), {total} FROM ONLY {one.sql} AS t"  # noqa: S608 - quoted
    if not (in_pieces and shape.heap):
        yield Task(one.shown, sql, shape.pages)
        return
    starts = range(0, max(shape.pages, 1), PIECE_PAGES)
    for start in starts:
        # The last piece has no end: the table may have grown since.
        end = f" AND t.ctid < '({start + PIECE_PAGES},0)'" if start != starts[-1] else ""
        begin = f" WHERE t.ctid >= '({start},0)'" if len(starts) > 1 else ""
        yield Task(one.shown, f"{sql}{begin}{end}", min(shape.pages - start, PIECE_PAGES))
