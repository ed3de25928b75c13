"""Commands for the first day."""

from __future__ import annotations

from pathlib import Path

from runner.face import Flags, command
from runner.report.outcome import Outcome


@command(
    texts={
        "force": "Replace a spec that exists.",
        "tasks": "Write a tasks.py too, so that `invoke backup` works here.",
    },
    spec=False,
)
def init(flags: Flags, *, force: bool = False, tasks: bool = False) -> Outcome:
    """Look around, make a key, and write a first backup.yaml."""
    from runner.report.init import initialise

    return initialise(Path.cwd(), flags.call.file, force=force, tasks=tasks)
