"""The oldest PostgreSQL that is supported, with the client programs of a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres_server import (
    Cluster,
    Database,
    debian_programs,
    new_database,
    oldest_programs,
    start_cluster,
)
from tests.postgres_service import PostgresService, content
from tests.source.postgres_restored import (
    behind_a_prefix,
    captured,
    differing,
    loaded,
    opened,
    place_at,
    placed,
    players,
    proven,
)
from tests.tools import blocks, run

MORE = """
CREATE TABLE sales (id int GENERATED ALWAYS AS IDENTITY, day date, net numeric,
    gross numeric GENERATED ALWAYS AS (net * 1.19) STORED) PARTITION BY RANGE (day);
CREATE TABLE sales_2026 PARTITION OF sales FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE sales_rest PARTITION OF sales DEFAULT;
INSERT INTO sales (day, net) SELECT date '2025-12-01' + n, n FROM generate_series(1, 100) AS n;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
SELECT lo_from_bytea(4711, 'a large object');
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server of its own."""
    cluster = start_cluster(oldest_programs())
    yield cluster
    cluster.stop()


@pytest.fixture
def database(cluster: Cluster) -> Database:
    """An empty database."""
    made = new_database(cluster)
    client = Cluster(debian_programs(), cluster.folder, cluster.port, cluster.process)
    return Database(client, made.name, made.owner)


@pytest.fixture
def service(database: Database, tmp_path: Path) -> PostgresService:
    """A service whose superuser backs it up."""
    service = PostgresService(tmp_path / "service", database, globals=True).fill()
    database.psql(stdin=MORE)
    service.source |= {"host": str(database.cluster.folder), "user": "postgres"}
    service.declare(recovery=[{"restore": ["db"]}])
    return service


def kept(service: PostgresService) -> Any:
    """All that must come back."""
    rows = service.database.rows
    return (
        content(service.database),
        rows("SELECT tableoid::regclass::text, t.* FROM sales AS t ORDER BY id"),
        rows("SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"),
    )


def test_it_is_backed_up_proven_drilled_and_brought_back(service: PostgresService) -> None:
    service("backup", status=0)
    before = kept(service)
    proven = service.json("verify", "--level", "restored")["results"]
    assert [one["verdict"] for one in proven] == ["PASS"]
    drilled = service.json("drill")
    assert [one["equal"] for one in drilled["proof"]] == [True]
    service.database.execute("TRUNCATE items, sales; DROP VIEW rich")
    document = service.json("restore", "--source", "db", "--confirm", "db")
    assert document["proof"] == [{"source": "db", "equal": True, "differences": []}]
    assert kept(service) == before
    assert service.leftovers() == []


def test_the_printed_commands_bring_it_back(service: PostgresService) -> None:
    service("backup", status=0)
    before = kept(service)
    service.database.cluster.execute(f"DROP DATABASE {service.database.name}")
    (snapshot,) = service.snapshots()
    text = (snapshot / "RESTORE.md").read_text()
    variables = service.database.cluster.environment()
    del variables["PGDATABASE"]
    lines = [f"export {name}={value}" for name, value in variables.items()]
    script = "\n".join([*lines, *blocks(text, "sh"), *blocks(text, "sh server")])
    run("bash", "-e", "-c", script, folder=snapshot)
    assert kept(service) == before


def test_its_owner_brings_it_back_beside_a_schema_that_is_another_s(
    database: Database, tmp_path: Path
) -> None:
    with database.connect(database.owner) as connection:
        connection.execute("CREATE TABLE players AS SELECT 1 AS id")
    source, place = opened(database, tmp_path, database.owner), place_at(tmp_path)
    artifacts = captured(source, tmp_path)
    proven(source, artifacts, place)
    source.swap(place)
    source.confirm(place)
    source.drop(source.keep(place))
    loaded(database, source, artifacts, tmp_path / "restored", user=database.owner)
    assert players(database) == 1


# What the order and the number of the processes of a restore change, and what other roles may do.
OWN = """
CREATE TABLE players (id serial PRIMARY KEY, name text);
INSERT INTO players (name) SELECT md5(n::text) FROM generate_series(1, 100) AS n;
GRANT SELECT ON players TO "{reader}";
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
CREATE TABLE visits (day int, n int) PARTITION BY RANGE (day);
CREATE TABLE visits_early PARTITION OF visits FOR VALUES FROM (0) TO (10);
INSERT INTO visits VALUES (1, 1);
CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN NEW.n = NEW.n * 2; RETURN NEW; END';
CREATE TRIGGER more BEFORE INSERT ON visits_early FOR EACH ROW EXECUTE FUNCTION twice();
COMMENT ON SCHEMA public IS 'ours';
"""


@pytest.mark.parametrize("behind", [False, True], ids=["here", "behind a prefix"])
def test_its_owner_types_the_commands_of_a_runbook(
    database: Database, tmp_path: Path, behind: bool
) -> None:
    database.execute(f'ALTER SCHEMA public OWNER TO "{database.owner}"')
    database.psql(user=database.owner, stdin=OWN.format(reader=database.role()))
    database.execute("ALTER SCHEMA public OWNER TO postgres")
    options = {"exec": behind_a_prefix(database, tmp_path)} if behind else {}
    source = opened(database, tmp_path, database.owner, **options)
    artifacts = captured(source, tmp_path)
    database.execute("TRUNCATE players, visits")
    placed(database, source, artifacts, tmp_path / "restored")
    assert [one for one in differing(database, artifacts) if "schema public" not in one] == []
