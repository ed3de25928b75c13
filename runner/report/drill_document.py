"""The drill report as Markdown: what was tried, what came back, how it was proven, how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.report.markdown import table, text
from runner.spec.units import format_duration, format_size

Facts = Mapping[str, Any]

ISOLATION = {
    "network": "commands ran in a network namespace of their own, without a network; sockets in "
    "the file system stayed within reach",
    "none": "commands ran with this host's network: the kernel allows no isolation here",
}
PROOF = {True: "PASS: equal to its fingerprint", False: "FAIL: different", None: "COULD-NOT-VERIFY"}


def drill_markdown(facts: Facts) -> str:
    """The report of one drill, with the fields that an auditor asks for."""
    sections = [
        (f"# Drill {text(facts['run'])}: {facts['verdict']}", fields(facts)),
        ("## Objectives", _objectives(facts)),
        ("## What came back, and how it was proven", _proof(facts)),
        ("## Checks", _checks(facts)),
        ("## Phases", _phases(facts)),
        ("## Each source", _sources(facts)),
        ("## Steps", _steps(facts)),
        ("## Past drills", _past(facts)),
        ("## Findings that are open", _findings(facts)),
        ("## To fill in", _form()),
    ]
    lines = [line for head, body in sections for line in (head, "", *body, "")]
    return "\n".join(lines[:-1]) + "\n"


def fields(facts: Facts) -> list[str]:
    """The table of who, what, where, with what."""
    return table(("Field", "Value"), field_rows(facts))


def field_rows(facts: Facts) -> list[tuple[str, str]]:
    """The same as pairs."""
    evidence = facts["evidence"]
    before = evidence["previous"]
    return [
        ("Project", f"{facts['project']} ({facts['profile']})"),
        ("Scenario", facts["supposed"]),
        ("To repeat it", facts["repeat"]),
        ("Began", facts["at"]),
        ("Incident", facts["incident"]),
        ("Took", format_duration(facts["seconds"])),
        ("Operator", facts["operator"]),
        ("Trigger", facts["trigger"]),
        ("Host", facts["host"]),
        ("Spec", f"sha256 {facts['spec_sha256']}"),
        ("Plan", f"sha256 {facts['plan_sha256']}"),
        ("Tools", ", ".join(f"{name} {version}" for name, version in facts["tools"].items())),
        ("Restored into", "a scratch folder, removed afterwards"),
        ("Isolation", ISOLATION[facts["isolation"]]),
        ("Clean-up", facts["cleanup"]),
        *(("Swept before", f"{one}, which a killed run had left") for one in facts["swept"]),
        ("Journal", f"sha256 {evidence['journal_sha256']}"),
        ("Report before", f"{before['run']}, sha256 {before['sha256']}" if before else "none"),
        *(("Doubt", doubt) for doubt in facts["doubts"]),
    ]


def objective_rows(facts: Facts) -> list[tuple[str, str, str, str, str]]:
    """Each objective: its kind, of what, promised, measured, the verdict."""
    met = {True: "met", False: "MISSED", None: "UNKNOWN"}
    return [
        (kind.upper(), name, spoken(one["objective"]), spoken(one["measured"]),
         met[one["met"]] if one["objective"] is not None else "none declared")
        for kind in ("rto", "rpo")
        for name, one in facts[kind].items()
    ]  # fmt: skip


def _objectives(facts: Facts) -> Iterable[str]:
    return table(("", "Of", "Objective", "Measured", "Verdict"), objective_rows(facts))


def proof_rows(facts: Facts) -> list[tuple[str, ...]]:
    """Each source: snapshot, where from, its content's instant, size, proof, differences."""
    rows: list[tuple[str, ...]] = []
    for one in facts["proof"]:
        held = facts["snapshots"][one["source"]]
        size = "-" if held["bytes"] is None else format_size(held["bytes"])
        rows.append(
            (one["source"], held["id"], held["target"], held["taken_at"], size,
             held["manifest_sha256"][:16], PROOF[one["equal"]],
             "; ".join(one["differences"][:5]) or "-")
        )  # fmt: skip
    return rows


PROOF_HEADS = (
    "Source", "Snapshot", "From", "Content of", "Stored", "Manifest", "Proof", "Differences",
)  # fmt: skip


def _proof(facts: Facts) -> Iterable[str]:
    return table(PROOF_HEADS, proof_rows(facts))


def _checks(facts: Facts) -> Iterable[str]:
    rows = [
        (one["source"] or "-", one["name"], one["verdict"], one["expected"], one["actual"])
        for one in facts["checks"]
    ]
    if not rows:
        return ["None is declared: an intact but empty backup would pass unnoticed."]
    return table(("Source", "Check", "Verdict", "Expected", "Found"), rows)


def _phases(facts: Facts) -> Iterable[str]:
    rows = [
        (phase, spoken(one["seconds"]), "UNKNOWN" if one["counted"] is None else
         spoken(one["counted"]) if one["counted"] else "-")
        for phase, one in facts["phases"].items()
    ]  # fmt: skip
    return table(("Phase", "Time of its steps", "Left out, counted with"), rows)


def _sources(facts: Facts) -> Iterable[str]:
    phases = [phase for phase in facts["phases"] if any(phase in one for one in
              facts["sources"].values())]  # fmt: skip
    rows = [
        (name, *(spoken(one.get(phase)) for phase in phases))
        for name, one in facts["sources"].items()
    ]
    return table(("Source", *phases), rows)


def _steps(facts: Facts) -> Iterable[str]:
    rows = [
        (one["step"], one["title"], one["status"], f"+{one['began']:.1f}s",
         spoken(one["seconds"]), one["why"])
        for one in facts["timeline"]
    ]  # fmt: skip
    return table(("Step", "What", "Ended", "Began", "Took", "Why"), rows)


def _past(facts: Facts) -> Iterable[str]:
    rows = [
        (one["run"], one["at"], "passed" if one["ok"] else "NOT PASSED", spoken(one["seconds"]))
        for one in facts["past"]
    ]
    return table(("Drill", "Began", "Ended", "RTO of the system"), rows) if rows else ["None."]


def _findings(facts: Facts) -> Iterable[str]:
    if facts["findings_trouble"]:
        yield f"UNKNOWN: {text(facts['findings_trouble'])}"
        return
    if not facts["findings"]:
        yield "None. New ones go into findings.yaml, beside this report."
        return
    rows = [(one["finding"], one["owner"] or "NOBODY", one["due"] or "-", one["drill"] or "-")
            for one in facts["findings"]]  # fmt: skip
    yield from table(("Finding", "Owner", "Due", "Found in drill"), rows)


def _form() -> Iterable[str]:
    return [
        "- Participants:",
        "- Deviations from the runbook:",
        "- Findings, each with owner and date (write them to findings.yaml):",
        "- Approved by, on:",
    ]


def spoken(seconds: float | None) -> str:
    """A time for people."""
    return "-" if seconds is None else format_duration(round(seconds, 3))
