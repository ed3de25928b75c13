"""Which of a database's relations a backup holds: patterns, and what they come to.

pg_dump is given exact names that were found here, so that the dump and the fingerprint agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import StepFailed
from runner.source.postgres_session import Row, Session, identifier

# The rows of 'r' alone are of their own; a partition of a partitioned table is an 'r' as well.
_RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
       (SELECT d.refobjid FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
          AND d.refclassid = d.classid AND d.deptype = 'i' AND c.relkind = 'S')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname
"""
_SCHEMAS = """
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY nspname
"""
_INHERITS = "SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits"

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


@dataclass(frozen=True)
class Relation:
    """A table, view or sequence of one database."""

    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind
    unlogged: bool
    identity_of: int = 0  # the oid of the table whose identity a sequence is: it goes with that

    @property
    def sql(self) -> str:
        """The qualified name in a statement."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def shown(self) -> str:
        """The qualified name for a person and in a fingerprint; a pattern that matches it."""
        return shown(self.schema, self.name)


@dataclass(frozen=True)
class Selection:
    """What of a database is dumped, as a spec declares it. An empty one is everything."""

    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    exclude_rows: tuple[str, ...] = ()
    only: str = ""  # schema | data

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Selection:
        """The selection that a spec's options make."""
        names = ("schemas", "exclude_schemas", "tables", "exclude_tables", "exclude_rows")
        lists = {name: tuple(options.get(name, ())) for name in names}
        return cls(**lists, only=options.get("only", ""))


@dataclass(frozen=True)
class Chosen:
    """What a selection came to in one database."""

    relations: tuple[Relation, ...]  # all that are dumped
    schemas: frozenset[str]  # of which something may be dumped
    full: tuple[Relation, ...]  # tables whose rows are dumped
    empty: tuple[Relation, ...]  # tables that come back without a row
    sequences: tuple[Relation, ...]
    whole: bool  # whether what stands in no schema is dumped too: extensions, large objects, …
    tables_alone: bool  # no function, no type, no schema
    rows_alone: bool  # no definition of anything
    large_objects: bool
    arguments: tuple[str, ...]  # for pg_dump

    def names(self) -> set[tuple[int, str]]:
        """What must not have changed between two looks."""
        return {(one.oid, one.sql) for one in self.full}


def shown(schema: str, name: str) -> str:
    """A qualified name for a person: quoted where it must be, bytes that are no text escaped."""
    parts = (one if _PLAIN.fullmatch(one) else identifier(one) for one in (schema, name))
    return printable(".".join(parts))


