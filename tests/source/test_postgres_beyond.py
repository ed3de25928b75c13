"""What a database holds beside the objects that it made itself: rights on those of the system and
of extensions, what extensions keep, and what no dump holds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PersonNeeded
from tests.postgres_server import Database
from tests.source.postgres_restored import captured, loaded, opened, place_at, proven

# Each gives a role something that pg_dump writes down, though no object of the database's own is
# the role's or lets it in.
RIGHTS = (
    ('GRANT EXECUTE ON FUNCTION pg_read_file(text) TO "{0}"',),
    ("CREATE EXTENSION hstore", 'GRANT EXECUTE ON FUNCTION akeys(hstore) TO "{0}"'),
    (
        "CREATE EXTENSION postgres_fdw",
        'GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO "{0}"',
    ),
    ("SELECT lo_from_bytea(7, 'x')", 'ALTER LARGE OBJECT 7 OWNER TO "{0}"'),
    (
        "CREATE CONVERSION odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        'ALTER CONVERSION odd OWNER TO "{0}"',
    ),
)


def test_roles_that_own_nothing_of_the_database_s_own_come_along(
    database: Database, tmp_path: Path
) -> None:
    for statements in RIGHTS:
        role = database.role()
        database.execute(*(one.format(role) for one in statements))
    source = opened(database, tmp_path)
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    try:
        proven(source, captured(source, tmp_path), place)
    finally:
        source.discard(place)


# What one is computed of is no more what it was; another is computed of that.
STALE = (
    "CREATE TABLE visits AS SELECT 1 AS player",
    "CREATE MATERIALIZED VIEW fine AS SELECT count(*) FROM visits",
    "CREATE MATERIALIZED VIEW once AS SELECT player FROM visits",
    "CREATE UNIQUE INDEX ON once (player)",
    "CREATE MATERIALIZED VIEW above AS SELECT count(*) FROM once",
    "INSERT INTO visits VALUES (1)",
)


def test_a_view_that_cannot_be_computed_stops_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    database.execute(*STALE)
    source, place = opened(database, tmp_path), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    source.stage(artifacts, place)
    with pytest.raises(PersonNeeded, match=r"public\.once.*is duplicated") as told:
        source.differences(artifacts.fingerprint, source.fingerprint(place), place)
    assert "public.above" in told.value.message
    source.swap(place)
    source.confirm(place)
    assert database.rows("SELECT count FROM fine") == [(2,)]
    source.drop(source.keep(place))
    loaded(database, source, artifacts, tmp_path / "restored")
    assert database.rows("SELECT count FROM fine") == [(2,)]
    assert database.rows("SELECT relname FROM pg_class WHERE NOT relispopulated ORDER BY 1") == [
        ("above",),
        ("once",),
    ]


def test_in_place_a_view_that_cannot_be_computed_stops_nothing_either(
    database: Database, tmp_path: Path
) -> None:
    role = database.role()
    database.execute(f'ALTER DATABASE {database.name} OWNER TO "{role}"')
    with database.connect(role) as connection:
        for statement in STALE:
            connection.execute(statement.encode())
    source, place = opened(database, tmp_path, role), place_at(tmp_path)
    source.stage(captured(source, tmp_path), place)
    source.swap(place)
    source.confirm(place)
    source.unswap(place)
    assert database.rows("SELECT count(*) FROM visits") == [(2,)]
    source.discard(place)
