"""Whether another run of the same kind ended after a plan was made: while its lock was waited for,
say. What such a plan says of the newest snapshot, or of what is left to do, is not so any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.errors import PersonNeeded
from runner.execute import journal


class Overtaken(PersonNeeded):
    """Another run did meanwhile what a plan was made for. It is to be made anew."""


@dataclass(frozen=True)
class Ended:
    """The runs of one kind that had ended when a plan was about to be made."""

    state: Path
    kind: str
    runs: frozenset[str]

    def require_no_other(self) -> None:
        """Raise Overtaken if another one has ended since. To be asked under the lock that runs of
        this kind hold, so that none goes on.
        """
        more = ended(self.state, self.kind).runs - self.runs
        if more:
            raise Overtaken(
                f"The plan is stale: {', '.join(sorted(more))} came first.", remedy="Plan again."
            )


def ended(state: Path, kind: str) -> Ended:
    """The runs of that kind that have ended by now, or were killed."""
    runs = [run for run in journal.list_runs(state) if journal.kind_of(run) == kind]
    going = {run for run in journal.open_runs(state) if _may_go_on(state, run)}
    return Ended(
        state,
        kind,
        frozenset(run for run in runs if run not in going and journal.has_begun(state, run)),
    )


def _may_go_on(state: Path, run: str) -> bool:
    """Whether a run is not over; one that has not even said who it is may just begin."""
    known = journal.read_run(state, run)
    return known.owner is None or not known.over
