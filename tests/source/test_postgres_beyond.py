"""What a database holds beside the objects that it made itself: rights on those of the system and
of extensions, what extensions keep, and what no dump holds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PersonNeeded
from runner.source import Source
from runner.source.postgres_compare import compare_database
from runner.source.postgres_fingerprint import database_fingerprint
from runner.source.postgres_server import Server
from tests.postgres_server import (
    FOLLOWED,
    Database,
    debian_programs,
    new_database,
    start_cluster,
)
from tests.source.postgres_restored import captured, loaded, opened, place_at, proven
from tests.source.stack import FolderCapture

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


def proven_in_scratch(source: Source, folder: Path) -> None:
    """Capture it, and restore and prove it in a scratch server."""
    place = place_at(folder, source.scratch_destination(folder / "scratch"))
    try:
        proven(source, captured(source, folder), place)
    finally:
        source.discard(place)


def test_roles_that_own_nothing_of_the_database_s_own_come_along(
    database: Database, tmp_path: Path
) -> None:
    for statements in RIGHTS:
        role = database.role()
        database.execute(*(one.format(role) for one in statements))
    source = opened(database, tmp_path)
    proven_in_scratch(source, tmp_path)


def test_roles_that_own_what_a_chosen_schema_holds_come_along(
    database: Database, tmp_path: Path
) -> None:
    role = database.role()
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE CONVERSION shop.odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        f'ALTER CONVERSION shop.odd OWNER TO "{role}"',
        "CREATE OPERATOR FAMILY shop.unlike USING btree",
        f'ALTER OPERATOR FAMILY shop.unlike USING btree OWNER TO "{role}"',
    )
    source = opened(database, tmp_path, schemas=["shop"])
    proven_in_scratch(source, tmp_path)


def test_roles_of_a_scratch_server_may_do_what_they_might(
    database: Database, tmp_path: Path
) -> None:
    readers, owner = database.role(), database.role()
    bypassing, superuser = database.role("BYPASSRLS"), database.role("SUPERUSER")
    database.execute(
        "CREATE TABLE seen AS SELECT 1 AS v",
        f'GRANT SELECT ON seen TO "{readers}"',
        f'GRANT "{readers}" TO "{owner}"',
        "CREATE MATERIALIZED VIEW by_membership AS SELECT v FROM seen",
        f'ALTER MATERIALIZED VIEW by_membership OWNER TO "{owner}"',
        "CREATE TABLE hidden AS SELECT 1 AS v",
        f'GRANT SELECT ON hidden TO "{bypassing}"',
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
        "CREATE MATERIALIZED VIEW in_spite_of_policies AS SELECT v FROM hidden",
        f'ALTER MATERIALIZED VIEW in_spite_of_policies OWNER TO "{bypassing}"',
        "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION noted()",
        f'ALTER EVENT TRIGGER note OWNER TO "{superuser}"',
    )
    source = opened(database, tmp_path)
    proven_in_scratch(source, tmp_path)


def test_a_schema_public_without_a_comment_comes_back_without(
    database: Database, tmp_path: Path
) -> None:
    said = "SELECT obj_description('public'::regnamespace)"
    database.execute("COMMENT ON SCHEMA public IS NULL")
    source, place = opened(database, tmp_path), place_at(tmp_path)
    proven(source, captured(source, tmp_path), place)
    source.swap(place)
    assert database.rows(said) == [(None,)]
    source.drop(source.keep(place))


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


def test_rows_that_an_extension_keeps_are_compared(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE EXTENSION hstore",
        "CREATE TABLE jobs AS SELECT n, 'job ' || n AS what FROM generate_series(1, 3) n",
        "ALTER EXTENSION hstore ADD TABLE jobs",
        # As pg_extension_config_dump does in an extension's script; the first row comes with it.
        "UPDATE pg_extension SET extconfig = ARRAY['jobs'::regclass::oid], "
        "extcondition = ARRAY['WHERE n > 1'] WHERE extname = 'hstore'",
    )
    described = captured(opened(database, tmp_path), tmp_path).fingerprint["databases"]
    expected = described[database.name]

    def differences() -> list[str]:
        server = Server.of(database.socket_options(), tmp_path)
        return list(compare_database(expected, database_fingerprint(server, expected, "content")))

    database.execute("UPDATE jobs SET what = 'other' WHERE n = 1")
    assert differences() == []
    database.execute("UPDATE jobs SET what = 'other' WHERE n = 2")
    (told,) = differences()
    assert "public.jobs has other content in its 2 rows" in told
    database.execute("DELETE FROM jobs WHERE n = 3")
    (told,) = differences()
    assert "public.jobs has 1 rows instead of 2" in told


def test_slots_of_replication_are_told(tmp_path: Path) -> None:
    cluster = start_cluster(debian_programs(), FOLLOWED | {"wal_level": "logical"})
    try:
        database = new_database(cluster)
        database.execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
        source = opened(database, tmp_path)
        notes = source.capture(FolderCapture(tmp_path / "snapshot", "main")).notes
        assert any(note.startswith("1 logical replication slot not included") for note in notes)
    finally:
        cluster.stop()
