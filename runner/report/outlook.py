"""Which promised recovery times will not hold for long, told before they are missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runner.report.forecast import DAY, SYSTEM, Drilled, Sized, drilled, forecast, sized
from runner.report.opened import never_opened
from runner.spec.model import Spec
from runner.spec.units import format_duration
from runner.store.catalog import Catalog


@dataclass(frozen=True)
class Seen:
    """What forecasts are made of."""

    drills: Mapping[str, Sequence[Drilled]]  # of the system and each restored source
    sizes: Mapping[str, Sequence[Sized]]
    unopened: str | None  # the sentence where no identity ever opened a snapshot


def seen(spec: Spec, catalog: Catalog) -> Seen:
    """What the targets know of earlier drills and sizes."""
    restored = [name for step in spec.recovery for name in step.restore]
    sizes = {name: sized(catalog, [name]) for name in restored}
    return Seen(
        drills={name: drilled(catalog.drills, name) for name in (SYSTEM, *restored)},
        sizes={SYSTEM: sized(catalog, restored), **sizes},
        unopened=never_opened(spec, catalog),
    )


def outlook(spec: Spec, known: Seen) -> list[dict[str, Any]]:
    """The forecast of the system, and of each source with an RTO, where there was a drill."""
    rows = []
    for name in known.drills:
        declared = spec.objectives.get(name)
        objective = declared.rto if declared else None
        found = forecast(known.drills[name], known.sizes[name], objective)
        if found is not None and (objective or name == SYSTEM):
            numbers = {
                key: None if value is None else round(value, 3)
                for key, value in asdict(found).items()
            }
            rows.append({"of": name, "objective": objective, **numbers})
    return rows


def warnings(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each objective that is to be missed."""
    for row in rows:
        if row["missed_in"] is None:
            continue
        promise = format_duration(row["objective"])
        takes = f"{_rough(row['low'])} to {_rough(row['high'])}"
        if row["missed_in"] == 0:
            yield (
                f"By its size now, recovering {row['of']} takes {takes}; its RTO is {promise}. "
                "Next: holdfast drill"
            )
        else:
            yield (
                f"At this growth the RTO of {row['of']}, {promise}, is missed in "
                f"{_weeks(row['missed_in'])}; by its size now it takes {takes}."
            )


def _weeks(seconds: float) -> str:
    weeks, days = round(seconds / DAY / 7), round(seconds / DAY)
    if weeks >= 2:
        return f"{weeks} weeks"
    return "a day" if days < 2 else f"{days} days"


def _rough(seconds: float) -> str:
    """To two figures' worth: more is not known."""
    for unit in (3600, 60):
        if seconds >= 10 * unit:
            return format_duration(round(seconds / unit) * unit)
    return format_duration(round(seconds) if seconds >= 10 else round(seconds, 1))
