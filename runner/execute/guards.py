"""Guards: what a plan replaces must still be what stood there when the plan was made.

They are read once, before the first step: what a plan's own steps then change is its own work.
"""

from __future__ import annotations

from runner.errors import PersonNeeded
from runner.plan.facts import identities
from runner.plan.model import Plan
from runner.registry import open_source
from runner.spec.model import Spec


def require_same_destinations(plan: Plan, spec: Spec) -> None:
    """Raise PersonNeeded, naming it, where somebody exchanged what the plan would replace."""
    for step in plan.steps:
        then = step.params.get("identity")
        if then is None:
            continue
        name, destination = step.params["source"], step.params["destination"]
        now = identities(spec, [name], destination)[name]
        if now != then:
            where = destination or open_source(spec.source(name)).describe()
            raise PersonNeeded(
                f"The plan is stale: what stands at {where} ({name}) is not what stood there when "
                f"the plan was made ({then} then, {now or 'not to be asked'} now). Somebody "
                "exchanged, made or removed it. Nothing was done.",
                remedy="Look at what is there now, and plan again.",
            )
