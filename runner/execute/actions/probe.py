"""Probes: questions asked of the recovered system until they hold or the time is over."""

from __future__ import annotations

from runner.errors import StepFailed
from runner.execute.actions.base import Outputs, Simple, Skipped, typed
from runner.execute.asking import ask_probe, entry_named, live_folder
from runner.execute.context import Context
from runner.plan.model import Step
from runner.spec.model import Spec


class AskProbe(Simple):
    """One `probe` of the recovery."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """The question in shell words where there are any, in its folder."""
        from runner.prove.probes import shell_form

        entry = entry_named(spec, step.params["entry"])
        assert entry.probe is not None
        lines = shell_form(entry.probe)
        if all(line.startswith("#") for line in lines):
            return lines
        return typed(lines, live_folder(entry, spec), entry.environment)

    def perform(self, step: Step, context: Context) -> Outputs:
        """Ask; raise StepFailed when the answer is no."""
        entry = entry_named(context.spec, step.params["entry"])
        assert entry.probe is not None
        answer = ask_probe(entry.probe, entry, context)
        outputs = {"checks": [answer], "verdict": answer["verdict"]}
        if answer["verdict"] == "FAIL":
            raise StepFailed(
                f"The probe {step.id} failed: expected {answer['expected']}, "
                f"found {answer['actual']}.",
                remedy="See what the service says, then resume.",
                outputs=outputs,
            )
        if answer["verdict"] == "SKIP":
            # Asked live, it takes its time all the same.
            counted = entry.expected if entry.expected is not None else entry.timeout
            raise Skipped(str(answer["actual"]), {**outputs, "counted_seconds": counted})
        return outputs


ACTIONS = {"ask": AskProbe()}
