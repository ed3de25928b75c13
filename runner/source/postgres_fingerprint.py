"""The fingerprint of one database at one instant: its rows, its schema, and what it stands on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.source.postgres_extensions import extension_tasks
from runner.source.postgres_moment import Moment, held, join
from runner.source.postgres_needs import needed
from runner.source.postgres_objects import grantees, objects
from runner.source.postgres_powers import powers
from runner.source.postgres_rows import LARGE_OBJECTS, Rows, measure, tasks
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, open_session, passing, value
from runner.source.postgres_tables import Chosen, Selection, printable, shown

ALGORITHM = 1  # how sums are computed; those of another one cannot be compared
CONNECTIONS = 2
MANY_TABLES = 500  # of which each session more would hold every lock once more
LOCK_SECONDS = 600.0  # in a database that was just restored, autovacuum alone may be in the way

_SEQUENCES = """
SELECT schemaname, sequencename, last_value, increment_by, cycle FROM pg_catalog.pg_sequences
"""
_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1
"""
_TABLESPACES = """
SELECT DISTINCT t.spcname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace WHERE NOT c.relisshared ORDER BY 1
"""
_BYTES = """
SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0) FROM pg_catalog.pg_class c
WHERE c.oid = ANY ('{{{oids}}}')
"""
_DATABASE = """
SELECT pg_catalog.to_jsonb(d), pg_catalog.pg_encoding_to_char(d.encoding),
       pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.shobj_description(d.oid, 'pg_database'),
       (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace),
       pg_catalog.pg_database_size(d.oid)
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
_GRANTS = """
SELECT CASE x.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
       x.privilege_type, x.is_grantable
FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) x
WHERE d.datname = pg_catalog.current_database() ORDER BY 1, 2
"""
_SETTINGS = """
SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole) END, c
FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
     pg_catalog.unnest(s.setconfig) WITH ORDINALITY u(c, n)
WHERE d.datname = pg_catalog.current_database() ORDER BY 1, u.n
"""
# Of hash partitions by an enum, that a restored value may lie in another: its hash is its oid's.
_PARTITIONS = """
SELECT a.relid::oid, c.oid, (
  SELECT o.oid FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
  WHERE o.opcname = 'enum_ops' AND m.amname = 'hash'
    AND o.opcnamespace = 'pg_catalog'::regnamespace) = ANY (p.partclass)
FROM pg_class c, pg_partition_ancestors(c.oid) a
JOIN pg_partitioned_table p ON p.partrelid = a.relid
WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND a.relid <> c.oid
"""
# What pg_dump leaves out without a word where the role is no superuser.
_UNREAD = """
SELECT 'subscriptions', count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() HAVING count(*) > 0
UNION ALL SELECT 'options', count(*) FROM pg_user_mappings WHERE umoptions IS NULL
HAVING count(*) > 0
"""
# They belong to the database, and go with it.
_SLOTS = """
SELECT count(*) FROM pg_replication_slots
WHERE database = current_database() AND slot_type = 'logical' AND NOT temporary
"""
_MONEY = """
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
               JOIN pg_type t ON t.oid = a.atttypid
               WHERE c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
                 AND 'money'::regtype IN (t.oid, t.typelem, t.typbasetype))
"""
# Whose what is dumped is, or who may use it, where it is no object of the database's own: those
# of the system and of extensions, large objects, languages, and more that stands in no schema.
_BEYOND = """
SELECT DISTINCT pg_get_userbyid(d.refobjid) FROM pg_shdepend d
WHERE d.refclassid = 'pg_authid'::regclass
  AND d.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
  AND (d.objid < 16384
       OR EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
       OR d.classid NOT IN ('pg_namespace'::regclass, 'pg_class'::regclass, 'pg_type'::regclass,
                            'pg_proc'::regclass, 'pg_policy'::regclass))
