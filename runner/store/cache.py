"""What was read at a target before, so that only what is new is read again.

The target's listing is the truth: a remembered value counts only for a key that is listed now
with the tag it had then, or where who asks is content with what was there at the last whole look.
A cache that is missing, torn or odd is as good as an empty one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner import durable
from runner.target import Entry

FORMAT = 2

# When the last whole look was is written again only if it was this long ago.
WRITTEN_EVERY = timedelta(hours=1)


class Cache:
    """Small JSON values by key and tag; those that are not asked for are forgotten."""

    def __init__(self, file: Path | None, place: str) -> None:
        """Read `file`, if it was written for the same `place`; None remembers nothing."""
        self._file = file
        self._place = place
        self._looked, self._known = (None, {}) if file is None else _read(file, place)
        self._used: dict[str, list[Any]] = {}
        self._changed = False

    def recall(self, entry: Entry) -> Any:
        """The value remembered for that key and tag, else None."""
        known = self._known.get(entry.key)
        if known is None or known[0] != entry.tag:
            return None
        self._used[entry.key] = known
        return known[1]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every key with the value that was remembered."""
        return ((key, value) for key, (_, value) in self._known.items())

    def trust(self, key: str) -> Any:
        """The value remembered for a key, whatever its tag is now. Raises KeyError."""
        known = self._used[key] = self._known[key]
        return known[1]

    def remember(self, entry: Entry, value: Any) -> None:
        """Keep a JSON value for that key and tag."""
        self._used[entry.key] = [entry.tag, value]
        self._changed = True

    def looked_within(self, age: timedelta, now: datetime) -> bool:
        """Whether the last whole look is no older than that."""
        return self._looked is not None and timedelta(0) <= now - self._looked <= age

    def looked(self, now: datetime) -> None:
        """Remember that every tag was looked at."""
        if not self.looked_within(WRITTEN_EVERY, now):
            self._looked, self._changed = now, True

    def save(self) -> None:
        """Write what was recalled or remembered, if that differs from what the file holds."""
        if self._file is None or not (self._changed or len(self._used) != len(self._known)):
            return
        looked = None if self._looked is None else self._looked.isoformat()
        document = {
            "format": FORMAT,
            "place": self._place,
            "looked": looked,
            "known": self._used,
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        # A cache that cannot be written only makes the next reading slower.
        with contextlib.suppress(OSError):
            durable.make_folder(self._file.parent)
            durable.write_bytes(self._file, data)


def cache_file(folder: Path | None, project: str, profile: str, target: str) -> Path | None:
    """Where a target's cache lies in `folder`; a target may be named by its URL."""
    if folder is None:
        return None
    return folder / f"{project}.{profile}.{quote(target, safe='')[:150]}.json"


def _read(file: Path, place: str) -> tuple[datetime | None, dict[str, list[Any]]]:
    try:
        document = json.loads(file.read_bytes())
        if document["format"] != FORMAT or document["place"] != place:
            return None, {}
        looked = document["looked"]
        at = None if looked is None else datetime.fromisoformat(looked)
        known: dict[str, list[Any]] = document["known"]
        whole = all(isinstance(one, list) and len(one) == 2 for one in known.values())
        whole = whole and (at is None or at.tzinfo is not None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, {}
    return (at, known) if whole else (None, {})
