"""Compiles the way back from a recovery: what it replaced stands again where it stood.

For every source: exchange, confirm, forget; the undo of the exchange runs when that failed. What
the recovery had put there is kept as a safety copy in its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.plan.model import Plan, Step
from runner.plan.services import services_of, start_step, stop_step
from runner.spec.model import Spec


@dataclass(frozen=True)
class Replaced:
    """One source of a run that is to be taken back."""

    source: str
    at: str  # when the run confirmed it, RFC 3339 in UTC
    place: Mapping[str, Any]  # the parameters of the place that it was restored to
    where: str  # that place, for a person
    copies: tuple[str, ...]  # its safety copies; none where nothing stood
    identity: str | None  # what stands there now; None: not known


def compile_rollback(spec: Spec, run: str, replaced: Sequence[Replaced]) -> Plan:
    """The plan that takes a run back. Pure."""
    steps: list[Step] = []
    names = [one.source for one in replaced]
    live = [one.source for one in replaced if not one.place["destination"]]
    stops = {one.name: stop_step(one, ()) for one in services_of(spec, live)}
    steps += stops.values()
    for one in replaced:
        needs = tuple(
            stop.id for name, stop in stops.items() if one.source in spec.services[name].sources
        )
        steps += _source_steps(run, one, needs)
    for name in stops:
        used = [one for one in spec.services[name].sources if one in names]
        steps.append(start_step(spec.services[name], used))
    return Plan(
        kind="rollback",
        project=spec.project,
        profile=spec.profile,
        spec_digest=spec.digest,
        steps=tuple(steps),
        facts={
            "run": run,
            "replaced": {one.source: {"at": one.at, "where": one.where} for one in replaced},
            "resolved": spec.resolved,
        },
    )


def _source_steps(run: str, one: Replaced, needs: tuple[str, ...]) -> list[Step]:
    name = one.source
    params = {**one.place, "run": run, "where": one.where}
    swap = Step(
        id=f"{name}.swap",
        action="rollback.put_back",
        title=f"Put back what {name} was: {one.where}",
        params={**params, "copies": list(one.copies), "identity": one.identity},
        needs=needs,
        effect="destroys",
        locks=("swap",),
        phase="restore",
        reason="what is there now is kept as a safety copy"
        if one.copies
        else "nothing stood there: what does now is moved away, and kept",
    )
    confirm = Step(
        id=f"{name}.confirm",
        action="rollback.confirm",
        title=f"Confirm that {name} is what it was",
        params=params,
        needs=(swap.id,),
        phase="verify",
        reason="the exchange is undone unless this holds",
    )
    unswap = Step(
        id=f"{name}.unswap",
        action="recovery.unswap",
        title=f"Put back what {run} had restored of {name}",
        params=params,
        after=(swap.id, confirm.id),
        effect="destroys",
        when="failure",
        undoes=swap.id,
        reason="runs only if the exchange did not end well",
    )
    discard = Step(
        id=f"{name}.discard",
        action="rollback.discard",
        title=f"Forget what was noted for {name} on the way",
        params=params,
        after=(swap.id, confirm.id, unswap.id),
        effect="writes",
        when="always",
        undoes=swap.id,
        reason="nothing is left behind but the safety copy",
    )
    return [swap, confirm, unswap, discard]
