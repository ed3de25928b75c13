"""Which policies a backup runs, and why: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from runner.errors import UsageError
from runner.plan.backup import Due
from runner.plan.outstanding import whole_at
from runner.spec.model import Policy, Spec
from runner.spec.schedule import Schedule
from runner.spec.units import format_duration
from runner.store.catalog import Catalog, Snapshot
from runner.store.retention import FUTURE


def wanted_policies(
    spec: Spec, catalog: Catalog, now: datetime, names: Collection[str], *, only_due: bool
) -> list[Due]:
    """The policies to run: those named, or the scheduled ones, or all where none is.

    With `only_due`, those of them whose time has come; one that missed several times runs once.
    """
    chosen = considered(spec, names, only_due=only_due)
    if not only_due:
        return [Due(one, _reason(catalog, one, now), one.sources) for one in chosen]
    dues = [due(spec, catalog, policy, now) for policy in chosen]
    return [one for one in dues if one is not None]


def considered(spec: Spec, names: Collection[str], *, only_due: bool) -> list[Policy]:
    """The policies that may run: those named, or the scheduled ones, or all where none is.

    Raises UsageError where `only_due` could never run any: green for ever, and no backup.
    """
    named = [spec.policy(name) for name in names] or list(spec.policies.values())
    scheduled = [one for one in named if one.schedule is not None]
    if only_due and not scheduled:
        listed = ", ".join(one.name for one in named)
        raise UsageError(
            f"None of these policies has a schedule, so none is ever due: {listed}.",
            remedy="Give it one in the spec: `schedule: 24h`.",
        )
    return named if names else scheduled or named


def due(spec: Spec, catalog: Catalog, policy: Policy, now: datetime) -> Due | None:
    """A policy whose time has come; None when it has not.

    A run that failed does not count: it is tried again. Of one that left sources out, only those
    are: each try would read all the others anew, and push their older snapshots out of retention.
    """
    if policy.schedule is None:
        return None
    latest = Schedule.parse(policy.schedule, spec.timezone).last_before(now)
    newest = last_complete(catalog, policy)
    if newest is not None and newest.created_at - now > FUTURE:
        reason = "due: its newest complete snapshot is dated in the future, by a wrong clock"
        return Due(policy, reason, policy.sources)
    if newest is not None and newest.created_at >= latest:
        return None
    left_out = _left_out(catalog, policy, latest, now)
    if left_out is not None:
        reason = f"due since {latest.isoformat()}: the snapshot taken then lacks it"
        return Due(policy, reason, left_out) if left_out else None
    if newest is None:
        return Due(policy, "due: it has no complete snapshot yet", policy.sources)
    return Due(policy, f"due since {latest.isoformat()}: {_age(newest, now)}", policy.sources)


def next_due(spec: Spec, catalog: Catalog, policy: Policy, now: datetime) -> datetime | None:
    """When a policy is to run next; in the past when it is overdue; None: by hand only."""
    if policy.schedule is None:
        return None
    schedule = Schedule.parse(policy.schedule, spec.timezone)
    latest = schedule.last_before(now)
    newest = last_complete(catalog, policy)
    fresh = newest is not None and latest <= newest.created_at <= now + FUTURE
    left_out = _left_out(catalog, policy, latest, now)
    if fresh or left_out == []:
        return schedule.next_after(now)
    return now if newest is None and left_out is None else latest


def _left_out(catalog: Catalog, policy: Policy, since: datetime, now: datetime) -> list[str] | None:
    """The sources that no snapshot since then has, where one of these left any out; else None."""
    tried = [
        one
        for one in catalog.snapshots
        if one.policy == policy.name and since <= one.created_at <= now + FUTURE
    ]
    if not any(one.missing for one in tried):
        return None
    covered = {name for one in tried for name in one.covers}
    return [name for name in policy.sources if name not in covered]


def last_complete(catalog: Catalog, policy: Policy) -> Snapshot | None:
    """A policy's newest snapshot that has all of its sources."""
    wanted = set(policy.sources)
    for one in catalog.snapshots:
        if one.policy == policy.name and wanted <= set(one.covers):
            return one
    return None


def last_marks(
    catalog: Catalog, policies: Collection[Policy], marks: Mapping[tuple[str, str], str]
) -> dict[str, tuple[str, str]]:
    """For each source whose policy skips the unchanged: the newest holder's mark, and its id.

    `marks` are those that the manifests say, by (snapshot, source). One that is known to be damaged
    wherever it lies has none: only the source itself has its content whole.
    """
    found = {}
    for policy in policies:
        for source in policy.sources if policy.skip_unchanged else ():
            newest = catalog.newest(source, policy=policy.name)
            if newest is None or not any(whole_at(newest, one) for one in newest.targets):
                continue
            if (newest.id, source) in marks:
                found[source] = (marks[newest.id, source], newest.id)
    return found


def _reason(catalog: Catalog, policy: Policy, now: datetime) -> str:
    newest = last_complete(catalog, policy)
    return "asked for" if newest is None else f"asked for: {_age(newest, now)}"


def _age(newest: Snapshot, now: datetime) -> str:
    age = format_duration(max(0.0, (now - newest.created_at).total_seconds()))
    return f"the newest complete snapshot is {age} old"
