"""Schedules: a cron line in the spec's timezone, or a duration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.spec.units import parse_duration

# A year shows every gap of a line that comes true often; a rare one, such as the 29th of
# February, needs two leap years.
_YEAR = timedelta(days=400)
_LEAP_YEARS = timedelta(days=366 * 8 + 2)
_OFTEN, _MOST_TICKS = 100, 2000
_REMEDY = "Write five cron fields, `0 2 * * *`, or a duration, `6h`."
_SHORTCUTS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True)
class Schedule:
    """When a policy is due. Instants are aware and in UTC."""

    cron: str | None  # five fields; None: `every` holds
    every: float = 0.0  # seconds
    timezone: str = "UTC"

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Schedule:
        """Read a cron line, a shortcut such as `@daily`, or a duration.

        Raises ValueError with the remedy.
        """
        line = _SHORTCUTS.get(text.strip().lower(), text.strip())
        if len(line.split()) == 1:
            return cls._every(line)
        schedule = cls(line, timezone=timezone)
        if len(line.split()) != 5:
            raise ValueError(f"{text!r} is not a schedule. {_REMEDY}")
        from cronsim import CronSimError

        try:
            schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC))
        except (CronSimError, ValueError, RecursionError) as error:
            raise ValueError(f"{text!r} is not a schedule: {error}. {_REMEDY}") from error
        return schedule

    @classmethod
    def _every(cls, text: str) -> Schedule:
        try:
            every = parse_duration(text)
        except ValueError:
            message = f"{text!r} is not a schedule. {_REMEDY}"
            raise ValueError(message) from None
        if every < 60:
            raise ValueError(f"{text} is shorter than a minute. Write 1m or more.")
        return cls(None, every)

    def next_after(self, instant: datetime) -> datetime:
        """The first instant it names strictly after `instant`.

        A duration counts from 1970, so that a missed run moves none of the later ones. Raises
        ValueError where the line never comes true.
        """
        if self.cron is None:
            return _epoch(instant, self.every) + timedelta(seconds=self.every)
        return self._first(tick for tick in self._ticks(instant) if tick > instant)

    def last_before(self, instant: datetime) -> datetime:
        """The last instant it names at or before `instant`. Raises ValueError if there is none."""
        if self.cron is None:
            return _epoch(instant, self.every)
        before = self._ticks(instant + timedelta(seconds=1), reverse=True)
        last = self._first(tick for tick in before if tick <= instant)
        # Ticks are found by the clocks on the wall: looking back from the second half of an hour
        # that they show twice, those of its first half are not seen.
        while (following := self.next_after(last)) <= instant:
            last = following
        return last

    def longest_interval(self) -> float:
        """The longest time between two runs, in seconds."""
        if self.cron is None:
            return self.every
        start = datetime(2026, 1, 1, tzinfo=UTC)
        longest, before = 0.0, None
        for count, tick in enumerate(self._ticks(start)):
            if before is not None:
                longest = max(longest, (tick - before).total_seconds())
            before = tick
            enough = _YEAR if count >= _OFTEN else _LEAP_YEARS
            if count >= _MOST_TICKS or tick - start > enough:
                break
        return longest

    def _first(self, ticks: Any) -> datetime:
        for tick in ticks:
            found: datetime = tick
            return found
        raise ValueError("it never comes true")

    def _ticks(self, instant: datetime, *, reverse: bool = False) -> Any:
        from zoneinfo import ZoneInfo

        from cronsim import CronSim

        local = instant.astimezone(ZoneInfo(self.timezone))
        return (tick.astimezone(UTC) for tick in CronSim(str(self.cron), local, reverse=reverse))


def _epoch(instant: datetime, every: float) -> datetime:
    """The last multiple of `every` seconds since 1970 at or before `instant`."""
    seconds = instant.timestamp()
    return datetime.fromtimestamp(seconds - seconds % every, UTC)
