"""Compiles the removal of one snapshot at every target that holds it."""

from __future__ import annotations

from runner.errors import PersonNeeded
from runner.plan.model import Plan, Step
from runner.spec.model import Spec
from runner.store.catalog import Catalog


def compile_delete(spec: Spec, catalog: Catalog, snapshot: str) -> Plan:
    """The plan of a removal. Pure. Raises PersonNeeded where other snapshots need this one."""
    found = catalog.find(snapshot)
    dependants = [
        one.id
        for one in catalog.snapshots
        if found.id in one.bases or found.id in one.unchanged.values()
    ]
    if dependants:
        raise PersonNeeded(
            f"{found.id} has content that {', '.join(dependants[:3])} needs.",
            remedy="Delete those first, or keep it.",
        )
    if found.pinned:
        raise PersonNeeded(
            f"{found.id} is pinned.", remedy=f"First: holdfast unpin --snapshot {found.id}"
        )
    steps = tuple(
        Step(
            id=f"{found.id}.delete.{target}",
            action="snapshot.delete",
            title=f"Remove {found.id} from {target}",
            params={"snapshot": found.id, "target": target},
            effect="destroys",
            reason="asked for",
        )
        for target in found.targets
    )
    return Plan(
        "delete",
        spec.project,
        spec.profile,
        spec.digest,
        steps,
        facts={"snapshot": found.id, "targets": list(found.targets)},
    )
