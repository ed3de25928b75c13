"""Compiles the removal of safety copies. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.plan.model import Plan, Step
from runner.spec.model import Spec


def compile_safety(
    spec: Spec, rows: Sequence[Mapping[str, Any]], left: Sequence[Mapping[str, Any]]
) -> Plan:
    """The plan that removes the safety copies in `rows`; those in `left` stay, each with why."""
    steps = tuple(
        Step(
            id=f"{row['source']}.{row['run']}.drop",
            action="safety.drop",
            title=_title(row),
            params={key: row[key] for key in ("run", "source", "copies")},
            effect="destroys",
            reason=f"{row['run']} is done",
        )
        for row in rows
    )
    return Plan(
        kind="safety",
        project=spec.project,
        profile=spec.profile,
        spec_digest=spec.digest,
        steps=steps,
        facts={"left": list(left), "resolved": spec.resolved},
    )


def _title(row: Mapping[str, Any]) -> str:
    if row["copies"]:
        return f"Remove what {row['run']} kept of {row['source']}"
    return f"Forget {row['run']}, which kept nothing of {row['source']}"
