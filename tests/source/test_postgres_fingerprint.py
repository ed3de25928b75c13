"""The fingerprint of a database: equal for equal content, and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.process import run
from runner.source import postgres_rows
from runner.source.postgres_compare import compare_database
from runner.source.postgres_fingerprint import database_fingerprint, settled
from runner.source.postgres_server import Server
from tests.postgres_server import Database, Servers, fresh_database
from tests.source.postgres_sample import make_template

CONTENT = """
CREATE TABLE people (id int PRIMARY KEY, name text, note text NOT NULL DEFAULT '');
INSERT INTO people VALUES (1, 'Ann'), (2, NULL), (3, ''), (4, 'x, y');
CREATE TABLE twins (v int);
INSERT INTO twins VALUES (1), (1), (2);
CREATE SEQUENCE counter;
SELECT nextval('counter'), nextval('counter');
SELECT lo_from_bytea(4711, 'content');
CREATE INDEX by_name ON people (name);
CREATE VIEW named AS SELECT name FROM people;
COMMENT ON COLUMN people.name IS 'as (they) say';
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


def taken(database: Database, like: dict[str, Any] | None = None, level: str = "content") -> Any:
    server = Server.of(database.socket_options(), Path())
    return database_fingerprint(server, like or {}, level)


def differences(database: Database, expected: Any, *only: str) -> list[str]:
    return list(compare_database(expected, taken(database, expected), only))


def copied(origin: Database, copy: Database) -> Database:
    """What pg_dump and pg_restore make of a database in another."""
    dump = run(
        [str(origin.cluster.bin / "pg_dump"), "-Fc"],
        environment=origin.cluster.environment(origin.name),
    ).stdout
    restore = [str(copy.cluster.bin / "pg_restore"), "--exit-on-error", f"--dbname={copy.name}"]
    run(restore, stdin=dump, environment=copy.cluster.environment(copy.name))
    return copy


def test_a_restored_database_is_equal(servers: Servers, any_database: Database) -> None:
    any_database.psql(stdin=CONTENT)
    expected = taken(any_database)
    assert expected["tables"]["public.people"]["rows"] == 4
    with fresh_database(any_database.cluster) as copy:
        assert differences(copied(any_database, copy), expected) == []


TYPES = """
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE typed (
    a smallint, b bigint, c oid, d boolean, e varchar(9), f char(9), g bpchar, h uuid, i timestamp,
    j timestamptz, k date, l numeric, m real, n double precision, o bytea, p jsonb, q text[],
    r positive, s interval, t inet, u money, v tsvector, x int4range, y bit(3), z "char"
);
INSERT INTO typed VALUES (
    -1, 1::bigint << 40, 4000000000, true, 'x ', 'x ', 'x ', '0f0e0d0c-0b0a-0908-0706-050403020100',
    'infinity', '2026-11-21 10:00+01', '5874897-12-31', 1.00, 0.1, '-0',
    '\\x00ff', '{"b": 1.0, "a": []}',
    '{a,NULL,"b c"}', 7, '1 day -2:00', '::1/64', '1.50', 'a:1 b:2A', '[1,)', '101', 'q'
);
INSERT INTO typed (a) VALUES (-32768), (NULL);
"""


def test_a_newer_major_is_equal_too(database: Database, newer_database: Database) -> None:
    database.psql(stdin=CONTENT + TYPES)
    assert differences(copied(database, newer_database), taken(database)) == []


def test_a_database_with_everything_is_equal_to_its_copy(
    servers: Servers, database: Database
) -> None:
    make_template(servers.debian())
    hard = Database(servers.debian(), f"{database.name}_hard", database.owner)
    database.cluster.execute(f"CREATE DATABASE {hard.name} TEMPLATE hard_template")
    expected = taken(hard)
    assert len(expected["objects"]) > 100
    assert differences(copied(hard, database), expected) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE people SET name = '' WHERE id = 2", "people has other content in its 4 rows"),
        ("UPDATE people SET name = 'x', note = 'y' WHERE id = 4", "people has other content"),
        ("UPDATE twins SET v = 2 WHERE v = 1", "twins has other content in its 3 rows"),
        ("DELETE FROM twins WHERE v = 2", "twins has 2 rows instead of 3"),
        ("DROP TABLE twins", "table public.twins is missing"),
        ("CREATE TABLE more (v int)", "table public.more is not in the snapshot"),
        ("SELECT setval('counter', 1)", "sequence public.counter is at 1 instead of 2 or beyond"),
        ("SELECT lo_put(4711, 0, 'k')", "the 1 large objects have other content"),
        ("SELECT lo_unlink(4711)", "there are 0 large objects instead of 1"),
        ("DROP INDEX by_name", "index public.people by_name is missing"),
        ("DROP VIEW named", "view public.named is missing"),
        ("CREATE OR REPLACE VIEW named AS SELECT name FROM people LIMIT 1",
         "text of public.named is defined in another way"),
        ("COMMENT ON COLUMN people.name IS 'as they say'", "comment on public.people name is"),
        ("DROP EXTENSION plpgsql", "extension plpgsql is missing"),
        ("ALTER TABLE people ALTER note SET DEFAULT 'x'", "people is defined in another way"),
        ("ALTER FUNCTION one() STABLE", "function public.one() is defined in another way"),
        ("GRANT SELECT ON people TO PUBLIC", "(lost: nothing; gained: PUBLIC=SELECT)"),
        ("ALTER TABLE twins OWNER TO {owner}", "twins belongs to {owner} instead of postgres"),
    ],
)  # fmt: skip
def test_each_change_is_seen(database: Database, change: str, told: str) -> None:
    database.psql(stdin=CONTENT)
    expected = taken(database)
    database.execute(change.format(owner=database.owner))
    found = differences(database, expected)
    assert any(told.format(owner=database.owner) in words for words in found), found


