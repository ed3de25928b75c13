"""Whether a database's definitions stayed as they were while pg_dump wrote them down.

It reads what there is at its snapshot, but has the server write down many of them (what a function
returns, the text of a view, the type of a column) as they are by then. Of a function that was
dropped in between it writes half a statement, and says nothing.
"""

from __future__ import annotations

import re

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_moment import Overtaken
from runner.source.postgres_server import Server
from runner.source.postgres_session import Row, Session, open_session

# What the server says of something that was there at the snapshot.
GONE = re.compile(r"could not open relation with OID|cache lookup failed for|could not find tuple")

# A row that is changed has another xmin. Tables are locked; views and sequences are known by their
# names, since a REFRESH changes nothing that is written down. What is temporary is not dumped.
_DEFINITIONS = """
SELECT 'function', oid, xmin::text FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'type', t.oid, t.xmin::text FROM pg_type t
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  WHERE t.oid >= 16384 AND (t.typrelid = 0 AND t.typelem = 0 OR c.relkind = 'c')
UNION ALL SELECT 'schema', oid, xmin::text FROM pg_namespace
  WHERE oid >= 16384 AND nspname !~ '^pg_'
UNION ALL SELECT 'view', r.oid, r.xmin::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
  WHERE r.oid >= 16384 AND c.relpersistence <> 't'
UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'view' END, oid,
    concat(relnamespace, ' ', relname) FROM pg_class
  WHERE oid >= 16384 AND relkind IN ('v', 'm', 'S', 'f') AND relpersistence <> 't'
UNION ALL SELECT 'index', c.oid, '' FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
  WHERE c.oid >= 16384 AND c.relpersistence <> 't'
    AND c.relnamespace <> 'pg_toast'::regnamespace
UNION ALL SELECT 'constraint', k.oid, k.xmin::text FROM pg_constraint k
  LEFT JOIN pg_class c ON c.oid = k.conrelid
  WHERE k.oid >= 16384 AND c.relpersistence IS DISTINCT FROM 't'
UNION ALL SELECT 'statistics object', oid, xmin::text FROM pg_statistic_ext
UNION ALL SELECT 'operator', oid, xmin::text FROM pg_operator WHERE oid >= 16384
UNION ALL SELECT 'collation', oid, xmin::text FROM pg_collation WHERE oid >= 16384
"""


class Changed(Overtaken):
    """Something was dropped or altered meanwhile: another moment is needed."""

    def __init__(self, server: str, what: str) -> None:
        super(Overtaken, self).__init__(
            f"In {server} definitions change while they are dumped, over and over: {what}.",
            remedy="Try at a time when no migration runs, or leave the schema out where it is "
            "(`exclude_schemas`).",
        )


def definitions(session: Session) -> set[Row]:
    """What there is, as the session sees it."""
    return set(session.rows(_DEFINITIONS.strip()))


def require_unchanged(server: Server, before: set[Row], application: str) -> None:
    """Raise Changed where something of `before` is no more what it was. What is new is not seen by
    the dump.
    """
    with open_session(server, application=application) as session:
        lost = before - definitions(session)
    if lost:
        kinds = sorted({str(kind) for kind, *_ in lost})
        raise Changed(server.describe(), f"a {kinds[0]} was dropped or altered")


def changed(server: Server, error: ServerSaid) -> Changed | None:
    """What it means that a statement about something gone has failed; None: it is another error."""
    return Changed(server.describe(), error.message) if GONE.search(error.message) else None
