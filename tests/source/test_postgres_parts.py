"""Parts of a database that were left out, taken alone, or lie elsewhere once they are restored."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runner.daemon import end_daemons
from runner.errors import StepFailed
from tests.postgres_server import (
    Database,
    Servers,
    debian_programs,
    fresh_database,
    new_database,
    start_cluster,
)
from tests.source.postgres_restored import captured, loaded, opened, place_at, proven
from tests.source.stack import FolderArtifacts, FolderCapture
from tests.tools import cannot_run, require_program

IDENTITY = (
    "CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY, words text)",
    "INSERT INTO log (words) VALUES ('one')",
    "CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY, words text)",
    "INSERT INTO kept (words) VALUES ('one'), ('two')",
)
SHOP = (
    'CREATE SCHEMA "my_Shop"',
    'CREATE TABLE "my_Shop".orders (id serial, v text)',
    "INSERT INTO \"my_Shop\".orders (v) VALUES ('x')",
    'CREATE VIEW "my_Shop".seen AS SELECT v FROM "my_Shop".orders',
    "CREATE TABLE other (v int)",
)
# The oid of a value, which is never that of before, says in which partition it is.
MOODS = (
    f"CREATE TYPE mood AS ENUM ({', '.join(repr(str(n)) for n in range(40))})",
    "CREATE TABLE days (mood mood, n int) PARTITION BY HASH (mood)",
    *(
        f"CREATE TABLE days_{n} PARTITION OF days FOR VALUES WITH (MODULUS 4, REMAINDER {n})"
        for n in range(4)
    ),
    "INSERT INTO days SELECT (enum_range(NULL::mood))[1 + n % 40], n FROM generate_series(1, 99) n",
)


@pytest.fixture(autouse=True)
def no_scratch_server_left(tmp_path: Path) -> Iterator[None]:
    """Ends what proves a restore in place, which stands until that is discarded."""
    yield
    for folder in {path.parent for path in tmp_path.rglob("*.process")}:
        end_daemons(folder)


def test_an_identity_goes_with_the_table_that_is_left_out(
    database: Database, tmp_path: Path
) -> None:
    database.execute(*IDENTITY)
    source = opened(database, tmp_path, exclude_tables=["public.log"])
    artifacts = captured(source, tmp_path)
    assert set(artifacts.fingerprint["databases"][database.name]["sequences"]) == {
        "public.kept_id_seq"
    }
    proven(source, artifacts, place_at(tmp_path, "part"))


@pytest.mark.parametrize("more", [{}, {"parallel": 2}], ids=["file", "folder"])
def test_tables_alone_come_back_into_their_schema(
    database: Database, tmp_path: Path, more: dict[str, Any]
) -> None:
    database.execute(*SHOP)
    source = opened(database, tmp_path, tables=["my_Shop.*"], **more)
    place = place_at(tmp_path, "part")
    proven(source, captured(source, tmp_path), place)
    source.swap(place)
    assert database.cluster.rows('SELECT v FROM "my_Shop".seen', "part") == [("x",)]


def test_the_printed_commands_bring_tables_alone_back(database: Database, tmp_path: Path) -> None:
    database.execute(*SHOP)
    source = opened(database, tmp_path, tables=["my_Shop.*"])
    artifacts = captured(source, tmp_path)
    loaded(database, source, artifacts, tmp_path / "restored")
    assert database.rows('SELECT v FROM "my_Shop".seen') == [("x",)]


def test_rows_that_lie_in_another_partition_are_the_same_rows(
    database: Database, tmp_path: Path
) -> None:
    database.execute(*MOODS)
    source = opened(database, tmp_path)
    artifacts = captured(source, tmp_path)
    lying = "SELECT tableoid::regclass::text, n FROM days ORDER BY n"
    place = place_at(tmp_path, "copy")
    proven(source, artifacts, place)
    source.swap(place)
    assert database.cluster.rows(lying, "copy") != database.rows(lying)
    expected = artifacts.fingerprint
    database.execute("UPDATE days SET n = -n WHERE n = 7")
    found = captured(source, tmp_path / "later").fingerprint
    assert list(source.differences(expected, found, place)) == [
        "table public.days has other content in its 99 rows"
    ]


def test_a_part_is_proven_with_its_partitions(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE visits (day int) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_early PARTITION OF visits FOR VALUES FROM (0) TO (10)",
        "INSERT INTO visits VALUES (1), (2)",
    )
    source = opened(database, tmp_path)
    place = place_at(tmp_path, "part", include=("public.visits",))
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    staged = source.fingerprint(place)
    lost = {"public.visits_early": {"rows": 1, "sum": "0"}}
    found = {**staged["databases"][database.name], "tables": lost}
    found = {**staged, "databases": {database.name: found}}
    assert list(source.differences(artifacts.fingerprint, found, place)) == [
        "table public.visits_early has 1 rows instead of 2"
    ]


def test_names_in_an_encoding_of_old(servers: Servers, tmp_path: Path) -> None:
    with fresh_database(servers.debian()) as database:
        database.cluster.execute(
            f"DROP DATABASE {database.name}",
            f"CREATE DATABASE {database.name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
        )
        with database.connect(client_encoding="UTF8") as connection:
            for name in ("Stück", "Maß"):
                connection.execute(f"CREATE TABLE \"{name}\" AS SELECT 'ä' AS v".encode())
        for option, name in (
            ("tables", "public.Stück"),
            ("exclude_tables", "public.Maß"),
            ("exclude_rows", "public.Maß"),
        ):
            folder = tmp_path / option
            source = opened(database, folder, "postgres", **{option: [name]})
            proven(source, captured(source, folder), place_at(folder, option))
        source = opened(database, tmp_path)
        place = place_at(tmp_path, "some", include=("public.Stück",))
        proven(source, captured(source, tmp_path), place)
        source.swap(place)
        with database.cluster.connect("some", client_encoding="UTF8") as connection:
            assert connection.execute('SELECT v FROM "Stück"').fetchall() == [("ä",)]


ELSEWHERE = (
    "CREATE FOREIGN DATA WRAPPER nothing",
    "CREATE SERVER there FOREIGN DATA WRAPPER nothing",
    "CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (password 'HUSH')",
    """CREATE SUBSCRIPTION feed CONNECTION 'host=192.0.2.1 password=HUSH' PUBLICATION p
    WITH (connect = false, slot_name = NONE)""",
)


def test_a_role_that_is_only_mapped_comes_along(database: Database, tmp_path: Path) -> None:
    role = database.role()
    database.execute(
        *ELSEWHERE[:3], f"CREATE USER MAPPING FOR \"{role}\" SERVER there OPTIONS (password 'HUSH')"
    )
    source = opened(database, tmp_path)
    artifacts = captured(source, tmp_path)
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    try:
        proven(source, artifacts, place)
    finally:
        source.discard(place)
    described = artifacts.fingerprint["databases"][database.name]
    forgetful = {**described, "owners": []}
    artifacts = FolderArtifacts(
        artifacts.capture,
        {**artifacts.fingerprint, "databases": {database.name: forgetful}},
    )
    database.execute(f'DROP USER MAPPING FOR "{role}" SERVER there')
    database.execute(f'DROP ROLE "{role}"')
    with pytest.raises(StepFailed, match="CREATE USER MAPPING") as failed:
        source.stage(artifacts, place_at(tmp_path, "copy"))
    assert "HUSH" not in failed.value.message


def test_what_only_a_superuser_reads_is_told(database: Database, tmp_path: Path) -> None:
    database.execute(*ELSEWHERE)
    try:
        database.execute(f'GRANT pg_read_all_data TO "{database.owner}"')
        source = opened(database, tmp_path, database.owner)
        notes = source.capture(FolderCapture(tmp_path / "snapshot", "main")).notes
        assert any(note.startswith("1 subscriptions not included") for note in notes)
        assert any("options of 1 user mappings" in note for note in notes)
        whole = opened(database, tmp_path)
        assert whole.capture(FolderCapture(tmp_path / "whole", "main")).notes == ()
    finally:
        database.execute("DROP SUBSCRIPTION feed")


def test_a_template_stays_one_and_its_copy_can_go(database: Database, tmp_path: Path) -> None:
    database.cluster.execute(f"ALTER DATABASE {database.name} IS_TEMPLATE true")
    source, place = opened(database, tmp_path), place_at(tmp_path)
    proven(source, captured(source, tmp_path), place)
    source.swap(place)
    templates = "SELECT datname FROM pg_database WHERE datistemplate AND datname ~ '^app'"
    assert len(database.rows(templates)) == 2
    source.drop(source.keep(place))
    assert database.rows(templates) == [(database.name,)]


def test_nothing_is_dropped_in_place_that_cannot_be_made_again(
    database: Database, tmp_path: Path
) -> None:
    role = database.role()
    database.execute(f'ALTER DATABASE {database.name} OWNER TO "{role}"')
    with database.connect(role) as connection:
        connection.execute("CREATE TYPE pair AS (a int, b int)")
        connection.execute("CREATE TABLE mine AS SELECT (1, 2)::pair AS v")
    source, place = opened(database, tmp_path, role), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    database.execute("CREATE TABLE theirs (v int)", f'GRANT SELECT ON theirs TO "{role}"')
    with pytest.raises(StepFailed, match=r"does not own table public\.theirs"):
        source.swap(place)
    source.unswap(place)
    assert database.rows("SELECT (v).b FROM mine") == [(2,)]
    database.execute("DROP TABLE theirs", "UPDATE mine SET v.b = 3")
    source.swap(place)
    source.confirm(place)
    assert database.rows("SELECT (v).b FROM mine") == [(2,)]
    source.unswap(place)
    assert database.rows("SELECT (v).b FROM mine") == [(3,)]


def test_a_part_gets_the_extensions_that_it_uses(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE EXTENSION pg_trgm",
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.words (v text, near float DEFAULT public.similarity('a', 'b'))",
        "CREATE INDEX ON shop.words USING gin (v public.gin_trgm_ops)",
        "INSERT INTO shop.words VALUES ('x')",
    )
    for option, name in (("schemas", "shop"), ("tables", "shop.words")):
        folder = tmp_path / option
        source = opened(database, folder, "postgres", **{option: [name]})
        stored = FolderCapture(folder / "notes", "main")
        assert source.capture(stored).notes == ()
        proven(source, captured(source, folder), place_at(folder, option))


USED = ["type public.mood", "type public.mood[]"]


def test_what_a_part_needs_and_lacks_is_told(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TYPE mood AS ENUM ('a')",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TABLE people (id serial PRIMARY KEY)",
        "CREATE TABLE days (id serial, mood mood, who int REFERENCES people, more mood[])",
        "CREATE TRIGGER touch BEFORE UPDATE ON days FOR EACH ROW EXECUTE FUNCTION touch()",
        "CREATE VIEW seen AS SELECT id FROM days",
    )
    for options, told in (
        ({"tables": ["public.days"]},
         ["function public.touch()", "table public.people", *USED]),
        ({"exclude_tables": ["public.people"]}, ["table public.people"]),
        ({"exclude_tables": ["public.seen"]}, None),
        ({"schemas": ["public"]}, None),
        ({"tables": ["public.people"]}, None),
        ({"tables": ["public.seen"]}, ["table public.days"]),
        ({}, None),
    ):  # fmt: skip
        source = opened(database, tmp_path, "postgres", **options)
        stored = FolderCapture(tmp_path / str(options), "main")
        found = source.capture(stored)
        assert found.fingerprint["databases"][database.name].get("needs") == told
        assert any("cannot be restored by itself" in one for one in found.notes) == bool(told)


@pytest.mark.parametrize("options", [{}, {"schemas": ["public"]}], ids=["all", "part"])
def test_the_schema_public_has_its_owner_again(
    database: Database, tmp_path: Path, options: dict[str, Any]
) -> None:
    database.execute(f"ALTER SCHEMA public OWNER TO {database.owner}", "CREATE TABLE t (v int)")
    source = opened(database, tmp_path, **options)
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place_at(tmp_path, "copy"))
    loaded(database, source, artifacts, tmp_path / "restored")
    assert database.rows("SELECT 't'::regclass::text") == [("t",)]


def test_sums_of_money_mean_the_same_in_every_locale(tmp_path: Path) -> None:
    """What `1,50` is depends on lc_monetary, which pg_dump leaves as it finds it."""
    with tempfile.TemporaryDirectory(prefix="locales-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # the server is another user's
        make = [require_program("localedef"), "-i", "de_DE", "-f", "UTF-8", f"{folder}/de_DE.UTF-8"]
        if subprocess.run(make, capture_output=True, check=False).returncode != 0:
            cannot_run("the sources of locales are missing: apt-get install locales")
        with patch.dict(os.environ, {"LOCPATH": folder}):
            cluster = start_cluster(debian_programs(), {"lc_monetary": "de_DE.UTF-8"})
        try:
            database = new_database(cluster)
            database.execute(
                "CREATE TABLE t AS SELECT '1234,56'::money AS v, '{\"1,5\"}'::money[] AS a"
            )
            source = opened(database, tmp_path)
            artifacts = captured(source, tmp_path)
            proven(source, artifacts, place_at(tmp_path, "copy"))
            scratch = source.scratch_destination(tmp_path / "scratch")
            place = place_at(tmp_path / "second", scratch)
            try:
                proven(source, artifacts, place)
            finally:
                source.discard(place)
            assert database.rows("SELECT v::numeric FROM t") == [(Decimal("1234.56"),)]
        finally:
            cluster.stop()


def test_a_schema_that_was_public_stays_open(database: Database, tmp_path: Path) -> None:
    database.execute(
        "ALTER SCHEMA public RENAME TO former", "CREATE SCHEMA public", "CREATE TABLE former.t ()"
    )
    source = opened(database, tmp_path)
    proven(source, captured(source, tmp_path), place_at(tmp_path, "copy"))


@pytest.mark.parametrize("after", ["SELECT", "DROP SCHEMA public CASCADE"], ids=["there", "gone"])
def test_a_schema_public_that_was_made_anew_is_restored_into(
    database: Database, tmp_path: Path, after: str
) -> None:
    """No dump makes it, whoever owns it: what drops it in place has to make it."""
    role = database.role()
    database.execute(
        f'ALTER DATABASE {database.name} OWNER TO "{role}"', "DROP SCHEMA public CASCADE"
    )
    with database.connect(role) as connection:
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE TABLE public.t AS SELECT 1 AS v")
    source, place = opened(database, tmp_path, role), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    with database.connect(role) as connection:
        connection.execute("UPDATE public.t SET v = 2")
        connection.execute(after.encode())
    source.swap(place)
    source.confirm(place)
    assert database.rows("SELECT v FROM public.t") == [(1,)]
    source.unswap(place)
    gone = "DROP" in after
    assert database.rows("SELECT to_regclass('public.t') IS NULL") == [(gone,)]
