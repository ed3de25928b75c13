"""Snapshots for other recipients: written beside the old ones, locked, and the old ones removed."""

from __future__ import annotations

import shlex

from runner.execute.actions.base import Outputs, Simple
from runner.execute.actions.snapshot import open_target_of
from runner.execute.context import Context
from runner.plan.model import Step
from runner.spec.model import Spec
from runner.store.snapshot import MANIFEST, folder_of


class WriteRekeyed(Simple):
    """Write a snapshot of the same content for the declared recipients, the manifest last."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What it does to each file; nobody writes a manifest by hand."""
        recipients = spec.encryption.recipients if spec.encryption else ()
        words = " ".join(f"-r {shlex.quote(one)}" for one in recipients)
        return [
            f"# of each file of {step.params['old']}, then new checksums and a new manifest:",
            f'age -d -i "$AGE_IDENTITY" -- OLD.age | age {words} > NEW.age',
        ]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Write it."""
        from runner.execute.rekeying import write

        return write(step, context)


class HoldRekeyed(Simple):
    """Lock what an earlier run wrote."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What is locked."""
        folder = folder_of(spec.project, spec.profile, step.params["snapshot"])
        return [f"# lock the files below {open_target_of(spec, step).location(folder)}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Lock it."""
        from runner.execute.replaced import hold

        return hold(step, context)


class RemoveReplaced(Simple):
    """Remove what another snapshot stands for, at one target."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What goes."""
        folder = folder_of(spec.project, spec.profile, step.params["old"])
        return [f"# remove {open_target_of(spec, step).location(folder)}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove it, if what stands for it is there and no snapshot names it."""
        from runner.execute.replaced import remove

        return remove(step, context)


class SweepReplaced(Simple):
    """Remove what a removal that was stopped left, at one target."""

    def commands(self, step: Step, spec: Spec) -> list[str]:
        """What would go."""
        folder = folder_of(spec.project, spec.profile, step.params["snapshot"])
        return [f"# remove {open_target_of(spec, step).location(folder)} if it has no {MANIFEST}"]

    def perform(self, step: Step, context: Context) -> Outputs:
        """Remove what a backup wrote there, if the manifest is gone."""
        from runner.execute.replaced import sweep

        return sweep(step, context)


ACTIONS = {
    "write": WriteRekeyed(),
    "hold": HoldRekeyed(),
    "remove": RemoveReplaced(),
    "sweep": SweepReplaced(),
}
