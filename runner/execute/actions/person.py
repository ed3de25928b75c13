"""Steps that a person does, and steps that are left out of a drill."""

from __future__ import annotations

from runner.errors import PersonNeeded
from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.plan.model import Step
from runner.spec.model import Spec


class AskPerson(Simple):
    """Stop until a person reports that the step is done."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """What to do, in words."""
        return [f"# by hand: {line}" for line in step.title.splitlines()] + [
            f"# [ ] {line}" for line in step.params.get("checklist", ())
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Done when it was reported; else raise PersonNeeded with the flags that go on."""
        if step.id in context.reported:
            report = context.reported[step.id]
            return {"by": report.get("by"), "at": report.get("at")}
        listed = "".join(f"\n  [ ] {line}" for line in step.params.get("checklist", ()))
        end = "" if listed or step.title.endswith((".", "!", "?")) else "."
        raise PersonNeeded(
            f"By hand: {step.title}{end}{listed}",
            remedy=f"Then go on with --resume {context.run} --done {step.id}",
        )


class LeaveOut(Simple):
    """A step that a drill does not do; its time counts all the same."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Nothing."""
        return [f"# {step.params['why']}"]

    def perform(self, step: Step, context: Context) -> Outputs:  # noqa: ARG002
        """Skip."""
        raise Skipped(step.params["why"], {"counted_seconds": step.params["counted_seconds"]})


ACTIONS = {"ask": AskPerson(), "leave_out": LeaveOut()}
