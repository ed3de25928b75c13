"""SQLite: copied under writers, proven after a restore, never half replaced."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from runner.source.sqlite_names import side
from runner.spec.model import SourceSpec
from tests.source.conformance import Sample, SourceConformance

NAME = '-quay "bot\'s" $HOME #1?%41.db'

SCHEMA = """
CREATE TABLE players(id INTEGER PRIMARY KEY, name TEXT, coins INTEGER NOT NULL, data BLOB);
CREATE TABLE items(player INTEGER REFERENCES players(id), kind TEXT, weight REAL);
CREATE INDEX items_player ON items(player);
CREATE TABLE "odd "" name; --"("a ""column"" " TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE VIEW rich AS SELECT name FROM players WHERE coins > 100;
CREATE TRIGGER spent AFTER DELETE ON items BEGIN
    UPDATE players SET coins = coins - 1 WHERE id = old.player;
END;
CREATE VIRTUAL TABLE notes USING fts5(body);
PRAGMA user_version = 7;
PRAGMA application_id = 4711;
"""


def fill(path: Path, *, wal: bool) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
    connection.executescript(SCHEMA)
    players = [(i, f"player {i}", i * 10, bytes([i % 256]) * 40) for i in range(1, 501)]
    connection.executemany("INSERT INTO players VALUES(?, ?, ?, ?)", players)
    items = [(i % 500 + 1, "sword\0hidden", i / 7) for i in range(2000)]
    connection.executemany("INSERT INTO items VALUES(?, ?, ?)", items)
    odd = [("NULL", None), ("empty text", ""), ("empty blob", b""), ("inf", float("inf"))]
    connection.executemany('INSERT INTO "odd "" name; --" VALUES(?, ?)', odd)
    connection.execute("INSERT INTO notes VALUES('the quick brown fox')")
    connection.commit()
    connection.close()


def dump(path: Path) -> Any:
    """Everything in a database, by the standard library's own export."""
    connection = sqlite3.connect(path)
    try:
        names = ("user_version", "application_id", "encoding", "journal_mode")
        settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        return [*settings, *connection.iterdump()]
    finally:
        connection.close()


class DatabaseSample(Sample):
    """A bot's database below a folder of its own."""

    def __init__(self, *, wal: bool) -> None:
        self.wal = wal

    def file(self, folder: Path) -> Path:
        return folder / "data of the bot" / NAME

    def build(self, folder: Path) -> SourceSpec:
        self.file(folder).parent.mkdir()
        fill(self.file(folder), wal=self.wal)
        self.file(folder).chmod(0o640)
        options = {"type": "sqlite", "path": f"data of the bot/{NAME}", "fingerprint": "content"}
        return SourceSpec("bot-db", "sqlite", options, folder)

    def change(self, folder: Path) -> None:
        connection = sqlite3.connect(self.file(folder))
        connection.execute("UPDATE players SET coins = coins + 1 WHERE id = 250")
        connection.commit()
        connection.close()

    def destroy(self, folder: Path) -> None:
        self.file(folder).unlink()
        self.file(folder).parent.rmdir()

    def observe(self, folder: Path) -> Any:
        return dump(self.file(folder))

    def observe_at(self, destination: str) -> Any:
        return dump(Path(destination))

    def observe_restored(self, folder: Path) -> Any:
        return dump(folder / NAME)


class TestWal(SourceConformance):
    sample = DatabaseSample(wal=True)


class TestRollbackJournal(SourceConformance):
    sample = DatabaseSample(wal=False)