@pytest.mark.parametrize(
    "change",
    [
        "SELECT nextval('counter')",
        "VACUUM FULL people",
        "UPDATE people SET name = name",
        "ALTER TABLE people ALTER COLUMN name SET STATISTICS 50",
        "SELECT lo_put(4711, 7, '\\x0000')",
    ],
)
def test_what_is_the_same_counts_as_such(database: Database, change: str) -> None:
    database.psql(stdin=CONTENT)
    expected = taken(database)
    database.execute(change)
    assert differences(database, expected) == []


def test_a_search_path_that_was_taken_from_the_session_is_the_same(
    servers: Servers, any_database: Database
) -> None:
    with any_database.connect() as connection:
        connection.execute("SELECT set_config('search_path', 'public,pg_temp', false)")
        connection.execute(
            "CREATE FUNCTION one() RETURNS int LANGUAGE sql SET search_path FROM CURRENT "
            "SET work_mem = '4MB' AS 'SELECT 1'"
        )
    expected = taken(any_database)
    with fresh_database(any_database.cluster) as copy:
        assert differences(copied(any_database, copy), expected) == []


# What pg_dump leaves out, or PostgreSQL writes in another way once it has read its own words.
REWRITTEN = (
    "CREATE SCHEMA shop",
    "SELECT set_config('search_path', 'shop', false)",
    "CREATE SEQUENCE numbers",
    "CREATE DOMAIN number AS int DEFAULT nextval('numbers')",
    "CREATE TABLE people (id int)",
    "CREATE TABLE places (place text)",
    "CREATE VIEW both_of_them AS SELECT * FROM people NATURAL LEFT JOIN places",
    """CREATE VIEW everything AS SELECT id, place FROM
    (SELECT id, NULL AS place FROM people UNION ALL SELECT NULL, place FROM places) u
    WHERE EXISTS (SELECT 'yes' FROM people WHERE 1 + id::bigint IN (SELECT 1::numeric))""",
    "CREATE VIEW ids WITH (check_option = local, security_barrier) AS SELECT id FROM people",
    "CREATE FUNCTION same(boolean, boolean) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2'",
    "CREATE OPERATOR === (FUNCTION = same, LEFTARG = boolean, RIGHTARG = boolean, NEGATOR = !==)",
    "DROP OPERATOR === (boolean, boolean)",
)


def test_what_is_written_in_two_ways_is_the_same(servers: Servers, any_database: Database) -> None:
    with any_database.connect() as connection:
        for statement in REWRITTEN:
            connection.execute(statement.encode())
    expected = taken(any_database)
    with fresh_database(any_database.cluster) as copy:
        assert differences(copied(any_database, copy), expected) == []


def test_a_table_that_cannot_be_read_is_named(database: Database) -> None:
    database.execute(
        "CREATE TABLE limits (most int)",
        "CREATE FUNCTION base() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
        "CREATE TABLE t (v int)",
        "CREATE INDEX ON t (v) WHERE v > base() + base()",
        "CREATE OR REPLACE FUNCTION base() RETURNS int LANGUAGE plpgsql IMMUTABLE "
        "AS 'BEGIN RETURN (SELECT max(most) FROM limits); END'",
    )
    with pytest.raises(StepFailed, match=r'public\.t: .*"limits" does not exist') as refused:
        taken(database)
    assert "search_path" in refused.value.remedy


@pytest.mark.parametrize("kind", ["int", "bigint", "text", "char(3)", "numeric", "varchar"])
def test_values_may_not_change_places(database: Database, kind: str) -> None:
    database.execute(f"CREATE TABLE t (a {kind}, b {kind})")
    found = set()
    contents = [
        "('1', '2'), ('3', '4')",
        "('1', '4'), ('3', '2')",
        "('2', '1'), ('3', '4')",
        "('1', '1'), ('3', '4')",
        "('1', NULL), ('3', '4')",
        "(NULL, '1'), ('3', '4')",
        "(NULL, NULL), ('3', '4')",
        "('12', '2'), ('3', '4')",
    ]
    for content in contents:
        database.execute("TRUNCATE t", f"INSERT INTO t VALUES {content}")
        found.add(taken(database)["tables"]["public.t"]["sum"])
    assert len(found) == len(contents)


