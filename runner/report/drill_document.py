"""The drill report as Markdown: what was tried, what came back, how it was proven, how fast."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Any

from runner import __version__
from runner.execute.runs import Finished
from runner.execute.session import who
from runner.plan.facts import host_name
from runner.plan.model import Plan
from runner.report.markdown import table, text
from runner.spec.model import Spec
from runner.spec.units import format_duration

VERDICTS = {0: "PASSED", 4: "FAILED", 5: "OBJECTIVE MISSED", 7: "NOT PROVEN", 130: "INTERRUPTED"}


def drill_markdown(
    spec: Spec, plan: Plan, finished: Finished, facts: Mapping[str, Any], code: int
) -> str:
    """The report of one drill, with the fields that an auditor asks for."""
    lines = [
        f"# Drill {text(finished.run)}: {VERDICTS.get(code, 'FAILED')}",
        "",
        *_facts(spec, plan, facts),
        "",
        "## Objectives",
        "",
        *_objectives(facts),
        "",
        "## What came back, and how it was proven",
        "",
        *_proof(plan, facts),
        "",
        "## Checks",
        "",
        *_checks(facts),
        "",
        "## Phases",
        "",
        *_phases(plan, finished),
        "",
        "## Steps",
        "",
        *_steps(plan, finished),
        "",
        "## To fill in",
        "",
        *_form(),
    ]
    return "\n".join(lines) + "\n"


def _facts(spec: Spec, plan: Plan, facts: Mapping[str, Any]) -> Iterable[str]:
    isolation = {
        "network": "commands ran in a network namespace of their own, without a network",
        "none": "commands ran with this host's network: the kernel allows no isolation here",
    }
    return table(
        ("Field", "Value"),
        [
            ("Project", f"{spec.project} ({spec.profile})"),
            ("Scenario", "latest: the newest snapshot of every source that was asked for"),
            ("Began", facts["at"]),
            ("Took", format_duration(facts["seconds"])),
            ("Operator", who()),
            ("Host", host_name()),
            ("Spec", f"sha256 {spec.digest}"),
            ("Plan", f"sha256 {plan.id}"),
            ("Tools", f"Holdfast {__version__}, Python {platform.python_version()}"),
            ("Restored into", "a scratch folder, removed afterwards"),
            ("Isolation", isolation[facts["isolation"]]),
            ("Clean-up", facts["cleanup"]),
        ],
    )


def _objectives(facts: Mapping[str, Any]) -> Iterable[str]:
    met = {True: "met", False: "MISSED", None: "unknown"}
    rows = [
        (kind.upper(), name, _time(one["objective"]), _time(one["measured"]),
         met[one["met"]] if one["objective"] is not None else "none declared")
        for kind in ("rto", "rpo")
        for name, one in facts[kind].items()
    ]  # fmt: skip
    return table(("", "Of", "Objective", "Measured", "Verdict"), rows)


def _proof(plan: Plan, facts: Mapping[str, Any]) -> Iterable[str]:
    words = {
        True: "PASS: equal to its fingerprint",
        False: "FAIL: different",
        None: "COULD-NOT-VERIFY",
    }
    rows = [
        (one["source"], plan.facts["snapshots"].get(one["source"], "-"),
         plan.facts["taken_at"].get(one["source"], "-"), words[one["equal"]],
         "; ".join(one["differences"][:5]) or "-")
        for one in facts["proof"]
    ]  # fmt: skip
    return table(("Source", "Snapshot", "Content of", "Proof", "Differences"), rows)


def _checks(facts: Mapping[str, Any]) -> Iterable[str]:
    rows = [
        (one["source"] or "-", one["name"], one["verdict"], one["expected"], one["actual"])
        for one in facts["checks"]
    ]
    if not rows:
        return ["None is declared: an intact but empty backup would pass unnoticed."]
    return table(("Source", "Check", "Verdict", "Expected", "Found"), rows)


def _phases(plan: Plan, finished: Finished) -> Iterable[str]:
    sums: dict[str, float] = {}
    for step in plan.steps:
        result = finished.results.get(step.id)
        if result is not None and step.phase:
            sums[step.phase] = sums.get(step.phase, 0.0) + (result.seconds or 0.0)
    rows = [(phase, _time(round(seconds, 3))) for phase, seconds in sums.items()]
    return table(("Phase", "Time of its steps"), rows)


def _steps(plan: Plan, finished: Finished) -> Iterable[str]:
    rows = []
    for step in plan.steps:
        result = finished.results.get(step.id)
        if result is None:
            continue
        why = (result.error or {}).get("message") or result.reason or ""
        rows.append((step.id, step.title, result.status, _time(round(result.seconds or 0, 3)), why))
    return table(("Step", "What", "Ended", "Took", "Why"), rows)


def _form() -> Iterable[str]:
    return [
        "- Participants:",
        "- Deviations from the runbook:",
        "- Findings, each with owner and date:",
        "- Approved by, on:",
    ]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)
