"""Durations, sizes and times."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.units import (
    LONGEST,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_time,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("36h", 129600),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("2w", 1209600),
        ("1.5h", 5400),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "-5m", "5M", "1y", "1e3s", "5m ", "５m", "99999w"]
)
def test_what_is_no_duration_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="Write"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=int(LONGEST)))
def test_a_formatted_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (1.5, "1.5s"), (59.9996, "1m"), (90, "1m30s"), (129600, "1d12h"), (3599.7, "1h")],
)
def test_a_duration_is_shown_in_the_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("500MB", 500_000_000), ("10GiB", 10 * 2**30), ("1.5KiB", 1536), ("3kB", 3000)],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "5G", "5gb", "-1B", "5 GB", "1e3B"])
def test_what_is_no_size_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="Write"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**59))
def test_a_formatted_size_is_near(count: int) -> None:
    assert abs(parse_size(format_size(count)) - count) <= count * 0.06


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-20T02:15:00Z", datetime(2026, 11, 20, 2, 15)),
        ("2026-11-20T02:15:00+02:00", datetime(2026, 11, 20, 0, 15)),
        ("2026-11-20 02:15:30.5Z", datetime(2026, 11, 20, 2, 15, 30, 500000)),
        ("2026-11-20 02:15 +0100", datetime(2026, 11, 20, 1, 15)),
        ("2026-11-20 02:15", datetime(2026, 11, 20, 1, 15)),
        ("2026-07-20 02:15", datetime(2026, 7, 20, 0, 15)),
        ("2026-11-20", datetime(2026, 11, 19, 23, 0)),
        ("2h ago", datetime(2026, 11, 20, 10, 0)),
        ("1d12h ago", datetime(2026, 11, 19, 0, 0)),
    ],
)
def test_a_time_without_a_zone_is_in_the_declared_one(text: str, utc: datetime) -> None:
    assert parse_time(text, "Europe/Berlin", NOW) == utc.replace(tzinfo=UTC)


def test_a_time_that_the_clocks_skip_is_told() -> None:
    with pytest.raises(ValueError, match="skip it"):
        parse_time("2026-03-29 02:30", "Europe/Berlin", NOW)


def test_a_time_that_the_clocks_show_twice_is_told_with_both_readings() -> None:
    with pytest.raises(ValueError, match=r"02:30:00\+02:00 or 2026-10-25T02:30:00\+01:00"):
        parse_time("2026-10-25 02:30", "Europe/Berlin", NOW)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-11-20 25:00", "0001-01-01", "2 ago", "ago"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text, "Europe/Berlin", NOW)


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1)))
def test_an_instant_written_in_full_reads_back(instant: datetime) -> None:
    aware = instant.replace(tzinfo=UTC)
    assert parse_time(aware.isoformat(), "Asia/Tokyo", NOW) == aware


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_time(text, "UTC", NOW).utcoffset() == timedelta(0)