def test_the_order_of_columns_does_not_matter(database: Database) -> None:
    database.execute("CREATE TABLE t (a int, gone int, b text)", "ALTER TABLE t DROP COLUMN gone")
    database.execute("INSERT INTO t VALUES (1, 'x'), (2, NULL)")
    expected = taken(database)
    database.execute("DROP TABLE t", "CREATE TABLE t (b text, a int)")
    database.execute("INSERT INTO t VALUES (NULL, 2), ('x', 1)")
    assert differences(database, expected) == []


def test_a_table_may_be_named_like_its_column_and_wide(database: Database) -> None:
    columns = ", ".join(f"c{number} int" for number in range(300))
    database.execute(f"CREATE TABLE t (t text, {columns})", "CREATE TABLE nothing ()")
    database.execute("INSERT INTO t (t, c7) VALUES ('x', 1), ('x', 2)")
    database.execute("INSERT INTO nothing DEFAULT VALUES")
    expected = taken(database)
    assert expected["tables"]["public.nothing"]["rows"] == 1
    database.execute("UPDATE t SET c7 = 3 WHERE c7 = 2")
    assert differences(database, expected) == ["table public.t has other content in its 2 rows"]


def test_the_pieces_of_a_large_table_add_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 20000) g")
    whole = taken(database)["tables"]
    monkeypatch.setattr(postgres_rows, "PIECE_PAGES", 7)
    assert taken(database)["tables"] == whole
    assert whole["public.t"]["rows"] == 20000


def test_levels(database: Database) -> None:
    database.psql(stdin=CONTENT)
    counts = taken(database, level="counts")
    assert counts["tables"]["public.people"] == {"rows": 4}
    assert "tables" not in taken(database, level="none")
    database.execute("UPDATE people SET name = 'x'")
    assert list(compare_database(counts, taken(database, counts, "counts"))) == []
    # What was counted there is only counted here.
    assert taken(database, counts)["tables"]["public.people"] == {"rows": 4}


def test_some_tables_alone(database: Database) -> None:
    database.psql(stdin=CONTENT)
    expected = taken(database)
    database.execute("DROP TABLE twins", "DROP SEQUENCE counter", "SELECT lo_unlink(4711)")
    assert differences(database, expected, "public.people") == []
    assert differences(database, expected, "public.t*") == ["table public.twins is missing"] * 2


def test_rows_that_the_role_does_not_see_are_no_fingerprint(database: Database) -> None:
    database.psql(stdin=CONTENT)
    database.execute(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {database.owner}",
        "ALTER TABLE people ENABLE ROW LEVEL SECURITY",
    )
    server = Server.of(database.options(), Path())
    with pytest.raises(StepFailed, match="row-level security") as refused:
        database_fingerprint(server, {}, "content")
    assert "BYPASSRLS" in refused.value.remedy


def test_bounds_of_sequences_that_moved_meanwhile() -> None:
    before = {
        "up": {"last": 5, "step": 1, "cycle": False},
        "down": {"last": -5, "step": -1, "cycle": False},
        "restarted": {"last": 5, "step": 1, "cycle": False},
        "unused": {"last": None, "step": 1, "cycle": False},
    }
    after = {
        "up": {"last": 7}, "down": {"last": -7}, "restarted": {"last": 1}, "unused": {"last": 1},
    }  # fmt: skip
    found = settled(before, after)
    assert {name: one["last"] for name, one in found.items()} == {
        "up": 5, "down": -5, "restarted": 1, "unused": None,
    }  # fmt: skip


# What a plan for reading the table works out at once, unlike pg_dump, which needs no plan.
CALLED = (
    "CREATE TABLE players AS SELECT 1 AS id, 'Ann' AS name",
    "CREATE FUNCTION least_id(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "CREATE FUNCTION plain(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)'",
    "CREATE FUNCTION twice(t text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT plain($1)'",
)


@pytest.mark.parametrize(
    ("statements", "told", "remedy"),
    [
        (
            (
                "CREATE INDEX few ON players (id) WHERE id > least_id(1)",
                "REVOKE ALL ON FUNCTION least_id FROM PUBLIC",
            ),
            "public.players: .*permission denied for function least_id",
            "an index or extended statistics of the table",
        ),
        (
            ("CREATE INDEX by_name ON players (twice(name))",),
            'public.players: .*plain.* does not exist .*SQL function "twice"',
            "SET search_path",
        ),
    ],
    ids=["not for this role", "not without a path"],
)
def test_what_an_index_calls_and_cannot_is_told_with_its_table(
    database: Database, statements: tuple[str, ...], told: str, remedy: str
) -> None:
    role = database.role()
    database.execute(*CALLED, *statements, f'GRANT SELECT ON players TO "{role}"')
    server = Server.of(database.socket_options(role), Path())
    with pytest.raises(StepFailed, match=told) as refused:
        database_fingerprint(server, {}, "content")
    assert remedy in refused.value.remedy
