"""Families: snapshots of one content, of which `rekey` wrote all but the first. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from runner.plan.facts import Facts
from runner.store.catalog import Catalog, Snapshot
from runner.store.snapshot import SnapshotId
from runner.store.view import by_age


@dataclass
class Family:
    """The newest of them, and the older ones that it stands for."""

    head: Snapshot
    older: list[Snapshot] = field(default_factory=list)
    new: str = ""  # the id of the one that is to stay: the head's own, if that may stay

    @property
    def rewritten(self) -> bool:
        """Whether the one that is to stay is still to be written."""
        return self.new != self.head.id

    @property
    def going(self) -> list[Snapshot]:
        """Those that are to be removed."""
        return [*self.older, self.head] if self.rewritten else self.older

    def at(self, targets: Iterable[str]) -> list[str]:
        """The targets among these that hold what is to be removed."""
        return [name for name in targets if any(name in one.targets for one in self.going)]

    def rewrite(self, facts: Facts) -> None:
        """The head shall not stay. What stands for it was made at the same instant, as its id says,
        by the same policy.
        """
        name = SnapshotId.parse(self.head.id)
        token = hashlib.sha256(f"{facts.token}:{self.head.id}".encode()).hexdigest()[:6]
        self.new = str(SnapshotId(name.at, name.policy, token))


def families(catalog: Catalog) -> list[Family]:
    """All snapshots, the oldest first."""
    known = catalog.snapshots
    heirs = {one.rekeyed[0]: one for one in reversed(known) if one.rekeyed is not None}
    found: dict[str, Family] = {}
    for one in known:
        head = one
        # Age decides too, so that forged manifests cannot stand for each other in a circle.
        while head.id in heirs and by_age(heirs[head.id]) > by_age(head):
            head = heirs[head.id]
        family = found.setdefault(head.id, Family(head, new=head.id))
        if one is not head:
            family.older.append(one)
    return sorted(found.values(), key=lambda family: by_age(family.head))


def choose_families(
    known: Sequence[Family], recipients: Collection[str], facts: Facts, wanted: Collection[str]
) -> list[Family]:
    """Those of which something is to go, so that of the `wanted` snapshots (none: of all) only
    what is for exactly these recipients stays.
    """
    asked = [
        one
        for one in known
        if not wanted or not {one.head.id, *(each.id for each in one.older)}.isdisjoint(wanted)
    ]
    for one in asked:
        if set(one.head.recipients) != set(recipients):
            one.rewrite(facts)
    chosen = {one.head.id for one in asked if one.going}
    more = list(known)
    while more:
        gone = {each.id for one in known if one.head.id in chosen for each in one.going}
        # Whatever names what goes must name what comes instead.
        more = [one for one in known if not one.rewritten and not one.head.needs.isdisjoint(gone)]
        for one in more:
            one.rewrite(facts)
        chosen |= {one.head.id for one in more}
    return [one for one in known if one.head.id in chosen]


def same_content(catalog: Catalog, name: str) -> list[str]:
    """The ids of what was encrypted anew for a snapshot, or from what it was."""
    found = {name}
    while (
        more := {one for pair in catalog.renewals if found.intersection(pair) for one in pair}
        - found
    ):
        found |= more
    return sorted(found & catalog.by_id.keys() - {name})
