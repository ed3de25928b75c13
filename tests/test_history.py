"""Past runs: the newest ones, however many there were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.inside import Inside
from tests.service import Service

DEFAULT = 50


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with three runs."""
    service = Service(tmp_path_factory.mktemp("history") / "original").build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    holdfast("verify", status=0)
    holdfast("drill", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def runs_of(service: Service) -> dict[str, Path]:
    """The folders of runs, by kind."""
    return {one.name.split("-")[1]: one for one in (service.folder / ".holdfast/runs").iterdir()}


def shown(holdfast: Inside, *words: str) -> list[str]:
    return [one["kind"] for one in holdfast.json("history", *words)["runs"]]


def test_shows_as_many_as_asked_for(holdfast: Inside) -> None:
    assert shown(holdfast) == ["drill", "verify", "backup"]
    assert shown(holdfast, "--last", "2") == ["drill", "verify"]
    assert shown(holdfast, "--last", "all") == ["drill", "verify", "backup"]
    assert holdfast.json("history", "--last", "1")["older"] == 2
    assert "And 2 older ones: --last all" in holdfast("history", "--last", "1", status=0).stdout
    assert "older" not in holdfast("history", status=0).stdout


def test_reads_no_journal_that_it_does_not_show(service: Service, holdfast: Inside) -> None:
    journal = runs_of(service)["backup"] / "journal.jsonl"
    journal.unlink()
    journal.mkdir()  # whoever reads it fails
    assert shown(holdfast, "--last", "2") == ["drill", "verify"]
    holdfast("history", status=4)


def test_shows_the_newest_of_very_many(service: Service, holdfast: Inside) -> None:
    backup = runs_of(service)["backup"]
    for number in range(DEFAULT):
        shutil.copytree(backup, backup.with_name(f"20200101T000000Z-prune-{number:06x}"))
    found = holdfast.json("history")
    assert len(found["runs"]) == DEFAULT
    assert found["older"] == 3
    assert [one["kind"] for one in found["runs"]][:3] == ["drill", "verify", "backup"]


def test_leaves_out_a_run_that_was_killed_before_its_journal_began(
    service: Service, holdfast: Inside
) -> None:
    (runs_of(service)["verify"] / "journal.jsonl").unlink()
    assert shown(holdfast) == ["drill", "backup"]


def test_shows_the_newest_drills(holdfast: Inside) -> None:
    holdfast("drill", status=0)
    found = holdfast.json("history", "--drills", "--last", "1")
    assert (len(found["drills"]), found["older"]) == (1, 1)


def test_shows_runs_and_drills_together(holdfast: Inside) -> None:
    found = holdfast.json("history", "--runs", "--drills", "--last", "1", status=0)
    assert [len(found[one]) for one in ("runs", "drills")] == [1, 1]
    assert "DRILL" in holdfast("history", "--runs", "--drills", status=0).stdout


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", "²"])
def test_refuses_what_is_no_number(holdfast: Inside, number: str) -> None:
    assert holdfast.json("history", "--last", number, status=1)["error"]["kind"] == "usage"
