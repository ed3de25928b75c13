"""What every snapshot carries for people beside its artifacts: the spec and the runbook.

Whoever holds one target and the identity needs no more. The spec is the file as it was written,
without any profile applied and with nothing expanded, so that a person can read and use it; the
manifest names the profile. The runbook is the recovery from that very snapshot, step by step.
Both name hosts and paths, and are sealed like any artifact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import StepFailed
from runner.store.seal import Seal, unseal
from runner.store.snapshot import Manifest, StoredFile, folder_of
from runner.target import Target


@dataclass(frozen=True)
class Document:
    """One of them."""

    name: str  # its file's, before what sealing appends
    what: str  # for a person
    instead: str  # what to do where a snapshot has none
    most_bytes: int  # none is larger


SPEC_COPY = Document(
    "spec.yaml",
    "spec",
    "Write a backup.yaml with that target in it, and recover with it.",
    1024 * 1024,
)
RUNBOOK_COPY = Document(
    "RUNBOOK.md",
    "runbook",
    "Its RESTORE.md says how each source comes back; `runbook` writes one by a spec.",
    8 * 1024 * 1024,
)
DOCUMENTS = (SPEC_COPY, RUNBOOK_COPY)


def store_document(
    target: Target, folder: str, document: Document, text: bytes, seal: Seal
) -> StoredFile:
    """Put a document into a snapshot's folder; return what the manifest says of it."""
    sealed = seal.write(target, folder, document.name, lambda sink: sink.write(text))
    return StoredFile(sealed.key, sealed.bytes, sealed.sha256)


def stored_document(manifest: Manifest, document: Document) -> StoredFile | None:
    """A document among a snapshot's files; None in a snapshot of a version that stored none."""
    return next((one for one in manifest.files if is_document(one.key, document)), None)


def is_document(key: str, document: Document) -> bool:
    """Whether a file of a snapshot has a document's name."""
    return key == document.name or key.startswith(f"{document.name}.")


def read_document(
    target: Target, manifest: Manifest, document: Document, identities: Sequence[str]
) -> bytes:
    """A document that a snapshot carries.

    Raises StepFailed when there is none or it is damaged, PersonNeeded when no identity opens it.
    """
    file = stored_document(manifest, document)
    if file is None:
        raise StepFailed(
            f"The snapshot {manifest.id} carries no {document.what}: an older version made it.",
            remedy=document.instead,
        )
    folder = folder_of(manifest.project, manifest.profile, manifest.id)
    text = bytearray()
    for chunk in unseal(
        target,
        f"{folder}/{file.key}",
        sha256=file.sha256,
        size=file.bytes,
        identities=identities,
    ):
        text += chunk
        if len(text) > document.most_bytes:
            raise StepFailed(
                f"The {document.what} of {manifest.id} at {target.name} has more than "
                f"{document.most_bytes} bytes.",
                remedy=f"Nobody wrote such a {document.what}: take another snapshot.",
            )
    return bytes(text)
