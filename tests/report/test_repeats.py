"""What is news of failures that were told before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.report.outcome import Outcome
from runner.report.repeats import FILE, Repeats, failures_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def repeats(tmp_path: Path) -> Repeats:
    found = Repeats(tmp_path)
    found.note("chat", ["db is gone"], DAY, NOON)
    return Repeats(tmp_path)


@pytest.mark.parametrize(
    ("who", "failures", "hours", "expected"),
    [
        ("chat", ["db is gone"], 23, False),
        ("chat", ["db is gone"], 24, True),
        ("chat", ["db is gone"], -1, True),  # the clock was set back
        ("chat", ["db is gone", "cache is gone"], 1, True),
        ("chat", ["cache is gone"], 1, True),
        ("mail", ["db is gone"], 1, True),
    ],
)
def test_news(repeats: Repeats, who: str, failures: list[str], hours: int, expected: bool) -> None:
    assert repeats.is_news(who, failures, DAY, NOON + timedelta(hours=hours)) is expected


def test_the_first_time_is_known_for_as_long_as_it_lasts(repeats: Repeats, tmp_path: Path) -> None:
    for day in range(1, 4):
        repeats.note("chat", ["cache is gone", "db is gone"], DAY, NOON + day * DAY)
    assert repeats.since("chat", ["db is gone"]) == NOON
    assert repeats.since("chat", ["cache is gone"]) == NOON + DAY
    assert repeats.since("chat", ["cache is gone", "db is gone"]) == NOON
    assert repeats.since("mail", ["db is gone"]) is None
    repeats.note("chat", ["cache is gone"], DAY, NOON + 5 * DAY)
    assert repeats.since("chat", ["db is gone"]) is None, "it is over"
    repeats.note("mail", ["db is gone"], DAY, NOON)
    repeats.forget(["chat"])
    assert Repeats(tmp_path).since("mail", ["db is gone"]) == NOON, "it is another profile's"
    repeats.forget(["chat", "mail"])
    assert not (tmp_path / FILE).exists()


def test_no_words_are_written_down(repeats: Repeats, tmp_path: Path) -> None:
    assert "db" not in (tmp_path / FILE).read_text()


def test_what_differs_each_time_is_the_same_failure() -> None:
    texts = ("gave up after 30 s, at 12:00", "gave up after 31 s, at 12:10")
    found = [
        failures_of(Outcome("backup", {}, 4, {"kind": "failed", "message": one})) for one in texts
    ]
    assert found[0] == found[1]
    steps = [{"step": "a.capture", "message": "gone"}, {"step": "b.capture", "message": "gone"}]
    assert len(failures_of(Outcome("backup", {"failures": steps}, 4))) == 2


def test_a_state_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    repeats = Repeats(tmp_path / "gone")
    repeats.note("chat", ["db is gone"], DAY, NOON)
    assert Repeats(tmp_path / "gone").is_news("chat", ["db is gone"], DAY, NOON)
