"""The stories of what recoveries kept: shown, put back, let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from runner.errors import HoldfastError, StepFailed, UsageError
from runner.execute import journal
from runner.execute.call import Call
from runner.execute.kept import Note, read_notes
from runner.execute.recoveries import killed_recoveries, unfinished
from runner.execute.session import Session
from runner.plan.facts import identities
from runner.plan.rollback import Replaced, compile_rollback
from runner.plan.safety import compile_safety
from runner.prepare import Prepared, danger_of, details
from runner.registry import open_source
from runner.report import recovered, results
from runner.report.outcome import Outcome, stamp


def rollback(call: Call, run: str) -> Prepared:
    """Take back what a restore or a recovery replaced, as long as its safety copies exist."""
    session = Session.open(call)
    state = journal.read_run(session.spec.state, run)
    if not state.over:
        raise UsageError(f"The run {run} is still going on.")
    notes = read_notes(session.spec.state)
    mine = [one for one in notes if one.run == run]
    killed = killed_recoveries(session.spec.state)
    if not mine and run not in killed:
        known = ", ".join(sorted({one.run for one in notes})) or "none"
        raise UsageError(
            f"Nothing is known of what {run} replaced, so it cannot be taken back.",
            remedy=f"Runs that can be: {known}.",
        )
    # What lies half done, of a rollback too, may have moved the copies: it is taken back first.
    found = [_replaced(session, one, steady=not killed) for one in mine]
    plan = compile_rollback(session.spec, run, found)
    danger = danger_of(session, plan)
    after = partial(_roll_back_killed, session, run) if killed else None
    return Prepared(session, plan, recovered.recovery_outcome, danger, carry_out=after)


def _roll_back_killed(session: Session, run: str) -> Outcome:
    """What the kill left half done is taken back first, as every command does: that may be all."""
    session.settle()
    mine = [one for one in read_notes(session.spec.state) if one.run == run]
    plan = compile_rollback(session.spec, run, [_replaced(session, one) for one in mine])
    finished = session.execute(plan, details=lambda end: details(plan, end))
    return recovered.recovery_outcome(plan, finished)


def list_safety(call: Call) -> Outcome:
    """`list --safety`: what recoveries kept of what they replaced."""
    session = Session.open(call)
    rows = [one for one in _rows(session) if one["copies"] or one["error"]]
    return Outcome("safety", {"safety": rows})


def prune_safety(call: Call, *, older: float = 0.0) -> Prepared:
    """Remove the safety copies of runs that are done and at least `older` seconds old."""
    session = Session.open(call)
    rows, left = [], []
    for row, note in zip(_rows(session), read_notes(session.spec.state), strict=True):
        age = (session.facts.now - note.instant).total_seconds()
        if note.going:
            rows.append(row)
        elif row["error"]:
            left.append({**row, "reason": row["error"]})
        elif row["unfinished"]:
            left.append({**row, "reason": "its run has not ended well: resume it, or take it back"})
        elif age < older:
            left.append({**row, "reason": "it is younger"})
        else:
            rows.append(row)
    plan = compile_safety(session.spec, rows, left)
    return Prepared(session, plan, results.safety_outcome, danger_of(session, plan))


def _replaced(session: Session, note: Note, *, steady: bool = True) -> Replaced:
    """What one note tells of; while not all is `steady`, copies that are gone may come again."""
    source = open_source(session.spec.source(note.source))
    copies = source.copies(note.kept)
    if note.going or (steady and len(copies) < max(note.count, note.stood)):
        what = "was about to be removed" if note.going else "is gone"
        raise StepFailed(
            f"The safety copy of {note.source} that {note.run} made {what}: what was there cannot "
            "be put back.",
            remedy="Restore a snapshot: `list` shows what there is.",
        )
    destination = note.place["destination"]
    return Replaced(
        source=note.source,
        at=note.at,
        place=note.place,
        where=destination or source.describe(),
        copies=tuple(one.where for one in copies),
        identity=identities(session.spec, [note.source], destination)[note.source],
    )


def _rows(session: Session) -> list[dict[str, Any]]:
    state = session.spec.state
    waiting = unfinished(state)
    return [{**_row(session, one), "unfinished": one.run in waiting} for one in read_notes(state)]


def _row(session: Session, note: Note) -> dict[str, Any]:
    copies: Sequence[dict[str, Any]] = []
    error = "its removal was cut off: only a part may be left" if note.going else None
    try:
        source = open_source(session.spec.source(note.source))
        copies = [asdict(one) for one in source.copies(note.kept)]
    except (HoldfastError, OSError) as problem:
        error = problem.message if isinstance(problem, HoldfastError) else str(problem)
    return {
        "run": note.run,
        "source": note.source,
        "at": stamp(note.instant),
        "copies": copies,
        "bytes": sum(one["bytes"] for one in copies),
        "error": error,
    }
