"""Materialized views, computed anew when all else of a dump is restored.

What they are computed of may be at another server, or may not fit any more: one that cannot be
computed stays empty, and keeps nothing else from coming back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_load import write_list
from runner.source.postgres_toc import COMPUTED

_COMMAND = "Command was: REFRESH MATERIALIZED VIEW"
# Of the server that is restored to, and not of what a view says.
_OF_THE_SERVER = ("No space left on device", "out of memory", "server closed the connection")
_SAID = re.compile(r"ERROR:\s*(.*?)\s*(?:CONTEXT: .*)?Command was: ", re.DOTALL)


def compute(load: Callable[..., object], folder: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """Restore the entries of materialized views; return which cannot be, and why.

    `load` is `postgres_load.load` with all that its arguments `listed` and `one_by_one` do not say.
    """
    if not lines:
        return ()
    if not _failure(load, folder, lines, one_by_one=False):
        return ()
    failures = {one: _failure(load, folder, [one], one_by_one=True) for one in lines}
    return tuple(f"{_name(line)} ({words})" for line, words in failures.items() if words)


def _failure(
    load: Callable[..., object], folder: Path, lines: Sequence[str], *, one_by_one: bool
) -> str:
    try:
        load(listed=write_list(folder, lines), one_by_one=one_by_one)
    except ServerSaid as error:
        if _COMMAND not in error.message or any(one in error.message for one in _OF_THE_SERVER):
            raise
        found = _SAID.search(error.message)
        return found[1].rstrip(".") if found else "it cannot be computed"
    return ""


def _name(line: str) -> str:
    """`schema.view` of a line of a dump's list; its owner is the last word there."""
    return line.partition(f"{COMPUTED} ")[2].rpartition(" ")[0].replace(" ", ".", 1)
