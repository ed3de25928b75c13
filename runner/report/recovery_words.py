"""What became of a recovery or a drill, in words, and what it kept of what it replaced."""

from __future__ import annotations

from runner.report.lines import Lines, met, seconds, table
from runner.report.outcome import Outcome
from runner.spec.units import format_duration, format_size


def recovery_lines(outcome: Outcome) -> Lines:
    """`restore`, `dr-restore`, a rollback."""
    data = outcome.data
    words = {True: "equal to the snapshot", False: "DIFFERENT", None: "NOT PROVEN"}
    steps = {one["id"]: one["status"] for one in data["steps"]}
    for one in data["proof"]:
        placed = steps.get(f"{one['source']}.swap", "done") == "done"
        where = "" if placed or not one["equal"] else ", but not put in its place"
        yield f"{one['source']}: {words[one['equal']]}{where}"
        yield from (f"  {line}" for line in one["differences"][:10])
    yield from (f"Note: {note}" for note in outcome.notes)
    if data["safety"]:
        yield "Safety copies of what was replaced:"
        yield from (f"  {one}" for one in data["safety"])
    ended = "waits for a person" if outcome.exit_code == 7 else data["status"]
    yield f"{outcome.command} {ended} after {format_duration(data['seconds'])}."


def drill_lines(outcome: Outcome) -> Lines:
    """`drill`."""
    yield from recovery_lines(outcome)
    data = outcome.data
    rows = []
    for name, one in data["rto"].items():
        rows.append(("RTO", name, seconds(one["objective"]), seconds(one["measured"]),
                     met(one["met"])))  # fmt: skip
    for name, one in data["rpo"].items():
        rows.append(("RPO", name, seconds(one["objective"]), seconds(one["measured"]),
                     met(one["met"])))  # fmt: skip
    yield from table(("", "OF", "OBJECTIVE", "MEASURED", ""), rows)
    for one in data["checks"]:
        of = f"{one['source']} " if one["source"] else ""
        yield f"{one['verdict']:5} {of}{one['name']}"
    yield f"Isolation: {data['isolation']}. Clean-up: {data['cleanup']}. Report: {data['report']}"


def safety_lines(outcome: Outcome) -> Lines:
    """`list --safety`."""
    rows = [
        (one["run"], one["source"], one["at"], format_size(copy["bytes"]), copy["where"],
         "its run has not ended well" if one["unfinished"] else one["error"] or "")
        for one in outcome.data["safety"]
        for copy in one["copies"] or [{"bytes": 0, "where": "?"}]
    ]  # fmt: skip
    if rows:
        yield from table(("RUN", "SOURCE", "REPLACED", "SIZE", "SAFETY COPY", ""), rows)
        yield "To put back what a run replaced: holdfast dr-restore --rollback RUN"
    else:
        yield "There are no safety copies."


def removed_lines(outcome: Outcome) -> Lines:
    """`prune --safety`."""
    for one in outcome.data["removed"]:
        yield f"removed  {one['where']} ({one['source']}, {one['run']})"
    for one in outcome.data["kept"]:
        yield f"kept     {one['where']} ({one['source']}, {one['run']}): {one['reason']}"
