"""What a backup tells of snapshots that were taken away: it is the last that knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.errors import StepFailed
from runner.report.outcome import Outcome
from runner.store.chain import Gap


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
