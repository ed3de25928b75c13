"""What a recovery says of a source in one line."""

from __future__ import annotations

import pytest

from runner.report.outcome import Outcome
from runner.report.recovery_words import recovery_lines


@pytest.mark.parametrize(
    ("swap", "line"),
    [
        ("done", "main: equal to the snapshot"),
        ("failed", "main: equal to the snapshot, but not put in its place"),
        ("skipped", "main: equal to the snapshot, but not put in its place"),
    ],
)
def test_what_was_proven_and_not_put_in_its_place_is_not_taken_for_restored(
    swap: str, line: str
) -> None:
    data = {
        "steps": [{"id": "main.swap", "status": swap, "seconds": 0}],
        "proof": [{"source": "main", "equal": True, "differences": []}],
        "safety": [],
        "status": "done" if swap == "done" else "failed",
        "seconds": 1,
    }
    assert next(iter(recovery_lines(Outcome("restore", data)))) == line
