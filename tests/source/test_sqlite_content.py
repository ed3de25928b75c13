"""What counts as the same content of a SQLite database, and what does not."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import PersonNeeded
from runner.source.sqlite_capture import fingerprint_of
from runner.source.sqlite_compare import compare
from runner.source.sqlite_content import LARGE
from tests.source.database import fill

NOTHING_KNOWN: dict[str, Any] = {"file": None}


def content(path: Path, level: str = "content") -> dict[str, Any]:
    return fingerprint_of(path, level, NOTHING_KNOWN)


def table(path: Path, rows: Sequence[Sequence[Any]], declaration: str = "t(a, b)") -> Any:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"CREATE TABLE {declaration}")
        connection.executemany(f"INSERT INTO t VALUES({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()
    return content(path)["tables"]["t"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


def alter(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_vacuum_changes_the_file_and_not_the_content(path: Path) -> None:
    fill(path, wal=False)
    alter(path, "DELETE FROM items WHERE rowid % 3 = 0")
    before = content(path)
    alter(path, "VACUUM")
    after = content(path)
    assert after["file"] != before["file"]
    assert compare(before, after) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM players", "table players has 0 rows, not 500"),
        ("UPDATE players SET name = 'Player 1' WHERE id = 1", "table players has other values"),
        ("UPDATE players SET coins = CAST(coins AS REAL) + 0.5", "table players has other values"),
        ("DROP TABLE items", "table items is missing"),
        ("CREATE TABLE more(a)", "table more was not in the snapshot"),
        ("DROP VIEW rich", "the schema differs"),
        ("PRAGMA user_version = 8", "user_version is 8, not 7"),
        ("PRAGMA application_id = 1", "application_id is 1, not 4711"),
        ("PRAGMA journal_mode = WAL", "journal_mode is wal, not rollback"),
        ("INSERT INTO notes VALUES('a new note')", "table notes_content has 2 rows, not 1"),
    ],
)
def test_what_differs_is_named(path: Path, statement: str, words: str) -> None:
    fill(path, wal=False)
    before = content(path)
    alter(path, statement)
    assert any(one.startswith(words) for one in compare(before, content(path)))


def test_a_flipped_byte_in_a_text_is_found(path: Path) -> None:
    fill(path, wal=False)
    before = content(path)
    data = path.read_bytes()
    assert data.count(b"player 77") == 1
    path.write_bytes(data.replace(b"player 77", b"qlayer 77"))
    assert content(path)["check"]["verdict"] == "ok"
    assert compare(before, content(path)) == ["table players has other values in its 500 rows"]


def test_rows_that_were_only_counted_prove_nothing(path: Path) -> None:
    fill(path, wal=False)
    before = content(path, "counts")
    alter(path, "UPDATE players SET coins = 0 WHERE id = 1")
    assert compare(before, content(path, "counts")) == [
        "The file is not the one that was captured, and its rows were not hashed then."
    ]


def test_the_form_of_a_later_version_is_not_judged(path: Path) -> None:
    fill(path, wal=False)
    with pytest.raises(PersonNeeded, match="sqlite-2"):
        compare({**content(path), "format": "sqlite-2"}, content(path))


DIFFERENT = [None, "", b"", 0, 0.0, "0", b"0", 1, 1.0, "1", b"1", 2**53, float(2**53), 2**53 + 1,
             -(2**63), float("inf"), float("-inf"), "inf", "NULL", "a", "a\0", "a\0b", b"a",
             b"\xff", "\u00e9", "e\u0301"]  # fmt: skip


def test_values_that_look_alike_differ(path: Path) -> None:
    hashes = [table(path, [(value, 1)])["sha256"] for value in DIFFERENT]
    assert len(set(hashes)) == len(hashes)


def test_a_value_cannot_move_to_its_neighbour(path: Path) -> None:
    rows: list[list[tuple[Any, Any]]]
    rows = [[("ab", "c")], [("a", "bc")], [("abc", "")], [("abc", None)], [(None, "abc")]]
    hashes = [table(path, one)["sha256"] for one in rows]
    assert len(set(hashes)) == len(hashes)


CELLS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False).map(lambda x: x + 0.0),
    st.text(max_size=8), st.binary(max_size=8),
)  # fmt: skip
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROWS, ROWS)
def test_hashes_are_equal_exactly_when_rows_are(path: Path, one: Any, other: Any) -> None:
    same = [[(type(v), v) for v in row] for row in one] == [
        [(type(v), v) for v in row] for row in other
    ]
    assert (table(path, one) == table(path, other)) == same
    assert table(path, one) == table(path, one)


@pytest.mark.parametrize("declaration", ["t(a, b)", "t(a PRIMARY KEY, b) WITHOUT ROWID"])
def test_huge_values_and_texts_that_are_none_are_hashed_too(path: Path, declaration: str) -> None:
    huge = b"x" * (3 * LARGE)
    kinds: list[list[tuple[Any, Any]]] = [
        [(1, huge)], [(1, huge[:-1] + b"y")], [(1, huge.decode())], [(1, huge), (2, 1)],
        [(1, huge), (2, 1.0)], [(1, huge), (2, "1")], [(1, huge), (2, b"1")],
    ]  # fmt: skip
    hashes = [table(path, rows, declaration) for rows in kinds]
    assert len({one["sha256"] for one in hashes}) == len(kinds)
    table(path, [(1, "?")], declaration)
    alter(path, "UPDATE t SET b = CAST(x'ff61' AS TEXT)")
    odd = content(path)["tables"]["t"]
    alter(path, "UPDATE t SET b = x'ff61'")
    assert content(path)["tables"]["t"] != odd


def test_a_table_that_hides_its_row_numbers_is_hashed(path: Path) -> None:
    one = table(path, [(1, 2, 3)], "t(rowid, oid, _rowid_)")
    assert one["rows"] == 1
    assert table(path, [(1, 2, 4)], "t(rowid, oid, _rowid_)") != one


def test_generated_columns_follow_from_the_others(path: Path) -> None:
    alter(path, "CREATE TABLE t(a, b AS (a * 2) STORED, c AS (a * 3))", "INSERT INTO t VALUES(1)")
    one = content(path)["tables"]["t"]
    alter(path, "UPDATE t SET a = 2")
    assert content(path)["tables"]["t"] != one


@pytest.mark.parametrize(
    "declaration",
    ["t(name TEXT COLLATE bots PRIMARY KEY) WITHOUT ROWID", "t(name TEXT COLLATE bots UNIQUE)"],
    ids=["without-rowid", "index"],
)
def test_an_unknown_collation_is_no_damage(path: Path, declaration: str) -> None:
    def order(a: str, b: str) -> int:
        return (a > b) - (a < b)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.create_collation("bots", order)
        connection.execute(f"CREATE TABLE {declaration}")
        connection.executemany("INSERT INTO t VALUES(?)", [("a",), ("b",)])
        connection.execute("CREATE TABLE plain(a)")
        connection.commit()
    before = content(path)
    assert before["check"]["verdict"] == "unchecked"
    assert before["tables"]["plain"]["rows"] == 0
    assert compare(before, content(path)) == []
    alter(path, "INSERT INTO plain VALUES(1)")
    assert compare(before, content(path)) == ["table plain has 1 rows, not 0"]


def test_what_cannot_be_compared_is_left_to_a_person(path: Path) -> None:
    fill(path, wal=False)
    before = content(path)
    alter(path, "VACUUM", "REINDEX")
    unread = {**before, "tables": {**before["tables"], "players": {"unchecked": "no collation"}}}
    alter(path, "DELETE FROM items WHERE rowid = 1", "INSERT INTO items VALUES(2, 'bow', 1)")
    now = content(path)
    now["tables"]["items"] = before["tables"]["items"]
    with pytest.raises(PersonNeeded, match="players"):
        compare(unread, now)


def test_the_hash_of_a_table_is_the_same_everywhere(path: Path) -> None:
    rows = [(None, 1), (-5, 2.5), ("text", b"blob"), (2**40, "\u00e9")]
    known = "e0030ae8a744def3ff19032048fdfd28242f64dead57cad5173de268315b23ac"
    assert table(path, rows)["sha256"] == known
