"""What journeys have in common: a plan that is ready, its danger, and how its end is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from runner.errors import HoldfastError, PersonNeeded, UsageError
from runner.execute.ending import Finished
from runner.execute.journal import is_done
from runner.execute.lost_values import Holder, lost_values, sources_of_lost_files
from runner.execute.remembering import fading_links, made_elsewhere, missing_links
from runner.execute.session import Session
from runner.execute.since import Overtaken
from runner.plan.choose import LATEST, Asked, Choice, choose
from runner.plan.facts import identities, manifests
from runner.plan.model import Plan, Step
from runner.plan.outstanding import Waiting
from runner.plan.recover import Wanted as WantedRecovery
from runner.plan.recover import compile_recovery
from runner.report import recovered, removed, results
from runner.report.missed import with_missed, with_waiting
from runner.report.outcome import Outcome
from runner.report.rekeyed import rekey_outcome
from runner.spec.model import VERIFY_LEVELS, Spec
from runner.store.catalog import Catalog
from runner.store.records import DrillResult
from runner.store.snapshot import Manifest

Conclude = Callable[[Plan, Finished], Outcome]


@dataclass(frozen=True)
class Danger:
    """What a person must agree to by typing a name."""

    name: str
    lines: tuple[str, ...]  # what would be lost, where


@dataclass(frozen=True)
class Prepared:
    """A journey that is ready to be shown or performed."""

    session: Session
    plan: Plan
    conclude: Conclude
    danger: Danger | None = None
    carry_out: Callable[[], Outcome] | None = None  # where it takes more than to execute the plan
    # makes the plan anew where another run came first; None: a person has to
    anew: Callable[[], Prepared] | None = None


@dataclass(frozen=True)
class Choosing:
    """Which snapshot to recover from."""

    snapshot: str = LATEST
    at: str | None = None  # a time as typed
    target: str | None = None
    profile: str | None = None  # another profile's snapshots
    targets: tuple[str, ...] = ()  # those that may be read; none: all

    def __post_init__(self) -> None:
        """Raises UsageError where two snapshots are asked for."""
        if self.at and self.snapshot != LATEST:
            raise UsageError(
                "--snapshot and --at each choose a snapshot.", remedy="Leave out one of them."
            )


def perform(prepared: Prepared) -> Outcome:
    """Execute what was prepared. Raises PersonNeeded when a yes is missing."""
    session, danger = prepared.session, prepared.danger
    if danger is not None:
        approve(danger, session.call.confirm)
    if prepared.carry_out is not None:
        return _going_on(prepared.carry_out(), session)
    try:
        finished = session.execute(prepared.plan, details=lambda end: details(prepared.plan, end))
    except Overtaken:
        if prepared.anew is None:
            raise
        return perform(prepared.anew())
    return _going_on(prepared.conclude(prepared.plan, finished), session)


def _going_on(outcome: Outcome, session: Session) -> Outcome:
    """The same, whose next line has the flags that every further line needs."""
    line = outcome.data.get("next")
    if not line or not session.call.again:
        return outcome
    return replace(outcome, data={**outcome.data, "next": f"{line} {session.call.again}"})


def store_runbooks(session: Session, drills: Sequence[DrillResult]) -> None:
    """Have the session's backups store with each snapshot its runbook."""

    def render(
        spec: Spec, target: str, manifest: Manifest, elsewhere: Mapping[str, Manifest]
    ) -> str:
        from runner.report.snapshot_runbook import runbook_of

        return runbook_of(spec, target, manifest, elsewhere, drills)

    session.runbook = render


def approve(danger: Danger, typed: str | None) -> None:
    """Raise PersonNeeded unless the right name was typed."""
    if typed != danger.name:
        wrong = "" if typed is None else f" (`{typed}` was given)"
        raise PersonNeeded(
            "\n".join([*danger.lines, f"This needs your yes{wrong}."]),
            remedy=f"Give --confirm {danger.name}",
        )


def danger_of(session: Session, plan: Plan) -> Danger | None:
    """The danger of a plan; None when nothing that exists is replaced."""
    from runner.report.danger import plan_danger

    found = plan_danger(session, plan)
    return None if found is None else Danger(*found)


def concluding(plan: Plan) -> Conclude:
    """How the end of such a plan is told; of a backup see `concluding_backup`."""
    kinds: Mapping[str, Conclude] = {
        "prune": removed.prune_outcome,
        "delete": removed.delete_outcome,
        "pin": results.pin_outcome,
        "unpin": results.pin_outcome,
        "safety": results.safety_outcome,
        "rekey": rekey_outcome,
        "verify": lambda _plan, finished: results.verify_outcome(finished),
    }
    return kinds.get(plan.kind, recovered.recovery_outcome)


