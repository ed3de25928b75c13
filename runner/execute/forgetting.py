"""Which runs are no longer remembered."""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from runner.errors import UsageError
from runner.execute.journal import (
    kind_of,
    list_runs,
    open_mark,
    open_runs,
    read_plan,
    run_folder,
)
from runner.execute.run_order import forget_runs

# So many runs of each kind are remembered: three years of nightly backups. Of each kind, since
# those who back up every minute want to find last month's recovery too.
MOST_RUNS = 1500


def drop_old_runs(state: Path, most: int = MOST_RUNS) -> None:
    """Forget the oldest ended runs of each kind beyond so many."""
    known = list_runs(state)
    if len(known) <= most:
        return
    kinds = defaultdict[str, list[str]](list)
    for run in known:
        kinds[kind_of(run)].append(run)
    _drop(state, [run for runs in kinds.values() for run in runs[:-most]])


def drop_idle_run(state: Path, run: str) -> None:
    """Of a run that had nothing to do: forget the one of its kind before it, if that had nothing to
    do either. `backup --due` is called every few minutes: the last time that nothing was due is
    worth a line, and no other.
    """
    known = [one for one in list_runs(state) if kind_of(one) == kind_of(run)]
    before = known[: known.index(run)][-1:]
    with contextlib.suppress(UsageError):
        _drop(state, [one for one in before if not read_plan(state, one).steps])


def _drop(state: Path, runs: Collection[str]) -> None:
    still_open = set(open_runs(state))
    gone = [run for run in runs if run not in still_open]
    for run in gone:
        shutil.rmtree(run_folder(state, run), ignore_errors=True)
        # One that was killed before its first word has one.
        open_mark(state, run).unlink(missing_ok=True)
    if gone:
        forget_runs(state, gone)
