"""What a part of a database needs that is not in it: pg_dump writes no word of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.source.postgres_session import Session
from runner.source.postgres_tables import Chosen, printable
from runner.source.postgres_toc import Entry

# Of tables and of what belongs to them. What an extension brings is made with that, and a sequence
# that a column owns comes with its table.
_NEEDED = """
WITH part(class, oid) AS (
  SELECT 'pg_class'::regclass, t.oid FROM unnest('{{{oids}}}'::oid[]) t(oid)
), piece(class, oid) AS (
  SELECT class, oid FROM part
  UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN part p ON p.oid = adrelid
  UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k
    JOIN part p ON p.oid = conrelid
  UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN part p ON p.oid = tgrelid
    WHERE NOT tgisinternal
  UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN part p ON p.oid = indrelid
  UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN part p ON p.oid = ev_class
  UNION ALL SELECT 'pg_policy'::regclass, l.oid FROM pg_policy l JOIN part p ON p.oid = polrelid
)
SELECT DISTINCT i.type || ' ' || i.identity, i.schema,
       CASE d.refclassid WHEN 'pg_class'::regclass THEN d.refobjid END
FROM piece JOIN pg_depend d ON d.classid = piece.class AND d.objid = piece.oid,
     pg_identify_object(d.refclassid, d.refobjid, 0) i
WHERE d.refobjid >= 16384 AND i.schema !~ '^pg_'
  AND (d.refclassid IN ('pg_type'::regclass, 'pg_proc'::regclass)
       OR d.refobjid IN (SELECT c.oid FROM pg_class c
                         WHERE d.refclassid = 'pg_class'::regclass AND c.relkind NOT IN ('i', 'I')))
  AND NOT EXISTS (SELECT FROM pg_depend o
                  WHERE o.classid = d.refclassid AND o.objid = d.refobjid
                    AND (o.deptype = 'e' OR o.refclassid = 'pg_class'::regclass
                         AND o.deptype IN ('a', 'i') AND o.refobjid IN (SELECT oid FROM part)))
ORDER BY 1
"""


def needed(session: Session, chosen: Chosen) -> list[str]:
    """What the chosen relations need and was not chosen: tables that they refer to, types and
    functions that they use.
    """
    if not chosen.arguments or chosen.rows_alone or not chosen.relations:
        return []
    held = {one.oid for one in chosen.relations}
    rows = session.rows(_NEEDED.format(oids=",".join(map(str, sorted(held)))))
    return [
        printable(name or "")
        for name, schema, relation in rows
        if (
            int(relation) not in held
            if relation is not None
            else chosen.tables_alone or schema not in chosen.schemas
        )
    ]


def missing_extensions(entries: Sequence[Entry], described: Mapping[str, Any]) -> dict[str, str]:
    """The extensions that a dump of a part leaves out, and their schemas; but for those in a schema
    that the dump itself makes.
    """
    if not described["partial"] or any(one.text.startswith("EXTENSION - ") for one in entries):
        return {}
    made = [one.text for one in entries if one.text.startswith("SCHEMA - ")]
    return {
        name: one["schema"]
        for name, one in described.get("extensions", {}).items()
        if one["schema"] == "public"
        or not any(text.startswith(f"SCHEMA - {one['schema']} ") for text in made)
        if one["schema"] != "pg_catalog"
    }
