"""What a backup tells of snapshots that it did not make: of those that were taken away, since it is
the last that knows of them, and of those that still wait for a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.errors import StepFailed
from runner.plan.outstanding import Waiting
from runner.report.outcome import Outcome
from runner.store.chain import Gap


def with_waiting(outcome: Outcome, copies: Sequence[Waiting]) -> Outcome:
    """The outcome of a backup while these copies wait: not green, also where nothing was due."""
    reached = {name for one in outcome.data["snapshots"] for name in one["targets"]}
    left = [one for one in copies if one.target not in reached]
    if not left:
        return outcome
    lacking = [{"id": one.snapshot, "target": one.target, "reason": one.reason} for one in left]
    data = {**outcome.data, "lacking": [*outcome.data["lacking"], *lacking]}
    if outcome.exit_code:
        return replace(outcome, data=data)
    data["status"] = "partial"
    error = StepFailed(
        f"{left[0].target} cannot be read, and {left[0].snapshot} is still to be copied there: "
        f"{left[0].reason}"
    )
    return replace(outcome, data=data, exit_code=error.exit_code, error=error.as_json())


def with_missed(outcome: Outcome, gaps: Sequence[Gap]) -> Outcome:
    """The outcome of a backup before which these were found. Once it has published a snapshot that
    one is remembered as the newest, so this is the time to say so; what it brought back is noted.
    """
    if not gaps or not outcome.data["snapshots"]:
        return outcome
    words = [f"{one.snapshot} at {one.target}: {one.reason}." for one in gaps]
    told = replace(outcome, notes=(*outcome.notes, *words))
    back = {(one["id"], one["target"]) for one in outcome.data["completed"]}
    lost = [
        line
        for one, line in zip(gaps, words, strict=True)
        if (one.snapshot, one.target) not in back
    ]
    if not lost or outcome.exit_code:
        return told
    error = StepFailed(lost[0], remedy="Who may remove snapshots there? Nobody tells of it again.")
    return replace(told, exit_code=error.exit_code, error=error.as_json())
