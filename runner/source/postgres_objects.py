"""What a database's schema is: each object with what it is made of, whose it is, who may use it.

Two databases are compared by this after a restore. What PostgreSQL itself writes anew when it
reads its own text again (casts and brackets in expressions and in the text of views) is left out.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.source.postgres_session import Session
from runner.source.postgres_tables import Chosen, printable, shown

# A name among rights, quoted where it could be taken for more than itself.
_QUOTED = """CASE WHEN {0} ~ '[=,;:"]|^PUBLIC$' THEN quote_ident({0}) ELSE {0}::text END"""
_ROLE = "CASE {0} WHEN 0 THEN 'PUBLIC' ELSE " + _QUOTED.format("pg_get_userbyid({0})") + " END"

# What stands in the statements for what each of them needs.
_MACROS = {
    "ROLE": _ROLE,
    "QUOTED": _QUOTED,
    "OWNER": "pg_get_userbyid({0})",
    "RIGHTS": f"""(SELECT string_agg(g.t, ',' ORDER BY g.t COLLATE "C") FROM (
        SELECT {_ROLE.format("x.grantee")}
               || '=' || x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END
        FROM aclexplode(coalesce({{0}}, acldefault('{{1}}', {{2}}))) x) g(t))""",  # noqa: S608 - nothing but our own words
    "MINE": """n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{0}'::regclass
                        AND d.objid = {1}.oid AND d.deptype = 'e')""",
    "LOOSE": """{1}.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = '{0}'::regclass AND d.objid = {1}.oid AND d.deptype IN ('e', 'i'))""",
    "IN_TABLE": """JOIN pg_class c ON c.oid = {0} JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
}
_MACRO = re.compile(rf"\b({'|'.join(_MACROS)})\(([^()]*)\)")

# Source code is compared as it is; of everything else, what PostgreSQL may write in two ways goes.
_EXACT = ("function", "comment on", "comment on function", "comment on type")
_WORDS = r"(?: (?:varying|precision|(?:with|without) time zone))*"
_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_][A-Za-z0-9_]*)'
# With the name of a column behind it: where none shows, NULL is `NULL::integer` at first, and
# `NULL::integer AS int4` once that was read.
_CAST = re.compile(
    rf"::{_NAME}(?:\.{_NAME})?{_WORDS}(?:\([0-9, ]*\))?{_WORDS}(?:\[\])*(?: AS {_NAME})?"
)
_ALWAYS = " ON TRUE"  # of a natural join without common columns; read again, it is a plain `true`
_BRACKETS = re.compile(r"[()\s]+")
# A grantee among rights; of the names of columns, those that are quoted are passed over.
_GRANTEE = re.compile(r'("(?:[^"]|"")*"|[^=,;:"]+)=|"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Object:
    """One object of a schema."""

    kind: str
    name: str  # qualified; with its table, if it belongs to one
    made_of: str  # a short hash
    owner: str  # empty where it has none of its own
    rights: str  # grantee=privilege, sorted; empty where it has none


def objects(session: Session, chosen: Chosen) -> Iterator[Object]:
    """The objects of what was chosen, as pg_dump writes them."""
    if chosen.rows_alone:
        return
    tables = {one.shown for one in chosen.relations}
    for query in _queries():
        for kind, schema, table, name, made_of, owner, rights in session.rows(query):
            of = shown(schema, table) if schema is not None and table is not None else ""
            if of not in tables if of else not _held(schema, chosen):
                continue
            text = made_of or ""
            if kind not in _EXACT:
                text = _BRACKETS.sub("", _CAST.sub("", text.replace(_ALWAYS, " ON true")))
            yield Object(
                str(kind),
                _name_of(schema, of, name),
                hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16],
                printable(owner or ""),
                printable(rights or ""),
            )


def grantees(rights: str) -> set[str]:
    """The roles that an object's rights name."""
    found = {one[1] for one in _GRANTEE.finditer(rights) if one[1]} - {"PUBLIC"}
    return {one[1:-1].replace('""', '"') if one.startswith('"') else one for one in found}


@functools.cache
def _queries() -> list[str]:
    # The session's search path is empty, so that every bare name in them is the catalog's own.
    text = Path(__file__).with_suffix(".sql").read_text()
    lines = (line for line in text.splitlines() if not line.startswith("--"))
    whole = _MACRO.sub(_expanded, "\n".join(lines))
    return [one.strip() for one in re.split(r";\s*(?:\n|$)", whole) if one.strip()]


def _expanded(found: re.Match[str]) -> str:
    return _MACROS[found[1]].format(*(one.strip() for one in found[2].split(",")))


def _held(schema: str | None, chosen: Chosen) -> bool:
    """Whether pg_dump writes what belongs to no table: with `--table`, it writes nothing else."""
    if chosen.tables_alone:
        return False
    return chosen.whole if schema is None else schema in chosen.schemas


def _name_of(schema: str | None, of: str, name: str | None) -> str:
    own = printable(name or "")
    if of:
        return f"{of} {own}".strip()
    return own if schema is None else f"{printable(schema)}.{own}".rstrip(".")
