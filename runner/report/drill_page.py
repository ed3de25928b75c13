"""The drill report as one HTML page that needs nothing else: styles and charts are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from runner.report.drill_chart import gantt, legend, levels
from runner.report.drill_document import (
    PROOF_HEADS,
    field_rows,
    objective_rows,
    proof_rows,
    spoken,
)

Facts = Mapping[str, Any]

STYLE = """
body{font:14px/1.45 sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ccc}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{border:1px solid #ddd;padding:3px 7px;text-align:left;vertical-align:top;
overflow-wrap:anywhere}th{background:#f4f4f4}
.good{color:#2e7d32}.bad{color:#c62828;font-weight:bold}
.legend span{margin-right:1em;font-size:12px}.legend i{display:inline-block;width:10px;
height:10px;margin-right:4px}.form li{margin:1.2em 0}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""
FORM = (
    '<ul class="form"><li>Participants:</li><li>Deviations from the runbook:</li>'
    "<li>Findings, each with owner and date:</li><li>Approved by, on:</li></ul>"
)
GOOD = ("PASS", "met", "PASSED", "passed", "done")
BAD = ("FAIL", "MISSED", "UNKNOWN", "COULD-NOT-VERIFY", "NOT PASSED", "failed")


def drill_page(facts: Facts) -> str:
    """The page of one drill, from its facts alone."""
    title = f"Drill {facts['run']}: {facts['verdict']}"
    objective = facts["rto"]["system"]["objective"]
    body = [
        f"<h1>{escape(title)}</h1>",
        _table(("Field", "Value"), field_rows(facts)),
        "<h2>Objectives</h2>",
        _table(("", "Of", "Objective", "Measured", "Verdict"), objective_rows(facts)),
        "<h2>The steps against the RTO</h2>",
        gantt(facts["timeline"], objective),
        legend(),
        "<h2>Age of the newest content against the RPO</h2>",
        levels(_of(facts["rpo"]), "The RPO of each source"),
        "<h2>What came back, and how it was proven</h2>",
        _table(PROOF_HEADS, proof_rows(facts)),
        "<h2>Checks</h2>",
        _checks(facts),
        "<h2>Past drills</h2>",
        levels(_history(facts), "The recovery times of the past drills"),
        "<h2>Findings that are open</h2>",
        _findings(facts),
        "<h2>To fill in</h2>",
        FORM,
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _of(judged: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    return [(name, one["measured"], one["objective"]) for name, one in judged.items()]


def _history(facts: Facts) -> list[tuple[str, float | None, float | None]]:
    """The system's recovery time in this drill and those before it, the oldest first."""
    objective = facts["rto"]["system"]["objective"]
    rows = [(one["at"], one["seconds"], objective) for one in reversed(facts["past"])]
    return [*rows, ("this one", facts["rto"]["system"]["measured"], objective)]


def _checks(facts: Facts) -> str:
    rows = [
        (one["source"] or "-", one["name"], one["verdict"], one["expected"], one["actual"])
        for one in facts["checks"]
    ]
    if not rows:
        return "<p>None is declared: an intact but empty backup would pass unnoticed.</p>"
    return _table(("Source", "Check", "Verdict", "Expected", "Found"), rows)


def _findings(facts: Facts) -> str:
    if facts["findings_trouble"]:
        return f'<p class="bad">UNKNOWN: {escape(facts["findings_trouble"])}</p>'
    rows = [
        (one["finding"], one["owner"] or "NOBODY", one["due"] or "-", one["drill"] or "-")
        for one in facts["findings"]
    ]
    return _table(("Finding", "Owner", "Due", "Found in drill"), rows) if rows else "<p>None.</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: object) -> str:
    words = spoken(value) if isinstance(value, float) else str(value)
    first = words.partition(":")[0]
    word = "good" if first in GOOD else "bad" if first in BAD else ""
    return f"<td{f' class={chr(34)}{word}{chr(34)}' if word else ''}>{escape(words)}</td>"
