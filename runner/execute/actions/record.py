"""Records: what a person says of a snapshot, kept at each target that holds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runner.execute.actions.base import Outputs, Simple
from runner.execute.context import Context
from runner.execute.remembering import words_here
from runner.execute.session import who
from runner.plan.model import Step
from runner.spec.model import Spec
from runner.store.records import Pin, Unpin, body_of, write_record


class PinSnapshot(Simple):
    """Keep a snapshot whatever retention says."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """There is no shell form: retention is this tool's."""
        return [f"# leave {step.params['snapshot']} at {step.params['target']} alone"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Write the pin behind every earlier word on the snapshot."""
        until = step.params["until"]
        word = Pin(
            step.params["snapshot"],
            _after(step),
            who(),
            None if until is None else datetime.fromisoformat(until),
        )
        return _write(step, context, word)


class UnpinSnapshot(Simple):
    """Leave a snapshot to retention again."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """There is no shell form: retention is this tool's."""
        return [f"# {step.params['snapshot']} at {step.params['target']} may be removed"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Take back every pin that was given before."""
        return _write(step, context, Unpin(step.params["snapshot"], _after(step), who()))


def _after(step: Step) -> datetime:
    """Now, or right after the last word on that snapshot where a clock says it comes later: the
    latest word counts.
    """
    now, behind = datetime.now(UTC), step.params["behind"]
    if behind is None:
        return now
    return max(now, datetime.fromisoformat(behind) + timedelta(microseconds=1))


def _write(step: Step, context: Context, word: Pin | Unpin) -> Outputs:
    spec, target = context.spec, context.target(step.params["target"])
    kind = step.action.rpartition(".")[2]
    known = (spec.project, spec.profile, kind, body_of(word), word.at)
    key = write_record(target, *known)
    write_record(words_here(spec.state), *known)
    return {"key": key}


ACTIONS = {"pin": PinSnapshot(), "unpin": UnpinSnapshot()}
