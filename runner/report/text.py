"""What a person reads of an outcome: what is not well first, and the exact line to type next."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain, repeat

from runner.report.lines import Lines, seconds, table
from runner.report.outcome import Outcome, visible
from runner.report.recovery_words import drill_lines, recovery_lines, removed_lines, safety_lines
from runner.report.rekey_words import rekey_lines
from runner.report.status_words import ready_lines, status_lines
from runner.report.target_words import counted, some
from runner.secret import SCRUBBER
from runner.spec.units import format_duration, format_size

MOST_SOURCES = 6  # of a snapshot, in a line of a list; `show` names all
MOST_FAILURES = 9  # beside the first; a machine that is down fails hundreds of sources alike
MOST_TYPED = 8  # lines of a step's commands, on a terminal


def printed(outcome: Outcome) -> tuple[list[str], list[str]]:
    """What a person reads of an outcome: the lines of stdout, and those of stderr."""
    found = list(TEXTS.get(outcome.command, _nothing)(outcome))
    mended = []
    if outcome.error is not None and outcome.command not in SAYS_ITS_ERROR:
        kind = "Not done" if outcome.exit_code == 7 else "Error"
        mended.append(f"{kind}: {outcome.error['message']}")
        mended += _others(outcome, found)
    if outcome.data.get("next") and outcome.command != "plan":  # which tells it itself
        mended.append(f"Next: {outcome.data['next']}")
    first, second = ([visible(SCRUBBER.clean(line)) for line in some] for some in (found, mended))
    return first, second


def _others(outcome: Outcome, found: list[str]) -> Lines:
    """What failed besides what the command ends with, and is not told yet."""
    known = [*found, outcome.error["message"] if outcome.error else ""]
    messages = dict.fromkeys(one["message"] for one in outcome.data.get("failures", ()))
    more = [one for one in messages if not any(one in line for line in known)]
    yield from (f"Error: {one}" for one in more[:MOST_FAILURES])
    if len(more) > MOST_FAILURES:
        yield f"And {len(more) - MOST_FAILURES} more errors: `show` has them."


def _nothing(_outcome: Outcome) -> Lines:
    return ()


def _validate(outcome: Outcome) -> Lines:
    for word in ("errors", "warnings"):
        for one in outcome.data[word]:
            place = f"{one['file']}:{one['line']}:{one['column']}" if "line" in one else ""
            path = f" {one['path']}:" if one.get("path") else ""
            yield f"{place}: {word.removesuffix('s')}:{path} {one['message']}"
    errors, warnings = len(outcome.data["errors"]), len(outcome.data["warnings"])
    yield f"{counted(errors, 'error')}, {counted(warnings, 'warning')}."
    yield "No backup was looked at: see verify."


def _plan(outcome: Outcome) -> Lines:
    data = outcome.data
    profile = f" ({data['profile']})" if data["profile"] != "default" else ""
    verb = {"rollback": "take back a recovery of", "safety": "remove safety copies of"}
    kind = verb.get(data["kind"], data["kind"])
    steps = counted(len(data["steps"]), "step")
    amount = f", in {steps}:" if data["steps"] else ": there is nothing to do."
    yield f"This would {kind} {data['project']}{profile}{amount}"
    point = data["point_of_no_return"] or {"step": None}
    for number, step in enumerate(data["steps"], 1):
        if step["id"] == point["step"]:
            yield ""
            yield "     ---- point of no return: from here on live content is replaced ----"
        when = "" if step["when"] == "success" else f"  [{step['when']}]"
        yield ""
        yield f"{number:3}. {step['id']}: {step['title']}{when}"
        if step["reason"]:
            yield f"     because {step['reason']}"
        yield from _typed(step["commands"])
    yield ""
    yield from outcome.notes
    yield f"Plan {data['plan'][:16]}. Nothing was done."
    if data["next"]:
        yield f"Saved. Next: {data['next']}"


def _typed(commands: list[str]) -> Lines:
    """What one would type. A person at a terminal would lose the plan among the lines of it all."""
    lines = [
        mark + line
        for one in commands
        for mark, line in zip(chain(["$ "], repeat("  ")), one.split("\n"), strict=False)
    ]
    hidden = len(lines) - MOST_TYPED if sys.stdout.isatty() else 0
    if hidden > 1:
        del lines[MOST_TYPED:]
        lines.append(f"… and {hidden} more lines: piped to `less`, all are shown")
    yield from (f"     {line}" for line in lines)


def _backup(outcome: Outcome) -> Lines:
    data = outcome.data
    for one in data["snapshots"]:
        size = sum(artifact["bytes"] for artifact in one["artifacts"])
        where = ", ".join(one["targets"])
        yield f"Snapshot {one['id']}: {format_size(size)} at {where}."
        for lack in one["lacking"]:
            yield f"  NOT at {lack['target']}: {lack['reason']}"
        if one["missing"]:
            yield f"  MISSING in it: {', '.join(one['missing'])}."
        for source, snapshot in one["unchanged"].items():
            yield f"  {source} is unchanged since {snapshot}."
    for one in data["completed"]:
        yield f"Snapshot {one['id']}: now at {one['target']} too, copied from {one['from']}."
    for one in data["lacking"]:
        yield f"Snapshot {one['id']}: NOT at {one['target']}: {one['reason']}"
    if data["pruned"]:
        yield f"Pruned: {counted(len(data['pruned']), 'snapshot')}."
    yield from (f"Note: {note}" for note in outcome.notes)
    if not data["snapshots"] and not data["completed"] and outcome.exit_code == 0:
        yield "Nothing was due."
    yield f"Backup {data['status']} in {format_duration(data['seconds'])}."


def _list(outcome: Outcome) -> Lines:
    rows = [
        (
            "/".join(one[key] for key in ("project", "profile", "id") if key in one),
            one["taken_at"],
            _sources(one["sources"]) + (f" (no {_sources(one['missing'])})" * bool(one["missing"])),
            format_size(one["bytes"]),
            ",".join(one["targets"]),
            one["proved"]["level"] if one["proved"] else "-",
            "pinned" if one["pinned"] else "",
        )
        for one in outcome.data["snapshots"]
    ]
    if rows:
        yield from table(("SNAPSHOT", "TAKEN", "SOURCES", "SIZE", "TARGETS", "PROVED", ""), rows)
    elif not outcome.notes:
        yield "There are no snapshots yet. Next: holdfast backup"
    yield from (f"Trouble: {note}" for note in outcome.notes)


def _sources(names: list[str]) -> str:
    return some(names, MOST_SOURCES, ",")


def _verify(outcome: Outcome) -> Lines:
    rows = [
        (one["verdict"], one["snapshot"], one["target"], one["source"] or "(snapshot)",
         one["level"], one["reason"])
        for one in outcome.data["results"]
    ]  # fmt: skip
    rows += [
        ("COULD-NOT-VERIFY", "(all)", one["target"], "", "", one["reason"])
        for one in outcome.data["unread"]
    ]
    yield from table(("VERDICT", "SNAPSHOT", "TARGET", "SOURCE", "LEVEL", "WHY"), rows)
    for one in outcome.data["rollback"]:
        said = f"{one['verdict']}, {one['reason']}"
        yield f"Nothing newer was taken away from {one['target']}: {said}."


def _run(outcome: Outcome) -> Lines:
    data = outcome.data
    yield f"Run {data['run']} ({data['kind']}): {data['status']}"
    for step in data["steps"]:
        words = (step["error"] or {}).get("message") or step["reason"] or ""
        took = "" if not step["seconds"] else f" {step['seconds']:.1f} s"
        yield f"  {step['status']:11} {step['id']}{took}{'  ' + words if words else ''}"


def _show(outcome: Outcome) -> Lines:
    data = outcome.data
    place = f"{data['project']} ({data['profile']})"
    yield f"Snapshot {data['id']} of {place}, sequence {data['sequence']}"
    yield f"Taken {data['created_at']} on {data['host']} by Holdfast {data['holdfast']}"
    yield f"At {', '.join(data['targets'])}{'; pinned' if data['pinned'] else ''}"
    rows = [
        (one["source"], one["key"], format_size(one["bytes"]), one["taken_at"], one["sha256"][:16])
        for one in data["artifacts"]
    ]
    yield from table(("SOURCE", "FILE", "SIZE", "TAKEN", "SHA-256"), rows)
    for name, entry in data["sources"].items():
        yield from (f"Note on {name}: {note}" for note in entry["notes"])
    if data["missing"]:
        yield f"MISSING: {', '.join(data['missing'])}"
    for one in data["proofs"]:
        yield f"{one['verdict']} {one['level']} at {one['target']}, {one['at']}: {one['source']}"


def _ls(outcome: Outcome) -> Lines:
    rows = [
        (
            one["kind"],
            format_size(one["bytes"]) if one["bytes"] else "",
            one["modified"] or "",
            one["name"],
        )
        for one in outcome.data["contents"]
    ]
    yield from table(("KIND", "SIZE", "MODIFIED", "NAME"), rows)


def _history(outcome: Outcome) -> Lines:
    if "evidence" in outcome.data:
        found = [(one["run"], one["verdict"], one["reason"]) for one in outcome.data["evidence"]]
        yield from table(("DRILL", "EVIDENCE", "WHY"), found)
        return
    if "drills" in outcome.data:
        rows = [
            (one["run"], one["at"], "passed" if one["ok"] else "NOT PASSED",
             seconds(one.get("rto", {}).get("system", {}).get("measured")))
            for one in outcome.data["drills"]
        ]  # fmt: skip
        yield from table(("DRILL", "AT", "", "RTO"), rows)
    if "runs" in outcome.data:
        runs = outcome.data["runs"]
        rows = [(one["run"], one["kind"], one["status"], (one["error"] or "").partition("\n")[0])
                for one in runs]  # fmt: skip
        yield from table(("RUN", "KIND", "ENDED", ""), rows)
    if outcome.data["older"]:
        yield f"And {outcome.data['older']} older ones: --last all"


def _prune(outcome: Outcome) -> Lines:
    for one in outcome.data["removed"]:
        yield f"removed  {one['id']} at {one['target']}"
    for one in outcome.data["kept"]:
        yield f"kept     {one['id']} at {one['target']}: {', '.join(one['reasons'])}"
    for one in outcome.data["damaged"]:
        state = "is damaged" if one["next"] else "cannot be read here"
        yield f"left     {one['id']} at {one['target']}: its manifest {state}: {one['reason']}"
        if one["next"]:
            yield f"         To remove it: {one['next']}"
    for key, target in dict.fromkeys(
        (one["key"], one["target"]) for one in outcome.data["foreign"]
    ):
        yield f"left     {key} at {target}: no backup wrote it"
    yield from (f"Note: {note}" for note in outcome.notes)


def _pin(outcome: Outcome) -> Lines:
    data = outcome.data
    until = f" until {data['until']}" if data.get("until") else ""
    stands = f"pinned{until}" if data["pinned"] else "not pinned any more"
    if data["targets"]:
        yield f"{data['id']} is {stands} at {', '.join(data['targets'])}."


def _fetch(outcome: Outcome) -> Lines:
    yield from outcome.data["files"]
    yield from outcome.notes


def _said(outcome: Outcome) -> Lines:
    yield from outcome.notes


def _doctor(outcome: Outcome) -> Lines:
    rows = [(one["verdict"], one["what"], one["found"]) for one in outcome.data["examined"]]
    yield from table(("", "WHAT", "FOUND"), rows)


SAYS_ITS_ERROR = ("validate", "status", "ready")

TEXTS: dict[str, Callable[[Outcome], Lines]] = {
    "validate": _validate,
    "plan": _plan,
    "backup": _backup,
    "list": _list,
    "verify": _verify,
    "restore": recovery_lines,
    "dr-restore": recovery_lines,
    "rollback": recovery_lines,
    "safety": safety_lines,
    "prune-safety": removed_lines,
    "drill": drill_lines,
    "status": status_lines,
    "ready": ready_lines,
    "run": _run,
    "show": _show,
    "ls": _ls,
    "history": _history,
    "prune": _prune,
    "delete": _prune,
    "rekey": rekey_lines,
    "pin": _pin,
    "unpin": _pin,
    "fetch": _fetch,
    "runbook": _said,
    "init": _said,
    "keygen": _said,
    "doctor": _doctor,
}
