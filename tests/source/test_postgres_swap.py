"""Databases exchanged by renames: whoever is connected, whoever was killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from runner.errors import PersonNeeded, StepFailed
from runner.source import Place, Source, postgres_swap
from tests.postgres_server import Database
from tests.source.postgres_restored import (
    ROWS,
    captured,
    names,
    opened,
    place_at,
    players,
    proven,
    small,
)
from tests.source.stack import TOKEN


@pytest.fixture
def app(database: Database) -> Database:
    return small(database)


@pytest.fixture
def staged(app: Database, tmp_path: Path) -> tuple[Source, Place]:
    """A snapshot of all rows, proven beside a database that has lost half of them."""
    source = opened(app, tmp_path)
    artifacts = captured(source, tmp_path)
    app.execute("TRUNCATE players CASCADE", "INSERT INTO players VALUES (1, 'new')")
    place = place_at(tmp_path)
    proven(source, artifacts, place)
    return source, place


def test_the_old_database_is_kept(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    before = source.identity(place)
    assert source.swapped(place) == "absent"
    assert list(source.swap(place)) == [f"{app.name}_before_{TOKEN}"]
    assert source.swapped(place) == "done"
    source.confirm(place)
    assert source.identity(place) != before
    assert players(app) == ROWS
    assert players(app, f"{app.name}_before_{TOKEN}") == 1
    source.discard(place)
    assert players(app) == ROWS
    assert not any(name.startswith("holdfast") for name in names(app))


def test_it_can_be_taken_back_and_done_again(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    source.swap(place)
    source.unswap(place)
    assert source.swapped(place) == "absent"
    assert players(app) == 1
    source.swap(place)
    source.confirm(place)
    assert players(app) == ROWS
    source.unswap(place)
    source.discard(place)
    assert players(app) == 1
    assert not {name for name in names(app) if TOKEN in name}


def test_who_is_connected_is_named(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    with (
        app.connect(application_name="the shop"),
        pytest.raises(PersonNeeded, match="the shop as postgres"),
    ):
        source.gate(place)
    source.gate(place)


def test_live_ends_connections_at_the_exchange(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    place = replace(place, running=True)
    with app.connect() as connection:
        source.gate(place)
        source.swap(place)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert players(app) == ROWS


@contextmanager
def reconnecting(app: Database) -> Iterator[list[int]]:
    """An application that connects again and again, and holds on to each connection."""
    done = threading.Event()
    counts: list[int] = []

    def work() -> None:
        held = []
        while not done.is_set():
            with suppress(psycopg.Error):
                held.append(app.connect())
                counts.extend(row[0] for row in held[-1].execute("SELECT count(*) FROM players"))
        for one in held:
            one.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_an_app_that_comes_back_at_once_does_not_stop_it(
    app: Database, staged: tuple[Source, Place]
) -> None:
    source, place = staged
    with reconnecting(app) as counts:
        while not counts:
            pass
        source.swap(place)
        source.confirm(place)
    assert set(counts) <= {1, ROWS}


def test_one_that_may_not_be_ended_is_named_and_nothing_is_changed(
    app: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.execute(f"ALTER TABLE players OWNER TO {app.owner}")
    source = opened(app, tmp_path, user=app.owner, tables=["public.players"])
    place = place_at(tmp_path, running=True)
    proven(source, captured(source, tmp_path), place)
    monkeypatch.setattr(postgres_swap, "SECONDS", 0.0)
    with (
        app.connect(application_name="a superuser's tool"),
        pytest.raises(StepFailed, match="a superuser's tool as postgres"),
    ):
        source.swap(place)
    assert source.swapped(place) == "absent"
    assert players(app) == ROWS
    source.discard(place)


def test_one_that_came_into_being_meanwhile_is_not_replaced(
    app: Database, staged: tuple[Source, Place]
) -> None:
    source, place = staged
    source.swap(place)
    source.unswap(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_swap, "_rename", lambda *_: None)
        source.swap(place)  # written down, and killed
    app.cluster.execute(f"DROP DATABASE {app.name}", f"CREATE DATABASE {app.name}")
    with pytest.raises(StepFailed, match="came into being"):
        source.swap(place)
    assert app.name in names(app)
    source.unswap(place)
    source.discard(place)


def test_a_killed_swap_goes_on_or_back(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_swap, "_rename", lambda *_: None)
        source.swap(place)  # written down, and killed
    assert source.swapped(place) == "absent"
    with pytest.raises(StepFailed):
        source.confirm(place)
    source.swap(place)
    assert source.swapped(place) == "done"
    source.unswap(place)
    assert players(app) == 1


def test_a_prepared_transaction_is_named(app: Database, staged: tuple[Source, Place]) -> None:
    source, place = staged
    app.execute("BEGIN", "DELETE FROM players", "PREPARE TRANSACTION 'the gid'")
    try:
        with pytest.raises(PersonNeeded, match="the gid"):
            source.gate(place)
    finally:
        app.execute("ROLLBACK PREPARED 'the gid'")


def test_long_names_are_cut_to_what_fits(app: Database, tmp_path: Path) -> None:
    long = "ü" * 31
    app.cluster.execute(f'ALTER DATABASE {app.name} RENAME TO "{long}"')
    try:
        source = opened(Database(app.cluster, long, app.owner), tmp_path)
        place = place_at(tmp_path)
        proven(source, captured(source, tmp_path), place)
        (kept,) = source.swap(place)
        assert kept.endswith(f"_before_{TOKEN}")
        assert players(app, kept) == players(app, long) == ROWS
    finally:
        app.cluster.execute(f'ALTER DATABASE "{long}" RENAME TO {app.name}')
