"""A small database, what a capture of it stored, and the places it is restored to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from runner.registry import open_source
from runner.source import Place, Source
from runner.source.postgres_compare import compare_database
from runner.source.postgres_fingerprint import database_fingerprint
from runner.source.postgres_server import Server
from runner.spec.model import SourceSpec
from tests.postgres_server import PASSWORD, Database
from tests.source.stack import TOKEN, FolderArtifacts, FolderCapture

ROWS = 1000

# Two schemas, a key between them, partitions, a view, a large object.
SMALL = (
    "CREATE TABLE players (id int PRIMARY KEY, name text)",
    f"INSERT INTO players SELECT n, md5(n::text) FROM generate_series(1, {ROWS}) n",
    'CREATE SCHEMA "My Shop"',
    'CREATE TABLE "My Shop"."order lines" (id serial PRIMARY KEY, player int REFERENCES players)',
    'INSERT INTO "My Shop"."order lines" (player) VALUES (1), (2)',
    "CREATE TABLE visits (day int, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day)",
    "CREATE TABLE visits_early PARTITION OF visits FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE visits_late PARTITION OF visits FOR VALUES FROM (10) TO (20)",
    "INSERT INTO visits VALUES (1, 1), (11, 1)",
    "CREATE VIEW named AS SELECT name FROM players",
    "SELECT lo_from_bytea(0, 'large')",
)


# A prefix command like `docker exec`: the variables here do not reach the programs there, and
# who kills it does not kill them.
ELSEWHERE = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
program = subprocess.Popen(sys.argv[1:], env={"PATH": os.environ["PATH"]}, start_new_session=True)
sys.exit(program.wait())
"""


def behind_a_prefix(database: Database, folder: Path) -> str:
    """A command that runs the programs of the database's server elsewhere."""
    script = folder / "else where.py"
    script.write_text(ELSEWHERE)
    return f"env PATH={database.cluster.bin}:/usr/bin:/bin {sys.executable} '{script}'"


def small(database: Database) -> Database:
    """Fill an empty database."""
    database.execute(*SMALL)
    return database


def opened(database: Database, folder: Path, user: str = "postgres", **options: Any) -> Source:
    """The source of a database."""
    return open_source(
        SourceSpec("main", "postgres", database.options(user=user, **options), folder)
    )


def captured(source: Source, folder: Path) -> FolderArtifacts:
    """What a capture stores."""
    capture = FolderCapture(folder / "snapshot", source.name)
    return FolderArtifacts(capture, source.capture(capture).fingerprint)


def place_at(folder: Path, destination: str = "", **more: Any) -> Place:
    """A place with its own folders below `folder`."""
    return Place(
        TOKEN,
        destination,
        workspace=folder / "workspace",
        safety=folder / "safety",
        **more,
    )


def proven(source: Source, artifacts: FolderArtifacts, place: Place) -> None:
    """Stage, and prove that it equals the snapshot."""
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    differences = list(source.differences(artifacts.fingerprint, found, place))
    assert differences == [], differences


def loaded(
    database: Database, source: Source, artifacts: FolderArtifacts, folder: Path, **who: str
) -> None:
    """Restore a snapshot as the printed commands do, where the database was; as `user`."""
    folder.mkdir()
    (folder / "database.pgdump").write_bytes(b"".join(artifacts.read()))
    if "globals" in artifacts.parts:
        (folder / "globals.sql").write_bytes(b"".join(artifacts.read("globals")))
    database.cluster.execute(f"DROP DATABASE {database.name}")
    subprocess.run(
        ["bash", "-e", "-c", "\n".join(source.load_commands(str(folder)))],
        env=os.environ | database.cluster.environment(**who),
        check=True,
    )


def placed(
    database: Database,
    source: Source,
    artifacts: FolderArtifacts,
    folder: Path,
    path: str = "",
) -> str:
    """Restore a snapshot as the commands of a runbook do; return what they said to a person.
    `path` is that of this machine, where the programs are not in it.
    """
    folder.mkdir()
    (folder / "database.pgdump").write_bytes(b"".join(artifacts.read()))
    path = path or f"{database.cluster.bin}:/usr/bin:/bin"
    lines = ["set -eu -o pipefail", *source.place_commands(str(folder))]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        env={"PATH": path, "PGPASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def differing(database: Database, artifacts: FolderArtifacts) -> list[str]:
    """What of a database is not as it was captured."""
    expected = artifacts.fingerprint["databases"][database.name]
    server = Server.of(database.socket_options(), Path())
    found = database_fingerprint(server, expected, artifacts.fingerprint["level"])
    return list(compare_database(expected, found))


def players(database: Database, name: str = "") -> int:
    """How many rows the table has, in this database or in another of the server."""
    number: int = database.cluster.rows("SELECT count(*) FROM players", name or database.name)[0][0]
    return number


def names(database: Database) -> set[str]:
    """The databases of the server."""
    return {row[0] for row in database.cluster.rows("SELECT datname FROM pg_database")}