def concluding_backup(
    session: Session, before: Catalog, copies: Sequence[Waiting] = ()
) -> Conclude:
    """How the end of a backup is told, before which there was this, and these `copies` waited for a
    target. To be asked before it begins: it may bring back what is missing.
    """
    missed = fading_links(session.spec, before)

    def backup(plan: Plan, end: Finished) -> Outcome:
        if session.spec.encryption is not None:
            _note_keys(session, before, plan, end)
        return with_waiting(with_missed(results.backup_outcome(plan, end), missed), copies)

    return backup


def _note_keys(session: Session, before: Catalog, plan: Plan, end: Finished) -> None:
    """Keep for `validate` whether anybody ever opened what such a backup writes."""
    from runner.report.foresight import remember_keys

    done = [step for step in plan.steps if is_done(step.id, end.results)]
    if any(step.action == "snapshot.publish" for step in done):
        opened = any(_opens(session, step) for step in done)
        remember_keys(session.spec, before, session.facts.now, opened=opened)


def _opens(session: Session, step: Step) -> bool:
    """Whether the step of a backup opens something with an identity that a person keeps."""
    encryption = session.spec.encryption
    kept = session.call.identity or (encryption and encryption.identity)
    deep = step.action == "snapshot.verify" and step.params["level"] != VERIFY_LEVELS[0]
    return bool(kept) and deep


def wanted_recovery(
    session: Session, kind: str, sources: Sequence[str], choosing: Choosing
) -> WantedRecovery:
    """What a recovery of these sources is to bring back, and from where."""
    asked = Asked(choosing.snapshot, session.instant(choosing.at), choosing.target)
    # On a bad night nothing that is not needed stands in the way.
    catalog = session.catalog(
        choosing.targets, profile=choosing.profile, needed=[choosing.target or ""]
    )
    choices = choose(session.spec, catalog, sources, asked)
    profile = choosing.profile or session.spec.profile
    _complete(session, catalog, choices, asked, profile)
    doubts = [
        f"{target} cannot be read: it may hold newer snapshots." for target in catalog.unreachable
    ]
    doubts += [
        f"{gap.snapshot} at {gap.target}: {gap.reason}."
        for gap in (missing_links(session.spec, catalog) if session.remembers else ())
    ]
    here = session.remembers and profile == session.spec.profile
    if here and (other := made_elsewhere(session.spec, catalog)):
        doubts.append(other)
    return WantedRecovery(kind, choices, profile, doubts=tuple(doubts))


def _complete(
    session: Session, catalog: Catalog, choices: Sequence[Choice], asked: Asked, profile: str
) -> None:
    """Let the spec have what lost env files said, whether or not they are brought back."""
    held = {one.source: one for one in choices}
    for name in sources_of_lost_files(session):
        with suppress(HoldfastError):
            held.setdefault(name, *choose(session.spec, catalog, [name], asked))
    holders = [Holder(one.source, one.snapshot.id, one.target, profile) for one in held.values()]
    session.complete(lost_values(session, holders))


def complete_by_plan(session: Session, plan: Plan) -> None:
    """The same, by what an earlier plan brings back."""
    keys = ("source", "snapshot", "target", "profile")
    stages = [step.params for step in plan.steps if step.action == "recovery.stage"]
    holders = [Holder(**{key: one[key] for key in keys}) for one in stages]
    session.complete(lost_values(session, holders))


def compile_wanted(session: Session, wanted: WantedRecovery) -> Plan:
    """The plan of a recovery, from what is known now."""
    pairs = [(one.snapshot.id, one.target) for one in wanted.choices]
    names = [one.source for one in wanted.choices]
    live = wanted.scratch is None
    facts = replace(
        session.facts,
        identities=identities(session.spec, names, wanted.destination) if live else {},
        manifests=manifests(session.spec, session.targets, pairs, wanted.profile),
    )
    return compile_recovery(session.spec, facts, wanted)


def known_marks(session: Session, catalog: Any, names: Sequence[str]) -> dict[tuple[str, str], str]:
    """What the sources' newest snapshots say their content was marked with."""
    holders = {name: catalog.newest(name) for name in names}
    pairs = [(one.id, one.targets[0]) for one in holders.values() if one is not None]
    read = manifests(session.spec, session.targets, pairs)
    return {
        (one.id, name): mark
        for name, one in holders.items()
        if one is not None and (mark := read[one.id].sources[name].mark) is not None
    }


def details(plan: Plan, finished: Finished) -> dict[str, Any]:
    """What a run's journal remembers at its end, for `status` and `history`."""
    policies = sorted({step.params["policy"] for step in plan.steps if "policy" in step.params})
    return {"kind": plan.kind, "policies": policies, "seconds": finished.seconds}
