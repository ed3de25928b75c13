"""A bot's SQLite database: made, changed, read, and kept open or written to by processes."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.spec.model import SourceSpec
from tests.source.stack import Sample

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


# Moves coins between two tables, 200 times a second: their sum never changes.
WRITER = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("ready", flush=True)
due = time.monotonic()
while True:
    coins = random.randrange(-5, 6)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE purses SET coins = coins + ?", (coins,))
    connection.execute("UPDATE vault SET coins = coins - ? * (SELECT count(*) FROM purses)",
                       (coins,))
    connection.execute("INSERT INTO log VALUES(?)", ("x" * 200,))
    connection.execute("COMMIT")
    due += 1 / 200
    time.sleep(max(0, due - time.monotonic()))
"""

# Has the database open, and does nothing.
IDLE_APP = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
print("ready", flush=True)
for line in sys.stdin:
    print(connection.execute(line).fetchall(), flush=True)
"""

# Ends in the middle, as by SIGKILL: a WAL with a commit, or a journal that must be played back.
CRASHED_APP = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("UPDATE players SET coins = 4242 WHERE id = 1")
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN")
connection.executemany("INSERT INTO items VALUES(1, ?, 0)", (("x" * 3000,) for _ in range(300)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def make_invariant(path: Path, *, wal: bool) -> None:
    """A database whose two tables always sum up to nothing, for `WRITER`."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
    connection.executescript("CREATE TABLE purses(coins); CREATE TABLE vault(coins);"
                             "CREATE TABLE log(entry); INSERT INTO vault VALUES(0);")  # fmt: skip
    connection.executemany("INSERT INTO purses VALUES(?)", [(0,)] * 100)
    connection.executemany("INSERT INTO log VALUES(?)", [("y" * 1000,)] * 20_000)
    connection.commit()
    connection.close()


def balance(path: Path) -> int:
    """The sum of both tables."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT (SELECT sum(coins) FROM purses) + (SELECT coins FROM vault)"
        return int(connection.execute(query).fetchone()[0])


@contextlib.contextmanager
def app(program: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open, until the block ends."""
    arguments: Sequence[str] = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], query: str) -> str:
    """What an `IDLE_APP` finds in its database."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(query + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def crash(path: Path) -> None:
    """Leave the database as a killed app does."""
    outcome = subprocess.run([sys.executable, "-c", CRASHED_APP, path], check=False)
    assert outcome.returncode == -signal.SIGKILL
    assert {one.suffix for one in path.parent.iterdir()} & {".db-wal", ".db-journal"}
