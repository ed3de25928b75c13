"""What a drill supposes to have happened, and what it may use then: pure, but for the identity."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import HoldfastError, StepFailed, UsageError
from runner.plan.choose import LATEST
from runner.secret import Secret
from runner.spec.model import Spec
from runner.store.age import parse_identities
from runner.store.catalog import Catalog

RANDOM, AT = "random", "at"
TARGET_LOST, KEY_LOST, HOST_LOST = "target-lost", "key-lost", "host-lost"
CHOSEN = "chosen"  # by --snapshot; not asked for by name

WORDS = {
    LATEST: "the newest snapshot of every source",
    RANDOM: "a random snapshot of all that are kept",
    AT: "the newest snapshot of every source that is not after a time",
    CHOSEN: "a snapshot that was named",
    TARGET_LOST: "a target is gone; only the others are read",
    KEY_LOST: "the identity that is declared is gone; only the one that was given is used",
    HOST_LOST: "the host is gone; only one target, its credentials and the identity are used",
}
NAMES = tuple(name for name in WORDS if name != CHOSEN)


@dataclass(frozen=True)
class Scenario:
    """What is drilled."""

    name: str = LATEST  # a key of WORDS
    lost: str = ""  # the target that counts as gone
    snapshot: str = LATEST
    at: str | None = None  # a time, as it can be typed
    target: str = ""  # the one to recover from; empty: whichever has it

    @property
    def words(self) -> str:
        """What is supposed, for a person."""
        lost = f" ({self.lost})" if self.lost else ""
        return f"{self.name}{lost}: {WORDS[self.name]}"

    @property
    def repeat(self) -> str:
        """The line that drills the same again."""
        words = ["holdfast drill"]
        if self.name in (TARGET_LOST, KEY_LOST, HOST_LOST):
            words += ["--scenario", self.name]
        words += ["--lost", self.lost] if self.lost else []
        words += ["--snapshot", self.snapshot] if self.snapshot != LATEST else []
        words += ["--at", f'"{self.at}"'] if self.at else []
        words += ["--from", self.target] if self.target else []
        words += ["--identity", "FILE"] if self.name in (KEY_LOST, HOST_LOST) else []
        return " ".join(words)


def scenario_of(spec: Spec, name: str, lost: str, snapshot: str, at: str | None) -> Scenario:
    """The scenario that was asked for. Raises UsageError where options do not go together."""
    if name and name not in NAMES:
        raise UsageError(f"There is no scenario `{name}`.", remedy=f"Known: {', '.join(NAMES)}.")
    found = name or (AT if at else CHOSEN if snapshot != LATEST else LATEST)
    if found == AT and not at:
        raise UsageError("The scenario `at` needs a time.", remedy="Give --at TIME.")
    if (found == TARGET_LOST) != bool(lost):
        raise UsageError(
            "--lost TARGET and --scenario target-lost go together.",
            remedy=f"Targets: {', '.join(spec.targets)}.",
        )
    if found == RANDOM and (at or snapshot != LATEST):
        raise UsageError(
            "--scenario random chooses by itself.", remedy="Leave out --snapshot and --at."
        )
    if lost:
        spec.target(lost)
    return Scenario(found, lost, snapshot, at)


def readable_targets(spec: Spec, scenario: Scenario) -> tuple[str, ...]:
    """The targets that are left. Raises StepFailed when there is none: then all is lost."""
    left = tuple(name for name in spec.targets if name != scenario.lost)
    if not left:
        raise StepFailed(
            f"Without {scenario.lost} there is no target left: nothing can be recovered.",
            remedy="Declare a second target, elsewhere.",
        )
    return left


def drawn(scenario: Scenario, catalog: Catalog, sources: Sequence[str], seed: str) -> Scenario:
    """The scenario with what `random` drew: a snapshot of all the sources if there is one, else a
    moment at which each of them had one.
    """
    if scenario.name != RANDOM:
        return scenario
    chance = random.Random(seed)  # noqa: S311 - no secret
    whole = [one.id for one in catalog.snapshots if set(sources) <= set(one.covers)]
    if whole:
        return Scenario(RANDOM, snapshot=chance.choice(sorted(whole)))
    moments = [
        one.created_at
        for one in catalog.snapshots
        if all(catalog.newest(name, at=one.created_at) for name in sources)
    ]
    if not moments:
        raise UsageError(
            "There is no moment at which every source has a snapshot.",
            remedy="`list` shows what there is.",
        )
    at = chance.choice(sorted(moments))
    return Scenario(RANDOM, at=at.isoformat(timespec="seconds").replace("+00:00", "Z"))


def require_other_identity(spec: Spec, given: Secret | None) -> None:
    """For `key-lost`: identities were given, and none of them is a declared one."""
    if spec.encryption is None:
        raise UsageError(
            "Nothing is encrypted, so no key can be lost.", remedy="See `encryption:`."
        )
    if given is None:
        raise UsageError(
            "The scenario key-lost needs the identity from the safe.",
            remedy="Give --identity FILE.",
        )
    declared = spec.encryption.identity
    try:
        lost = set() if declared is None else {*parse_identities(declared.reveal())}
    except HoldfastError:
        return  # the declared one is not here, which is what is supposed
    if lost.intersection(parse_identities(given.reveal())):
        raise UsageError(
            "--identity holds the declared identity, whose loss is supposed.",
            remedy="Give the escrow identity: another one of encryption.recipients.",
        )
