"""Whether a target's clock is this machine's, where something depends on it."""

from __future__ import annotations

from datetime import UTC, datetime

from runner.execute.context import Context
from runner.spec.units import format_duration
from runner.target import Target
from runner.target.protection import protecting

MOST_SKEW_SECONDS = 60.0


def tell_of_clock(target: Target, context: Context) -> None:
    """Say so when the locks at a target will end at another time than this machine's clock says."""
    if protecting(target) is None:
        return
    ahead = (target.now() - datetime.now(UTC)).total_seconds()
    if abs(ahead) > MOST_SKEW_SECONDS:
        differs = f"{format_duration(round(abs(ahead)))} {'ahead' if ahead > 0 else 'behind'}"
        message = (
            f"The clock of {target.name} is {differs} of this machine's, and its own ends the "
            "locks there. Look at both clocks."
        )
        context.tell({"event": "note", "message": message})
