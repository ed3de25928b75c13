"""Taking a recovery back: what it replaced is exchanged with what it put there."""

from __future__ import annotations

from runner.errors import StepFailed
from runner.execute.actions.base import Outputs, Simple
from runner.execute.actions.recovery import note_kept, opened
from runner.execute.context import Context
from runner.execute.journal import StepResult, is_done
from runner.execute.kept import Note, forget_note, read_note
from runner.plan.model import Step
from runner.spec.model import Spec


class PutBack(Simple):
    """Exchange what is live with the safety copies of an earlier run."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """The copies, and where they belong."""
        where = step.params["where"]
        if not step.params["copies"]:
            return [f"# move {where} away: nothing stood there before"]
        return [f"# exchange {where} with {one}" for one in step.params["copies"]]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Exchange them, unless what is live is in use."""
        source, place = opened(step, context)
        if source.swapped(place) == "absent":
            source.gate(place)
        return {"safety": [str(one) for one in source.put_back(_note(step, context).kept, place)]}

    def observe(self, step: Step, context: Context, result: StepResult) -> str:
        """As the disk says."""
        source, place = opened(step, context)
        if result.done and is_done(f"{source.name}.confirm", context.results):
            return "done"
        return source.swapped(place)


class Confirm(Simple):
    """See that the exchange is whole, and remember what it replaced in its turn."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Where to look."""
        return [f"# look at {step.params['where']}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Confirm, or raise so that the exchange is undone."""
        source, place = opened(step, context)
        if source.swapped(place) != "done":
            raise StepFailed(f"What {source.name} was before is not back in its place yet.")
        note_kept(source, place, step, context)
        context.reread_spec()
        return {}


class Discard(Simple):
    """Forget what was noted on the way."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """Nothing is staged by hand."""
        return []

    def perform(self, step: Step, context: Context) -> Outputs:
        """Forget it; once all is back, the note of the run that was taken back too."""
        source, place = opened(step, context)
        source.discard(place)
        if is_done(f"{source.name}.confirm", context.results):
            forget_note(context.spec.state, step.params["run"], source.name)
        return {}


def _note(step: Step, context: Context) -> Note:
    note = read_note(context.spec.state, step.params["run"], step.params["source"])
    if note is None or note.going:
        raise StepFailed(
            f"What {step.params['run']} replaced of {step.params['source']} is not known any more.",
            remedy="Its safety copies were removed, or the rollback is done.",
        )
    return note


ACTIONS = {"put_back": PutBack(), "confirm": Confirm(), "discard": Discard()}
