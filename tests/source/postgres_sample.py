"""A database with everything pg_dump finds hard, and how it is read without the project's code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import make_conninfo

from runner.registry import open_source
from runner.spec.model import SourceSpec
from tests.postgres_server import Cluster, Database
from tests.source.stack import Sample

HERE = Path(__file__).resolve().parent
TEMPLATE = "hard_template"
EVIL = "-d evil=1"

# A session's own settings win over those of the database, which are made to be in the way.
PLAIN_SESSION = {
    "PGTZ": "UTC",
    "PGOPTIONS": "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0",
}

# The statements that read what a dump leaves out, since a restore computes it.
MATERIALIZED = """
SELECT format('SELECT v::text FROM %I.%I AS v ORDER BY 1', nspname, relname)
FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind = 'm' AND relispopulated ORDER BY nspname, relname \\gexec
"""


def make_template(cluster: Cluster) -> None:
    """Make the content, once a server: databases are copied from it. Its roles stay too."""
    if cluster.rows(f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"):
        return
    cluster.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    template = Database(cluster, TEMPLATE, "")
    template.psql("-f", HERE / "postgres_roles.sql", "-f", HERE / "postgres_hard.sql")
    cluster.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")


def hard_database(cluster: Cluster, owner: str, name: str = EVIL) -> Database:
    """A copy of it, with settings that are in everybody's way."""
    copy = Database(cluster, name, owner)
    cluster.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {TEMPLATE}")
    copy.psql("-f", HERE / "postgres_settings.sql")
    return copy


def execute(database: Database, *statements: str) -> None:
    """Run statements as a superuser, whatever the database's settings are."""
    with database.connect(options=PLAIN_SESSION["PGOPTIONS"]) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return sql.Identifier(name).as_string(None)


def observe(programs: Path, address: str) -> list[str]:
    """All that `pg_dump` says of a database, in lines, but for what is random in that; then the
    rows of its materialized views. `programs` are of the server's major.
    """
    dump = _said([programs / "pg_dump", "--create", "-d", address])
    marks = ("\\restrict ", "\\unrestrict ")
    rows = _said([programs / "psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-d", address], MATERIALIZED)
    return [*(line for line in dump if not line.startswith(marks)), *rows]


def observe_database(database: Database) -> list[str]:
    """The same for a database of a test's server."""
    cluster = database.cluster
    where = f"host={cluster.folder} port={cluster.port} user=postgres"
    return observe(cluster.bin, make_conninfo(where, dbname=database.name))


def _said(arguments: Sequence[str | Path], stdin: str = "") -> list[str]:
    done = subprocess.run(
        [str(one) for one in arguments],
        env={**os.environ, **PLAIN_SESSION},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class HardSample(Sample):
    """The hard database, beside the folder that a sample is given."""

    database: Database  # named before anything is built; made, and lost, here

    def build(self, folder: Path) -> SourceSpec:
        self.database = hard_database(self.database.cluster, self.database.owner)
        # By the socket, which trusts: the commands for people come with no password.
        options = self.database.socket_options(globals=True)
        self.spec = SourceSpec("db", "postgres", options, folder)
        return self.spec

    def change(self, folder: Path) -> None:
        # The sum must tell these apart, though the rows are alike.
        execute(
            self.database,
            "INSERT INTO doubles VALUES (1, 'the same'), (1, 'the same')",
            "DELETE FROM unlogged WHERE v <= 2",
        )

    def destroy(self, folder: Path) -> None:
        self.database.cluster.execute(f"DROP DATABASE {quoted(self.database.name)} WITH (FORCE)")

    def observe(self, folder: Path) -> list[str]:
        return observe_database(self.database)

    def observe_restored(self, folder: Path) -> list[str]:
        """Load the decoded dump where the database was; what that made goes again."""
        cluster = self.database.cluster
        where = f"host={cluster.folder} port={cluster.port} user=postgres dbname=postgres"
        (dump,) = folder.glob("*.pgdump")
        _said([cluster.bin / "pg_restore", "--create", "--exit-on-error", "-d", where, dump])
        found = observe_database(self.database)
        self.destroy(folder)
        return found

    def observe_at(self, destination: str) -> list[str]:
        source = open_source(self.spec)
        return observe(self.database.cluster.bin, source.address(destination))
