"""What a prune or a deletion removed, as JSON and text show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runner.errors import StepFailed
from runner.execute.ending import Finished
from runner.plan.model import Plan
from runner.report.outcome import Outcome
from runner.spec.model import DEFAULT_PROFILE
from runner.store.snapshot import NEWER


def prune_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`prune`: what went, why the rest stays, and where nobody could look."""
    found = _removal(plan, finished)
    reasons = list(plan.facts.get("unread", {}).values())
    return partial(found, f"Not pruned: {reasons[0]}") if reasons else found


def delete_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`delete`: what went, and where a copy may have stayed."""
    found = _removal(plan, finished)
    same = [f"{one} has the same content, and stays" for one in plan.facts.get("same", ())]
    found = replace(found, notes=(*found.notes, *same))
    unread: Mapping[str, str] = plan.facts.get("unread", {})
    if not unread:
        return found
    name, reason = next(iter(unread.items()))
    return partial(
        found,
        f"A copy of {plan.facts['snapshot']} may lie at {', '.join(unread)}, and the next backup "
        f"would bring it back from there: delete it again once {name} can be read. {reason}",
    )


def partial(found: Outcome, message: str) -> Outcome:
    """The same, as a failure: some of it was not done."""
    if found.exit_code != 0:
        return found
    error = {"kind": "failed", "message": message}
    return replace(found, exit_code=StepFailed.exit_code, error=error)


def _removal(plan: Plan, finished: Finished) -> Outcome:
    outputs = [finished.results[step.id].outputs for step in plan.steps]
    return Outcome(
        plan.kind,
        {
            "kept": [one for out in outputs for one in out.get("kept", [])],
            "removed": [one for out in outputs for one in out.get("removed", [])],
            "damaged": left_alone(plan, finished),
            "foreign": [
                {"key": key, "target": step.params["target"]}
                for step, out in zip(plan.steps, outputs, strict=True)
                for key in out.get("foreign", [])
            ],
        },
        finished.exit_code,
        finished.error,
        notes=tuple(
            f"the manifest of {plan.facts['snapshot']} at {target} was damaged: {reason}"
            for target, reason in plan.facts.get("damaged", {}).items()
        ),
    )


def left_alone(plan: Plan, finished: Finished) -> list[dict[str, str | None]]:
    """What a prune did not touch because its manifest is damaged, and the line that removes it;
    None where it may be whole for a newer version.
    """
    profile = "" if plan.profile == DEFAULT_PROFILE else f" --profile {plan.profile}"
    found = {
        (one["id"], one["target"]): one
        for step in plan.steps
        if step.id in finished.results
        for one in finished.results[step.id].outputs.get("damaged", [])
    }
    return [
        {
            **one,
            "next": None
            if one["reason"].endswith(NEWER)
            else f"holdfast delete --snapshot {name} --confirm {name}{profile}",
        }
        for (name, _), one in found.items()
    ]
