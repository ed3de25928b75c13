"""The forecast: what holds for any drills and sizes, and what it says of a growing database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.report.forecast import (
    DAY,
    HORIZON,
    UNKNOWN_SPREAD,
    Drilled,
    Sized,
    forecast,
    growth,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
GB = 1_000_000_000


def grown(*gigabytes: float) -> list[Sized]:
    """One size a week, the last of them now."""
    weeks = len(gigabytes) - 1
    return [
        Sized(NOW - timedelta(weeks=weeks - week), int(size * GB))
        for week, size in enumerate(gigabytes)
    ]


seconds = st.floats(0.001, 1e6)
drills = st.lists(
    st.builds(
        lambda whole, part, size: Drilled(whole, whole * part, size),
        seconds,
        st.floats(0, 1),
        st.integers(1, 10**13),
    ),
    min_size=1,
    max_size=8,
)
sizes = st.lists(
    st.builds(
        lambda days, size: Sized(NOW - timedelta(days=days), size),
        st.floats(0, 400),
        st.integers(0, 10**13),
    ),
    max_size=12,
)


@given(drills=drills, sizes=sizes, objective=st.none() | seconds)
@example(
    drills=[Drilled(764107.6634800254, 0.0, 1), Drilled(0.5106455421339079, 0.0, 1)],
    sizes=[],
    objective=764107.6634800254,
)
def test_whatever_was_drilled(
    drills: list[Drilled], sizes: list[Sized], objective: float | None
) -> None:
    found = forecast(drills, sizes, objective)
    assert found is not None
    assert 0 <= found.low <= found.seconds <= found.high
    if found.missed_in is not None:
        assert objective is not None
        assert 0 <= found.missed_in <= HORIZON * 1.001
    if objective is not None and found.high > objective:
        assert found.missed_in == 0


@given(drills=drills, sizes=sizes, objective=seconds, more=st.floats(1, 1e6))
def test_a_longer_promise_is_missed_later(
    drills: list[Drilled], sizes: list[Sized], objective: float, more: float
) -> None:
    soon, late = forecast(drills, sizes, objective), forecast(drills, sizes, objective + more)
    assert soon is not None
    assert late is not None
    never = HORIZON * 2
    assert (never if soon.missed_in is None else soon.missed_in) <= (
        never if late.missed_in is None else late.missed_in
    ) * 1.000001


@given(start=st.integers(1, 10**12), daily=st.integers(0, 10**9), days=st.integers(3, 60))
def test_a_straight_line_is_found(start: int, daily: int, days: int) -> None:
    line = [Sized(NOW + timedelta(days=day), start + daily * day) for day in range(days)]
    assert growth(line) * DAY == pytest.approx(daily, rel=1e-3, abs=1)


def test_nothing_drilled_says_nothing() -> None:
    assert forecast([], grown(1, 2, 3), 60.0) is None


def test_one_drill_is_scaled_by_size_and_little_is_sure() -> None:
    found = forecast([Drilled(120.0, 100.0, 10 * GB)], grown(10, 20), None)
    assert found is not None
    assert found.seconds == pytest.approx(220.0)  # 20 s stay, 100 s are doubled
    assert found.high == pytest.approx(220.0 * (1 + UNKNOWN_SPREAD))


def test_the_objective_is_missed_in_some_weeks() -> None:
    exact = [Drilled(6.0 * size, 6.0 * size, size * GB) for size in (100, 200, 300)]
    found = forecast(exact, grown(400, 500, 600), 7200.0)
    assert found is not None
    assert found.seconds == found.high == pytest.approx(3600.0)
    # 100 GB a week are 600 s a week: from 3600 s to 7200 s in six weeks.
    assert found.missed_in == pytest.approx(6 * 7 * DAY)
    shrinking = forecast(exact, grown(600, 500, 400), 7200.0)
    assert shrinking is not None
    assert shrinking.missed_in is None
    missed = forecast(exact, grown(1300, 1300, 1300), 7200.0)
    assert missed is not None
    assert missed.missed_in == 0.0
