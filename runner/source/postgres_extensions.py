"""The rows that extensions keep in tables of their own and have dumped: jobs, settings, and more.

See pg_extension_config_dump. The tables come with the extension, these rows with the dump.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.source.postgres_rows import Task
from runner.source.postgres_session import Session, identifier
from runner.source.postgres_tables import Chosen, printable, shown

# A condition leaves out the rows that the extension itself brings, which are those of its version.
_KEPT = """
SELECT e.extname, e.extversion, n.nspname, c.relname, u.condition
FROM pg_extension e CROSS JOIN unnest(e.extconfig, e.extcondition) u(oid, condition)
JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' ORDER BY 1, 3, 4
"""
_SUM = 'coalesce(sum(hashtextextended(t::text COLLATE "C", 0)), 0)'


def extension_tasks(session: Session, chosen: Chosen, *, hashed: bool) -> list[Task]:
    """What must be asked for these rows, as far as they are dumped: a table's name begins with its
    extension and version.
    """
    if not chosen.large_objects:
        return []
    total = _SUM if hashed else "NULL"
    return [
        Task(
            f"{printable(name or '')} {version}: {shown(str(schema), str(table))}",
            f"SELECT count(*), {total} FROM ONLY "  # noqa: S608 - quoted; the extension's own words
            f"{identifier(str(schema))}.{identifier(str(table))} AS t {condition or ''}",
            0,
        )
        for name, version, schema, table, condition in session.rows(_KEPT)
        if schema in chosen.schemas
    ]


def compare_rows(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """How these rows differ, where the extension has the same version."""
    for name, wanted in expected.items():
        there = found.get(name, wanted)
        if there["rows"] != wanted["rows"]:
            yield f"extension {name} has {there['rows']} rows instead of {wanted['rows']}"
        elif there.get("sum") != wanted.get("sum"):
            yield f"extension {name} has other content in its {wanted['rows']} rows"
