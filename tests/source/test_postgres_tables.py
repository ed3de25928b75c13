"""Which tables a spec's patterns mean, and what pg_dump makes of that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StepFailed
from runner.process import run
from runner.source.postgres_compare import parts
from runner.source.postgres_server import Server
from runner.source.postgres_session import open_session
from runner.source.postgres_tables import Chosen, Selection, choose, matcher, matches, shown
from tests.postgres_server import Database

names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@given(names, names)
def test_a_name_that_is_shown_is_a_pattern_for_itself(schema: str, name: str) -> None:
    assert matches(matcher([shown(schema, name)]), schema, name)
    assert parts(shown(schema, name)) == [schema, name]
    assert not matches(matcher([shown(schema, name)]), schema, f"{name}x")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("sales.*", ["sales.orders", "sales.Orders", "sales.a.b"]),
        ("*.orders", ["sales.orders", "public.orders"]),
        ("sales.order?", ["sales.orders", "sales.orderz"]),
        ('"sales".Orders', ["sales.Orders"]),
        ('sales."a.b"', ["sales.a.b"]),
        ('sales."*"', ["sales.*"]),
    ],
)
def test_patterns(pattern: str, meant: list[str]) -> None:
    known = ["sales.orders", "sales.Orders", "sales.orderz", "sales.a.b", "sales.*"]
    known.append("public.orders")
    found = [name for name in known if matches(matcher([pattern]), *name.split(".", 1))]
    assert set(meant) <= set(found)
    if "*" not in pattern.replace('"*"', ""):
        assert found == meant


MANY = """
CREATE SCHEMA "Sales, 2026";
CREATE SCHEMA logs;
CREATE TABLE plain (id serial, v text);
CREATE TABLE "Sales, 2026"."Order Lines" (id int);
CREATE TABLE logs.events (at date) PARTITION BY RANGE (at);
CREATE TABLE logs.events_2025 PARTITION OF logs.events
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE public.events_2026 PARTITION OF logs.events
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW seen AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TEMPORARY TABLE passing (v int);
SELECT lo_from_bytea(0, 'x');
"""

ORDERS = '"Sales, 2026"."Order Lines"'


def chosen(database: Database, **options: Any) -> tuple[Chosen, set[str]]:
    """What a selection came to, and the tables whose rows pg_dump then dumps."""
    server = Server.of(database.socket_options(), Path())
    with open_session(server) as session:
        found = choose(session, Selection.of(options))
    program = str(database.cluster.bin / "pg_dump")
    dump = run([program, *found.arguments, f"--dbname={server.conninfo()}"]).stdout.decode()
    return found, set(re.findall(r"^COPY (?:public\.)?(\S.*) \(", dump, re.MULTILINE))


@pytest.mark.parametrize(
    ("options", "rows_of", "objects"),
    [
        ({}, {"plain", ORDERS, "logs.events_2025", "events_2026"}, 1),
        ({"schemas": ["logs"]}, {"logs.events_2025"}, 0),
        ({"schemas": ["*S*"]}, {ORDERS}, 0),
        ({"exclude_schemas": ["logs", '"Sales, 2026"']}, {"plain", "events_2026"}, 1),
        ({"tables": ["logs.events"]}, {"logs.events_2025", "events_2026"}, 0),
        ({"tables": ["public.*"], "exclude_tables": ["logs.events"]}, {"plain"}, 0),
        ({"exclude_tables": ["*.events"]}, {"plain", ORDERS}, 1),
        ({"only": "schema"}, set(), 0),
        ({"only": "data", "tables": ["public.plain"]}, {"plain"}, 0),
        ({"schemas": ["public"], "exclude_rows": ["logs.events", "public.pl*"]}, set(), 0),
    ],
)
def test_the_dump_holds_what_is_fingerprinted(
    database: Database, options: dict[str, Any], rows_of: set[str], objects: int
) -> None:
    database.psql(stdin=MANY)
    found, dumped = chosen(database, **options)
    assert dumped == rows_of
    assert {one.shown.removeprefix("public.") for one in found.full} == rows_of
    assert found.large_objects is bool(objects)


def test_what_means_nothing_is_refused(database: Database) -> None:
    database.psql(stdin=MANY)
    for options in ({"tables": ["public.Plain"]}, {"schemas": ["public.plain"]}):
        with pytest.raises(StepFailed, match="is named") as refused:
            chosen(database, **options)
        assert "capital letters" in refused.value.remedy