UNION SELECT pg_get_userbyid(s.subowner) FROM pg_subscription s
JOIN pg_database b ON b.oid = s.subdbid WHERE b.datname = current_database()
  AND (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
"""
_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
# The names that majors gave to one thing: what collates where the provider is not libc.
_LOCALES = ("datlocale", "daticulocale")


def take(
    sessions: Sequence[Session], chosen: Chosen, level: str, counted: Sequence[str] = ()
) -> dict[str, Any]:
    """The fingerprint of what was chosen, as all of the sessions see it: they are in one instant.
    The sequences are in none: see `sequences`.

    `level` is content, counts or none; `counted` are patterns of tables that are not hashed.
    Raises StepFailed when something may not be read.
    """
    first = sessions[0]
    # A lock on a view that we kept would hold up a REFRESH, behind which pg_dump would wait for the
    # view's text: for us, who wait for pg_dump.
    with passing(first):
        found = _described(first, chosen)
    if level != "none":
        hashed = level == "content"
        kept = extension_tasks(first, chosen, hashed=hashed)
        rows = measure(sessions, [*tasks(first, chosen, level, counted), *kept])
        found |= _rows(rows, chosen, hashed=hashed)
        if kept:
            found["extension_rows"] = {one.name: rows[one.name].to_json() for one in kept}
    return found


def _described(session: Session, chosen: Chosen) -> dict[str, Any]:
    """All of a fingerprint but the rows."""
    found = _standing(session) | _partitions(session, chosen)
    made = list(objects(session, chosen))
    found["objects"] = {f"{one.kind} {one.name}": one.made_of for one in made}
    found["rights"] = {
        f"{one.kind} {one.name}": [one.owner, one.rights] for one in made if one.owner or one.rights
    }
    owners = {one.owner for one in made if one.owner}
    owners |= {role for one in made for role in grantees(one.rights)}
    if chosen.whole and not chosen.rows_alone:
        owners |= {printable(role or "") for (role,) in session.rows(_BEYOND)}
    found["owners"] = sorted(owners)
    found["powers"] = powers(session, owners)
    if chosen.whole and not chosen.rows_alone and value(session, _SUPERUSER) != "t":
        found["unread"] = {str(what): int(many or 0) for what, many in session.rows(_UNREAD)}
    if slots := int(value(session, _SLOTS)):
        found["slots"] = slots
    if left_out := needed(session, chosen):
        found["needs"] = left_out
    whole = json.dumps(found["objects"], sort_keys=True).encode()
    found["schema"] = hashlib.sha256(whole).hexdigest()
    return found


def has_money(session: Session) -> bool:
    """Whether the database has sums of money, which are written in many ways."""
    return value(session, _MONEY) == "t"


def database_fingerprint(server: Server, like: Mapping[str, Any], level: str) -> dict[str, Any]:
    """The fingerprint of a restored database, to be compared with the one it was restored from.

    What was only counted there is only counted here.
    """
    tables = like.get("tables", {}).items() if level == "content" else ()
    counted = [name for name, table in tables if "sum" not in table]
    with (
        open_session(server) as session,
        held(session, Selection(), LOCK_SECONDS) as moment,
        joined(server, moment, readers(moment.chosen) - 1) as others,
    ):
        found = take([session, *others], moment.chosen, level, counted)
        return {**found, "sequences": sequences(session, moment.chosen)}


@contextlib.contextmanager
def joined(
    server: Server, moment: Moment, count: int, application: str = ""
) -> Iterator[list[Session]]:
    """More sessions that see the instant."""
    with contextlib.ExitStack() as stack:
        names = {"application": application} if application else {}
        found = [stack.enter_context(open_session(server, **names)) for _ in range(count)]
        for one in found:
            join(one, moment)
        yield found


def readers(chosen: Chosen) -> int:
    """How many sessions should read a moment at once."""
    return CONNECTIONS if len(chosen.full) <= MANY_TABLES else 1


def sequences(session: Session, chosen: Chosen) -> dict[str, Any]:
    """How far the sequences are: they belong to no instant, so these are bounds."""
    wanted = {one.shown for one in chosen.sequences}
    if not wanted:
        return {}
    found = {}
    with passing(session):
        rows = session.rows(_SEQUENCES)
    for schema, name, last, step, cycle in rows:
        key = shown(str(schema), str(name))
        if key in wanted:
            found[key] = {
                "last": None if last is None else int(last),
                "step": int(step or 1),
                "cycle": cycle == "t",
            }
    return found


def settled(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds that hold for sequences that were read in between, even if one was set back."""
    found = {}
    for name, one in before.items():
        values = [one["last"], after.get(name, one)["last"]]
        bound = None if None in values else (min if one["step"] > 0 else max)(values)
        found[name] = {**one, "last": bound}
    return found


def _standing(session: Session) -> dict[str, Any]:
    """What a new database must be given to hold the same."""
    row, encoding, owner, comment, tablespace, size = session.rows(_DATABASE)[0]
    database = json.loads(row or "{}")
    settings: dict[str, list[str]] = {}
    for role, setting in session.rows(_SETTINGS):
        settings.setdefault(printable(role or ""), []).append(printable(setting or ""))
    return {
        "server": value(session, "SELECT pg_catalog.current_setting('server_version')").split()[0],
        "bytes": int(size or 0),
        "encoding": encoding,
        "locale": {
            "provider": database.get("datlocprovider", "c"),
            "collate": database["datcollate"],
            "ctype": database["datctype"],
            "locale": next((database[one] for one in _LOCALES if database.get(one)), None),
            "rules": database.get("daticurules"),
        },
        "database": {
            "owner": printable(owner or ""),
            "comment": None if comment is None else printable(comment),
            "connections": database["datconnlimit"],
            "tablespace": tablespace,
            "template": database["datistemplate"],
            "grants": [
                [printable(role or ""), privilege, grantable == "t"]
                for role, privilege, grantable in session.rows(_GRANTS)
            ]
            if database["datacl"] is not None
            else None,
        },
        "settings": settings,
        "tablespaces": [printable(name or "") for (name,) in session.rows(_TABLESPACES)],
        "extensions": {
            str(name): {"version": version, "schema": printable(schema or "")}
            for name, version, schema in session.rows(_EXTENSIONS)
        },
    }


def _partitions(session: Session, chosen: Chosen) -> dict[str, Any]:
    """What is a partition of what, at any depth, and where rows have no lasting one."""
    names = {one.oid: one.shown for one in chosen.relations}
    partitions: dict[str, list[str]] = {}
    scattered = set()
    for above, below, moving in session.rows(_PARTITIONS):
        table, partition = (names.get(int(one or 0)) for one in (above, below))
        if table is not None and partition is not None:
            partitions.setdefault(table, []).append(partition)
            if moving == "t":
                scattered.add(table)
    return {"partitions": partitions, "scattered": sorted(scattered)}


def _rows(rows: Mapping[str, Rows], chosen: Chosen, *, hashed: bool) -> dict[str, Any]:
    nothing = Rows(0, 0 if hashed else None)
    tables = {one.shown: nothing.to_json() for one in chosen.empty}
    tables |= {one.shown: rows[one.shown].to_json() for one in chosen.full}
    found: dict[str, Any] = {"tables": dict(sorted(tables.items()))}
    if LARGE_OBJECTS in rows:
        found["large_objects"] = rows[LARGE_OBJECTS].to_json()
    return found
