"""The steps that restore one source: stage beside, prove, check, then swap and confirm, with the
undo of the swap and what tidies up. In a drill the same with its destination in a scratch folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.plan.choose import Choice
from runner.plan.facts import Facts
from runner.plan.model import Step
from runner.plan.telling import swap_words
from runner.registry import open_source, open_target
from runner.spec.model import RecoveryStep, Spec
from runner.store.snapshot import ArtifactEntry, folder_of


@dataclass(frozen=True)
class Wanted:
    """What the user asked of a recovery."""

    kind: str  # restore | dr-restore | drill
    choices: Sequence[Choice]
    profile: str  # whose snapshots they are; the spec's own, unless another was asked for
    scratch: Path | None = None  # of a drill
    steps: Sequence[str] = ()  # names of recovery entries; empty: all
    start_at: str | None = None  # the recovery entry to begin with
    destination: str = ""  # of a single restore; empty: the source's own place
    include: Sequence[str] = ()
    running: bool = False
    existing: str = "skip"
    doubts: Sequence[str] = ()  # why these may not be the newest snapshots


@dataclass(frozen=True)
class Restoring:
    """One source of a recovery."""

    spec: Spec
    facts: Facts
    wanted: Wanted
    choice: Choice  # one of those that are wanted

    def prepare(self, entry: RecoveryStep, needs: tuple[str, ...]) -> list[Step]:
        """Stage, prove and check it; once the last of these steps is done it may be placed.

        Raises StepFailed where the manifest lists no content of it.
        """
        steps = [self._stage(entry, needs), self._prove()]
        if self.choice.source in self.spec.checks and not self.wanted.include:
            steps.append(self._check())
        return steps

    def place(self, needs: tuple[str, ...]) -> list[Step]:
        """Swap and confirm it, with the undo and the tidying up."""
        return [self._swap(needs), self._confirm(), self._unswap(), self._discard()]

    @cached_property
    def _where(self) -> dict[str, Any]:
        """Where and how: what every step shares."""
        name, wanted = self.choice.source, self.wanted
        destination = wanted.destination
        if wanted.scratch is not None:
            source = open_source(self.spec.source(name))
            destination = source.scratch_destination(wanted.scratch / name)
        return {
            "source": name,
            "destination": destination,
            "include": list(wanted.include),
            "running": wanted.running,
            "existing": wanted.existing,
        }

    @property
    def _from(self) -> dict[str, Any]:
        """Which snapshot: what the steps share that read it."""
        return {
            "snapshot": self.choice.snapshot.id,
            "profile": self.wanted.profile,
            "target": self.choice.target,
            # A drill is to find out whether the copy that would be taken is whole.
            "elsewhere": [] if self.wanted.kind == "drill" else list(self.choice.elsewhere),
            **({"same": list(self.choice.same)} if self.choice.same else {}),
            "manifest_sha256": self.choice.snapshot.manifest_sha256,
        }

    def _stored(self) -> list[ArtifactEntry]:
        choice = self.choice
        stored = self.facts.manifests[choice.snapshot.id].content_of(choice.source)
        if not stored:
            raise StepFailed(
                f"The manifest of {choice.snapshot.id} at {choice.target} lists no content of "
                f"{choice.source}.",
                remedy="It was changed: `verify` it, and choose another snapshot.",
            )
        return stored

    def _stage(self, entry: RecoveryStep, needs: tuple[str, ...]) -> Step:
        """An entry's limits are of staging, which alone waits for others and takes long."""
        choice, name = self.choice, self.choice.source
        target = open_target(self.spec.target(choice.target))
        folder = folder_of(self.spec.project, self.wanted.profile, choice.snapshot.id)
        return Step(
            id=f"{name}.stage",
            action="recovery.stage",
            title=f"Fetch {name} from {choice.target} and stage it beside its place",
            params={
                **self._where,
                **self._from,
                "location": target.location(folder),
                "stored": [
                    {"part": one.part, "form": one.form, "key": one.key} for one in self._stored()
                ],
            },
            needs=needs,
            effect="writes",
            timeout=entry.timeout,
            expected=entry.expected,
            retries=entry.retries,
            phase="restore",
            reason=choice.reason,
        )

    def _prove(self) -> Step:
        name = self.choice.source
        return Step(
            id=f"{name}.prove",
            action="recovery.prove",
            title=f"Prove that the staged {name} equals the snapshot",
            params={**self._where, **self._from},
            needs=(f"{name}.stage",),
            phase="verify",
            reason="restored means equal, not that a command ended with 0",
        )

    def _check(self) -> Step:
        name = self.choice.source
        return Step(
            id=f"{name}.check",
            action="recovery.check",
            title=f"Ask the staged {name} the spec's checks",
            params={**self._where, **self._from},
            needs=(f"{name}.prove",),
            phase="verify",
            reason="a backup can be intact and dead: emptied, stale, of something else",
        )

    def _swap(self, needs: tuple[str, ...]) -> Step:
        name, where = self.choice.source, self._where
        place = where["destination"] or open_source(self.spec.source(name)).describe()
        return Step(
            id=f"{name}.swap",
            action="recovery.swap",
            title=swap_words(name, place, where["include"]),
            params={
                **where,
                "snapshot": self.choice.snapshot.id,
                "identity": self.facts.identities.get(name),
            },
            needs=needs,
            effect="destroys",
            locks=("swap",),
            phase="restore",
            reason="what is there now is kept as a safety copy",
        )

    def _confirm(self) -> Step:
        name = self.choice.source
        return Step(
            id=f"{name}.confirm",
            action="recovery.confirm",
            title=f"Confirm that {name} stands in its place",
            params=self._where,
            needs=(f"{name}.swap",),
            phase="verify",
            reason="the swap is undone unless this holds",
        )

    def _unswap(self) -> Step:
        name = self.choice.source
        return Step(
            id=f"{name}.unswap",
            action="recovery.unswap",
            title=f"Put back what {name} was before",
            params=self._where,
            after=(f"{name}.swap", f"{name}.confirm"),
            effect="destroys",
            when="failure",
            undoes=f"{name}.swap",
            reason="runs only if the swap did not end well",
        )

    def _discard(self) -> Step:
        name = self.choice.source
        verbs = ("stage", "prove", "swap", "confirm", "unswap")
        return Step(
            id=f"{name}.discard",
            action="recovery.discard",
            title=f"Remove what was staged for {name}",
            params=self._where,
            after=tuple(f"{name}.{verb}" for verb in verbs),
            effect="writes",
            when="always",
            undoes=f"{name}.stage",
            reason="nothing is left behind but the safety copy",
        )
