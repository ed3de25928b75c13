"""A small real service for end-to-end tests: a database, configuration, a repository, a spec."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

from tests.tools import Program, run

SPEC = """\
version: 1
project: quaybot
env_file: [.env]
sources:
  db: {type: sqlite, path: data/quaybot.db}
  config: {type: files, paths: [config, .env]}
  code: {type: git, path: code}
targets:
  disk: {type: local, path: backups}
  offsite: {type: local, path: elsewhere}
policies:
  nightly: {keep: {last: 3}, verify: stored}
objectives:
  system: {rto: 1h}
  db: {rto: 10m, rpo: 26h}
services:
  bot: {stop: "echo stop >> service.log", start: "echo start >> service.log", sources: [db]}
recovery:
  - {restore: code}
  - {restore: [config, db]}
  - {name: deploy, run: "test -s .env && echo deployed >> service.log", drill: same}
  - {name: answers, probe: {sql: "select count(*) from players", source: db}, drill: same}
checks:
  db: [{name: players exist, sql: "select count(*) > 0 from players"}]
  config: [{name: settings are there, file: .env}]
"""


class Service:
    """One service in a folder of its own."""

    def __init__(self, folder: Path, spec: str = SPEC) -> None:
        self.folder = folder
        self.program = Program(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "backup.yaml").write_text(spec)

    def build(self) -> Service:
        """Make the content."""
        (self.folder / "data").mkdir()
        with sqlite3.connect(self.folder / "data" / "quaybot.db") as database:
            database.execute("pragma journal_mode=wal")
            database.executescript(
                "create table players(id integer primary key, name text not null);"
                "create table items(player references players, name text, price real);"
                "pragma user_version=7;"
            )
            players = [(number, f"player {number}") for number in range(200)]
            database.executemany("insert into players values(?, ?)", players)
            items = [(number % 200, f"item {number}", number / 3) for number in range(500)]
            database.executemany("insert into items values(?, ?, ?)", items)
        database.close()
        config = self.folder / "config"
        (config / "deep").mkdir(parents=True)
        (config / "app.toml").write_text("name = 'quay'\n")
        (config / "deep" / "odd\nname").write_bytes(b"\x00\xff")
        (config / "link").symlink_to("app.toml")
        (config / "app.toml").chmod(0o640)
        (self.folder / ".env").write_text("TOKEN=abc\n")
        code = self.folder / "code"
        run("git", "init", "-q", "-b", "main", "code", folder=self.folder)
        (code / "bot.py").write_text("print('quay')\n")
        run("git", "add", ".", folder=code)
        run("git", "commit", "-q", "-m", "one", folder=code)
        run("git", "tag", "-a", "v1", "-m", "first", folder=code)
        run("git", "branch", "next", folder=code)
        return self

    def change(self) -> None:
        """Do what a day does: new players, other settings, a commit."""
        with sqlite3.connect(self.folder / "data" / "quaybot.db") as database:
            database.execute("insert into players(name) values('late')")
        database.close()
        (self.folder / "config" / "app.toml").write_text("name = 'changed'\n")
        code = self.folder / "code"
        (code / "bot.py").write_text("print('changed')\n")
        run("git", "commit", "-q", "-a", "-m", "two", folder=code)

    def destroy(self) -> None:
        """Lose everything but the targets and the spec."""
        for name in ("data", "config", "code"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / ".env").unlink(missing_ok=True)

    def observe(self) -> dict[str, Any]:
        """The content, read without the project's code."""
        return {"db": self._database(), "files": self._files(), "code": self._code()}

    def log(self) -> list[str]:
        """What the service's commands wrote."""
        path = self.folder / "service.log"
        return path.read_text().split() if path.exists() else []

    def leftovers(self) -> list[str]:
        """Staging, scratch and unfinished files anywhere in the folder."""
        found = []
        for path in self.folder.rglob("*"):
            name = path.name
            in_state = ".holdfast" in path.parts
            partial = name.endswith(".partial")
            in_scratch = path.parent.name == "scratch" and in_state and not partial
            # A small file that a killed writer left in the state folder is swept an hour later.
            if name.startswith(".holdfast-") or (partial and not in_state) or in_scratch:
                found.append(str(path.relative_to(self.folder)))
        return sorted(found)

    def half_snapshots(self) -> list[str]:
        """Folders at the targets without a manifest."""
        return [
            str(folder)
            for target in ("backups", "elsewhere")
            for folder in (self.folder / target / "quaybot" / "default").glob("2*")
            if not (folder / "manifest.json").exists()
        ]

    def _database(self) -> Any:
        path = self.folder / "data" / "quaybot.db"
        if not path.exists():
            return None
        database = sqlite3.connect(path)
        try:
            version = database.execute("pragma user_version").fetchone()
            return [version, *database.iterdump()]
        finally:
            database.close()

    def _files(self) -> Any:
        entries = {}
        for root in ("config", ".env"):
            top = self.folder / root
            for path in [top, *sorted(top.rglob("*"))] if os.path.lexists(top) else []:
                status = path.lstat()
                if path.is_symlink():
                    content = str(path.readlink())
                elif path.is_dir():
                    content = ""
                else:
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                name = str(path.relative_to(self.folder))
                mode = stat.filemode(status.st_mode)
                entries[name] = (mode, status.st_mtime_ns, content)
        return entries

    def _code(self) -> Any:
        code = self.folder / "code"
        if not (code / ".git").exists():
            return None
        run("git", "fsck", "--strict", folder=code)
        refs = run("git", "for-each-ref", folder=code).stdout
        head = run("git", "symbolic-ref", "HEAD", folder=code).stdout
        status = run("git", "status", "--porcelain", folder=code).stdout.splitlines()
        return [refs, head, [line for line in status if ".before-" not in line]]
