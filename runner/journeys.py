"""The stories: what each command does, as a short list of calls.

Everything enters here: the command line now, a scheduler or a dashboard later. A journey that
acts is first prepared (its plan can be shown, saved, judged) and then performed. Journeys never
prompt: what needs a person's yes says so as `danger`, and takes the name they typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from runner.bootstrap import Start, bootstrap, overview, resumed, runbook_at
from runner.drilling import Drilling, drill
from runner.errors import UsageError
from runner.execute.call import Call
from runner.execute.ending import Finished
from runner.execute.opening import Looking
from runner.execute.remembering import guards, missing_links, recall
from runner.execute.session import Session
from runner.execute.since import ended
from runner.opening import open_snapshot
from runner.plan.backup import Wanted as WantedBackup
from runner.plan.backup import compile_backup
from runner.plan.choose import LATEST
from runner.plan.delete import compile_delete
from runner.plan.due import considered, last_marks, wanted_policies
from runner.plan.facts import changed_marks
from runner.plan.model import Plan
from runner.plan.outstanding import waiting
from runner.plan.pin import compile_pin, compile_unpin
from runner.plan.prune import compile_prune
from runner.plan.recover import recovery_entries
from runner.plan.verify import compile_verify
from runner.prepare import (
    Choosing,
    Danger,
    Prepared,
    approve,
    compile_wanted,
    concluding_backup,
    danger_of,
    known_marks,
    perform,
    store_runbooks,
    wanted_recovery,
)
from runner.registry import open_source
from runner.report import recovered, removed, results
from runner.report.outcome import Outcome
from runner.report.rekeyed import rekey_outcome
from runner.safety import list_safety, prune_safety, rollback
from runner.saved import apply, resume
from runner.source import Place

__all__ = [
    "LATEST",
    "Choosing",
    "Danger",
    "Drilling",
    "Looking",
    "Prepared",
    "Start",
    "apply",
    "approve",
    "backup",
    "bootstrap",
    "delete",
    "drill",
    "list_safety",
    "open_snapshot",
    "overview",
    "perform",
    "pin",
    "prune",
    "prune_safety",
    "recover",
    "rekey",
    "restore",
    "resume",
    "resumed",
    "rollback",
    "runbook_at",
    "unpin",
    "verify",
]


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
    spec = session.spec
    session.require = ended(spec.state, "backup").require_no_other
    chosen = [spec.policy(name) for name in policies] or list(spec.policies.values())
    running = considered(spec, policies, only_due=only_due)
    # The number of a snapshot comes from those at other targets, too, as far as they answer.
    catalog = session.catalog(needed={name for policy in running for name in policy.targets})
    store_runbooks(session, catalog.drills)
    for name in sources:
        spec.source(name)
    dues = wanted_policies(spec, catalog, session.facts.now, policies, only_due=only_due)
    dues = [due for due in dues if not sources or set(sources) & set(due.sources)]
    if not dues and not only_due:
        raise UsageError("No policy covers what was asked for.", remedy="See `policies:`.")
    lazy = [due.policy for due in dues if due.policy.skip_unchanged]
    names = sorted({name for policy in lazy for name in policy.sources})
    facts = replace(session.facts, marks=changed_marks(spec, names), remembered=recall(spec))
    known = known_marks(session, catalog, names)
    wanted = WantedBackup(
        dues, sources, prune, last_marks(catalog, lazy, known), [] if sources else chosen
    )
    plan = compile_backup(spec, facts, catalog, wanted)
    again = partial(
        backup, call, policies=policies, sources=sources, only_due=only_due, prune=prune
    )
    copies = waiting(running, catalog, facts.remembered)
    return Prepared(session, plan, concluding_backup(session, catalog, copies), anew=again)


def restore(
    call: Call,
    source: str,
    *,
    choosing: Choosing,
    destination: str = "",
    include: Sequence[str] = (),
    running: bool = False,
    existing_keys: str = "",
) -> Prepared:
    """One source, staged, proven and swapped in, with a safety copy of what it replaces."""
    session = Session.open(call)
    wanted = wanted_recovery(session, "restore", [source], choosing)
    kind = session.spec.source(source).type
    if existing_keys and kind != "redis":
        raise UsageError(
            f"--existing says what becomes of the keys of a Redis server, and {source} is {kind}.",
            remedy="Leave it out: what is there is kept as a safety copy.",
        )
    # Only now the spec knows what a lost env file said.
    opened = open_source(session.spec.source(source))
    wanted = replace(
        wanted,
        destination=opened.destination(destination) if destination else "",
        include=include,
        running=running,
        existing=existing_keys or "skip",
    )
    place = Place("plan", wanted.destination, tuple(include), running, wanted.existing)
    opened.require_possible(place)
    plan = compile_wanted(session, wanted)
    return Prepared(session, plan, recovered.recovery_outcome, danger_of(session, plan))


def recover(
    call: Call,
    *,
    choosing: Choosing,
    steps: Sequence[str] = (),
    start_at: str | None = None,
) -> Prepared:
    """The whole recovery, in the order of the spec."""
    session = Session.open(call)
    sources = recovery_entries(session.spec, steps, start_at)
    wanted = wanted_recovery(session, "dr-restore", sources, choosing)
    wanted = replace(wanted, steps=steps, start_at=start_at)
    plan = compile_wanted(session, wanted)
    if not plan.steps:
        raise UsageError("No step is left to do.", remedy="None of --steps is after --start-at.")
    return Prepared(session, plan, recovered.recovery_outcome, danger_of(session, plan))


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
    guarded = guards(session.spec, catalog) if snapshot == LATEST else []
    unread = catalog.unreachable
    plan = compile_verify(
        session.spec,
        catalog,
        snapshot=snapshot,
        level=level,
        sources=sources,
        sample=sample,
    )

    def conclude(_plan: Plan, end: Finished) -> Outcome:
        from runner.report.foresight import forget

        forget(session.spec)
        return results.verify_outcome(end, gaps, unread, guarded)

    return Prepared(session, plan, conclude)


def prune(call: Call, *, policies: Sequence[str] = (), targets: Sequence[str] = ()) -> Prepared:
    """Apply retention."""
    session = Session.open(call)
    for name in policies:
        session.spec.policy(name)
    catalog = session.catalog(targets)
    plan = compile_prune(session.spec, session.facts, catalog, policies, targets)
    return Prepared(session, plan, removed.prune_outcome)


def delete(call: Call, *, snapshot: str) -> Prepared:
    """Remove one snapshot everywhere, because a person said so."""
    session = Session.open(call)
    plan = compile_delete(session.spec, session.catalog(), snapshot)

    def require() -> None:
        """It may have been pinned while another run was waited for."""
        compile_delete(session.spec, session.catalog(), snapshot)

    session.require = require
    return Prepared(session, plan, removed.delete_outcome, danger_of(session, plan))


def pin(call: Call, *, snapshot: str, seconds: float | None = None) -> Prepared:
    """Keep a snapshot whatever retention says, for some seconds or until it is unpinned."""
    session = Session.open(call)
    facts = replace(session.facts, remembered=recall(session.spec))
    plan = compile_pin(session.spec, facts, session.catalog(), snapshot, seconds)
    return Prepared(session, plan, results.pin_outcome)


def unpin(call: Call, *, snapshot: str) -> Prepared:
    """Leave a snapshot to retention again."""
    session = Session.open(call)
    facts = replace(session.facts, remembered=recall(session.spec))
    plan = compile_unpin(session.spec, facts, session.catalog(), snapshot)
    return Prepared(session, plan, results.pin_outcome)


def rekey(call: Call, *, snapshots: Sequence[str] = (), targets: Sequence[str] = ()) -> Prepared:
    """Encrypt snapshots anew for exactly the declared recipients, and remove the old ones."""
    from runner.execute.rekeying import opens_declared
    from runner.plan.rekey import Wanted, compile_rekey

    session = Session.open(call)
    session.require = ended(session.spec.state, "rekey").require_no_other
    wanted = Wanted(snapshots, targets, opens_declared(session.spec, call.identity))
    plan = compile_rekey(session.spec, session.facts, session.catalog(), wanted)
    again = partial(rekey, call, snapshots=snapshots, targets=targets)
    return Prepared(session, plan, rekey_outcome, danger_of(session, plan), anew=again)
