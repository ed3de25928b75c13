"""What a rekey did, and what it could not do: the JSON of its command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.execute.ending import Finished
from runner.execute.journal import StepResult
from runner.plan.model import Plan
from runner.report.outcome import Outcome
from runner.report.rekey_words import COPIED, UNTRIED


def rekey_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`rekey`: the snapshots that were written, the old ones that went, and those that stayed."""
    facts = plan.facts
    gone = {
        (one["id"], one["target"])
        for step in plan.steps
        if step.id in finished.results
        for one in finished.results[step.id].outputs.get("removed", [])
    }
    going = [(new["id"], old) for new in facts["snapshots"] for old in new["going"]]
    left = [
        {**old, "reason": _why(plan, finished.results, new, old)}
        for new, old in going
        if (old["id"], old["target"]) not in gone
    ]
    unread = [{"target": name, "reason": reason} for name, reason in facts["unread"].items()]
    code, error = finished.exit_code, finished.error
    if code == 0 and (left or unread):
        code, error = 4, {"kind": "failed", "message": _first(left, unread)}
    data = {
        "run": finished.run,
        "status": "partial" if code == 4 and finished.status == "done" else finished.status,
        "seconds": finished.seconds,
        "recipients": facts["recipients"],
        "opens": facts["opens"],
        "rekeyed": _written(plan, finished.results),
        "removed": [{"id": name, "target": target} for name, target in sorted(gone)],
        "left": left,
        "unread": unread,
        "next": _next(plan, code),
    }
    return Outcome("rekey", data, code, error, notes=tuple(_notes(plan)))


def _written(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """The new snapshots, and where each was read back."""
    rows = []
    for one in plan.facts["snapshots"]:
        read = [
            name
            for name in one["targets"]
            if (result := results.get(f"{one['id']}.verify.{name}")) is not None and result.done
        ]
        if read:
            replaces = list(dict.fromkeys(old["id"] for old in one["going"]))
            rows.append({"id": one["id"], "replaces": replaces, "targets": read})
    return rows


def _why(plan: Plan, results: Mapping[str, StepResult], new: str, old: Mapping[str, str]) -> str:
    """Why an old snapshot is still there: the first of the steps before its removal that failed."""
    target = old["target"]
    names = [
        *(step.id for step in plan.steps if step.params.get("snapshot") == new
          and step.action == "rekey.write"),
        f"{new}.copy.{target}",
        f"{new}.hold.{target}",
        f"{new}.verify.{target}",
        f"{old['id']}.remove.{target}",
    ]  # fmt: skip
    for name in names:
        result = results.get(name)
        if result is not None and not result.done and result.status != "skipped":
            return result.why
    return "its turn did not come"


def _first(left: list[dict[str, Any]], unread: list[dict[str, Any]]) -> str:
    if left:
        return f"{left[0]['id']} is as it was: {left[0]['reason']}"
    return f"Not looked at: {unread[0]['target']}. {unread[0]['reason']}"


def _next(plan: Plan, code: int) -> str | None:
    """The spec inside what was encrypted anew is that of its time, and names its recipients."""
    return "holdfast backup" if code == 0 and plan.facts["snapshots"] else None


def _notes(plan: Plan) -> Iterator[str]:
    if not plan.facts["snapshots"]:
        return
    yield COPIED
    if not plan.facts["opens"]:
        yield UNTRIED
    yield (
        "What is encrypted anew was read back as stored; that it restores is proven by the next "
        "verify or drill. The spec inside is that of its time: make a backup, so that the newest "
        "snapshot names the recipients of now."
    )
