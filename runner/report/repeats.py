"""What people were told of failures already. A `backup --due` tries again every few minutes, and
who hears of the same failure each time soon listens to none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from runner.durable import write_bytes
from runner.report.outcome import Outcome

FILE = "told.json"

# Times, sizes and the names of runs differ each time.
_VARYING = re.compile(r"\w*\d\w*")


class Told(NamedTuple):
    """When somebody was told of a failure."""

    first: datetime
    last: datetime


def failures_of(outcome: Outcome) -> list[str]:
    """What failed, each in words that are the same when it fails again."""
    error: Mapping[str, Any] = outcome.error or {"message": ""}
    found = outcome.data.get("failures") or [error]
    return sorted({_VARYING.sub("#", f"{one.get('step', '')} {one['message']}") for one in found})


class Repeats:
    """Who was told of what. It is kept in the state folder, as well as can be: where it is lost,
    somebody is told once more.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._told = _read(self._path)

    def is_news(self, who: str, failures: Sequence[str], again: timedelta, now: datetime) -> bool:
        """Whether any of them was not told within `again`."""
        known = self._told.get(who, {})
        recent = {key for key, one in known.items() if timedelta() <= now - one.last < again}
        return not recent.issuperset(map(key_of, failures))

    def since(self, who: str, failures: Sequence[str]) -> datetime | None:
        """When one of them was told first; None if none was."""
        known = self._told.get(who, {})
        return min(
            (known[key].first for key in map(key_of, failures) if key in known), default=None
        )

    def note(self, who: str, failures: Sequence[str], again: timedelta, now: datetime) -> None:
        """They were told now. Others that were not told again for so long are over."""
        known = {
            key: one for key, one in self._told.get(who, {}).items() if now - one.last < 2 * again
        }
        for key in map(key_of, failures):
            known[key] = Told(known[key].first if key in known else now, now)
        self._told[who] = known
        self._save()

    def forget(self, those: Iterable[str]) -> None:
        """All is well again with what these are told of."""
        there = [who for who in those if self._told.pop(who, None)]
        if there:
            self._save()

    def _save(self) -> None:
        found = {
            who: {key: [stamp.isoformat() for stamp in one] for key, one in told.items()}
            for who, told in self._told.items()
        }
        with contextlib.suppress(OSError):
            if found:
                write_bytes(self._path, json.dumps(found).encode())
            else:
                self._path.unlink(missing_ok=True)


def key_of(words: str) -> str:
    """Words as they are written down: some are of what nobody else is to read."""
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _read(path: Path) -> dict[str, dict[str, Told]]:
    try:
        found = json.loads(path.read_bytes())
        return {
            who: {key: Told(*map(datetime.fromisoformat, one)) for key, one in told.items()}
            for who, told in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
