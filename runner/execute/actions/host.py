"""What a machine must have that no snapshot brings."""

from __future__ import annotations

from runner.errors import StepFailed
from runner.execute.actions.base import Outputs, Simple
from runner.execute.context import Context
from runner.plan.model import Step
from runner.spec.model import Spec
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS


class Equip(Simple):
    """Judge what a new machine would lack; it was found out when the plan was made."""

    def commands(self, step: Step, spec: Spec) -> list[str]:  # noqa: ARG002
        """What to have at hand."""
        return [f"# have at hand: {one}" for one in (*step.params["lacks"], *step.params["asks"])]

    def perform(self, step: Step, context: Context) -> Outputs:  # noqa: ARG002
        """Raise StepFailed where anything is lacking: a recovery would not begin."""
        lacks, asks = step.params["lacks"], step.params["asks"]
        rows = [_row(one, FAIL, "nothing brings it") for one in lacks]
        rows += [_row(one, COULD_NOT_VERIFY, "only that program knows") for one in asks]
        rows = rows or [_row("nothing else is needed", PASS, "all is there")]
        verdict = FAIL if lacks else COULD_NOT_VERIFY if asks else PASS
        outputs = {"checks": rows, "verdict": verdict}
        if lacks:
            raise StepFailed(
                f"A new host would lack what no snapshot brings: {'; '.join(lacks)}.",
                remedy="Put it into a source of files, or keep it where the identity is kept and "
                "set it when you drill, as you would on the bad day.",
                outputs=outputs,
            )
        return outputs


def _row(name: str, verdict: str, actual: str) -> dict[str, str | None]:
    return {
        "source": None,
        "name": name,
        "kind": "host",
        "verdict": verdict,
        "expected": "brought by a snapshot, or at hand",
        "actual": actual,
    }


ACTIONS = {"equip": Equip()}
