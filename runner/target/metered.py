"""A target that tells how long its readers waited for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from runner.target import Target


class Metered:
    """Passes everything on; adds up the seconds until each chunk of `get` was there."""

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self.seconds = 0.0
        self._target = target

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """As the target's own."""
        began = time.monotonic()
        for chunk in self._target.get(key, offset=offset, length=length):
            self.seconds += time.monotonic() - began
            yield chunk
            began = time.monotonic()
        self.seconds += time.monotonic() - began

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)
