"""What may be typed as another place to restore a PostgreSQL database to, and how a URL is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import UsageError
from runner.registry import open_source
from runner.source.postgres_server import Server
from runner.spec.model import SourceSpec
from tests.postgres_server import SUPERUSER, Database
from tests.source.postgres_restored import opened, place_at

SOURCE = open_source(SourceSpec("main", "postgres", {"dbname": "quay"}, Path("/srv/quay")))


@pytest.mark.parametrize(
    "typed", ["copy", "-d evil=1", "postgresql://quay@db.example/copy", "postgres:///copy"]
)
def test_a_name_and_a_url_are_kept_as_they_are(typed: str) -> None:
    assert SOURCE.destination(typed) == typed


@pytest.mark.parametrize("typed", ["/srv/copy", "redis://127.0.0.1/0", "mysql://db/copy"])
def test_what_is_no_database_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="is no database"):
        SOURCE.destination(typed)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        SOURCE.destination("postgresql://quay:s3cret@db.example/copy")
    assert "s3cret" not in str(caught.value) + caught.value.remedy
    assert "PGPASSWORD" in caught.value.remedy


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_an_application_s_url_names_its_driver(scheme: str) -> None:
    server = Server(url=f"{scheme}://quay@127.0.0.1:5433/shop")
    assert server.keywords() == {
        "user": "quay",
        "host": "127.0.0.1",
        "port": "5433",
        "dbname": "shop",
    }


@pytest.mark.parametrize("named", [True, False])
def test_a_server_without_a_database_s_name_is_asked_for_what_would_be_replaced(
    database: Database, tmp_path: Path, named: bool
) -> None:
    more: dict[str, Any] = {"databases": [database.name]} if named else {}
    source = opened(database, tmp_path, **more)
    host, port = database.cluster.folder, database.cluster.port
    there = place_at(tmp_path, f"postgresql://{SUPERUSER}@/?host={host}&port={port}")
    assert source.identity(there) == source.identity(place_at(tmp_path)) != "absent"
