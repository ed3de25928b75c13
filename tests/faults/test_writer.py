"""A database under a writer: a backup ends, and what it holds is one instant."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bad_day import ONE_TARGET, Steady
from tests.service import Service

# Moves money between two tables, two hundred times a second, whatever else goes on.
WRITER = """
import random, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
done, began = 0, time.monotonic()
while True:
    amount = random.randint(1, 100)
    database.execute("begin immediate")
    database.execute("update wallets set money = money - ? where id = ?", (amount, done % 50))
    database.execute("update banks set money = money + ? where id = ?", (amount, done % 7))
    database.execute("insert into transfers(amount) values(?)", (amount,))
    database.execute("commit")
    done += 1
    print(done, flush=True)
    time.sleep(max(0.0, began + done / 200 - time.monotonic()))
"""
MONEY = 50 * 1000 + 7 * 1000


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes until the block ends; it must still be alive by then."""
    counted = path.with_name("done")
    with (
        counted.open("wb") as output,
        subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=output) as process,
    ):
        try:
            while counted.stat().st_size < 400:
                assert process.poll() is None
                time.sleep(0.02)
            yield process
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    """A service whose database holds money in two tables, in some journal mode."""
    service = Service(tmp_path / "service", ONE_TARGET).build()
    with contextlib.closing(sqlite3.connect(service.folder / "data" / "quaybot.db")) as database:
        database.executescript(
            f"pragma journal_mode={request.param};"
            "create table wallets(id integer primary key, money integer);"
            "create table banks(id integer primary key, money integer);"
            "create table transfers(id integer primary key, amount integer);"
            "create table ballast(id integer primary key, junk blob);"
        )
        database.executemany("insert into wallets values(?, 1000)", [(n,) for n in range(50)])
        database.executemany("insert into banks values(?, 1000)", [(n,) for n in range(7)])
        # Large enough that many transfers happen while it is copied.
        database.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) "
            "insert into ballast select i, randomblob(8000) from n"
        )
        database.commit()
    return service


@pytest.mark.parametrize("service", ["wal", "delete"], indirect=True)
def test_a_backup_under_a_writer_ends_and_is_consistent(service: Service, tmp_path: Path) -> None:
    holdfast = Steady(service.folder)
    last = 0
    with writer(service.folder / "data" / "quaybot.db"):
        for number in range(3):
            holdfast("backup", "--source", "db", status=0)
            copy = tmp_path / f"copy-{number}.db"
            holdfast("restore", "--source", "db", "--to", copy, status=0)
            with contextlib.closing(sqlite3.connect(copy)) as database:
                (money,) = database.execute(
                    "select (select sum(money) from wallets) + (select sum(money) from banks)"
                ).fetchone()
                moved, most = database.execute("select count(*), max(id) from transfers").fetchone()
                assert database.execute("pragma integrity_check").fetchone() == ("ok",)
            assert money == MONEY
            assert moved == most > last
            last = moved
    assert service.leftovers() == []
