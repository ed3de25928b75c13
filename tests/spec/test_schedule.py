"""Schedules: cron lines across the changes of the clocks, and durations."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.spec.schedule import Schedule

HOUR = 3600.0
INSTANTS = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(UTC)
)
LINES = st.sampled_from(
    [
        "0 2 * * *",
        "*/15 * * * *",
        "30 2 * * SUN",
        "0 9-17 * * 1-5",
        "0 0 1 * *",
        "6h",
        "90m",
        "@daily",
    ]
)


def test_a_nightly_run_follows_the_clocks_of_its_zone() -> None:
    nightly = Schedule.parse("0 2 * * *", "Europe/Berlin")
    summer = nightly.next_after(datetime(2026, 7, 1, 12, tzinfo=UTC))
    winter = nightly.next_after(datetime(2026, 12, 1, 12, tzinfo=UTC))
    assert (summer.hour, winter.hour) == (0, 1)


def test_the_longest_night_has_an_hour_more() -> None:
    assert Schedule.parse("0 2 * * *", "Europe/Berlin").longest_interval() == 25 * HOUR
    assert Schedule.parse("0 2 * * *", "UTC").longest_interval() == 24 * HOUR


@pytest.mark.parametrize(
    ("line", "hours"),
    [("0 9-17 * * 1-5", 64), ("0 0 1 * *", 31 * 24), ("0 0 29 2 *", 1461 * 24), ("6h", 6)],
)
def test_the_longest_interval_sees_weekends_and_leap_years(line: str, hours: int) -> None:
    assert Schedule.parse(line).longest_interval() == hours * HOUR


def test_an_hour_that_is_shown_twice_runs_once() -> None:
    schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")
    first = schedule.next_after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert schedule.next_after(first) - first > timedelta(hours=20)


@pytest.mark.parametrize("minutes", range(0, 121, 10))
def test_within_the_hour_that_is_shown_twice_a_run_is_neither_lost_nor_yet_to_come(
    minutes: int,
) -> None:
    schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")
    run = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    later = run + timedelta(minutes=minutes)
    assert schedule.last_before(later) == run
    assert schedule.next_after(later) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@settings(max_examples=30)
@given(LINES, INSTANTS)
@example("*/15 * * * *", datetime(2020, 1, 1, 0, 44, 59, 1, tzinfo=UTC))
def test_the_last_run_is_not_after_and_the_next_one_is(line: str, instant: datetime) -> None:
    schedule = Schedule.parse(line, "Europe/Berlin")
    last, following = schedule.last_before(instant), schedule.next_after(instant)
    assert last <= instant < following
    assert (following - last).total_seconds() <= schedule.longest_interval()


def test_an_instant_it_names_is_its_own_last_run() -> None:
    schedule = Schedule.parse("0 2 * * *")
    at = datetime(2026, 11, 20, 2, tzinfo=UTC)
    assert schedule.last_before(at) == at
    assert schedule.next_after(at) == at + timedelta(days=1)


@pytest.mark.parametrize(
    "text", ["", "daily", "99 * * * *", "* * * *", "0 0 30 2 *", "5s", "0 0 * * * *", "x y z a b"]
)
def test_what_is_no_schedule_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="Write"):
        Schedule.parse(text)


@given(st.text(alphabet="0123456789*/-,#L ", max_size=20))
def test_any_line_is_a_schedule_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert Schedule.parse(text)
