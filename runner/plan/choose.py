"""Which snapshot, from which target, each source is restored from: pure over the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from runner.errors import StepFailed, UsageError
from runner.plan.families import same_content
from runner.plan.outstanding import whole_first
from runner.spec.model import Spec
from runner.store.catalog import Catalog, Snapshot
from runner.store.snapshot import SnapshotId

LATEST = "latest"


@dataclass(frozen=True)
class Choice:
    """One source's way back."""

    source: str
    snapshot: Snapshot
    target: str
    reason: str
    elsewhere: tuple[str, ...] = ()  # further targets that hold it; none where one was asked for
    same: tuple[str, ...] = ()  # ids of what holds the same content for other recipients


@dataclass(frozen=True)
class Asked:
    """What the user asked for: a snapshot, a time, a target; all may be left open."""

    snapshot: str = LATEST
    at: datetime | None = None
    target: str | None = None


def choose(spec: Spec, catalog: Catalog, sources: Iterable[str], asked: Asked) -> list[Choice]:
    """A choice for every source. Raises UsageError, naming each source that has none, and
    StepFailed where a target that cannot be read may have one, or where a damaged snapshot may
    hold what is newer than the newest that is whole.
    """
    if asked.target is not None:
        spec.target(asked.target)
        if asked.target in catalog.unreachable:
            raise StepFailed(
                f"The target {asked.target} cannot be read: {catalog.unreachable[asked.target]}",
                remedy="Use another --from, or none: the newest copy that can be read is taken.",
            )
    choices, without = [], []
    for source in sources:
        _require_declared(spec, catalog, source)
        choice = _choose(spec, catalog, source, asked)
        if choice is None:
            without.append(source)
        else:
            choices.append(choice)
    if without:
        hidden = catalog.unreachable if asked.target is None else ()
        where = f" (targets that cannot be read: {', '.join(hidden)})" if hidden else ""
        raise (StepFailed if hidden else UsageError)(
            f"There is no {_which(asked, ', '.join(without))}{where}.{_emptiness(catalog, asked)}",
            remedy="`list` shows what there is; --at and --snapshot choose.",
        )
    return choices


def _require_declared(spec: Spec, catalog: Catalog, source: str) -> None:
    """Raise UsageError where the spec has no such source: it may have had one."""
    try:
        spec.source(source)
    except UsageError as error:
        held = catalog.newest(source)
        if held is None:
            raise
        raise UsageError(
            f"{error.message} {held.id} holds one from before.",
            remedy="Declare it again, under that name; or have its files as they were stored: "
            f"`holdfast fetch --source {source} --snapshot {held.id} --to DIR --decrypt`.",
        ) from error


def _choose(spec: Spec, catalog: Catalog, source: str, asked: Asked) -> Choice | None:
    if asked.snapshot != LATEST:
        snapshot = catalog.find(asked.snapshot)
        if source in snapshot.unchanged:
            snapshot = catalog.find(snapshot.unchanged[source])
        if source not in snapshot.sources:
            return None
        reason = "asked for by its id"
    else:
        newest = catalog.newest(source, target=asked.target, at=asked.at)
        _refuse_fallback(spec, catalog, source, asked, newest)
        if newest is None:
            return None
        snapshot = newest
        reason = f"the newest of {source}" + (
            f" not after {asked.at.isoformat()}" if asked.at else ""
        )
    targets = whole_first(snapshot, (name for name in spec.targets if name in snapshot.targets))
    if asked.target is not None:
        targets = [name for name in targets if name == asked.target]
    if not targets:
        return None
    same = (*same_content(catalog, snapshot.id),)
    return Choice(source, snapshot, targets[0], reason, (*targets[1:],), same)


def _refuse_fallback(
    spec: Spec, catalog: Catalog, source: str, asked: Asked, chosen: Snapshot | None
) -> None:
    """Raise StepFailed where older content would silently be taken for the newest."""
    for target, name, reason in catalog.damaged:
        elsewhere = asked.target is None and name in catalog.by_id
        if elsewhere or asked.target not in (None, target):
            continue
        damaged = SnapshotId.parse(name)
        policy = spec.policies.get(damaged.policy)
        concerns = policy is None or source in policy.sources
        wanted = asked.at is None or damaged.at < asked.at
        newer = chosen is None or damaged.at >= chosen.created_at
        if concerns and wanted and newer:
            older = f" To take {chosen.id}: --at {damaged.at:%Y-%m-%dT%H:%M:%SZ}" if chosen else ""
            raise StepFailed(
                f"The newest snapshot of {source} may be {name}, whose manifest at {target} is "
                f"damaged: {reason}.",
                remedy=f"Look for another copy of it.{older}",
            )


def _emptiness(catalog: Catalog, asked: Asked) -> str:
    """What to think of where a target that was asked for has nothing at all."""
    holders = {name for one in catalog.snapshots for name in one.targets}
    if asked.target is None or asked.target in holders | {one[0] for one in catalog.damaged}:
        return ""
    return f" {asked.target} holds no snapshot at all: is its disk mounted, its address right?"


def _which(asked: Asked, sources: str) -> str:
    which = "snapshot" if asked.snapshot == LATEST else f"copy in snapshot {asked.snapshot}"
    which += f" of {sources}" + (f" at {asked.target}" if asked.target else "")
    if asked.at is not None:
        which += f" that is not after {asked.at:%Y-%m-%dT%H:%M:%SZ}"
    return which
