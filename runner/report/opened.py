"""Who can open the snapshots: whether anybody ever did, and who still can."""

from __future__ import annotations

from collections.abc import Set

from runner.plan.rekey import not_as_declared
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.records import PASS, DrillResult
from runner.store.view import Snapshot

UNOPENED = (
    "No drill and no verification has ever opened a snapshot with an identity of a declared "
    "recipient: nobody knows that the keys you keep are the right ones. "
    "Next: holdfast drill --identity FILE"
)


def never_opened(spec: Spec, catalog: Catalog) -> str | None:
    """A sentence where snapshots are encrypted, and no record shows that an identity opened one."""
    encrypted = any(one.encrypted for one in catalog.snapshots)
    if not encrypted or catalog.unreachable or was_opened(spec, catalog):
        return None
    return UNOPENED


def was_opened(spec: Spec, catalog: Catalog) -> bool:
    """Whether somebody has opened a snapshot that is encrypted to one of the declared recipients.

    A proof with the key of its own run says nothing of it, and neither does a drill of what was not
    encrypted. The snapshot that was opened may be gone since.
    """
    if spec.encryption is None:
        return False
    declared = frozenset(spec.encryption.recipients)
    return any(_opened(one, declared) for one in catalog.snapshots) or any(
        _drilled(one, declared) for one in catalog.drills
    )


def _opened(one: Snapshot, declared: Set[str]) -> bool:
    return not declared.isdisjoint(one.recipients) and any(
        proof.key == "declared" and proof.verdict == PASS and proof.depth > 0
        for proof in one.proofs
    )


def _drilled(drill: DrillResult, declared: Set[str]) -> bool:
    recipients = drill.details.get("recipients")
    if isinstance(recipients, list):
        # The objectives that it missed say nothing of the key.
        return any(isinstance(one, str) and one in declared for one in recipients)
    # Drills of older versions do not say whom what they opened was encrypted to.
    return drill.ok and drill.details.get("encrypted") is True


def not_for_the_declared(spec: Spec, catalog: Catalog) -> str | None:
    """A sentence where others can open snapshots than the declared recipients, or not all can."""
    if spec.encryption is None:
        return None
    declared = set(spec.encryption.recipients)
    found = not_as_declared(spec, catalog)
    if not found:
        return None
    others = sum(not one.encrypted or bool(set(one.recipients) - declared) for one in found)
    lacking = sum(one.encrypted and bool(declared - set(one.recipients)) for one in found)
    parts = [f"{others} can be opened by others than the declared recipients"] if others else []
    parts += [f"{lacking} cannot be opened by all that are"] if lacking else []
    return (
        f"Of {len(catalog.snapshots)} snapshots {' and '.join(parts)}. "
        "Next: holdfast rekey --identity FILE"
    )
