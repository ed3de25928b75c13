"""What a person reads of an outcome: what is not well first, and the exact line to type next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runner.report.outcome import Outcome, visible
from runner.report.rekey_words import rekey_lines
from runner.report.target_words import format_age, format_latency, loss_words
from runner.secret import SCRUBBER
from runner.spec.units import format_duration, format_size

Lines = Iterable[str]
Row = Mapping[str, Any]


def show(outcome: Outcome) -> None:
    """Print an outcome: what was found on stdout, an error and what to do next on stderr."""
    for stream, lines in zip((sys.stdout, sys.stderr), printed(outcome), strict=True):
        text = "".join(line + "\n" for line in lines)
        # A file name may hold bytes that are no text; they are shown, not raised.
        stream.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        stream.flush()


def printed(outcome: Outcome) -> tuple[list[str], list[str]]:
    """What a person reads of an outcome: the lines of stdout, and those of stderr."""
    found = list(TEXTS.get(outcome.command, _nothing)(outcome))
    mended = []
    if outcome.error is not None and outcome.command not in SAYS_ITS_ERROR:
        kind = "Not done" if outcome.exit_code == 7 else "Error"
        mended.append(f"{kind}: {outcome.error['message']}")
    if outcome.data.get("next"):
        mended.append(f"Next: {outcome.data['next']}")
    first, second = ([visible(SCRUBBER.clean(line)) for line in some] for some in (found, mended))
    return first, second


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Aligned columns under their heads."""
    everything = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    line = "  ".join(f"{{:{width}}}" for width in widths).format
    for row in everything:
        yield line(*row).rstrip()


def _nothing(_outcome: Outcome) -> Lines:
    return ()


def _validate(outcome: Outcome) -> Lines:
    for word in ("errors", "warnings"):
        for one in outcome.data[word]:
            place = f"{one['file']}:{one['line']}:{one['column']}" if "line" in one else ""
            path = f" {one['path']}:" if one.get("path") else ""
            yield f"{place}: {word.removesuffix('s')}:{path} {one['message']}"
    errors, warnings = len(outcome.data["errors"]), len(outcome.data["warnings"])
    yield f"{errors} errors, {warnings} warnings."
    yield "No backup was looked at: see verify."


def _plan(outcome: Outcome) -> Lines:
    data = outcome.data
    profile = f" ({data['profile']})" if data["profile"] != "default" else ""
    verb = {"rollback": "take back a recovery of", "safety": "remove safety copies of"}
    kind = verb.get(data["kind"], data["kind"])
    yield f"This would {kind} {data['project']}{profile}, in {len(data['steps'])} steps:"
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
        yield from ("     $ " + one.replace("\n", "\n       ") for one in step["commands"])
    yield ""
    yield from outcome.notes
    yield f"Plan {data['plan'][:16]}. Nothing was done."
    if data["saved"]:
        yield f"Saved. Next: holdfast apply --plan {data['saved']}"


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
        yield f"Pruned: {len(data['pruned'])} snapshots."
    yield from (f"Note: {note}" for note in outcome.notes)
    if not data["snapshots"] and not data["completed"] and outcome.exit_code == 0:
        yield "Nothing was due."
    yield f"Backup {data['status']} in {format_duration(data['seconds'])}."


def _list(outcome: Outcome) -> Lines:
    rows = [
        (
            "/".join(one[key] for key in ("project", "profile", "id") if key in one),
            one["taken_at"],
            ",".join(one["sources"]) + (f" (no {','.join(one['missing'])})" * bool(one["missing"])),
            format_size(one["bytes"]),
            ",".join(one["targets"]),
            one["proved"]["level"] if one["proved"] else "-",
            "pinned" if one["pinned"] else "",
        )
        for one in outcome.data["snapshots"]
    ]
    if rows:
        yield from table(("SNAPSHOT", "TAKEN", "SOURCES", "SIZE", "TARGETS", "PROVED", ""), rows)
    else:
        yield "There are no snapshots yet. Next: holdfast backup"
    yield from (f"Trouble: {note}" for note in outcome.notes)


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


def _recovery(outcome: Outcome) -> Lines:
    data = outcome.data
    words = {True: "equal to the snapshot", False: "DIFFERENT", None: "NOT PROVEN"}
    for one in data["proof"]:
        yield f"{one['source']}: {words[one['equal']]}"
        yield from (f"  {line}" for line in one["differences"][:10])
    yield from (f"Note: {note}" for note in outcome.notes)
    if data["safety"]:
        yield "Safety copies of what was replaced:"
        yield from (f"  {one}" for one in data["safety"])
    ended = "waits for a person" if outcome.exit_code == 7 else data["status"]
    yield f"{outcome.command} {ended} after {format_duration(data['seconds'])}."


def _drill(outcome: Outcome) -> Lines:
    yield from _recovery(outcome)
    data = outcome.data
    rows = []
    for name, one in data["rto"].items():
        rows.append(("RTO", name, _seconds(one["objective"]), _seconds(one["measured"]),
                     _met(one["met"])))  # fmt: skip
    for name, one in data["rpo"].items():
        rows.append(("RPO", name, _seconds(one["objective"]), _seconds(one["measured"]),
                     _met(one["met"])))  # fmt: skip
    yield from table(("", "OF", "OBJECTIVE", "MEASURED", ""), rows)
    for one in data["checks"]:
        yield f"{one['verdict']:5} {one['source'] or ''} {one['name']}"
    yield f"Isolation: {data['isolation']}. Clean-up: {data['cleanup']}. Report: {data['report']}"


