"""A whole service for end-to-end tests: PostgreSQL, Redis, SQLite, files and git in one spec."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.faults.bad_day import steady
from tests.postgres_server import SUPERUSER, Database
from tests.postgres_service import SCHEMA, content
from tests.redis_server import RedisServer
from tests.service import Service
from tests.source.redis_sample import fill, look
from tests.tools import Answer, Program, clean_environment

KILLED_AT = Path(__file__).parent / "faults" / "killed_at.py"
SOURCES = ("main", "cache", "db", "config", "code")
SPEC = """\
version: 1
project: quaybot
env_file: [.env]
sources:
  main: {type: postgres, host: "${PG_HOST}", port: "${PG_PORT}", user: postgres, dbname: DBNAME,
         globals: true}
  cache: {type: redis, url: "${REDIS_URL}", password: {secret: "env:REDIS_PASSWORD"}}
  db: {type: sqlite, path: data/quaybot.db}
  config: {type: files, paths: [config, .env]}
  code: {type: git, path: code}
targets:
  disk: {type: local, path: TARGET}
objectives:
  system: {rto: 1h}
services:
  bot: {stop: "echo stop >> service.log", start: "echo start >> service.log",
        sources: [main, cache, db]}
recovery:
  - {name: provision, run: "echo provisioned >> service.log", drill: skip, expected: 1m}
  - {restore: code}
  - {restore: [config, db, main, cache]}
  - {name: deploy, run: "test -s .env && echo deployed >> service.log", drill: same}
  - {name: players, probe: {sql: "select count(*) from players", source: main, at_least: 200},
     drill: same}
  - {name: sessions, probe: {redis: "EXISTS session:1", source: cache}, drill: same}
checks:
  db: [{name: players exist, sql: "select count(*) > 0 from players"}]
  main: [{name: players exist, sql: "select count(*) > 0 from players"}]
  config: [{name: settings are there, file: .env}]
  cache: [{name: keys, redis: "DBSIZE", at_least: 10}]
"""


class WholeStack(Service):
    """A service of all kinds in one folder, two servers, and a target outside of the folder."""

    def __init__(self, folder: Path, target: Path, database: Database, server: RedisServer) -> None:
        spec = SPEC.replace("TARGET", str(target)).replace("DBNAME", database.name)
        super().__init__(folder, spec)
        self.target = target
        self.database = database
        self.server = server
        self.program = Program(folder, self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """Where the servers are now."""
        return {
            "PG_HOST": str(self.database.cluster.folder),
            "PG_PORT": str(self.database.cluster.port),
            "REDIS_URL": self.server.url,
            "REDIS_PASSWORD": self.server.password,
        }

    def build(self) -> WholeStack:
        """Make the content of all five."""
        super().build()
        self.database.psql(stdin=SCHEMA)
        fill(self.server)
        return self

    def change(self) -> None:
        """Do what a day does, everywhere."""
        super().change()
        self.database.execute("UPDATE players SET name = 'late' WHERE id = 7")
        with self.server.connect() as client:
            client.set("coins:1", 4711)
            client.delete("player:1")
            client.set("unknown", "newer")

    def destroy(self) -> None:
        """Lose the folder with its state, and all that the servers hold."""
        shutil.rmtree(self.folder)
        self.database.cluster.execute(f"DROP DATABASE IF EXISTS {self.database.name}")
        self.server.empty()

    def moved(self, folder: Path) -> WholeStack:
        """The same service on an empty folder, with nothing but its spec."""
        return WholeStack(folder, self.target, self.database, self.server)

    def observe(self) -> dict[str, Any]:
        """The content of all five, read without the project's code."""
        with self.server.connect() as client:
            cache = look(client)
        return {**super().observe(), "main": content(self.database), "cache": cache}

    def safety_databases(self) -> list[str]:
        """The databases that keep what was replaced."""
        query = "SELECT datname FROM pg_database WHERE datname LIKE '%\\_before\\_%' ORDER BY 1"
        return [row[0] for row in self.database.cluster.rows(query)]

    def drop_safety_databases(self) -> None:
        """Leave the server as a test found it."""
        for name in self.safety_databases():
            self.database.cluster.execute(f'DROP DATABASE "{name}"')

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run the program; whatever it is given, it ends in words."""
        return steady(self.program(*arguments, status=status))

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """The same with `--json`; the object that it prints."""
        return self(*arguments, "--json", status=status).json


def die_at(stack: Service, moment: str, *arguments: str) -> None:
    """Run a command that is killed at a moment of its plan."""
    done = subprocess.run(
        [sys.executable, "-P", str(KILLED_AT), moment, *arguments],
        cwd=stack.folder,
        env=clean_environment(stack.folder, **stack.program.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


__all__ = ["SOURCES", "SUPERUSER", "WholeStack", "die_at"]
