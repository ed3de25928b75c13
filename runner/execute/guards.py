"""Guards: what must hold before a plan, or one of its steps, is executed.

What a plan replaces must still be what stood there when the plan was made. That is read once,
before the first step: what the plan's own steps then change is its own work.
"""

from __future__ import annotations

from runner.errors import PersonNeeded
from runner.plan.facts import identities
from runner.plan.model import Plan, Step
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


def require_values(step: Step, spec: Spec) -> None:
    """Raise SpecError where what the step does still waits for a variable, by now: an earlier
    step may have brought back the env file that sets it.
    """
    if step.action in ("command.run", "probe.ask"):
        names = [entry.name for entry in spec.recovery]
        if step.params["entry"] in names:
            spec.require(f"recovery[{names.index(step.params['entry'])}]")
    elif step.action == "service.start":
        spec.require(f"services.{step.params['service']}")
    elif step.action == "recovery.check":
        spec.require(f"checks.{step.params['source']}")
