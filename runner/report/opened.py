"""Whether anybody ever opened a snapshot with the key that a recovery would need."""

from __future__ import annotations

from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.records import PASS


def never_opened(spec: Spec, catalog: Catalog) -> str | None:
    """A sentence where snapshots are encrypted, and no record shows that an identity opened one.

    A proof with the key of its own run says nothing of it, and neither does a drill from before
    anything was encrypted.
    """
    encrypted = [one for one in catalog.snapshots if one.encrypted]
    if spec.encryption is None or not encrypted or catalog.unreachable:
        return None
    first = min(one.created_at for one in encrypted)
    proven = any(
        proof.key == "declared" and proof.verdict == PASS and proof.depth > 0
        for one in encrypted
        for proof in one.proofs
    )
    if proven or any(one.ok and one.at >= first for one in catalog.drills):
        return None
    return (
        "No drill and no verification has ever opened a snapshot with an identity: nobody knows "
        "that the keys you keep are the right ones. Next: holdfast drill --identity FILE"
    )
