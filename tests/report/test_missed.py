"""What a backup tells of copies that wait for a target that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from runner.plan.outstanding import Waiting
from runner.report.missed import with_waiting
from runner.report.outcome import Outcome

OLD = Waiting("20261120T020000Z-nightly-7f3a9c", "nas", "it does not answer")
NEW = "20261121T020000Z-nightly-0c41d2"


def backup(*targets: str, exit_code: int = 0) -> Outcome:
    snapshots = [{"id": NEW, "targets": list(targets)}] if targets else []
    data: dict[str, Any] = {"status": "done", "snapshots": snapshots, "lacking": []}
    return Outcome("backup", data, exit_code, {"message": "db is gone"} if exit_code else None)


@pytest.mark.parametrize("targets", [(), ("disk",)])
def test_a_copy_that_waits_is_not_green(targets: tuple[str, ...]) -> None:
    outcome = with_waiting(backup(*targets), [OLD])
    assert (outcome.exit_code, outcome.data["status"]) == (4, "partial")
    assert outcome.data["lacking"] == [
        {"id": OLD.snapshot, "target": "nas", "reason": "it does not answer"}
    ]


def test_what_failed_besides_stays_the_error() -> None:
    outcome = with_waiting(backup("disk", exit_code=4), [OLD])
    assert outcome.error == {"message": "db is gone"}
    assert [one["target"] for one in outcome.data["lacking"]] == ["nas"]


def test_a_target_that_came_back_in_time_is_no_failure() -> None:
    assert with_waiting(backup("disk", "nas"), [OLD]) == backup("disk", "nas")
    assert with_waiting(backup(), []) == backup()
