"""Runs the program under a clock that is wrong by some seconds."""

from __future__ import annotations

import datetime as dt
import sys
import time

seconds = float(sys.argv[1])
real_time = time.time


class Shifted(dt.datetime):
    """The standard class with a wrong clock."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Shifted:
        """What the wrong clock says."""
        found: Shifted = cls.fromtimestamp(real_time() + seconds, tz)
        return found


# Before anything of the program is imported, so that all of it has this clock.
time.time = lambda: real_time() + seconds
dt.datetime = Shifted  # type: ignore[misc]
sys.argv = ["holdfast", *sys.argv[2:]]

from runner.__main__ import main  # noqa: E402 the clock comes first

main()
