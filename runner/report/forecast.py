"""How long the next recovery will take, and when its objective will be missed: pure.

Each past drill says how many seconds went into a source's own steps, and how many bytes were
restored. The first grow with the second; what else the recovery took stays. The size is followed
along a straight line through the sizes of the snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.store.catalog import Catalog
from runner.store.records import ODD, DrillResult
from runner.store.view import by_age

SYSTEM = "system"
DAY = 86_400.0

# A trend of less than this says nothing.
FEWEST_SIZES, SHORTEST_TREND = 3, DAY
# Until there are so many drills, nobody knows how much they vary: this part is taken instead.
FEWEST_DRILLS, UNKNOWN_SPREAD = 3, 0.5
# Later than this is not told: nobody grows along a straight line for so long.
HORIZON = 182 * DAY


@dataclass(frozen=True)
class Drilled:
    """What one drill says. Seconds and bytes are not negative."""

    seconds: float  # of the whole recovery of this source, or of the system
    scaled: float  # of them those that grow with the size; at most `seconds`
    bytes: int  # as stored; more than 0


@dataclass(frozen=True)
class Sized:
    """How large the newest content was at one time, as stored."""

    at: datetime
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """The next recovery. All in seconds; low <= seconds <= high."""

    seconds: float  # by its size now
    low: float
    high: float
    missed_in: float | None  # from now until `high` passes the objective; 0: it does now


def forecast(
    drills: Sequence[Drilled], sizes: Sequence[Sized], objective: float | None
) -> Forecast | None:
    """The forecast from past drills, the newest first, and sizes; None where nothing was drilled.

    The objective is held against the high end: whoever is warned too early has lost nothing.
    """
    if not drills:
        return None
    from statistics import median

    rate = sum(one.scaled for one in drills) / sum(one.bytes for one in drills)
    fixed = median(one.seconds - one.scaled for one in drills)
    spread = _spread(drills, fixed, rate)
    newest = max(sizes, key=lambda one: one.at, default=None)
    size = float(newest.bytes if newest else drills[0].bytes)
    expected = fixed + rate * size
    margin = expected * spread
    high = expected + margin
    return Forecast(
        seconds=expected,
        low=max(0.0, expected - margin),
        high=high,
        missed_in=_missed_in(high, rate * growth(sizes) * (1 + spread), objective),
    )


def growth(sizes: Sequence[Sized]) -> float:
    """Bytes a second, along the line of least squares; 0 where there is no trend to see."""
    if len(sizes) < FEWEST_SIZES:
        return 0.0
    first = min(one.at for one in sizes)
    times = [(one.at - first).total_seconds() for one in sizes]
    if max(times) < SHORTEST_TREND:
        return 0.0
    from statistics import fmean

    middle, level = fmean(times), fmean(one.bytes for one in sizes)
    across = sum((time - middle) ** 2 for time in times)
    along = sum(
        (time - middle) * (one.bytes - level) for time, one in zip(times, sizes, strict=True)
    )
    return along / across


def drilled(drills: Sequence[DrillResult], name: str) -> list[Drilled]:
    """What the records say of one source, or of the system. Only drills in which it came back."""
    found = []
    for one in drills:
        # A record is whatever somebody wrote to a target.
        with suppress(*ODD):
            known = _drilled(one.details, name)
            found += [known] if known else []
    return found


def _drilled(details: Mapping[str, Any], name: str) -> Drilled | None:
    own: Mapping[str, Mapping[str, float]] = details["sources"]
    names = list(own) if name == SYSTEM else [name]
    size = sum(int(details["bytes"].get(each, 0)) for each in names)
    scaled = sum(sum(map(float, own[each].values())) for each in names)
    measured = details["rto"][name]["measured"]
    if measured is None or size <= 0 or not 0 <= scaled < float("inf"):
        return None
    seconds = float(measured)
    return Drilled(seconds, min(seconds, scaled), size) if 0 <= seconds < float("inf") else None


def sized(catalog: Catalog, names: Sequence[str]) -> list[Sized]:
    """The stored size of the newest content of some sources together, at each snapshot."""
    known: dict[str, int] = {}
    found = []
    for one in sorted(catalog.snapshots, key=by_age):
        known |= {name: view.bytes for name, view in one.sources.items() if name in names}
        if len(known) == len(set(names)):
            found.append(Sized(one.created_at, sum(known.values())))
    return found


def _spread(drills: Sequence[Drilled], fixed: float, rate: float) -> float:
    """By what part of the expected time the drills differed from it, at most."""
    apart = 0.0
    for one in drills:
        expected = fixed + rate * one.bytes
        apart = max(apart, abs(one.seconds - expected) / expected if expected else 0.0)
    return apart if len(drills) >= FEWEST_DRILLS else max(apart, UNKNOWN_SPREAD)


def _missed_in(high: float, slope: float, objective: float | None) -> float | None:
    if objective is None:
        return None
    if high > objective:
        return 0.0
    if slope <= 0 or (objective - high) > slope * HORIZON:
        return None
    return (objective - high) / slope
