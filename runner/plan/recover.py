"""Compiles restore, dr-restore and drill: one plan, in the order of the spec's `recovery`.

For every source: stage beside, prove, check, (stop the services,) swap, confirm. The undo of a
swap runs when the swap or its confirmation failed; a service starts again, and staging goes,
whatever happened. A drill is the same plan with every destination inside a scratch folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.errors import UsageError
from runner.plan.facts import Facts
from runner.plan.model import Plan, Step
from runner.plan.own_steps import own_step
from runner.plan.restoring import Restoring, Wanted
from runner.plan.services import services_of, start_step, stop_step
from runner.plan.telling import skew_of
from runner.spec.model import Objective, RecoveryStep, Spec

__all__ = ["Wanted", "compile_recovery", "recovery_entries"]


@dataclass
class _Builder:
    """Collects the steps of one recovery."""

    spec: Spec
    facts: Facts
    wanted: Wanted
    steps: list[Step] = field(default_factory=list)
    barrier: tuple[str, ...] = ()  # what the next entry needs
    stopped: dict[str, str] = field(default_factory=dict)  # service: its stop step
    placed: list[str] = field(default_factory=list)  # sources that the plan has placed

    def add(self, step: Step) -> str:
        self.steps.append(step)
        return step.id


def compile_recovery(spec: Spec, facts: Facts, wanted: Wanted) -> Plan:
    """The plan of a recovery. Pure. Raises UsageError for an entry that is not there."""
    builder = _Builder(spec, facts, wanted)
    for entry in _entries(spec, wanted):
        _entry(builder, entry)
    return Plan(
        kind=wanted.kind,
        project=spec.project,
        profile=spec.profile,
        spec_digest=spec.digest,
        steps=tuple(builder.steps),
        facts={
            "snapshots": {one.source: one.snapshot.id for one in wanted.choices},
            "taken_at": {
                one.source: one.snapshot.sources[one.source].taken_at.isoformat()
                for one in wanted.choices
            },
            "skew": skew_of(
                {one.source: one.snapshot.sources[one.source].taken_at for one in wanted.choices}
            ),
            "destination": wanted.destination,
            "resolved": spec.resolved,
            "doubts": list(wanted.doubts),
        },
        objectives={name: _objective(one) for name, one in spec.objectives.items()},
    )


def recovery_entries(spec: Spec, wanted_steps: Sequence[str], start_at: str | None) -> list[str]:
    """The names of the sources that a recovery with these flags restores."""
    entries = _selected(spec, wanted_steps, start_at)
    return [name for entry in entries for name in entry.restore]


def _entries(spec: Spec, wanted: Wanted) -> Sequence[RecoveryStep]:
    if wanted.kind == "restore":
        names = tuple(choice.source for choice in wanted.choices)
        return [RecoveryStep(name=f"restore-{'-'.join(names)}", restore=names)]
    return _selected(spec, wanted.steps, wanted.start_at)


def _selected(spec: Spec, names: Sequence[str], start_at: str | None) -> Sequence[RecoveryStep]:
    known = [entry.name for entry in spec.recovery]
    unknown = [name for name in (*names, *([start_at] if start_at else [])) if name not in known]
    if unknown:
        raise UsageError(
            f"There is no recovery step `{unknown[0]}`.", remedy=f"Known: {', '.join(known)}."
        )
    first = known.index(start_at) if start_at else 0
    return [one for one in spec.recovery[first:] if not names or one.name in names]


def _objective(objective: Objective) -> dict[str, Any]:
    return {"rto": objective.rto, "rpo": objective.rpo}


def _entry(builder: _Builder, entry: RecoveryStep) -> None:
    if entry.restore:
        _wave(builder, entry)
        return
    step = own_step(entry, drilled=builder.wanted.kind == "drill")
    ordinary = entry.when == "success"
    builder.add(
        replace(
            step,
            needs=builder.barrier if ordinary else (),
            after=() if ordinary else tuple(one.id for one in builder.steps),
            when=entry.when,
            timeout=entry.timeout,
            expected=entry.expected,
            phase="serve" if builder.placed else "provision",
            reason="the spec's recovery asks for it here",
        )
    )
    if ordinary:
        builder.barrier = (step.id,)
    elif entry.when == "always":
        # What comes after it in the order waits for it, and for success up to there.
        builder.barrier = (*builder.barrier, step.id)


def _wave(builder: _Builder, entry: RecoveryStep) -> None:
    sources = {
        one.source: Restoring(builder.spec, builder.facts, builder.wanted, one)
        for one in builder.wanted.choices
    }
    names = [name for name in entry.restore if name in sources]
    checked = {name: _added(builder, sources[name].prepare(entry, builder.barrier))
               for name in names}  # fmt: skip
    stops = _stop_services(builder, names, checked)
    ends: list[str] = []
    for name in names:
        needs = (checked[name], *(stop for service, stop in stops.items()
                                  if name in builder.spec.services[service].sources))  # fmt: skip
        _added(builder, sources[name].place(needs))
        ends.append(f"{name}.confirm")
    builder.placed += names
    ends += _start_services(builder)
    builder.barrier = tuple(ends) or builder.barrier


def _added(builder: _Builder, steps: Sequence[Step]) -> str:
    """Add these steps; return the last one's id."""
    return [builder.add(step) for step in steps][-1]


def _in_place(builder: _Builder) -> bool:
    """Whether live sources are replaced, so that their services matter."""
    wanted = builder.wanted
    return wanted.scratch is None and not wanted.destination and not wanted.running


def _stop_services(
    builder: _Builder, names: Sequence[str], checked: Mapping[str, str]
) -> dict[str, str]:
    stops: dict[str, str] = {}
    if not _in_place(builder):
        return stops
    for service in services_of(builder.spec, names):
        if service.name not in builder.stopped:
            step = stop_step(service, tuple(checked.values()))
            builder.stopped[service.name] = builder.add(step)
        stops[service.name] = builder.stopped[service.name]
    return stops


def _start_services(builder: _Builder) -> list[str]:
    """Start steps of the services whose sources the plan has all placed by now."""
    planned = {choice.source for choice in builder.wanted.choices}
    started = []
    for name in builder.stopped:
        service = builder.spec.services[name]
        sources = [one for one in service.sources if one in planned]
        known = any(step.id == f"{name}.start" for step in builder.steps)
        if not known and set(sources) <= set(builder.placed):
            started.append(builder.add(start_step(service, sources)))
    return started
