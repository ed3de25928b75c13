"""PostgreSQL restored beside what is live: what is looked at first, what is left when it fails."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.daemon import end_daemons
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import Refused, postgres_stage
from tests.postgres_server import SUPERUSER, Database, Servers, fresh_database
from tests.source.postgres_restored import (
    ROWS,
    behind_a_prefix,
    captured,
    differing,
    names,
    opened,
    place_at,
    placed,
    players,
    proven,
    small,
)
from tests.source.stack import TOKEN, FolderArtifacts, bash, decode


@pytest.fixture
def app(database: Database, tmp_path: Path) -> Iterator[Database]:
    yield small(database)
    for home in ("scratch", "workspace/proof"):
        end_daemons(tmp_path / home)


def declares(artifacts: FolderArtifacts, name: str, **more: Any) -> FolderArtifacts:
    """The same artifacts, of a database that is said to need more than it does."""
    document = dict(artifacts.fingerprint)
    document["databases"] = {name: {**document["databases"][name], **more}}
    return FolderArtifacts(artifacts.capture, document)


def test_another_name_leaves_the_original_alone(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path)
    place = place_at(tmp_path, "A copy-of 'it'")
    proven(source, captured(source, tmp_path), place)
    app.execute("TRUNCATE players CASCADE")
    assert list(source.swap(place)) == []
    source.confirm(place)
    source.discard(place)
    assert players(app, "A copy-of 'it'") == ROWS
    assert players(app) == 0


def test_another_server_of_a_newer_major(
    app: Database, tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{servers.newer().bin}:{os.environ['PATH']}")
    source = opened(app, tmp_path, globals=True)
    artifacts = captured(source, tmp_path)
    with fresh_database(servers.newer()) as other:
        where = f"postgresql://{SUPERUSER}@/{other.name}?host={other.cluster.folder}"
        place = place_at(tmp_path, f"{where}&port={other.cluster.port}")
        proven(source, artifacts, place)
        source.swap(place)
        source.confirm(place)
        assert players(other) == ROWS
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        assert other.rows(owner) == [(app.owner,)]


FIRST = "SET transaction_timeout = 0;"  # of pg_restore 17 and later; no older server knows it


@pytest.mark.parametrize("behind", [False, True], ids=["here", "behind a prefix"])
@pytest.mark.parametrize("crowd", [0, 10_000], ids=["many tables", "mostly one table"])
def test_newer_programs_than_the_server(
    app: Database, tmp_path: Path, servers: Servers, crowd: int, behind: bool
) -> None:
    app.execute(f"CREATE TABLE crowd AS SELECT n FROM generate_series(1, {crowd}) AS n")
    options: dict[str, Any] = {"bin": str(servers.newer().bin)}
    if behind:
        options["exec"] = behind_a_prefix(app, tmp_path)
    source, place = opened(app, tmp_path, **options), place_at(tmp_path)
    proven(source, captured(source, tmp_path), place)
    app.execute("TRUNCATE players CASCADE")
    source.swap(place)
    source.confirm(place)
    assert players(app) == ROWS


@pytest.mark.parametrize("crowd", [0, 10_000], ids=["many tables", "mostly one table"])
def test_newer_programs_fail_at_whatever_else_the_server_refuses(
    app: Database, tmp_path: Path, servers: Servers, crowd: int
) -> None:
    app.execute(
        f"CREATE TABLE crowd AS SELECT n FROM generate_series(1, {crowd}) AS n",
        "CREATE FUNCTION known(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
        "'BEGIN RETURN (SELECT name FROM players WHERE id = $1); END'",
        'ALTER TABLE "My Shop"."order lines" '
        "ADD name text GENERATED ALWAYS AS (known(player)) STORED",
    )
    source, place = opened(app, tmp_path, bin=str(servers.newer().bin)), place_at(tmp_path)
    with pytest.raises(StepFailed, match="ALTER FUNCTION … SET") as caught:
        source.stage(captured(source, tmp_path), place)
    assert FIRST not in caught.value.message
    source.discard(place)


def test_what_a_newer_scratch_server_does_not_take_says_nothing_of_the_snapshot(
    app: Database, tmp_path: Path, servers: Servers
) -> None:
    if app.cluster.major >= 17:
        pytest.skip("what this server has, the newer one takes")
    app.execute("CREATE VIEW written AS SELECT buffers_backend FROM pg_stat_bgwriter")
    source = opened(app, tmp_path, bin=str(servers.newer().bin))
    artifacts = captured(source, tmp_path)
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    try:
        with pytest.raises(PersonNeeded, match="newer than that"):
            source.stage(artifacts, place)
    finally:
        source.discard(place)


def test_an_older_server_is_refused(
    app: Database, tmp_path: Path, newer_database: Database
) -> None:
    newer = opened(small(newer_database), tmp_path, bin=str(newer_database.cluster.bin))
    artifacts = captured(newer, tmp_path)
    before = names(app)
    with pytest.raises(StepFailed, match=f"the server is older: {app.cluster.major}"):
        opened(app, tmp_path).stage(artifacts, place_at(tmp_path, "copy"))
    assert names(app) == before


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        ({"extensions": {"timescaledb": {}}}, "the extension timescaledb"),
        ({"owners": ["nobody here"]}, "no role nobody here"),
        ({"bytes": 1 << 60}, "bytes free"),
    ],
    ids=["extension", "role", "room"],
)
def test_what_is_lacking_is_told_before_anything_is_made(
    app: Database, tmp_path: Path, needed: dict[str, Any], words: str
) -> None:
    source = opened(app, tmp_path, host=str(app.cluster.folder))
    artifacts = declares(captured(source, tmp_path), app.name, **needed)
    before, place = names(app), place_at(tmp_path)
    with pytest.raises(StepFailed, match=words):
        source.stage(artifacts, place)
    assert source.staged(place) is None
    source.discard(place)
    assert names(app) == before


def test_what_belongs_to_others_needs_their_role(app: Database, tmp_path: Path) -> None:
    artifacts = captured(opened(app, tmp_path), tmp_path)
    source, before = opened(app, tmp_path, user=app.owner), names(app)
    with pytest.raises(StepFailed, match="may not act as postgres"):
        source.stage(artifacts, place_at(tmp_path))
    assert names(app) == before


def test_a_role_restores_what_is_its_own(app: Database, tmp_path: Path) -> None:
    for table in ("players", "visits", "visits_early", "visits_late", "named"):
        app.execute(f"ALTER TABLE {table} OWNER TO {app.owner}")
    app.execute('DROP SCHEMA "My Shop" CASCADE')
    app.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    source, place = opened(app, tmp_path, user=app.owner), place_at(tmp_path)
    proven(source, captured(source, tmp_path), place)
    source.gate(place)
    assert list(source.swap(place)) == [f"{app.name}_before_{TOKEN}"]
    source.confirm(place)
    assert players(app) == ROWS


def test_a_scratch_server_that_lacks_an_extension_proves_nothing(
    app: Database, tmp_path: Path
) -> None:
    source = opened(app, tmp_path)
    artifacts = declares(captured(source, tmp_path), app.name, extensions={"timescaledb": {}})
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    with pytest.raises(PersonNeeded, match="timescaledb"):
        source.stage(artifacts, place)
    source.discard(place)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_machine_without_that_major_proves_nothing(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path)
    artifacts = captured(source, tmp_path)
    future = FolderArtifacts(artifacts.capture, {**artifacts.fingerprint, "server": "99.1"})
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    with pytest.raises(PersonNeeded, match="no server of PostgreSQL 99"):
        source.stage(future, place)
    source.discard(place)


def test_missing_roles_are_made_and_go_with_a_restore_that_failed(
    app: Database, tmp_path: Path
) -> None:
    role = app.role("CONNECTION LIMIT 7")
    app.execute(f'ALTER TABLE players OWNER TO "{role}"')
    source, place = opened(app, tmp_path, globals=True), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    app.execute(f'DROP OWNED BY "{role}" CASCADE', f'DROP ROLE "{role}"')
    limit = f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{role}'"
    proven(source, artifacts, place)
    assert app.rows(limit) == [(7,)]
    source.discard(place)
    assert app.rows(limit) == []
    proven(source, artifacts, place)
    source.swap(place)
    source.discard(place)
    assert app.rows(limit) == [(7,)]


def test_roles_that_exist_stay_as_they_are(app: Database, tmp_path: Path) -> None:
    role = app.role("CONNECTION LIMIT 7")
    source, place = opened(app, tmp_path, globals=True), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    app.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 8')
    proven(source, artifacts, place)
    assert app.rows(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{role}'") == [(8,)]


def test_some_tables_alone(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path)
    artifacts = captured(source, tmp_path)
    with pytest.raises(UsageError, match="cannot replace a database"):
        source.stage(artifacts, place_at(tmp_path, include=("public.visits",)))
    place = place_at(tmp_path, "some", include=("public.visits", '"My Shop".*'))
    proven(source, artifacts, place)
    source.swap(place)
    tables = (
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND oid > 16383"
    )
    assert {row[0] for row in app.cluster.rows(tables, "some")} == {
        *("visits", "visits_early", "visits_late"),
        '"My Shop"."order lines"',
    }
    assert app.cluster.rows("SELECT * FROM visits ORDER BY 1", "some") == [(1, 1), (11, 1)]
    insert = 'INSERT INTO "My Shop"."order lines" (player) VALUES (7) RETURNING id'
    assert app.cluster.rows(insert, "some") == [(3,)]


def test_a_table_that_is_not_there(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path)
    place = place_at(tmp_path, "some", include=("public.nothing",))
    with pytest.raises(UsageError, match=r"no table public\.nothing"):
        source.stage(captured(source, tmp_path), place)


def test_a_view_does_not_come_back_alone(app: Database, tmp_path: Path) -> None:
    app.execute("CREATE VIEW regulars AS SELECT * FROM visits")
    source = opened(app, tmp_path)
    place = place_at(tmp_path, "some", include=("public.reg*",))
    with pytest.raises(UsageError, match=r"no table public\.reg") as caught:
        source.stage(captured(source, tmp_path), place)
    assert caught.value.remedy.startswith("public.regulars: a view comes back with its database")


@pytest.mark.parametrize(
    "options",
    [
        {"schemas": ["public"]},
        {"schemas": ["My Shop", "public"]},
        {"exclude_schemas": ["My Shop"]},
        {"tables": ["public.players"]},
        {"exclude_rows": ["public.visits"]},
        {"only": "schema"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_part_is_not_exchanged_for_the_whole(
    app: Database, tmp_path: Path, options: dict[str, Any]
) -> None:
    source, place = opened(app, tmp_path, **options), place_at(tmp_path)
    proven(source, captured(source, tmp_path), place)
    with pytest.raises(PersonNeeded, match="a part of"):
        source.gate(place)
    source.discard(place)


def test_rows_alone_are_not_restored_beside(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path, only="data")
    with pytest.raises(PersonNeeded, match="rows alone"):
        source.stage(captured(source, tmp_path), place_at(tmp_path))


def test_a_dump_in_many_files(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path, parallel=2)
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    proven(source, captured(source, tmp_path), place)


def test_several_databases(app: Database, tmp_path: Path, servers: Servers) -> None:
    with fresh_database(servers.debian()) as other:
        small(other).execute("DELETE FROM players WHERE id > 10")
        source = opened(app, tmp_path, databases=[app.name, other.name], globals=True)
        artifacts = captured(source, tmp_path)
        app.execute("TRUNCATE players CASCADE")
        other.execute("TRUNCATE players CASCADE")
        with pytest.raises(UsageError, match="2 databases"):
            source.stage(artifacts, place_at(tmp_path, "copy"))
        place = place_at(tmp_path)
        proven(source, artifacts, place)
        assert len(list(source.swap(place))) == 2
        source.confirm(place)
        assert (players(app), players(other)) == (ROWS, 10)
        source.unswap(place)
        assert (players(app), players(other)) == (0, 0)
        source.discard(place)


def test_through_ssh_which_makes_one_line_of_its_arguments(app: Database, tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nshift\nexec env -i PATH={app.cluster.bin}:/usr/bin:/bin sh -c "$*"')
    ssh.chmod(0o755)
    role = app.role("SUPERUSER")
    source = opened(app, tmp_path, user=role, exec=f"{ssh} db.internal", parallel=2)
    artifacts, place = captured(source, tmp_path), place_at(tmp_path, "A copy-of 'it'")
    proven(source, artifacts, place)
    source.discard(place)
    part = place_at(tmp_path, "part", include=("public.visits",))
    proven(source, artifacts, part)
    source.discard(part)
    typed = opened(app, tmp_path, user=role, exec=f"{ssh} db.internal")
    folder = tmp_path / "typed"
    folder.mkdir()
    artifacts = captured(typed, folder)
    assert placed(app, typed, artifacts, folder / "restored") == ""
    assert differing(app, artifacts) == []


def test_a_role_and_a_database_that_only_read_by_default(app: Database, tmp_path: Path) -> None:
    role = app.role("SUPERUSER")
    app.execute(
        f'ALTER ROLE "{role}" SET default_transaction_read_only = on',
        f"ALTER DATABASE {app.name} SET default_transaction_read_only = on",
    )
    source, place = opened(app, tmp_path, user=role), place_at(tmp_path, "copy")
    proven(source, captured(source, tmp_path), place)
    source.swap(place)
    source.confirm(place)
    assert app.cluster.rows("SHOW default_transaction_read_only", "copy") == [("on",)]
    app.cluster.execute('DROP DATABASE "copy"')


def test_a_function_that_needs_a_search_path_is_told(app: Database, tmp_path: Path) -> None:
    if app.cluster.major >= 17:
        pytest.skip("no such index can be made since PostgreSQL 17")
    app.execute(
        "CREATE FUNCTION known(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
        "'BEGIN RETURN (SELECT name FROM players WHERE id = $1); END'",
        'CREATE INDEX ON "My Shop"."order lines" (known(player))',
    )
    source, place = opened(app, tmp_path), place_at(tmp_path, "copy")
    with pytest.raises(StepFailed, match="ALTER FUNCTION … SET"):
        source.stage(captured(source, tmp_path), place)
    source.discard(place)
    app.execute("ALTER FUNCTION known(int) SET search_path = public")
    proven(source, captured(source, tmp_path / "later"), place)
    source.discard(place)


def test_rows_that_are_checked_against_those_of_another_table(
    app: Database, tmp_path: Path
) -> None:
    app.execute(
        "CREATE TABLE codes AS SELECT md5(n::text) AS code FROM generate_series(1, 50000) n",
        "CREATE FUNCTION is_code(text) RETURNS boolean STABLE LANGUAGE plpgsql SET search_path = "
        "public AS 'BEGIN RETURN EXISTS (SELECT FROM codes WHERE code = $1); END'",
        "CREATE TABLE uses (code text CHECK (is_code(code)), filler text)",
        "INSERT INTO uses SELECT md5('50000'), repeat('x', 1000) FROM generate_series(1, 10)",
    )
    source, place = opened(app, tmp_path), place_at(tmp_path, "copy")
    artifacts = captured(source, tmp_path)
    for _ in range(3):
        proven(source, artifacts, place)
        source.discard(place)


def test_two_sources_of_one_server_are_restored_beside_each_other(
    app: Database, tmp_path: Path, servers: Servers
) -> None:
    role = app.role()
    app.execute(f'GRANT SELECT ON players TO "{role}"')
    with fresh_database(servers.debian()) as other:
        small(other).execute(f'GRANT SELECT ON players TO "{role}"')
        folders = [tmp_path / "one", tmp_path / "two"]
        sources = [
            opened(database, folder, globals=True)
            for database, folder in zip((app, other), folders, strict=True)
        ]
        pairs = list(zip(sources, folders, strict=True))
        stored = [captured(source, folder) for source, folder in pairs]
        for database in (app, other):
            database.execute(f'DROP OWNED BY "{role}"')
        app.execute(f'DROP ROLE "{role}"')
        before = names(app)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda n: proven(sources[n], stored[n], place_at(folders[n])), (0, 1)))
        sources[0].discard(place_at(folders[0]))
        sources[1].swap(place_at(folders[1]))
        sources[1].confirm(place_at(folders[1]))
        sources[1].discard(place_at(folders[1]))
        assert players(other) == ROWS
        assert names(app) - before == {f"{other.name}_before_{TOKEN}"}
        app.execute(f"DROP DATABASE {other.name}_before_{TOKEN}")


def test_through_a_prefix_command(app: Database, tmp_path: Path) -> None:
    prefix = shlex.join(["env", "PREFIXED=1"])
    source = opened(app, tmp_path, exec=prefix, bin=str(app.cluster.bin))
    place = place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    app.execute("TRUNCATE players CASCADE")
    proven(source, artifacts, place)
    assert source.ask("sql", "SELECT count(*) FROM players", str(source.staged(place)), 60) == ROWS
    source.swap(place)
    source.confirm(place)
    assert players(app) == ROWS


@pytest.mark.parametrize("options", [{}, {"exec": "env PREFIXED=1"}], ids=["here", "prefixed"])
def test_the_printed_commands_start_the_declared_programs(
    newer_database: Database, tmp_path: Path, options: dict[str, str]
) -> None:
    app = small(newer_database)
    source = opened(app, tmp_path, bin=str(app.cluster.bin), **options)
    artifacts = captured(source, tmp_path)
    app.execute("TRUNCATE players CASCADE")
    placed(app, source, artifacts, tmp_path / "restored", path="/usr/bin:/bin")
    assert differing(app, artifacts) == []


@pytest.mark.parametrize("behind", [False, True], ids=["here", "behind a prefix"])
def test_the_printed_commands_with_newer_programs_than_the_server(
    app: Database, tmp_path: Path, servers: Servers, behind: bool
) -> None:
    options: dict[str, Any] = {"bin": str(servers.newer().bin)}
    if behind:
        options["exec"] = behind_a_prefix(app, tmp_path)
    app.execute(f"CREATE TABLE said AS SELECT '{FIRST}' AS line")
    source = opened(app, tmp_path, **options)
    artifacts = captured(source, tmp_path)
    app.execute("TRUNCATE players, said CASCADE")
    placed(app, source, artifacts, tmp_path / "restored", path="/usr/bin:/bin")
    assert differing(app, artifacts) == []


@pytest.mark.parametrize("options", [{}, {"parallel": 2}], ids=["one file", "many files"])
def test_a_part_through_a_prefix_command(
    app: Database, tmp_path: Path, options: dict[str, Any]
) -> None:
    source = opened(app, tmp_path, exec=behind_a_prefix(app, tmp_path), **options)
    artifacts = captured(source, tmp_path)
    place = place_at(tmp_path, "part", include=("public.visits",))
    proven(source, artifacts, place)
    source.swap(place)
    source.discard(place)
    assert app.cluster.rows("SELECT * FROM visits ORDER BY 1", "part") == [(1, 1), (11, 1)]
    assert app.cluster.rows("SELECT to_regclass('players')", "part") == [(None,)]


def test_many_files_through_a_prefix_command(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path, exec=behind_a_prefix(app, tmp_path), parallel=2)
    artifacts = captured(source, tmp_path)
    app.execute("TRUNCATE players CASCADE")
    place = place_at(tmp_path)
    proven(source, artifacts, place)
    source.swap(place)
    source.confirm(place)
    assert players(app) == ROWS


def test_a_role_that_makes_no_databases_restores_in_place(app: Database, tmp_path: Path) -> None:
    role = app.role()
    app.execute(
        "CREATE EXTENSION pg_trgm",
        f'ALTER DATABASE {app.name} OWNER TO "{role}"',
        f'ALTER SCHEMA "My Shop" OWNER TO "{role}"',
        *(
            f'ALTER TABLE {table} OWNER TO "{role}"'
            for table in ("players", '"My Shop"."order lines"', "visits", "named",
                          "visits_early", "visits_late")
        ),
        f"""DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata
            LOOP EXECUTE format('ALTER LARGE OBJECT %s OWNER TO "{role}"', o); END LOOP; END $$""",
    )  # fmt: skip
    source, place = opened(app, tmp_path, user=role), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    with app.connect(role) as connection:
        connection.execute("TRUNCATE players CASCADE")
        connection.execute("CREATE VIEW newer AS SELECT * FROM players")
    proven(source, artifacts, place)
    assert source.ask("sql", "SELECT count(*) FROM players", str(source.staged(place)), 60) == ROWS
    assert players(app) == 0
    (kept,) = source.swap(place)
    assert Path(kept).is_relative_to(tmp_path / "safety")
    source.confirm(place)
    assert players(app) == ROWS
    source.unswap(place)
    assert app.rows("SELECT count(*) FROM newer") == [(0,)]
    source.swap(place)
    source.confirm(place)
    source.discard(place)
    assert players(app) == ROWS
    assert not (tmp_path / "workspace").exists()


def test_a_question_changes_nothing_and_keeps_its_type(app: Database, tmp_path: Path) -> None:
    source = opened(app, tmp_path)
    assert source.ask("sql", "SELECT count(*) FROM players; ", "", 60) == ROWS
    assert source.ask("sql", "SELECT count(*) > 0 AS a, 1 AS a FROM players -- all", "", 60) is True
    assert source.ask("sql", "SELECT 1.5", "", 60) == 1.5
    assert source.ask("sql", "SELECT name FROM players WHERE false", "", 60) is None
    assert source.ask("sql", "SHOW transaction_read_only", "", 60) == "on"
    with pytest.raises(StepFailed):
        source.ask("sql", "DELETE FROM players RETURNING 1", "", 60)
    with pytest.raises(StepFailed, match="read-only"):
        source.ask("sql", 'SELECT nextval(\'"My Shop"."order lines_id_seq"\')', "", 60)
    with pytest.raises(Refused, match="nothing"):
        source.ask("sql", "SELECT * FROM nothing", "", 60)
    with pytest.raises(StepFailed) as late:
        source.ask("sql", "SELECT pg_sleep(600)", "", 0.05)
    assert not isinstance(late.value, Refused)


def test_doctor_says_what_there_is(app: Database, tmp_path: Path) -> None:
    found = {one.what: one for one in opened(app, tmp_path).examine()}
    assert {one.verdict for one in found.values()} == {"ok"}
    assert {"server", "role", "pg_dump", "pg_restore", "scratch server"} <= found.keys()
    poor = {one.what: one.verdict for one in opened(app, tmp_path, user=app.role()).examine()}
    assert poor["restore"] == "warn"
    (gone,) = opened(app, tmp_path, port=1).examine()
    assert gone.verdict == "FAIL"
    assert not opened(app, tmp_path, port=1).exists()


def test_the_printed_commands_refuse_a_database_that_is_not_empty(
    app: Database, tmp_path: Path
) -> None:
    source = opened(app, tmp_path, globals=True)
    artifacts = captured(source, tmp_path)
    folder, where = "restored/it's", artifacts.capture.folder
    bash(source.restore_commands(artifacts.capture.stored, decode, folder), where)
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in app.cluster.environment("unused").items()
    ]
    load = [*exports, "set -o pipefail", *source.load_commands(folder)]
    with pytest.raises(AssertionError, match="is there and is not empty"):
        bash(load, where)
    app.cluster.execute(f"DROP DATABASE {app.name}")
    bash(load, where)
    assert players(app) == ROWS
    app.cluster.execute(f"DROP DATABASE {app.name}", f"CREATE DATABASE {app.name}")
    bash(load, where)
    assert players(app) == ROWS


def test_what_a_killed_stage_left_is_removed(app: Database, tmp_path: Path) -> None:
    source, place = opened(app, tmp_path), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    before = names(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_stage, "analyze", _kill)
        with pytest.raises(KeyboardInterrupt):
            source.stage(artifacts, place)
    assert names(app) != before
    assert source.staged(place) is None
    source.discard(place)
    assert names(app) == before
    assert not any(TOKEN in name for name in names(app))


def _kill(_: object) -> None:
    raise KeyboardInterrupt


DEADLOCK = """#!/bin/bash
for word in "$@"; do
  if [[ $word =~ ^--jobs=([2-9]|[1-9][0-9]) ]]; then
    echo 'pg_restore: error: could not execute query: ERROR:  deadlock detected' >&2
    exit 1
  fi
done
exec {program} "$@"
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: one process restores")
def test_processes_that_wait_for_each_other_are_followed_by_one(
    app: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in app.cluster.bin.iterdir():
        (folder / program.name).symlink_to(program)
    (folder / "pg_restore").unlink()
    (folder / "pg_restore").write_text(DEADLOCK.format(program=app.cluster.bin / "pg_restore"))
    (folder / "pg_restore").chmod(0o755)
    source = opened(app, tmp_path, bin=str(folder))
    place = place_at(tmp_path, "copy")
    proven(source, captured(source, tmp_path), place)
    source.swap(place)
    assert players(app, "copy") == ROWS
