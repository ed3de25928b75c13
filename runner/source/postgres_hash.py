"""The hash of a row, as an expression of SQL: the same before and after a dump and a restore.

Each column is hashed with a seed of its own, by its place in the order of the names, since a
restored table may hold them in another; the row's is a hash of all of them. PostgreSQL's own text
of a row would cost three times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.source.postgres_session import identifier

# How values of common types are hashed as they are, so that only equal ones are alike. (A numeric
# or a float is not here: 1.0 and 1.00, 0 and -0 have one hash each.) These hashes place rows in
# partitions, so that no major may change them.
_FAST = {
    "smallint": "hashint2extended({0}, {1})",
    "integer": "hashint4extended({0}, {1})",
    "bigint": "hashint8extended({0}, {1})",
    "oid": "hashoidextended({0}, {1})",
    "boolean": "hashint4extended({0}::int4, {1})",
    "text": 'hashtextextended({0} COLLATE "C", {1})',
    "character varying": 'hashtextextended({0} COLLATE "C", {1})',
    "character": 'hashbpcharextended({0} COLLATE "C", {1})',
    "uuid": "uuid_hash_extended({0}, {1})",
    "timestamp without time zone": "timestamp_hash_extended({0}, {1})",
    "timestamp with time zone": "timestamp_hash_extended({0} AT TIME ZONE 'UTC', {1})",
}

_BETWEEN, _NONE = "E'\\x01'", "E'\\x02'"
_ARGUMENTS = 45  # a function takes a hundred, and a value may need two


@dataclass(frozen=True)
class Column:
    """A column that is no function of others."""

    name: str
    type: str  # as format_type says it without its length; empty: by its text
    always: bool  # whether it always has a value


def row_hash(columns: Sequence[Column]) -> str:
    """The hash of a row of table `t`: a bigint. `columns` are in the order of their names.

    The search path is empty, so that every bare name is the catalog's own.
    """
    fast = [one for one in enumerate(columns, 1) if one[1].type in _FAST]
    slow = [one for one in columns if one.type not in _FAST]
    hashes = [_column_hash(one, seed) for seed, one in fast]
    if slow or not hashes:
        hashes.append(f'hashtextextended({_text(slow)} COLLATE "C", 0)')
    return f"hashint8extended({_joined(hashes)}, 0)"


def _column_hash(column: Column, seed: int) -> str:
    found = _FAST[column.type].format(f"t.{identifier(column.name)}", seed)
    return found if column.always else f"coalesce({found}, {seed})"


def _joined(hashes: Sequence[str]) -> str:
    """All of them by exclusive or, in halves: hundreds in a row would be as deep an expression."""
    if len(hashes) == 1:
        return hashes[0]
    half = len(hashes) // 2
    return f"({_joined(hashes[:half])} # {_joined(hashes[half:])})"


def _text(columns: Sequence[Column]) -> str:
    """The texts of values between separators, a mark for none.

    A value that holds those two characters could stand for others; no restore makes one of the
    other.
    """
    values = []
    for one in columns:
        name = f"t.{identifier(one.name)}"
        values.append(name if one.always else f"{name}, CASE WHEN {name} IS NULL THEN {_NONE} END")
    while len(values) > _ARGUMENTS:
        groups = [values[at : at + _ARGUMENTS] for at in range(0, len(values), _ARGUMENTS)]
        values = [f"concat_ws({_BETWEEN}, {', '.join(one)})" for one in groups]
    return f"concat_ws({', '.join([_BETWEEN, *(values or [_NONE])])})"
