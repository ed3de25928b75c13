"""What was read at a target before, so that only what is new is read again.

The target's listing is the truth: a remembered value counts only for a key that is listed now
with the tag it had then. A cache that is missing, torn or odd is as good as an empty one.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner import durable
from runner.target import Entry

FORMAT = 1


class Cache:
    """Small JSON values by key and tag; those that are not asked for are forgotten."""

    def __init__(self, file: Path | None, place: str) -> None:
        """Read `file`, if it was written for the same `place`; None remembers nothing."""
        self._file = file
        self._place = place
        self._known = {} if file is None else _read(file, place)
        self._used: dict[str, list[Any]] = {}
        self._changed = False

    def recall(self, entry: Entry) -> Any:
        """The value remembered for that key and tag, else None."""
        known = self._known.get(entry.key)
        if known is None or known[0] != entry.tag:
            return None
        self._used[entry.key] = known
        return known[1]

    def remember(self, entry: Entry, value: Any) -> None:
        """Keep a JSON value for that key and tag."""
        self._used[entry.key] = [entry.tag, value]
        self._changed = True

    def save(self) -> None:
        """Write what was recalled or remembered, if that differs from what the file holds."""
        if self._file is None or not (self._changed or len(self._used) != len(self._known)):
            return
        document = {"format": FORMAT, "place": self._place, "known": self._used}
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


def _read(file: Path, place: str) -> dict[str, list[Any]]:
    try:
        document = json.loads(file.read_bytes())
        if document["format"] != FORMAT or document["place"] != place:
            return {}
        known: dict[str, list[Any]] = document["known"]
        whole = all(isinstance(one, list) and len(one) == 2 for one in known.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return known if whole else {}
