"""PostgreSQL: everything that pg_dump finds hard, there and back, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.daemon import end_daemons
from runner.errors import PersonNeeded, StepFailed
from runner.registry import open_source
from runner.source import Place, Source
from runner.spec.model import SourceSpec
from tests.postgres_server import Database, Servers, fresh_database, give_away
from tests.source.conformance import SourceConformance, place_in
from tests.source.postgres_sample import (
    HardSample,
    execute,
    hard_database,
    make_template,
    observe,
    observe_database,
)
from tests.source.stack import FolderArtifacts, FolderCapture, Stack


class TestHard(SourceConformance):
    sample = HardSample()

    @pytest.fixture
    def stack(self, tmp_path: Path, servers: Servers) -> Iterator[Stack]:
        """The hard database; servers that a test started beside it are ended."""
        make_template(servers.debian())
        with fresh_database(servers.debian()) as database:
            self.sample.database = database
            yield Stack(tmp_path / "production", self.sample)
        for folder in (path.parent for path in tmp_path.rglob("*.process")):
            end_daemons(folder)


def declared(database: Database, folder: Path, **options: Any) -> Source:
    options = database.options(user="postgres", bin=str(database.cluster.bin), **options)
    return open_source(SourceSpec("db", "postgres", options, folder))


def captured(source: Source, folder: Path) -> FolderArtifacts:
    capture = FolderCapture(folder, "db")
    return FolderArtifacts(capture, source.capture(capture).fingerprint)


def proven(source: Source, artifacts: FolderArtifacts, place: Place) -> None:
    """Restore to a place, prove it and swap it in."""
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    assert list(source.differences(artifacts.fingerprint, found, place)) == []
    source.swap(place)
    source.confirm(place)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """The home of a scratch server, which is ended afterwards."""
    yield tmp_path / "scratch"
    end_daemons(tmp_path / "scratch")


@pytest.fixture
def hard(servers: Servers) -> Iterator[Database]:
    """The hard database in a server of a newer major."""
    make_template(servers.newer())
    with fresh_database(servers.newer()) as database:
        yield hard_database(database.cluster, database.owner)


def test_a_newer_major_comes_back(hard: Database, tmp_path: Path) -> None:
    before = observe_database(hard)
    source = declared(hard, tmp_path, globals=True)
    artifacts = captured(source, tmp_path / "snapshot")
    place = place_in(tmp_path)
    proven(source, artifacts, place)
    source.discard(place)
    assert observe_database(hard) == before


def test_a_newer_major_comes_back_in_a_scratch_server(
    hard: Database, tmp_path: Path, scratch: Path
) -> None:
    before = observe_database(hard)
    source = declared(hard, tmp_path, globals=True)
    artifacts = captured(source, tmp_path / "snapshot")
    proven(source, artifacts, place_in(tmp_path, str(scratch)))
    assert observe(hard.cluster.bin, source.address(str(scratch))) == before


def test_a_dump_in_several_files_comes_back(hard: Database, tmp_path: Path) -> None:
    before = observe_database(hard)
    source = declared(hard, tmp_path, parallel=2)
    artifacts = captured(source, tmp_path / "snapshot")
    place = place_in(tmp_path)
    proven(source, artifacts, place)
    source.discard(place)
    assert observe_database(hard) == before


def test_a_database_goes_to_a_newer_major_and_never_back(servers: Servers, tmp_path: Path) -> None:
    """The roles that it needs are made there, and one that may only log in is enough to read."""
    make_template(servers.debian())
    with (
        fresh_database(servers.debian()) as old,
        fresh_database(servers.newer()) as new,
    ):
        hard = hard_database(old.cluster, old.owner)
        # The newer server here was built without ICU and libxml.
        execute(hard, "DROP TABLE IF EXISTS collated, documents")
        execute(hard, "DROP COLLATION IF EXISTS numbers, ignoring_case")
        source = declared(hard, tmp_path, globals=True)
        artifacts = captured(source, tmp_path / "snapshot")
        there = declared(new, tmp_path)
        proven(there, artifacts, place_in(tmp_path, "upgraded"))
        rows = "SELECT count(*) FROM events"
        assert new.cluster.rows(rows, "upgraded") == hard.rows(rows)
        newer = captured(there, tmp_path / "newer")
        with pytest.raises((StepFailed, PersonNeeded), match=r"older|newer|18"):
            source.stage(newer, place_in(tmp_path / "back", "downgraded"))
        assert not old.cluster.rows("SELECT 1 FROM pg_database WHERE datname = 'downgraded'")


def test_tables_elsewhere_on_the_server_come_back(
    database: Database, tmp_path: Path, scratch: Path
) -> None:
    folder = database.cluster.folder / "elsewhere"
    folder.mkdir()
    give_away(folder)
    database.cluster.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    database.cluster.execute(f"ALTER DATABASE {database.name} SET TABLESPACE elsewhere")
    database.execute("CREATE TABLE far (v int) TABLESPACE pg_default", "INSERT INTO far VALUES (1)")
    database.execute("CREATE INDEX ON far (v) TABLESPACE pg_default")
    database.execute("CREATE TABLE near (v int)", "INSERT INTO near VALUES (2)")
    before = observe_database(database)
    source = declared(database, tmp_path)
    artifacts = captured(source, tmp_path / "snapshot")
    place = place_in(tmp_path)
    proven(source, artifacts, place)
    source.discard(place)
    assert observe_database(database) == before
    # There is no such place in a scratch server, and what was in it is proven all the same.
    proven(source, artifacts, place_in(tmp_path / "proof", str(scratch)))


def test_a_subscription_neither_runs_nor_stays_in_the_way(
    database: Database, tmp_path: Path, scratch: Path
) -> None:
    """A database with one cannot be dropped, and a copy that runs would steal its changes."""
    database.execute(
        "CREATE TABLE t (v int)",
        "CREATE SUBSCRIPTION feed CONNECTION 'host=192.0.2.1 dbname=x' PUBLICATION p "
        "WITH (connect = false, slot_name = NONE)",
    )
    source = declared(database, tmp_path)
    artifacts = captured(source, tmp_path / "snapshot")
    place = place_in(tmp_path)
    try:
        source.stage(artifacts, place)
        assert database.cluster.rows("SELECT 1 FROM pg_subscription WHERE subenabled") == []
        source.discard(place)
        assert not database.cluster.rows("SELECT 1 FROM pg_database WHERE datname LIKE 'holdfast%'")
        proven(source, artifacts, place_in(tmp_path / "proof", str(scratch)))
    finally:
        for (name,) in database.cluster.rows(
            "SELECT datname FROM pg_database WHERE oid IN (SELECT subdbid FROM pg_subscription)"
        ):
            database.cluster.execute("DROP SUBSCRIPTION feed", dbname=name)
