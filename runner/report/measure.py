"""RTO and RPO as measured, against what was promised: pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runner.errors import Interrupted
from runner.execute.ending import Finished
from runner.plan.model import Plan
from runner.report.timeline import Span, timeline
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.retention import FUTURE

SYSTEM = "system"


def recovery_times(spec: Spec, plan: Plan, finished: Finished) -> dict[str, dict[str, Any]]:
    """For the system, each source and each service with its objective: seconds, and whether met.

    Counted from the first step to the end of the critical path, what was left out included. Where
    the time of such a step is not known, neither is that of what waits for it. What did not come
    back has no time, and did not meet its objective; of what somebody interrupted nobody knows.
    """
    spans = timeline(plan, finished.results)
    ended = {one.status for one in finished.results.values()}
    # What waits for a person has not come back either.
    whole = finished.exit_code in (0, 5, 7) and ended.isdisjoint(("failed", "blocked"))
    system = _system(spans, finished.seconds) if whole else None
    cut = finished.exit_code == Interrupted.exit_code
    times = {SYSTEM: _judged(_objective(spec, SYSTEM), system, failed=not whole and not cut)}
    confirmed = {span.step.id: span for span in spans if span.result.done}
    # A source that the recovery forgets does not come back either.
    forgotten = [name for name in spec.sources if _objective(spec, name) is not None]
    names = dict.fromkeys([*plan.facts["snapshots"], *forgotten])
    ends = {name: confirmed.get(f"{name}.confirm") for name in names}
    for name, span in ends.items():
        times[name] = _of_spans(spec, name, [span], cut=cut)
    for service in spec.services.values():
        of_service = [ends[name] for name in service.sources if name in ends]
        if service.sources and service.name in spec.objectives:
            times[service.name] = _of_spans(spec, service.name, of_service or [None], cut=cut)
    return times


def recovery_points(
    spec: Spec, plan: Plan, catalog: Catalog, incident: datetime, *, now: datetime
) -> dict[str, dict[str, Any]]:
    """For each source: how old its newest content was at the incident, in seconds.

    What was captured after the incident is no way back from it.
    """
    # `now` is a whole second; what was captured later in that second counts.
    bound = incident if incident < now else None
    points = {}
    promised_too = [name for name, one in spec.objectives.items() if one.rpo is not None]
    sources = [name for name in promised_too if name in spec.sources]
    for name in dict.fromkeys([*plan.facts["snapshots"], *sources]):
        fresh = catalog.fresh_at(name, at=bound)
        # What only a wrong clock can have dated has no age that anybody knows.
        doubtful = fresh is not None and fresh - now > FUTURE
        age = None
        if fresh is not None and not doubtful:
            age = max(0.0, (incident - fresh).total_seconds())
        objective = spec.objectives.get(name)
        promised = objective.rpo if objective else None
        points[name] = _judged(promised, age, failed=fresh is None)
    return points


def _system(spans: list[Span], seconds: float) -> float | None:
    ends = [span.end for span in spans]
    known = [one for one in ends if one is not None]
    return None if len(known) < len(ends) else round(max([seconds, *known]), 3)


def _of_spans(spec: Spec, name: str, spans: list[Span | None], *, cut: bool) -> dict[str, Any]:
    """The time by which all of them had ended; None among them is one that did not, or was `cut`
    off before.
    """
    there = [span for span in spans if span is not None]
    ends = [span.end for span in there]
    known = [one for one in ends if one is not None]
    latest = round(max(known), 3) if len(known) == len(spans) else None
    failed = len(there) < len(spans) and not cut
    return _judged(_objective(spec, name), latest, failed=failed)


def _judged(objective: float | None, seconds: float | None, *, failed: bool) -> dict[str, Any]:
    met: bool | None = None
    if objective is not None:
        met = False if failed else None if seconds is None else seconds <= objective
    return {"objective": objective, "measured": seconds, "met": met}


def _objective(spec: Spec, name: str) -> float | None:
    objective = spec.objectives.get(name)
    return objective.rto if objective else None
