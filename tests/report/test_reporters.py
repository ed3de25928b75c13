"""What is told while a run goes on: what broke, what hung on it, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from runner.report.reporters import line_of


def ended(status: str, **more: Any) -> dict[str, Any]:
    return {"event": "ended", "step": "db.stage", "status": status, "seconds": 0.0, **more}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ended("done"), "ok    db.stage"),
        (ended("failed", error={"message": "It is full."}), "FAIL  db.stage  It is full."),
        (ended("failed", error={"kind": "person", "message": "Look."}), "WAIT  db.stage  Look."),
        (ended("interrupted", error={"message": "initdb says: terminated"}), "stop  db.stage"),
        (
            ended("blocked", reason="needs code.swap, which failed"),
            "skip  db.stage  needs code.swap, which failed",
        ),
        (ended("blocked", reason="needs code.confirm, which did not run"), None),
        (ended("blocked", reason="the run was interrupted"), None),
    ],
)  # fmt: skip
def test_a_step_that_ended_has_one_line_or_none(event: dict[str, Any], line: str | None) -> None:
    assert line_of(event) == line
