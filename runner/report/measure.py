"""RTO and RPO as measured, against what was promised: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from runner.execute.journal import StepResult
from runner.execute.runs import Finished
from runner.plan.model import Plan
from runner.spec.model import Spec
from runner.store.catalog import Catalog

SYSTEM = "system"


def recovery_times(spec: Spec, plan: Plan, finished: Finished) -> dict[str, dict[str, Any]]:
    """For the system, each source and each service with its objective: seconds, and whether met.

    A step that was left out counts with its expected time; where none is known, neither is the
    verdict. What did not come back has no time, and did not meet its objective.
    """
    counted, unknown = _left_out(finished.results)
    whole = finished.exit_code in (0, 5, 7)
    system = None if unknown or not whole else round(finished.seconds + counted, 3)
    times = {SYSTEM: _judged(_objective(spec, SYSTEM), system, failed=not whole)}
    ends = {name: _ended(plan, finished, name) for name in plan.facts["snapshots"]}
    for name, (seconds, failed) in ends.items():
        times[name] = _judged(_objective(spec, name), seconds, failed=failed)
    for service in spec.services.values():
        of_service = [ends[name] for name in service.sources if name in ends]
        if of_service and service.name in spec.objectives:
            failed = any(bad for _, bad in of_service)
            latest = max((seconds or 0.0) for seconds, _ in of_service)
            times[service.name] = _judged(
                _objective(spec, service.name), None if failed else latest, failed=failed
            )
    return times


def recovery_points(
    spec: Spec, plan: Plan, catalog: Catalog, incident: datetime
) -> dict[str, dict[str, Any]]:
    """For each source: how old its newest snapshot was at the incident, in seconds."""
    points = {}
    for name in plan.facts["snapshots"]:
        fresh = catalog.fresh_at(name)
        age = None if fresh is None else max(0.0, (incident - fresh).total_seconds())
        objective = spec.objectives.get(name)
        promised = objective.rpo if objective else None
        points[name] = _judged(promised, age, failed=age is None)
    return points


def _judged(objective: float | None, seconds: float | None, *, failed: bool) -> dict[str, Any]:
    met: bool | None = None
    if objective is not None:
        met = False if failed else None if seconds is None else seconds <= objective
    return {"objective": objective, "measured": seconds, "met": met}


def _objective(spec: Spec, name: str) -> float | None:
    objective = spec.objectives.get(name)
    return objective.rto if objective else None


def _left_out(results: Mapping[str, StepResult]) -> tuple[float, bool]:
    """The seconds that left-out steps count, and whether any of them is unknown."""
    counted = [
        result.outputs["counted_seconds"]
        for result in results.values()
        if "counted_seconds" in result.outputs
    ]
    return sum(one for one in counted if one is not None), None in counted


def _ended(plan: Plan, finished: Finished, source: str) -> tuple[float | None, bool]:
    """When a source stood proven in its place, in seconds from the start; and if it failed."""
    confirm = finished.results.get(f"{source}.confirm")
    if confirm is None or not confirm.done:
        return None, True
    own = [finished.results[one.id] for one in plan.steps if _before(plan, one.id, confirm.step)]
    return round(sum(one.seconds or 0.0 for one in own), 3), False


def _before(plan: Plan, step: str, end: str) -> bool:
    """Whether a step is on the way to `end`: itself, or needed by it."""
    needed = {end}
    for one in reversed(plan.steps):
        if one.id in needed:
            needed |= set(one.needs)
    return step in needed