def printable(text: str) -> str:
    """A text from the server as text that can be written anywhere."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """What matches the plain `schema.table` that any of the patterns names.

    `*` and `?` stand for any characters outside quotes; names are matched as they are, with
    their capital letters.
    """
    return re.compile("|".join(_as_regex(one) for one in patterns) or "(?!)", re.DOTALL)


def matches(pattern: re.Pattern[str], schema: str, name: str) -> bool:
    """Whether a relation is one that `matcher` was made for."""
    return pattern.fullmatch(f"{schema}\0{name}") is not None


def _as_regex(pattern: str) -> str:
    found = list(_PART.finditer(pattern))
    if len(found) == 1:
        return _piece(found[0]) + "\0.*"
    return "\0".join(_piece(one) for one in found[:2])


def _piece(part: re.Match[str]) -> str:
    if part[1] is not None:
        return re.escape(part[1].replace('""', '"'))
    signs = {"*": "[^\0]*", "?": "[^\0]"}
    return "".join(signs.get(one, re.escape(one)) for one in part[2])


def choose(session: Session, selection: Selection) -> Chosen:
    """Look what is there now, and what of it the selection means.

    Raises StepFailed when it means nothing that is there.
    """
    relations = [_relation(row) for row in session.rows(_RELATIONS)]
    schemas = [str(name) for (name,) in session.rows(_SCHEMAS)]
    family = _Family(relations, session.rows(_INHERITS))
    inside = _schemas(selection, schemas)
    included = family.named(selection.tables)
    excluded = family.named(selection.exclude_tables)
    wanted = [
        one
        for one in relations
        if one.schema in inside and one.oid not in excluded
        if not selection.tables or one.oid in included
    ]
    there = {0, *(one.oid for one in wanted)}
    wanted = [one for one in wanted if one.identity_of in there]
    if (selection.tables and not wanted) or (selection.schemas and not inside):
        asked = ", ".join(selection.tables or selection.schemas)
        raise StepFailed(
            f"Nothing in {session.server.describe()} is named {asked}.",
            remedy="Names are matched as they are, with their capital letters: "
            '`sales.orders`, `sales.*`, `"Sales"."Order Lines"`.',
        )
    empty = family.named(selection.exclude_rows)
    held = [one for one in wanted if one.kind == "r" and selection.only != "schema"]
    whole = not selection.schemas and not selection.tables
    return Chosen(
        relations=tuple(wanted),
        schemas=frozenset(inside),
        full=tuple(one for one in held if one.oid not in empty),
        empty=tuple(one for one in held if one.oid in empty),
        sequences=tuple(one for one in wanted if one.kind == "S" and selection.only != "schema"),
        whole=whole,
        tables_alone=bool(selection.tables),
        rows_alone=selection.only == "data",
        large_objects=whole and selection.only != "schema",
        arguments=tuple(_arguments(selection, inside, schemas, wanted, relations, excluded, empty)),
    )


def _relation(row: Row) -> Relation:
    oid, schema, name, kind, persistence, table = row
    unlogged = persistence == "u"
    return Relation(
        int(oid or 0), str(schema), str(name), str(kind), unlogged, identity_of=int(table or 0)
    )


class _Family:
    """Relations with their partitions and the tables that inherit from them."""

    def __init__(self, relations: Sequence[Relation], edges: Iterable[Row]) -> None:
        self._relations = relations
        self._children: dict[int, list[int]] = {}
        for parent, child in edges:
            self._children.setdefault(int(parent or 0), []).append(int(child or 0))

    def named(self, patterns: Sequence[str]) -> set[int]:
        """The oids of what the patterns name, and of all that descends from it."""
        if not patterns:
            return set()
        pattern = matcher(patterns)
        waiting = [one.oid for one in self._relations if matches(pattern, one.schema, one.name)]
        found: set[int] = set()
        while waiting:
            oid = waiting.pop()
            if oid not in found:
                found.add(oid)
                waiting += self._children.get(oid, [])
        return found


def _schemas(selection: Selection, known: Sequence[str]) -> set[str]:
    """The schemas that something may be dumped of."""
    found = set(known)
    if selection.schemas:
        found &= set(_matching(selection.schemas, known))
    return found - set(_matching(selection.exclude_schemas, known))


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    found = [re.compile(_piece_of_name(one), re.DOTALL) for one in patterns]
    return [name for name in names if any(one.fullmatch(name) for one in found)]


def _piece_of_name(pattern: str) -> str:
    part = re.fullmatch(r'"((?:[^"]|"")+)"|(.+)', pattern, re.DOTALL)
    return _piece(part) if part else "(?!)"


def _arguments(
    selection: Selection,
    inside: set[str],
    schemas: Sequence[str],
    wanted: Sequence[Relation],
    relations: Sequence[Relation],
    excluded: set[int],
    empty: set[int],
) -> Iterator[str]:
    if selection.only:
        yield f"--{selection.only}-only"
    if selection.tables:
        yield from (f"--table={one.sql}" for one in wanted)
    else:
        if selection.schemas:
            yield from (f"--schema={identifier(name)}" for name in sorted(inside))
        elif selection.exclude_schemas:
            out = (name for name in schemas if name not in inside)
            yield from (f"--exclude-schema={identifier(name)}" for name in out)
        yield from (f"--exclude-table={one.sql}" for one in relations if one.oid in excluded)
    yield from (f"--exclude-table-data={one.sql}" for one in wanted if one.oid in empty)
