"""How things stand, in words: sources, policies, targets, and whether a recovery could start."""

from __future__ import annotations

from runner.report.lines import Lines, Row, met, seconds, table
from runner.report.outcome import Outcome
from runner.report.target_words import format_age, format_latency, loss_words
from runner.spec.units import format_size

TARGET_HEADS = (
    "TARGET", "REACHED", "ANSWERS", "TAKES", "FREE", "SNAPSHOTS", "OLDEST", "NEWEST", "BEHIND",
)  # fmt: skip


def status_lines(outcome: Outcome) -> Lines:
    """`status`."""
    data = outcome.data
    well = "Nothing has failed:" if data["warnings"] else "All is well."
    yield "Not well:" if outcome.notes else well
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


def ready_lines(outcome: Outcome) -> Lines:
    """`status --ready`."""
    rows = [(one["verdict"], one["what"], one["found"]) for one in outcome.data["points"]]
    yield from table(("", "WHAT", "FOUND"), rows)
    yield outcome.data["line"]


def _source_row(one: Row) -> list[str]:
    newest, rto = one["newest"], one["rto"]
    return [
        one["source"],
        format_age(newest["age"]) if newest else "NONE",
        seconds(one["rpo"]["objective"]),
        met(one["rpo"]["met"]),
        f"{format_age(one['proof_age'])} ago" if one["proved_at"] else "never",
        seconds(rto["measured"]),
        seconds(rto["objective"]),
        met(rto["met"]),
    ]


def _policy_row(one: Row) -> list[str]:
    last = one["last_run"] or {}
    due = one["next_due"] or "by hand"
    return [one["policy"], last.get("at") or "never", last.get("status") or "-", due]


def _target_row(one: Row) -> list[str]:
    speed = one["throughput"]
    return [
        one["target"],
        {True: "yes", False: "NO", None: "?"}[one["reachable"]],
        format_latency(one["latency"]),
        "?" if speed is None else f"{format_size(speed['upload'])}/s",
        "?" if one["free"] is None else format_size(one["free"]),
        "?" if one["snapshots"] is None else str(one["snapshots"]),
        "-" if one["oldest_age"] is None else format_age(one["oldest_age"]),
        "-" if one["newest_age"] is None else format_age(one["newest_age"]),
        "?" if one["behind"] is None else str(one["behind"]),
    ]
