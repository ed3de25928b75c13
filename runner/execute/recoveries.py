"""Runs that replace live sources: which of them ended early, and what goes on with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.execute import journal
from runner.execute.kept import read_note
from runner.execute.order import SATISFIED

# Kinds of runs that replace live sources.
RECOVERIES = ("restore", "dr-restore", "rollback")

# Among so many of the newest runs a recovery that was left half done is looked for.
SEARCHED_RUNS = 500


@dataclass(frozen=True)
class HalfDone:
    """A recovery that ended early, and that no later run made good or took back."""

    run: str
    kind: str
    again: str  # flags that the line needs which goes on with it
    status: str  # failed | interrupted
    placed: tuple[str, ...]  # sources that stand as it left them
    lacks: tuple[str, ...]  # steps that it did not do
    stopped: tuple[str, ...]  # services that it stopped and nobody started


def resume_line(kind: str, run: str, again: str = "") -> str | None:
    """The line that goes on with a run; None where none does: a restore is begun anew."""
    if kind == "restore":
        return None
    line = f"holdfast {'dr-restore' if kind == 'rollback' else kind} --resume {run}"
    return f"{line} {again}" if again else line


def killed_recoveries(state: Path) -> list[str]:
    """The recoveries that were killed and that no command took back yet, oldest first."""
    return [
        run
        for run in journal.open_runs(state)
        if journal.kind_of(run) in RECOVERIES and journal.read_run(state, run).killed
    ]


def unfinished(state: Path) -> set[str]:
    """The runs whose safety copies may still be wanted: they go on, were killed, or are half done.

    A restore of one source that ended early is none: nothing goes on with it.
    """
    going = {one for one in journal.open_runs(state) if not journal.read_run(state, one).ended_at}
    return going | {one.run for one in half_done(state)}


def half_done(state: Path) -> list[HalfDone]:
    """The recoveries that ended early and can go on, where nothing was made good or taken back
    since; newest first. Whoever restores one source is there when that ends.
    """
    found = []
    later_placed, later_started = set[str](), set[str]()
    names = [run for run in journal.list_runs(state) if journal.kind_of(run) in RECOVERIES]
    for run in list(reversed(names))[:SEARCHED_RUNS]:
        try:
            known, plan = journal.read_run(state, run), journal.read_plan(state, run)
        except UsageError:
            continue
        done = {step for step, one in known.results.items() if one.status in SATISFIED}
        placed = [
            name
            for name in _of(done, "confirm")
            if not plan.step(f"{name}.confirm").params["destination"]
        ]
        started = _of(done, "start")
        lacks = tuple(one.id for one in plan.steps if one.when == "success" and one.id not in done)
        # What was put back, or let go since a later run made it good, has no note.
        here = tuple(
            name
            for name in placed
            if lacks and name not in later_placed and read_note(state, run, name) is not None
        )
        down = tuple(name for name in _of(done, "stop") if name not in {*started, *later_started})
        over = known.ended_at is not None and known.status != "done"
        if over and (here or down) and resume_line(plan.kind, run):
            found.append(HalfDone(run, plan.kind, known.again, known.status, here, lacks, down))
        later_placed.update(placed)
        later_started.update(started)
    return found


def _of(steps: Iterable[str], verb: str) -> list[str]:
    """The names of whose steps of this verb are among these."""
    return sorted(step.removesuffix(f".{verb}") for step in steps if step.endswith(f".{verb}"))
