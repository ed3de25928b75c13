"""Runs that replace live sources: which of them were killed, and what goes on with them."""

from __future__ import annotations

from pathlib import Path

from runner.execute import journal

# Kinds of runs that replace live sources.
RECOVERIES = ("restore", "dr-restore", "rollback")


def resume_line(kind: str, run: str) -> str | None:
    """The line that goes on with a run; None where none does: a restore is begun anew."""
    if kind == "restore":
        return None
    return f"holdfast {'dr-restore' if kind == 'rollback' else kind} --resume {run}"


def killed_recoveries(state: Path) -> list[str]:
    """The recoveries that were killed and that no command took back yet, oldest first."""
    return [
        run
        for run in journal.open_runs(state)
        if journal.kind_of(run) in RECOVERIES and journal.read_run(state, run).killed
    ]
