"""Commands for the first day."""

from __future__ import annotations

from pathlib import Path

from runner.commands.flags import given
from runner.face import command
from runner.report.outcome import Outcome
from runner.typed import Flags


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

    # What the spec says of paths is relative to its own folder.
    folder = flags.call.file.parent.resolve()
    return initialise(folder, flags.call.file, force=force, tasks=tasks)


@command(texts={"out": "File to write; one that exists is never replaced."}, spec=False)
def keygen(flags: Flags, *, out: str = "") -> Outcome:  # noqa: ARG001
    """Make a new age identity, and say how to keep it."""
    from runner.report.keys import make_key

    return make_key(Path(given(out, "out")).expanduser().absolute())
