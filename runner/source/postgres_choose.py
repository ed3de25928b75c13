"""What of a snapshot is restored: which databases, which tables, which entries of a dump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import PersonNeeded, UsageError
from runner.source import Fingerprint
from runner.source.postgres_compare import TABLE_KINDS, parts
from runner.source.postgres_tables import matcher, matches
from runner.source.postgres_toc import PUBLIC, PUBLIC_COMMENT, Entry, of_tables


def databases_of(fingerprint: Fingerprint) -> dict[str, Mapping[str, Any]]:
    """What a fingerprint says of each database, by its name."""
    return dict(fingerprint["databases"])


def chosen_databases(
    fingerprint: Fingerprint, include: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The databases that hold what is wanted. Raises UsageError when none does."""
    databases = databases_of(fingerprint)
    if not include:
        return databases
    found = {name: one for name, one in databases.items() if wanted_tables(one, include)}
    if not found:
        remedy = "`holdfast ls` lists them; a table is named with its schema: sales.orders"
        views = sorted({one for made in databases.values() for one in _views(made, include)})
        if views:
            remedy = (
                f"{', '.join(views[:3])}: a view comes back with its database alone. Restore all "
                "of it beside the live one, with --to NAME, and take its definition from there."
            )
        raise UsageError(f"The snapshot has no table {', '.join(include)}.", remedy=remedy)
    return found


def _views(described: Mapping[str, Any], include: Sequence[str]) -> list[str]:
    """The views of a database that patterns name."""
    pattern = matcher(include)
    kinds = ("view ", "materialized view ")
    names = [
        name.removeprefix(kind)
        for name in described.get("objects", {})
        for kind in kinds
        if name.startswith(kind)
    ]
    return [name for name in names if matches(pattern, *_qualified(name))]


def wanted_tables(described: Mapping[str, Any], include: Sequence[str]) -> list[str]:
    """The tables of a database that patterns name."""
    pattern = matcher(include)
    known = known_tables(described)
    return [name for name in known if matches(pattern, *_qualified(name))]


def known_tables(described: Mapping[str, Any]) -> list[str]:
    """Every table of a database, also those whose rows are all in partitions."""
    objects = (name.removeprefix("table ") for name in described.get("objects", {})
               if name.startswith("table "))  # fmt: skip
    return sorted({*objects, *described.get("tables", {})})


def missing_schemas(entries: Sequence[Entry], described: Mapping[str, Any]) -> list[str]:
    """The schemas that a dump of tables alone leaves out, and that its tables stand in."""
    if not described["partial"]:
        return []
    wanted = {
        _qualified(name.removeprefix(f"{kind} "))[0]
        for name in described.get("objects", {})
        for kind in TABLE_KINDS
        if name.startswith(f"{kind} ")
    }
    made = tuple(one.text for one in entries if one.text.startswith("SCHEMA - "))
    return sorted(
        one for one in wanted if not any(text.startswith(f"SCHEMA - {one} ") for text in made)
    )


def require_tables(databases: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise PersonNeeded for a snapshot of rows alone."""
    for name, one in databases.items():
        if one.get("tables") and not one.get("objects"):
            raise PersonNeeded(
                f"The snapshot of {name} holds rows alone: there are no tables to restore them to.",
                remedy="Load it by hand, as RESTORE.md says, into a database that has the tables.",
            )


def wanted_entries(
    entries: Sequence[Entry],
    described: Mapping[str, Any],
    include: Sequence[str],
    *,
    owns_public: bool = True,
) -> list[str] | None:
    """The entries of a dump that are to be restored; None: all of them.

    Nobody but its owner (a superuser, before PostgreSQL 15) may comment on the schema `public`.
    """
    if include:
        wanted = map(_qualified, wanted_tables(described, include))
        known = map(_qualified, known_tables(described))
        return of_tables(entries, wanted, known)
    left_out = (PUBLIC,) if owns_public else (PUBLIC, *PUBLIC_COMMENT)
    kept = [one.line for one in entries if not one.text.startswith(left_out)]
    return kept if len(kept) < len(entries) else None


def _qualified(shown: str) -> tuple[str, str]:
    schema, name = parts(shown)
    return schema, name