def _status(outcome: Outcome) -> Lines:
    data = outcome.data
    yield "Not well:" if outcome.notes else "All is well."
    yield from (f"  {note}" for note in outcome.notes)
    yield from (f"Warning: {warning}" for warning in data["warnings"])
    yield ""
    heads = ("SOURCE", "AGE", "RPO", "", "RESTORED", "DRILLED IN", "RTO", "")
    yield from table(heads, [_source_row(one) for one in data["sources"]])
    yield ""
    yield from table(
        ("POLICY", "LAST RUN", "ENDED", "NEXT"), [_policy_row(one) for one in data["policies"]]
    )
    yield ""
    yield from table(TARGET_HEADS, [_target_row(one) for one in data["targets"]])
    for one in data["targets"]:
        lost = loss_words(one)
        if lost is not None:
            yield f"If {one['target']} burned, {lost}."


def _source_row(one: Row) -> list[str]:
    newest, rto = one["newest"], one["rto"]
    return [
        one["source"],
        format_age(newest["age"]) if newest else "NONE",
        _seconds(one["rpo"]["objective"]),
        _met(one["rpo"]["met"]),
        f"{format_age(one['proof_age'])} ago" if one["proved_at"] else "never",
        _seconds(rto["measured"]),
        _seconds(rto["objective"]),
        _met(rto["met"]),
    ]


def _policy_row(one: Row) -> list[str]:
    last = one["last_run"] or {}
    due = one["next_due"] or "by hand"
    return [one["policy"], last.get("at") or "never", last.get("status") or "-", due]


TARGET_HEADS = (
    "TARGET", "REACHED", "ANSWERS", "TAKES", "FREE", "SNAPSHOTS", "OLDEST", "NEWEST", "BEHIND BY",
)  # fmt: skip


def _target_row(one: Row) -> list[str]:
    speed = one["throughput"]
    return [
        one["target"],
        {True: "yes", False: "NO", None: "?"}[one["reachable"]],
        format_latency(one["latency"]),
        "?" if speed is None else f"{format_size(speed['upload'])}/s",
        "?" if one["free"] is None else format_size(one["free"]),
        "?" if one["snapshots"] is None else str(one["snapshots"]),
        (one["oldest"] or "-").partition("-")[0],
        (one["newest"] or "-").partition("-")[0],
        "?" if one["behind"] is None else str(one["behind"]),
    ]


def _ready(outcome: Outcome) -> Lines:
    rows = [(one["verdict"], one["what"], one["found"]) for one in outcome.data["points"]]
    yield from table(("", "WHAT", "FOUND"), rows)
    yield outcome.data["line"]


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
             _seconds(one.get("rto", {}).get("system", {}).get("measured")))
            for one in outcome.data["drills"]
        ]  # fmt: skip
        yield from table(("DRILL", "AT", "", "RTO"), rows)
    else:
        runs = outcome.data["runs"]
        rows = [(one["run"], one["kind"], one["status"], one["error"] or "") for one in runs]
        yield from table(("RUN", "KIND", "ENDED", ""), rows)
    if outcome.data["older"]:
        yield f"And {outcome.data['older']} older ones: --last all"


def _prune(outcome: Outcome) -> Lines:
    for one in outcome.data["removed"]:
        yield f"removed  {one['id']} at {one['target']}"
    for one in outcome.data["kept"]:
        yield f"kept     {one['id']} at {one['target']}: {', '.join(one['reasons'])}"
    for one in outcome.data["damaged"]:
        yield f"left     {one['id']} at {one['target']}: its manifest is damaged: {one['reason']}"
        yield f"         To remove it: {one['next']}"
    for key, target in dict.fromkeys(
        (one["key"], one["target"]) for one in outcome.data["foreign"]
    ):
        yield f"left     {key} at {target}: no backup wrote it"
    yield from (f"Note: {note}" for note in outcome.notes)


def _safety(outcome: Outcome) -> Lines:
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


def _prune_safety(outcome: Outcome) -> Lines:
    for one in outcome.data["removed"]:
        yield f"removed  {one['where']} ({one['source']}, {one['run']})"
    for one in outcome.data["kept"]:
        yield f"kept     {one['where']} ({one['source']}, {one['run']}): {one['reason']}"


def _pin(outcome: Outcome) -> Lines:
    data = outcome.data
    until = f" until {data['until']}" if data.get("until") else ""
    yield f"{data['id']} is {'pinned' + until if data['pinned'] else 'not pinned any more'}."


def _fetch(outcome: Outcome) -> Lines:
    yield from outcome.data["files"]


def _said(outcome: Outcome) -> Lines:
    yield from outcome.notes


def _doctor(outcome: Outcome) -> Lines:
    rows = [(one["verdict"], one["what"], one["found"]) for one in outcome.data["examined"]]
    yield from table(("", "WHAT", "FOUND"), rows)


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_duration(round(value, 1))


def _met(value: bool | None) -> str:
    return {True: "met", False: "MISSED", None: "-"}[value]


SAYS_ITS_ERROR = ("validate", "status", "ready")

TEXTS: dict[str, Callable[[Outcome], Lines]] = {
    "validate": _validate,
    "plan": _plan,
    "backup": _backup,
    "list": _list,
    "verify": _verify,
    "restore": _recovery,
    "dr-restore": _recovery,
    "rollback": _recovery,
    "safety": _safety,
    "prune-safety": _prune_safety,
    "drill": _drill,
    "status": _status,
    "ready": _ready,
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
