"""The spec as every snapshot carries it: whoever holds one target and the identity needs no more.

It is the file as it was written, without any profile applied and with nothing expanded, so that a
person can read and use it; the manifest names the profile. It names hosts and paths, and is sealed
like any artifact.
"""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import StepFailed
from runner.store.seal import Seal, Sink, unseal
from runner.store.snapshot import Manifest, StoredFile, folder_of
from runner.target import Target

NAME = "spec.yaml"
MOST_BYTES = 1024 * 1024  # no spec is larger


def store_spec(target: Target, folder: str, text: bytes, seal: Seal) -> StoredFile:
    """Put the spec into a snapshot's folder; return what the manifest says of it."""

    def produce(sink: Sink) -> None:
        sink.write(text)

    sealed = seal.write(target, folder, NAME, produce)
    return StoredFile(sealed.key, sealed.bytes, sealed.sha256)


def stored_spec(manifest: Manifest) -> StoredFile | None:
    """The spec among a snapshot's files; None in a snapshot of a version that stored none."""
    return next((one for one in manifest.files if one.key.startswith(NAME)), None)


def read_spec(target: Target, manifest: Manifest, identities: Sequence[str]) -> bytes:
    """The text of the spec that a snapshot was made by.

    Raises StepFailed when there is none or it is damaged, PersonNeeded when no identity opens it.
    """
    file = stored_spec(manifest)
    if file is None:
        raise StepFailed(
            f"The snapshot {manifest.id} carries no spec: an older version made it.",
            remedy="Write a backup.yaml with that target in it, and recover with it.",
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
        if len(text) > MOST_BYTES:
            raise StepFailed(
                f"The spec of {manifest.id} at {target.name} has more than {MOST_BYTES} bytes.",
                remedy="Nobody wrote such a spec: take another snapshot.",
            )
    return bytes(text)
