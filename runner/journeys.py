"""The stories: what each command does, as a short list of calls.

Everything enters here: the command line now, a scheduler or a dashboard later. A journey that
acts is first prepared (its plan can be shown, saved, judged) and then performed. Journeys never
prompt: what needs a person's yes says so as `danger`, and takes the name they typed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import PersonNeeded, SpecError, UsageError
from runner.execute import journal
from runner.execute.remembering import missing_links, recall
from runner.execute.runs import Finished
from runner.execute.session import Call, Session
from runner.plan.backup import Wanted as WantedBackup
from runner.plan.backup import compile_backup
from runner.plan.choose import LATEST, Asked, choose
from runner.plan.delete import compile_delete
from runner.plan.due import last_marks, wanted_policies
from runner.plan.facts import changed_marks, identities, manifests
from runner.plan.model import Plan, plan_from_json
from runner.plan.prune import compile_prune
from runner.plan.recover import Wanted as WantedRecovery
from runner.plan.recover import compile_recovery, recovery_entries
from runner.plan.verify import compile_verify
from runner.registry import open_source
from runner.report import results
from runner.report.outcome import Outcome


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
    conclude: Callable[[Plan, Finished], Outcome]
    danger: Danger | None = None
    carry_out: Callable[[], Outcome] | None = None  # where it takes more than to execute the plan


@dataclass(frozen=True)
class Choosing:
    """Which snapshot to recover from."""

    snapshot: str = LATEST
    at: str | None = None  # a time as typed
    target: str | None = None
    profile: str | None = None  # another profile's snapshots


def perform(prepared: Prepared) -> Outcome:
    """Execute what was prepared. Raises PersonNeeded when a yes is missing."""
    session, danger = prepared.session, prepared.danger
    if danger is not None:
        approve(danger, session.call.confirm)
    if prepared.carry_out is not None:
        return prepared.carry_out()
    finished = session.execute(prepared.plan, details=lambda end: _details(prepared.plan, end))
    return prepared.conclude(prepared.plan, finished)


def approve(danger: Danger, typed: str | None) -> None:
    """Raise PersonNeeded unless the right name was typed."""
    if typed != danger.name:
        wrong = "" if typed is None else f" (`{typed}` was given)"
        raise PersonNeeded(
            f"{' '.join(danger.lines)} This needs your yes{wrong}.",
            remedy=f"Give --confirm {danger.name}",
        )


def validate(call: Call, *, strict: bool = False) -> Outcome:
    """The spec alone: every error, and what can never meet its objectives."""
    from runner.spec.check import warnings
    from runner.spec.load import load_spec

    try:
        spec = load_spec(call.file, call.profile)
    except SpecError as error:
        problems = [one.as_json() for one in error.problems] or [error.as_json()]
        return Outcome("validate", {"errors": problems, "warnings": []}, 3, error.as_json())
    found = [one.as_json() for one in warnings(spec)]
    code = SpecError.exit_code if strict and found else 0
    error_json = {"kind": "spec", "message": f"{len(found)} warnings, and --strict"}
    return Outcome(
        "validate", {"errors": [], "warnings": found}, code, error_json if code else None
    )


def backup(
    call: Call,
    *,
    policies: Sequence[str] = (),
    sources: Sequence[str] = (),
    only_due: bool = False,
    prune: bool = True,
) -> Prepared:
    """Capture, publish, copy, verify, prune: for each policy that is to run; and the copies that
    are still to be made.
    """
    session = Session.open(call)
    spec, catalog = session.spec, session.catalog()
    for name in sources:
        spec.source(name)
    dues = wanted_policies(spec, catalog, session.facts.now, policies, only_due=only_due)
    dues = [due for due in dues if not sources or set(sources) & set(due.policy.sources)]
    if not dues and not only_due:
        raise UsageError("No policy covers what was asked for.", remedy="See `policies:`.")
    lazy = [due.policy for due in dues if due.policy.skip_unchanged]
    names = sorted({name for policy in lazy for name in policy.sources})
    facts = replace(session.facts, marks=changed_marks(spec, names), remembered=recall(spec))
    known = _known_marks(session, catalog, names)
    chosen = [spec.policy(name) for name in policies] or list(spec.policies.values())
    wanted = WantedBackup(
        dues, sources, prune, last_marks(catalog, lazy, known), [] if sources else chosen
    )
    return Prepared(session, compile_backup(spec, facts, catalog, wanted), results.backup_outcome)


def restore(
    call: Call,
    source: str,
    *,
    choosing: Choosing,
    destination: str = "",
    include: Sequence[str] = (),
    running: bool = False,
    existing_keys: str = "skip",
) -> Prepared:
    """One source, staged, proven and swapped in, with a safety copy of what it replaces."""
    from runner.report.danger import restore_danger

    session = Session.open(call)
    wanted = _recovery(session, "restore", [source], choosing)
    wanted = replace(
        wanted,
        destination=open_source(session.spec.source(source)).destination(destination)
        if destination
        else "",
        include=include,
        running=running,
        existing=existing_keys,
    )
    plan = _compile(session, wanted)
    danger = restore_danger(session, plan, wanted)
    return Prepared(session, plan, results.recovery_outcome, danger and Danger(*danger))


def recover(
    call: Call,
    *,
    choosing: Choosing,
    steps: Sequence[str] = (),
    start_at: str | None = None,
) -> Prepared:
    """The whole recovery, in the order of the spec."""
    from runner.report.danger import recovery_danger

    session = Session.open(call)
    sources = recovery_entries(session.spec, steps, start_at)
    wanted = _recovery(session, "dr-restore", sources, choosing)
    wanted = replace(wanted, steps=steps, start_at=start_at)
    plan = _compile(session, wanted)
    danger = recovery_danger(session, plan, wanted)
    return Prepared(session, plan, results.recovery_outcome, danger and Danger(*danger))


def drill(call: Call, *, choosing: Choosing, report_folder: Path | None = None) -> Prepared:
    """The whole recovery into scratch instances, measured."""
    from runner.report.drill import rehearse

    session = Session.open(call)
    sources = recovery_entries(session.spec, (), None)
    wanted = _recovery(session, "drill", sources, choosing)

    def in_scratch(folder: Path) -> Plan:
        return _compile(session, replace(wanted, scratch=folder))

    plan = in_scratch(session.spec.state / "scratch" / "drill")
    return Prepared(
        session,
        plan,
        results.recovery_outcome,
        carry_out=lambda: rehearse(session, in_scratch, report_folder),
    )


def verify(
    call: Call,
    *,
    snapshot: str = LATEST,
    level: str | None = None,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    sample: float = 1.0,
) -> Prepared:
    """Read snapshots back: the newest of each policy at every target, or the one named."""
    session = Session.open(call)
    catalog = session.catalog(targets)
    gaps = missing_links(session.spec, catalog) if snapshot == LATEST else []
    plan = compile_verify(
        session.spec,
        catalog,
        snapshot=snapshot,
        level=level,
        sources=sources,
        sample=sample,
    )
    return Prepared(session, plan, lambda _plan, end: results.verify_outcome(end, gaps))


def prune(call: Call, *, policies: Sequence[str] = (), targets: Sequence[str] = ()) -> Prepared:
    """Apply retention."""
    session = Session.open(call)
    for name in policies:
        session.spec.policy(name)
    catalog = session.catalog(targets)
    plan = compile_prune(session.spec, session.facts, catalog, policies, targets)
    return Prepared(session, plan, results.prune_outcome)


def delete(call: Call, *, snapshot: str) -> Prepared:
    """Remove one snapshot everywhere, because a person said so."""
    from runner.report.danger import plan_danger

    session = Session.open(call)
    plan = compile_delete(session.spec, session.catalog(), snapshot)
    danger = plan_danger(session, plan)
    return Prepared(session, plan, results.prune_outcome, danger and Danger(*danger))


def apply(call: Call, *, file: Path) -> Prepared:
    """A saved plan, if the world is still as it was when it was made."""
    from runner.report.danger import plan_danger

    session = Session.open(call)
    try:
        plan = plan_from_json(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} cannot be used as a plan: {error}.",
            remedy="Save it anew with --dry-run --out.",
        ) from error
    if plan.kind == "drill":
        raise UsageError(
            "A drill makes its scratch folder anew, so its plan is only to be looked at.",
            remedy="Run `drill` itself.",
        )
    if plan.spec_digest != session.spec.digest or plan.profile != session.spec.profile:
        raise PersonNeeded(
            "The plan is stale: the spec or the profile is not the one that it was made from.",
            remedy="Plan again with --dry-run --out, and look at what differs.",
        )
    if plan.facts.get("resolved") not in (None, session.spec.resolved):
        raise PersonNeeded(
            "The plan is stale: a variable that the spec expands has another value now.",
            remedy="Plan again with --dry-run --out, and look at what differs.",
        )
    newest = session.catalog().snapshots
    if plan.kind == "backup" and plan.facts["newest"] != (newest[0].id if newest else None):
        raise PersonNeeded(
            "The plan is stale: there is a newer snapshot than it knew.", remedy="Plan again."
        )
    danger = plan_danger(session, plan)
    return Prepared(session, plan, _concluding(plan), danger and Danger(*danger))


def resume(
    call: Call, kind: str, run: str, *, done: Sequence[str] = (), start_at: str | None = None
) -> Prepared:
    """Go on with a run of that kind that ended early, from what still holds."""
    session = Session.open(call)
    plan = journal.read_plan(session.spec.state, run)
    if plan.kind != kind:
        raise UsageError(
            f"The run {run} is a {plan.kind}, not a {kind}.", remedy="`history --runs` lists runs."
        )
    if plan.spec_digest != session.spec.digest:
        raise PersonNeeded(
            f"The spec is not the one that {run} was started with.",
            remedy="Bring the spec back, or start anew without --resume.",
        )
    unknown = {*done, *([start_at] if start_at else [])} - {step.id for step in plan.steps}
    if unknown:
        raise UsageError(
            f"The run has no step `{min(unknown)}`.", remedy=f"`show --run {run}` lists them."
        )

    def go_on() -> Outcome:
        again = [start_at] if start_at else []
        finished = session.resume(
            run, reported=done, again=again, details=lambda end: _details(plan, end)
        )
        return _concluding(plan)(plan, finished)

    return Prepared(session, plan, _concluding(plan), carry_out=go_on)


def _concluding(plan: Plan) -> Callable[[Plan, Finished], Outcome]:
    kinds: Mapping[str, Callable[[Plan, Finished], Outcome]] = {
        "backup": results.backup_outcome,
        "prune": results.prune_outcome,
        "delete": results.prune_outcome,
        "verify": lambda _plan, finished: results.verify_outcome(finished),
    }
    return kinds.get(plan.kind, results.recovery_outcome)


def _recovery(
    session: Session, kind: str, sources: Sequence[str], choosing: Choosing
) -> WantedRecovery:
    asked = Asked(choosing.snapshot, session.instant(choosing.at), choosing.target)
    catalog = session.catalog(profile=choosing.profile)
    choices = choose(session.spec, catalog, sources, asked)
    doubts = [
        f"{target} cannot be read: it may hold newer snapshots." for target in catalog.unreachable
    ]
    doubts += [
        f"{gap.snapshot} at {gap.target}: {gap.reason}."
        for gap in missing_links(session.spec, catalog)
    ]
    return WantedRecovery(
        kind, choices, choosing.profile or session.spec.profile, doubts=tuple(doubts)
    )


def _compile(session: Session, wanted: WantedRecovery) -> Plan:
    pairs = [(one.snapshot.id, one.target) for one in wanted.choices]
    names = [one.source for one in wanted.choices]
    live = wanted.scratch is None
    facts = replace(
        session.facts,
        identities=identities(session.spec, names, wanted.destination) if live else {},
        manifests=manifests(session.spec, session.targets, pairs, wanted.profile),
    )
    return compile_recovery(session.spec, facts, wanted)


def _known_marks(
    session: Session, catalog: Any, names: Sequence[str]
) -> dict[tuple[str, str], str]:
    holders = {name: catalog.newest(name) for name in names}
    pairs = [(one.id, one.targets[0]) for one in holders.values() if one is not None]
    read = manifests(session.spec, session.targets, pairs)
    return {
        (one.id, name): mark
        for name, one in holders.items()
        if one is not None and (mark := read[one.id].sources[name].mark) is not None
    }


def _details(plan: Plan, finished: Finished) -> dict[str, Any]:
    """What a run's journal remembers at its end, for `status` and `history`."""
    policies = sorted({step.params["policy"] for step in plan.steps if "policy" in step.params})
    return {"kind": plan.kind, "policies": policies, "seconds": finished.seconds}
