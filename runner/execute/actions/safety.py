"""Safety copies, let go."""

from __future__ import annotations

from runner.execute.actions.base import Outputs, Simple, Skipped
from runner.execute.context import Context
from runner.execute.kept import forget_note, read_note, removal_begins
from runner.plan.model import Step
from runner.spec.model import Spec


class Drop(Simple):
    """Remove the safety copies that one run made of one source."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """What goes."""
        return [
            f"# remove {one['where']} ({one['bytes']:,} bytes)" for one in step.params["copies"]
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove them, unless their run was taken up again meanwhile."""
        run, name, state = step.params["run"], step.params["source"], context.spec.state
        note = read_note(state, run, name)
        if note is None:
            raise Skipped("they are gone already")
        if run in context.unfinished:
            raise Skipped(f"{run} has not ended well: they may still be needed")
        removal_begins(state, note)
        context.source(name).drop(note.kept)
        forget_note(state, run, name)
        return {"removed": list(step.params["copies"])}


ACTIONS = {"drop": Drop()}
