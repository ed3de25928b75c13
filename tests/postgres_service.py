"""A small service whose data is in PostgreSQL, for end-to-end tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.faults.bad_day import steady
from tests.postgres_server import PASSWORD, Cluster, Database
from tests.tools import Answer, Program

VARIABLE = "QUAY_DB_PASSWORD"
SCHEMA = """
CREATE TABLE players (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO players SELECT n, 'player ' || n FROM generate_series(1, 200) AS n;
CREATE TABLE items (player int REFERENCES players, name text, price numeric);
INSERT INTO items SELECT n % 200 + 1, 'item ' || n, n / 3.0 FROM generate_series(1, 500) AS n;
CREATE INDEX ON items (player);
CREATE VIEW rich AS SELECT player, sum(price) FROM items GROUP BY player;
"""


class PostgresService:
    """A spec in a folder of its own, and the database that it names."""

    def __init__(self, folder: Path, database: Database, **options: Any) -> None:
        self.folder = folder
        self.database = database
        folder.mkdir(parents=True)
        self.program = Program(folder, {VARIABLE: PASSWORD})
        self.source = {
            "type": "postgres",
            "host": "127.0.0.1",
            "port": database.cluster.port,
            "user": database.owner,
            "dbname": database.name,
            "password": {"secret": f"env:{VARIABLE}"},
            **options,
        }
        self.declare()

    def declare(self, **more: Any) -> None:
        """Write the spec, with more sections."""
        spec = {
            "version": 1,
            "project": "quay",
            "sources": {"db": self.source},
            "targets": {"disk": {"type": "local", "path": "backups"}},
            **more,
        }
        (self.folder / "backup.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def fill(self) -> PostgresService:
        """Make the content, as the owner."""
        self.database.psql(user=self.database.owner, stdin=SCHEMA)
        return self

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run the program; whatever it is given, it ends in words, and tells no secret."""
        answer = steady(self.program(*arguments, status=status))
        assert PASSWORD not in answer.stdout + answer.stderr
        return answer

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """The same with `--json`; the object that it prints."""
        return self(*arguments, "--json", status=status).json

    def snapshots(self) -> list[Path]:
        """The folders at the target that have a manifest, oldest first."""
        return sorted(path.parent for path in self.folder.glob("backups/**/manifest.json"))

    def leftovers(self) -> list[str]:
        """Staged databases, scratch folders, unfinished snapshots and files."""
        names = [row[0] for row in self.database.cluster.rows("SELECT datname FROM pg_database")]
        return [name for name in names if name.startswith("holdfast_")] + self.unfinished()

    def unfinished(self) -> list[str]:
        """The same without the server, which may be gone."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.name.endswith(".partial")
            or (".holdfast" in path.parts and path.parent.name in {"scratch", "workspaces"})
            or (path.name.startswith("db.") and path.parent not in self.snapshots())
        )


def databases(cluster: Cluster) -> list[str]:
    """The names of all databases of a server."""
    return sorted(row[0] for row in cluster.rows("SELECT datname FROM pg_database"))


def content(database: Database, name: str = "") -> Mapping[str, Any]:
    """What the service keeps, read without the project's code."""
    name = name or database.name
    return {
        table: database.cluster.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1", name)
        for table in ("players", "items", "rich")
    }
