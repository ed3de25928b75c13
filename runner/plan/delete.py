"""Compiles the removal of one snapshot at every target that holds it."""

from __future__ import annotations

from runner.errors import PersonNeeded
from runner.plan.families import same_content
from runner.plan.model import Plan, Step
from runner.spec.model import Spec
from runner.store.catalog import Catalog


def compile_delete(spec: Spec, catalog: Catalog, snapshot: str) -> Plan:
    """The plan of a removal. Pure. Raises PersonNeeded where other snapshots need this one.

    One whose manifest is damaged must be named by its whole id.
    """
    known = snapshot not in catalog.by_id and any(one == snapshot for _, one, _ in catalog.damaged)
    found = None if known else catalog.find(snapshot)
    name = snapshot if found is None else found.id
    _require_unneeded(catalog, name)
    if found is not None and found.pinned:
        raise PersonNeeded(f"{name} is pinned.", remedy=f"First: holdfast unpin --snapshot {name}")
    damaged = {target: reason for target, one, reason in catalog.damaged if one == name}
    whole = () if found is None else found.targets
    targets = [target for target in spec.targets if target in whole or target in damaged]
    steps = tuple(
        Step(
            id=f"{name}.delete.{target}",
            action="snapshot.delete",
            title=f"Remove {name} from {target}",
            params={"snapshot": name, "target": target},
            effect="destroys",
            reason="asked for"
            + (f"; its manifest is damaged: {damaged[target]}" if target in damaged else ""),
        )
        for target in targets
    )
    return Plan(
        "delete",
        spec.project,
        spec.profile,
        spec.digest,
        steps,
        facts={
            "snapshot": name,
            "targets": targets,
            "damaged": damaged,
            "same": same_content(catalog, name),
            **({"unread": dict(catalog.unreachable)} if catalog.unreachable else {}),
        },
    )


def _require_unneeded(catalog: Catalog, name: str) -> None:
    dependants = [one.id for one in catalog.snapshots if name in one.needs]
    if dependants:
        raise PersonNeeded(
            f"{name} has content that {', '.join(dependants[:3])} needs.",
            remedy="Delete those first, or keep it.",
        )
