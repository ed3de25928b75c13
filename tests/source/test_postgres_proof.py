"""What proves that PostgreSQL came back, and what is told where it did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PersonNeeded, StepFailed
from runner.source import postgres_load
from tests.postgres_server import Database, debian_programs, give_away, start_cluster
from tests.source.postgres_restored import (
    ROWS,
    captured,
    loaded,
    names,
    opened,
    place_at,
    players,
    proven,
    small,
)
from tests.source.postgres_sample import quoted


@pytest.fixture
def app(database: Database) -> Database:
    return small(database)


def test_a_role_that_came_back_with_less_is_told(app: Database, tmp_path: Path) -> None:
    group, role = app.role(), app.role()
    app.execute(f'GRANT "{group}" TO "{role}"', f"ALTER ROLE \"{role}\" SET work_mem = '8MB'")
    source, place = opened(app, tmp_path, globals=True), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    app.execute(f'DROP ROLE "{role}"')
    proven(source, artifacts, place)
    app.execute(
        f'REVOKE "{group}" FROM "{role}"',
        f'ALTER ROLE "{role}" RESET ALL',
        f'ALTER ROLE "{role}" NOLOGIN',
    )
    found = source.differences(artifacts.fingerprint, source.fingerprint(place), place)
    assert found == [
        f"role {role} is without rights instead of LOGIN",
        f"role {role} lacks its setting work_mem",
        f"role {role} is no member of {group}",
    ]
    source.discard(place)


def test_a_fingerprint_taken_in_another_way_proves_nothing(app: Database, tmp_path: Path) -> None:
    source, place = opened(app, tmp_path), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    expected = {**artifacts.fingerprint, "algorithm": 2}
    with pytest.raises(PersonNeeded, match="cannot be compared"):
        source.differences(expected, source.fingerprint(place), place)
    source.discard(place)


def test_a_server_that_is_not_there_has_no_identity(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path, host=str(tmp_path))
    with pytest.raises(StepFailed, match="No such file"):
        source.identity(place_at(tmp_path))


def one_table(database: Database) -> None:
    """Rows, a trigger that would change them, and a part of them in another table."""
    database.execute(
        "CREATE TABLE more (id int PRIMARY KEY, note text)",
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.note = upper(NEW.note); RETURN NEW; END'",
        "INSERT INTO more SELECT n, md5(n::text) FROM generate_series(1, 50000) n",
        "CREATE TRIGGER louder BEFORE INSERT ON more FOR EACH ROW EXECUTE FUNCTION shout()",
        "CREATE TABLE less AS SELECT * FROM more WHERE id < 10",
    )


def test_rows_are_restored_while_they_are_unpacked(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_table(database)
    monkeypatch.setattr(postgres_load, "HEAD", 1)
    source, place = opened(database, tmp_path), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    assert postgres_load.mostly_one_table(artifacts.fingerprint["databases"][database.name])
    proven(source, artifacts, place)
    source.discard(place)


def test_damage_is_told_though_rows_were_restored_by_then(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_table(database)
    monkeypatch.setattr(postgres_load, "HEAD", 1)
    source, place = opened(database, tmp_path), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    stored = artifacts.key()
    data = bytearray(stored.read_bytes())
    for at in (len(data) // 2, 20):  # in the rows; in the list of contents
        data[at] ^= 0x55
        stored.write_bytes(data)
        with pytest.raises(StepFailed, match="is damaged"):
            source.stage(artifacts, place)
        source.discard(place)
    assert not {name for name in names(database) if "holdfast" in name or name == "copy"}


# A directory service names roles so, and they come back with what they may.
@pytest.mark.parametrize("name", ["cn=Jane Doe, ou=a:b; o=c", 'the "q=r"', "PUBLIC"])
def test_a_role_with_an_odd_name_comes_back(app: Database, tmp_path: Path, name: str) -> None:
    role = quoted(name)
    app.execute(
        f"CREATE ROLE {role}",
        f"COMMENT ON ROLE {role} IS E'on\\nits TABLESPACE'",
        'CREATE TABLE notes (id int, "a=1; b" text)',
        f"GRANT INSERT ON notes TO {role} WITH GRANT OPTION",
        f'GRANT SELECT ("a=1; b") ON notes TO {role}',
    )
    rights = f"SELECT has_column_privilege('{name}', 'notes', 'a=1; b', 'SELECT')"
    source, place = opened(app, tmp_path, globals=True), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    app.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    proven(source, artifacts, place)
    source.swap(place)
    assert app.cluster.rows(rights, "copy") == [(True,)]
    app.cluster.execute("DROP DATABASE copy", f"DROP ROLE {role}")
    loaded(app, source, artifacts, tmp_path / "restored")
    assert app.rows(rights) == [(True,)]


def test_who_may_make_no_roles_restores_by_the_printed_commands_where_all_exist(
    database: Database, tmp_path: Path
) -> None:
    reader = database.role()
    with database.connect(database.owner) as connection:
        connection.execute("CREATE TABLE notes (id int)")
        connection.execute(f"GRANT SELECT ON notes TO {quoted(reader)}".encode())
    source = opened(database, tmp_path, globals=True)
    artifacts = captured(source, tmp_path)
    loaded(database, source, artifacts, tmp_path / "restored", user=database.owner)
    rights = f"SELECT has_table_privilege('{reader}', 'notes', 'SELECT')"
    assert database.rows(rights) == [(True,)]


# One that forbids what a restore does, and one that writes down what is done.
def test_event_triggers_come_back_last(app: Database, tmp_path: Path) -> None:
    app.execute(
        "CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM players",
        "CREATE TABLE done (what text)",
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no % here', tg_tag; END $$",
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN INSERT INTO public.done VALUES (tg_tag); END $$",
        "CREATE EVENT TRIGGER notes ON ddl_command_end EXECUTE FUNCTION note()",
        "CREATE INDEX ON players (name)",
        "CREATE EVENT TRIGGER forbids ON ddl_command_start EXECUTE FUNCTION forbid()",
        "COMMENT ON EVENT TRIGGER forbids IS 'all of it'",
    )
    said = "SELECT evtname, obj_description(oid) FROM pg_event_trigger ORDER BY 1"
    source, place = opened(app, tmp_path), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    source.swap(place)
    assert app.cluster.rows(said, "copy") == [("forbids", "all of it"), ("notes", None)]
    loaded(app, source, artifacts, tmp_path / "restored")
    assert app.rows(said) == [("forbids", "all of it"), ("notes", None)]
    assert app.rows("SELECT what FROM done") == [("CREATE INDEX",)]
    assert app.rows("SELECT count FROM many") == [(ROWS,)]


def test_the_printed_commands_need_no_tablespace(app: Database, tmp_path: Path) -> None:
    folder = app.cluster.folder / "space"
    folder.mkdir()
    give_away(folder)
    app.cluster.execute(
        f"CREATE TABLESPACE space LOCATION '{folder}'",
        f"ALTER DATABASE {app.name} SET TABLESPACE space",
        f"ALTER DATABASE {app.name} SET work_mem = '5MB'",
    )
    source = opened(app, tmp_path)
    artifacts = captured(source, tmp_path)
    app.cluster.execute(f"DROP DATABASE {app.name}", "DROP TABLESPACE space")
    app.cluster.execute(f"CREATE DATABASE {app.name}")  # which `loaded` drops
    loaded(app, source, artifacts, tmp_path / "restored")
    assert players(app) == ROWS
    assert app.rows("SHOW work_mem") == [("5MB",)]


def test_the_printed_commands_make_no_schema_of_their_own(
    database: Database, tmp_path: Path
) -> None:
    database.execute(
        "CREATE TABLE t (id serial PRIMARY KEY)",
        "INSERT INTO t DEFAULT VALUES",
        "CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM t",
    )
    source = opened(database, tmp_path)
    loaded(database, source, captured(source, tmp_path), tmp_path / "restored")
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema'"
    assert database.rows(schemas) == [("public",)]


def test_a_role_in_a_hurry_takes_its_time(database: Database, tmp_path: Path) -> None:
    database.execute(f"ALTER ROLE {database.owner} SET statement_timeout = 1")
    source, place = (
        opened(database, tmp_path, database.owner, globals=True),
        place_at(tmp_path, "copy"),
    )
    proven(source, captured(source, tmp_path), place)
    source.discard(place)


def test_a_limit_of_connections_is_told(database: Database, tmp_path: Path) -> None:
    database.execute(f"ALTER ROLE {database.owner} CONNECTION LIMIT 2")
    with pytest.raises(StepFailed, match="too many connections for role") as error:
        captured(opened(database, tmp_path, database.owner), tmp_path)
    assert "CONNECTION LIMIT" in error.value.remedy


# A server whose first superuser has another name, which may grant nothing here.
def test_by_hand_memberships_are_granted_by_whoever_restores(
    app: Database, newer_database: Database, tmp_path: Path
) -> None:
    group, role, boss = app.role(), app.role(), app.role("SUPERUSER")
    app.execute(f'SET ROLE "{boss}"; GRANT "{group}" TO "{role}"')
    source = opened(app, tmp_path, globals=True)
    artifacts = captured(source, tmp_path)
    there = Database(newer_database.cluster, newer_database.name, "")
    loaded(there, source, artifacts, tmp_path / "restored")
    assert there.cluster.rows(f"SELECT pg_has_role('{role}', '{group}', 'MEMBER')") == [(True,)]
    assert players(there, app.name) == ROWS


# A server from before UTF-8 was usual, whose roles are then written otherwise.
def test_roles_come_back_in_any_encoding(tmp_path: Path) -> None:
    cluster = start_cluster(debian_programs(), initdb=("--encoding=LATIN1", "--locale=C"))
    try:
        latin = Database(cluster, "old", "Müller")
        utf8 = {"client_encoding": "UTF8"}
        with cluster.connect(**utf8) as connection:
            connection.execute('CREATE ROLE "Müller"')
            connection.execute('CREATE DATABASE old OWNER "Müller"')
        with cluster.connect("old", **utf8) as connection:
            connection.execute("CREATE TABLE t (v int)")
            connection.execute('ALTER TABLE t OWNER TO "Müller"')
        source = opened(latin, tmp_path, globals=True)
        artifacts = captured(source, tmp_path)
        assert "Müller" in b"".join(artifacts.read("globals")).decode()
        scratch = str(tmp_path / "scratch")
        proven(source, artifacts, place_at(tmp_path / "drill", scratch))
        source.discard(place_at(tmp_path / "drill", scratch))
        cluster.execute("DROP DATABASE old")
        with cluster.connect(**utf8) as connection:
            connection.execute('DROP ROLE "Müller"')
        place = place_at(tmp_path)
        proven(source, artifacts, place)
        source.swap(place)
    finally:
        cluster.stop()
