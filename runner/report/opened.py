"""Who can open the snapshots: whether anybody ever did, and who still can."""

from __future__ import annotations

from runner.plan.rekey import not_as_declared
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.records import PASS


def never_opened(spec: Spec, catalog: Catalog) -> str | None:
    """A sentence where snapshots are encrypted, and no record shows that an identity opened one.

    A proof with the key of its own run says nothing of it, and neither does a drill of what was not
    encrypted. The snapshot that was opened may be gone since.
    """
    encrypted = [one for one in catalog.snapshots if one.encrypted]
    if spec.encryption is None or not encrypted or catalog.unreachable:
        return None
    proven = any(
        proof.key == "declared" and proof.verdict == PASS and proof.depth > 0
        for one in encrypted
        for proof in one.proofs
    )
    if proven or any(one.ok and one.details.get("encrypted") is True for one in catalog.drills):
        return None
    return (
        "No drill and no verification has ever opened a snapshot with an identity: nobody knows "
        "that the keys you keep are the right ones. Next: holdfast drill --identity FILE"
    )


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
