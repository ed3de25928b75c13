"""What an action is given: the spec, opened sources and targets, what earlier steps found out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import Interrupted, PersonNeeded, StepFailed
from runner.execute.journal import StepResult
from runner.execute.recoveries import unfinished
from runner.plan.model import Plan, Step
from runner.registry import open_source, open_target
from runner.secret import Secret
from runner.spec.model import VERIFY_LEVELS, Spec
from runner.store.signature import Signers
from runner.store.snapshot import Manifest

if TYPE_CHECKING:
    from runner.source import Source
    from runner.target import Target


# Of a spec, a target, the manifest of a snapshot there, and by id the manifests that have what
# is unchanged in it: the recovery from that snapshot, for a person.
Runbook = Callable[[Spec, str, Manifest, Mapping[str, Manifest]], str]


@dataclass
class Context:
    """One run's surroundings. Actions read it; only the driver changes `results`."""

    spec: Spec
    plan: Plan
    run: str  # the run's id
    identity: Secret | None = None  # overrides the spec's
    confirm: str | None = None  # the name that a person typed: their yes
    signers_file: Path | None = None  # overrides the spec's `signing.allowed_signers`
    unsigned: bool = False  # a person took this spec, and what it recovers, without a signature
    scratch: Path | None = None  # of a drill: everything is restored inside it
    # Reads the spec anew with variables that were restored; None: where it stands
    reload: Callable[[Mapping[str, str]], Spec] | None = None
    lost: Mapping[str, str] = field(default_factory=dict)  # said by env files that are not there
    runbook: Runbook | None = None  # renders what a backup stores with each snapshot
    resumed: bool = False  # what a step does may be done, and not written down
    results: dict[str, StepResult] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)  # manual steps that a person did
    interrupted: threading.Event = field(default_factory=threading.Event)
    late: set[str] = field(default_factory=set)  # steps whose timeout has passed
    gone: dict[str, str] = field(default_factory=dict)  # targets that could not be read: why
    # Of the snapshots that a recovery reads, by target, profile and id, with their sha256: each is
    # read once a run, however many sources are in it.
    manifests: dict[tuple[str, str, str], tuple[Manifest, str]] = field(default_factory=dict)
    whole: set[tuple[str, str, str]] = field(default_factory=set)  # its own files are as written
    swept: set[str] = field(default_factory=set)  # targets without leftovers of killed runs
    tell: Callable[[Mapping[str, Any]], None] = lambda _event: None
    _targets: dict[str, Target] = field(default_factory=dict)
    _identities: list[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _one_time: tuple[str, str] | None = None  # identity and recipient; never leaves this process

    @property
    def token(self) -> str:
        """Names what the run leaves beside live content: the run's time and hex digits."""
        return run_token(self.run)

    @cached_property
    def unfinished(self) -> set[str]:
        """The runs whose safety copies may still be wanted. To be asked under the lock that keeps
        all of them out: it is looked for once, in the journals of all.
        """
        return unfinished(self.spec.state)

    def source(self, name: str) -> Source:
        """The source of that name, opened."""
        return open_source(self.spec.source(name))

    def target(self, name: str) -> Target:
        """The target of that name, opened once a run."""
        if name not in self._targets:
            self._targets[name] = open_target(self.spec.target(name))
        return self._targets[name]

    def identities(self) -> list[str]:
        """The private keys that open what is stored. Raises PersonNeeded when none is at hand."""
        if self._one_time is not None:
            return [self._one_time[0]]
        if self._identities is None:
            secret = self._declared_identity()
            if not secret:
                raise PersonNeeded(
                    "The snapshot is encrypted, and no identity is declared.",
                    remedy="Give --identity FILE, or declare encryption.identity.",
                )
            self._identities = [secret.reveal()]
        return self._identities

    def signers(self) -> Signers | None:
        """Whose signatures a snapshot needs; None where none is asked for."""
        declared = self.spec.signing.allowed_signers if self.spec.signing else None
        file = self.signers_file or (None if self.unsigned else declared)
        return None if file is None else Signers(file)

    @property
    def key(self) -> str:
        """Which identity opens what this run reads: declared | one-time | none."""
        if self.spec.encryption is None:
            return "none"
        return "declared" if self._one_time is None else "one-time"

    def recipients(self, policy: str) -> tuple[str, ...]:
        """Who can read what a policy's capture writes.

        A host without an identity stays blind, yet proves what it has just written: one more
        recipient, whose identity this process forgets at its end.
        """
        encryption = self.spec.encryption
        if encryption is None:
            return ()
        proves = self.spec.policy(policy).verify != VERIFY_LEVELS[0]
        if self._declared_identity() or not proves:
            return encryption.recipients
        with self._lock:
            if self._one_time is None:
                from runner.store.seal import keygen

                self._one_time = keygen()
        return (*encryption.recipients, self._one_time[1])

    def _declared_identity(self) -> Secret | None:
        encryption = self.spec.encryption
        return self.identity or (encryption.identity if encryption else None)

    def reread_spec(self, restored: Callable[[], Mapping[str, str]] = dict) -> None:
        """Read the spec again: a restore may have brought back the env files it expands.
        `restored` reads them where they are not where the spec says.
        """
        from runner.spec.load import load_spec

        if not self.spec.env_files:
            return
        if self.reload is not None:
            self.spec = self.reload({**self.lost, **restored()})
        elif self.scratch is None:
            fresh = load_spec(self.spec.file, self.spec.profile, unset="keep", lost=self.lost)
            # A target that was given by its address stands in no spec.
            same = fresh.targets.keys() == self.spec.targets.keys()
            self.spec = fresh if same else replace(fresh, targets=self.spec.targets)

    def outputs(self, step_id: str) -> Mapping[str, Any]:
        """What a step found out; empty when it has not ended."""
        result = self.results.get(step_id)
        return {} if result is None else result.outputs

    def progress(self, step: Step) -> Callable[[int], None]:
        """A function that counts bytes of a step, and stops it when the run is interrupted or its
        time is over.
        """
        total = 0

        def count(more: int) -> None:
            nonlocal total
            if self.interrupted.is_set() and step.when == "success":
                raise Interrupted(f"{step.id} was stopped.")
            if step.id in self.late:
                raise StepFailed(f"{step.id} took longer than its timeout.")
            total += more
            self.tell({"event": "progress", "step": step.id, "bytes": total})

        return count

    def require_scratch(self, path: str) -> None:
        """In a drill, refuse every path outside the scratch folder."""
        if self.scratch is None:
            return
        resolved = Path(path).resolve()
        if not path or not resolved.is_relative_to(self.scratch.resolve()):
            raise StepFailed(f"A drill may not touch {path or 'the live source'}.")


def run_token(run: str) -> str:
    """`20261120T021500Z-backup-7f3a9c` → `20261120t021500z7f3a9c`."""
    at, *_, digits = run.split("-")
    return f"{at.lower()}{digits}"
