"""When each step of a recovery ran, and what the steps that were left out add to it: pure.

A drill leaves out what may not touch production, and what a person does. Each such step counts
with its `expected` time, else its `timeout`, and puts off all that comes after it. So the time of
a recovery is that of its critical path: what was measured, put off by what was left out before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.execute.journal import StepResult
from runner.plan.model import Plan, Step

PHASES = ("fetch", "provision", "restore", "replay", "verify", "serve")


@dataclass(frozen=True)
class Span:
    """One step that ran or was left out. All in seconds."""

    step: Step
    result: StepResult
    began: float  # since the run's first step began
    delay: float | None  # of its end, by what was left out; None: unknown

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.result.seconds or 0.0

    @property
    def end(self) -> float | None:
        """When it would have ended, had nothing been left out; None: unknown."""
        return None if self.delay is None else self.began + self.seconds + self.delay

    @property
    def source(self) -> str:
        """The source that it restores; empty for a step of the spec's own."""
        return str(self.step.params.get("source", ""))

    @property
    def left_out(self) -> bool:
        """Whether it was not done, and counts all the same."""
        return "counted_seconds" in self.result.outputs


def timeline(plan: Plan, results: Mapping[str, StepResult]) -> list[Span]:
    """The steps that ran, in the plan's order, by a journal's results."""
    starts = [_instant(one.started_at) for one in results.values() if one.started_at]
    zero = min(starts, default=0.0)
    delays: dict[str, float | None] = {}
    spans = []
    for step in _in_order(plan.steps):
        result = results.get(step.id)
        if result is None or result.started_at is None:
            continue
        before = [delays[one] for one in (*step.needs, *step.after) if one in delays]
        delays[step.id] = _sum(_latest(before), result.outputs.get("counted_seconds", 0.0))
        began = max(0.0, _instant(result.started_at) - zero)
        spans.append(Span(step, result, round(began, 3), delays[step.id]))
    order = {step.id: place for place, step in enumerate(plan.steps)}
    return sorted(spans, key=lambda span: order[span.step.id])


def by_phase(spans: Sequence[Span]) -> dict[str, dict[str, float | None]]:
    """For each phase the seconds of its steps, and what its left-out steps count (None: unknown).

    Steps of one phase may have run at the same time: their sum can be more than the run took.
    """
    totals: dict[str, dict[str, float | None]] = {}
    for phase in PHASES:
        own = [span for span in spans if span.step.phase == phase]
        parts = [share for span in spans if (share := shares(span).get(phase)) is not None]
        counted = _total([one.result.outputs["counted_seconds"] for one in own if one.left_out])
        if own or parts:
            totals[phase] = {"seconds": round(sum(parts), 3), "counted": counted}
    return totals


def by_source(spans: Sequence[Span]) -> dict[str, dict[str, float]]:
    """For each source the seconds that its own steps spent in each phase."""
    found: dict[str, dict[str, float]] = {}
    for span in spans:
        if span.source:
            own = found.setdefault(span.source, {})
            for phase, seconds in shares(span).items():
                own[phase] = round(own.get(phase, 0.0) + seconds, 3)
    return found


def shares(span: Span) -> dict[str, float]:
    """A step's seconds by phase: a step that restores tells how long it waited for the target."""
    inner: Mapping[str, Any] = span.result.outputs.get("phases", {})
    rest = span.seconds - sum(inner.values())
    own = {span.step.phase: max(0.0, rest)} if span.step.phase else {}
    return {**own, **{phase: float(seconds) for phase, seconds in inner.items()}}


def _in_order(steps: Sequence[Step]) -> list[Step]:
    """The steps so that each comes after those it waits for."""
    from graphlib import TopologicalSorter

    known = {step.id: step for step in steps}
    graph = {step.id: {*step.needs, *step.after} & known.keys() for step in steps}
    return [known[name] for name in TopologicalSorter(graph).static_order()]


def _instant(stamp: str | None) -> float:
    return 0.0 if stamp is None else datetime.fromisoformat(stamp).timestamp()


def _latest(delays: Sequence[float | None]) -> float | None:
    known = [one for one in delays if one is not None]
    return None if len(known) < len(delays) else max(known, default=0.0)


def _total(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return None if len(known) < len(values) else sum(known)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
