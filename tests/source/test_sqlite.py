"""SQLite: copied under writers, whatever state the database is in."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import tempfile
from io import FileIO
from pathlib import Path

import pytest

from runner.errors import StepFailed, UsageError
from runner.registry import open_source
from runner.source import Artifacts, Captured, Place, Source, sqlite_capture, sqlite_live
from runner.spec.model import SourceSpec
from tests.source.conformance import SourceConformance
from tests.source.database import (
    IDLE_APP,
    WRITER,
    DatabaseSample,
    app,
    ask,
    balance,
    crash,
    dump,
    fill,
    make_invariant,
)
from tests.source.stack import TOKEN, FolderArtifacts, FolderCapture, tree


class TestWal(SourceConformance):
    sample = DatabaseSample(wal=True)


class TestRollbackJournal(SourceConformance):
    sample = DatabaseSample(wal=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    production = tmp_path / "production"
    production.mkdir()
    return production


def declared(path: Path, **options: str) -> Source:
    return open_source(SourceSpec("db", "sqlite", {"path": str(path), **options}, path.parent))


def captured(path: Path, snapshot: Path, **options: str) -> tuple[Captured, FolderArtifacts]:
    capture = FolderCapture(snapshot, "db")
    found = declared(path, **options).capture(capture)
    return found, FolderArtifacts(capture, found.fingerprint)


def restored(artifacts: Artifacts, path: Path) -> Path:
    """Restore beside, prove and swap in at `path`."""
    source, place = declared(path), Place(TOKEN)
    source.stage(artifacts, place)
    assert not source.differences(artifacts.fingerprint, source.fingerprint(place), place)
    source.swap(place)
    source.confirm(place)
    source.discard(place)
    return path


@pytest.mark.parametrize("statement", ["", "CREATE TABLE players (name text)"])
def test_a_database_without_a_row_is_told(folder: Path, tmp_path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "bot.db")) as connection:
        connection.executescript(statement)
        (folder / "bot.db").touch()
        assert captured(folder / "bot.db", tmp_path / "empty")[0].notes == (
            "it holds no row at all",
        )
        connection.executescript("CREATE TABLE one AS SELECT 1")
        assert captured(folder / "bot.db", tmp_path / "filled")[0].notes == ()


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_a_writer_does_not_disturb_a_capture(folder: Path, tmp_path: Path, wal: bool) -> None:
    make_invariant(folder / "bot.db", wal=wal)
    with app(WRITER, folder / "bot.db"):
        for round_number in range(3):
            _, artifacts = captured(folder / "bot.db", tmp_path / f"snapshot {round_number}")
            copy = restored(artifacts, tmp_path / f"copy {round_number}.db")
            assert balance(copy) == 0


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_what_a_killed_app_committed_is_captured(folder: Path, tmp_path: Path, wal: bool) -> None:
    path = folder / "bot.db"
    fill(path, wal=wal)
    crash(path)
    _, artifacts = captured(path, tmp_path / "snapshot")
    copy = restored(artifacts, tmp_path / "copy.db")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT coins FROM players WHERE id=1").fetchone() == (4242,)
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (2000,)
    assert dump(copy) == dump(path)


@pytest.mark.parametrize(
    "meanwhile", ["UPDATE log SET entry = 'new'", "PRAGMA wal_checkpoint(TRUNCATE)"]
)
def test_a_wal_that_begins_anew_while_it_is_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    path = folder / "bot.db"
    make_invariant(path, wal=True)
    with app(IDLE_APP, path) as writer:
        for coins in range(20):  # what the first part of the WAL holds is long outdated
            ask(writer, f"UPDATE purses SET coins = {coins}")
            ask(writer, f"UPDATE vault SET coins = {-100 * coins}")
        ask(writer, "UPDATE log SET entry = 'old' WHERE rowid < 1000")
        ask(writer, "PRAGMA wal_checkpoint(PASSIVE)")

        def in_two_parts(origin: FileIO, output: FileIO) -> None:
            if str(origin.name).endswith("-wal") and not output.tell():
                output.write(origin.read(30 * 4096))
                ask(writer, meanwhile)
            copy_rest(origin, output)

        copy_rest = sqlite_live._copy
        monkeypatch.setattr(sqlite_live, "_copy", in_two_parts)
        _, artifacts = captured(path, tmp_path / "snapshot")
    copy = restored(artifacts, tmp_path / "copy.db")
    assert dump(copy) == dump(path)


def test_a_dead_apps_wal_is_left_to_it(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=True)
    crash(folder / "bot.db")
    before = (folder / "bot.db").read_bytes(), (folder / "bot.db-wal").read_bytes()
    captured(folder / "bot.db", tmp_path / "snapshot")
    assert ((folder / "bot.db").read_bytes(), (folder / "bot.db-wal").read_bytes()) == before


def test_what_stands_in_the_wal_is_captured_through_a_link(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=True)
    (tmp_path / "link.db").symlink_to(folder / "bot.db")
    source = declared(tmp_path / "link.db")
    before = source.changed_mark()
    with app(IDLE_APP, folder / "bot.db") as writer:
        ask(writer, "UPDATE players SET coins = 4242")
        assert source.changed_mark() != before
        _, artifacts = captured(tmp_path / "link.db", tmp_path / "snapshot")
        assert source.ask("sql", "SELECT min(coins) FROM players", "", 5) == 4242
    copy = restored(artifacts, tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT min(coins) FROM players").fetchone() == (4242,)


def test_a_second_name_is_told(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=False)
    (tmp_path / "other.db").hardlink_to(folder / "bot.db")
    (note,) = captured(folder / "bot.db", tmp_path / "snapshot")[0].notes
    assert "2 names" in note


def test_a_copy_that_lacks_its_very_end_is_none(folder: Path, tmp_path: Path) -> None:
    make_invariant(folder / "bot.db", wal=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk, the last write is cut short, and only the one after it fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "bot.db").stat().st_size - 1, hard))
    try:
        with pytest.raises(StepFailed, match=r"cannot be copied .*: File too large"):
            sqlite_live.copy_live(folder / "bot.db", tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_empty_file_is_an_empty_database(folder: Path, tmp_path: Path) -> None:
    (folder / "bot.db").touch()
    _, artifacts = captured(folder / "bot.db", tmp_path / "snapshot")
    copy = restored(artifacts, tmp_path / "copy.db")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_the_schema_beside_it_makes_the_same_empty_database(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=False)
    with sqlite3.connect(folder / "bot.db") as connection:
        connection.execute("CREATE VIEW noted AS SELECT 1 -- a remark")
        connection.execute("CREATE VIEW noticed AS SELECT 2 /* another; open")
        connection.execute("CREATE TABLE zone (id)")
    _, artifacts = captured(folder / "bot.db", tmp_path / "snapshot")
    with sqlite3.connect(tmp_path / "empty.db") as connection:
        connection.executescript(b"".join(artifacts.read("schema")).decode())
    # An open comment had to be closed, or it would have swallowed what follows.
    query = "SELECT type, name, replace(sql, '*/', '') FROM sqlite_master ORDER BY type, name"
    schemas = [
        sqlite3.connect(path).execute(query).fetchall()
        for path in (folder / "bot.db", tmp_path / "empty.db")
    ]
    assert schemas[0] == schemas[1]


def test_tables_are_listed_with_their_rows(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=False)
    _, artifacts = captured(folder / "bot.db", tmp_path / "snapshot")
    listed = {one.name: one.kind for one in declared(folder / "bot.db").contents(artifacts)}
    assert listed["players"] == "table of 500 rows"
    assert listed["items"] == "table of 2000 rows"


def test_a_large_database_is_described_by_another_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder / "bot.db", wal=True)
    here, _ = captured(folder / "bot.db", tmp_path / "first")
    monkeypatch.setattr(sqlite_capture, "SMALL", 0)
    there, _ = captured(folder / "bot.db", tmp_path / "second")
    assert there.fingerprint == here.fingerprint


def test_the_rows_of_a_large_database_are_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder / "bot.db", wal=False)
    monkeypatch.setattr(sqlite_capture, "HASHED", 4096)
    found, artifacts = captured(folder / "bot.db", tmp_path / "counted")
    assert found.fingerprint["tables"]["players"] == {"rows": 500}
    hashed, _ = captured(folder / "bot.db", tmp_path / "hashed", fingerprint="content")
    assert set(hashed.fingerprint["tables"]["players"]) == {"rows", "sha256"}
    assert dump(restored(artifacts, tmp_path / "copy.db")) == dump(folder / "bot.db")


@pytest.mark.parametrize("small", [0, 2**40], ids=["process", "thread"])
def test_a_malformed_database_is_no_backup(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(sqlite_capture, "SMALL", small)
    path = folder / "bot.db"
    fill(path, wal=False)
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 12] = b"\xff" * 4096 * 9
    path.write_bytes(data)
    with pytest.raises(StepFailed, match=r"bot\.db is malformed"):
        captured(path, tmp_path / "snapshot")
    assert not list((tmp_path / "snapshot").glob("db.*"))


def test_rows_that_break_a_promise_are_no_damage(folder: Path, tmp_path: Path) -> None:
    with sqlite3.connect(folder / "bot.db") as connection:
        connection.execute("CREATE TABLE players(coins CHECK (coins > 0))")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("INSERT INTO players VALUES(-1)")
    found, _ = captured(folder / "bot.db", tmp_path / "snapshot")
    assert found.fingerprint["check"]["verdict"] == "ok"


def test_an_index_that_disagrees_with_its_table_is_told(folder: Path, tmp_path: Path) -> None:
    path, known = folder / "bot.db", "SELECT * FROM sqlite_master WHERE name = 'by \"name\"'"
    fill(path, wal=False)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute('CREATE INDEX "by ""name""" ON players (name)')
        entry = connection.execute(known).fetchone()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (entry[1],))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE players SET name = 'another' WHERE id = 1")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
    found, artifacts = captured(path, tmp_path / "snapshot")
    assert found.notes[0].startswith('index by "name" does not agree with its table')
    assert len(found.notes) == 1
    copy = restored(artifacts, tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("REINDEX")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert captured(path, tmp_path / "counted", fingerprint="counts")[0].notes == ()


def test_an_index_by_what_is_not_here_is_no_damage(folder: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "bot.db")) as connection:
        connection.create_function("shout", 1, str.upper, deterministic=True)
        connection.execute("CREATE TABLE players AS SELECT 'Ann' AS name")
        connection.execute("CREATE INDEX loud ON players (shout(name))")
        connection.commit()
    assert captured(folder / "bot.db", tmp_path / "snapshot")[0].notes == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a database at all, but long enough to be read as a header" * 99, "no SQLite database"),
     (os.urandom(8192), "no SQLite database"), (None, "is missing")],
    ids=["text", "encrypted", "missing"],
)  # fmt: skip
def test_what_is_no_database_is_said_so(
    folder: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (folder / "bot.db").write_bytes(content)
    before = tree(folder)
    with pytest.raises(StepFailed, match=words):
        captured(folder / "bot.db", tmp_path / "snapshot")
    assert tree(folder) == before


def test_a_folder_is_no_database(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="is a folder"):
        captured(folder, tmp_path / "snapshot")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_a_database_that_may_only_be_read_is_captured(wal: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        folder, snapshot = Path(base) / "read-only", Path(base) / "snapshot"
        folder.mkdir()
        fill(folder / "bot.db", wal=wal)
        (folder / "bot.db").chmod(0o444)
        folder.chmod(0o555)
        snapshot.mkdir()
        snapshot.chmod(0o777)
        before = tree(folder)
        assert _rows_seen_by_nobody(folder / "bot.db", snapshot) == 500
        assert tree(folder) == before


def _rows_seen_by_nobody(path: Path, snapshot: Path) -> int:
    """Capture as a user who may write nothing: root may write anywhere."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            found, _ = captured(path, snapshot)
            os.write(theirs, str(found.fingerprint["tables"]["players"]["rows"]).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        seen = answer.read()
    os.waitpid(child, 0)
    return int(seen or -1)


def test_a_part_cannot_be_restored_alone(folder: Path, tmp_path: Path) -> None:
    fill(folder / "bot.db", wal=False)
    _, artifacts = captured(folder / "bot.db", tmp_path / "snapshot")
    with pytest.raises(UsageError, match="alone"):
        declared(folder / "bot.db").stage(artifacts, Place(TOKEN, include=("players",)))


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_every_commit_changes_the_mark(folder: Path, wal: bool) -> None:
    fill(folder / "bot.db", wal=wal)
    source = declared(folder / "bot.db")
    marks = [source.changed_mark()]
    with sqlite3.connect(folder / "bot.db", isolation_level=None) as connection:
        for _ in range(20):
            connection.execute("UPDATE players SET coins = coins + 1 WHERE id = 1")
            marks.append(source.changed_mark())
    told = [mark for mark in marks if mark is not None]
    assert len(set(told)) == len(told)
    assert wal or len(told) == 21


def test_a_missing_database_has_no_mark(folder: Path) -> None:
    assert declared(folder / "bot.db").changed_mark() is None
