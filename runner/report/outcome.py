"""What a command found out: the JSON of the contract, and its exit code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Outcome:
    """The end of a journey."""

    command: str  # names the text that is printed of it
    data: Mapping[str, Any] = field(default_factory=dict)  # as SPEC's JSON, without `ok`
    exit_code: int = 0
    error: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()  # for people: what else to know, what to type next

    def as_json(self) -> dict[str, Any]:
        """The one object that `--json` prints."""
        document = {"ok": self.exit_code == 0, **self.data}
        if self.exit_code != 0 and self.error is not None:
            document["error"] = dict(self.error)
        return document


def stamp(instant: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def visible(text: str) -> str:
    """Text from outside as a terminal may have it: what would steer it is shown instead."""
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
