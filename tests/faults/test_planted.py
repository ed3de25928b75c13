"""Planted disasters: a drill catches each of them, says which it is, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults import planted
from tests.faults.conftest import Fresh
from tests.faults.planted import Disaster
from tests.postgres_server import Database
from tests.postgres_service import PostgresService
from tests.redis_server import RedisServer
from tests.redis_service import RedisService
from tests.service import Service
from tests.tools import ROOT

SMALL = [*planted.SQLITE, *planted.FILES, *planted.GIT, *planted.SYSTEM]
EVERY: list[Disaster[Any]] = [*SMALL, *planted.POSTGRES, *planted.REDIS]
TABLE = ROOT / "docs" / "explanation" / "planted-disasters.md"
ASKED = [{"name": "players exist", "sql": "select count(*) > 0 from players"}]


def what(disaster: Disaster[Any]) -> str:
    return disaster.what


def judge(disaster: Disaster[Any], document: dict[str, Any]) -> None:
    assert document["ok"] is False
    assert disaster.told in document["error"]["message"]
    if disaster.step is None:
        assert "steps" not in document
        return
    assert document["error"]["step"].startswith(disaster.step)
    report = Path(document["report"]).read_text().replace("\\", "")
    assert "PASSED" not in report.splitlines()[0]
    assert disaster.told in report
    assert document["cleanup"] == "clean"


@pytest.mark.parametrize("disaster", SMALL, ids=what)
def test_of_files(disaster: Disaster[Service], fresh: Fresh) -> None:
    service, holdfast = fresh(disaster.stack)
    disaster.plant(service)
    judge(disaster, holdfast.json("drill", status=disaster.status))
    assert service.leftovers() == []


@pytest.mark.parametrize("disaster", planted.POSTGRES, ids=what)
def test_of_postgres(
    disaster: Disaster[PostgresService], database: Database, tmp_path: Path
) -> None:
    service = PostgresService(tmp_path / "service", database).fill()
    service.declare(checks={"db": ASKED})
    service("backup", status=0)
    disaster.plant(service)
    judge(disaster, service.json("drill", status=disaster.status))
    assert service.leftovers() == []


@pytest.mark.parametrize("disaster", planted.REDIS, ids=what)
def test_of_redis(
    disaster: Disaster[RedisService], redis_server: RedisServer, tmp_path: Path
) -> None:
    service = RedisService(tmp_path / "service", redis_server).fill()
    service("backup", status=0)
    disaster.plant(service)
    judge(disaster, service.json("drill", status=disaster.status))
    assert service.leftovers() == []


def test_each_is_in_the_documentation() -> None:
    rows = [line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if "|" in line]
    assert rows[2:] == [one.what for one in EVERY]
