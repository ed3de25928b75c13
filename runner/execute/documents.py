"""What a publication writes for people: RESTORE.md, the spec, and the runbook of this snapshot."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from runner.errors import HoldfastError
from runner.execute.context import Context
from runner.plan.model import Step
from runner.registry import open_source
from runner.source import Stored
from runner.store.catalog import read_manifest
from runner.store.documents import RUNBOOK_COPY, SPEC_COPY, store_document
from runner.store.instructions import Section, instructions
from runner.store.seal import Seal, decode_command
from runner.store.snapshot import INSTRUCTIONS, Manifest, StoredFile, folder_of
from runner.target import Target


def decode(stored: Stored) -> str:
    """The pipeline that prints a stored file's content in the snapshot's folder."""
    return decode_command(stored.key, stored.key)


def store_documents(step: Step, context: Context, target: Target, manifest: Manifest) -> Manifest:
    """Write the documents of a snapshot whose artifacts are stored; its manifest lists them."""
    spec = context.spec
    folder = folder_of(spec.project, spec.profile, manifest.id)
    recipients = context.recipients(step.params["policy"])
    sealed = [
        store_document(target, folder, SPEC_COPY, spec.text, Seal(spec.compression, recipients))
    ]
    runbook = _runbook(step, context, target, manifest)
    if runbook is not None:
        # Not compressed: it is read on the worst day, with as few programs as can be.
        seal = Seal("none", recipients)
        sealed.append(store_document(target, folder, RUNBOOK_COPY, runbook, seal))
    text = restore_text(context, manifest, sealed)
    target.put(f"{folder}/{INSTRUCTIONS}", [text])
    own = StoredFile(INSTRUCTIONS, len(text), hashlib.sha256(text).hexdigest())
    return replace(manifest, files=(own, *sealed))


def _runbook(step: Step, context: Context, target: Target, manifest: Manifest) -> bytes | None:
    """The runbook, as far as the snapshots that it needs can be read; no backup fails for it."""
    if context.runbook is None:
        return None
    elsewhere: dict[str, Manifest] = {}
    try:
        for snapshot in sorted(set(manifest.unchanged.values())):
            elsewhere[snapshot], _ = read_manifest(
                target, manifest.project, manifest.profile, snapshot
            )
    except HoldfastError as error:
        context.tell({"event": "note", "message": f"{step.id}: {error.message}"})
    try:
        text = context.runbook(context.spec, target.name, manifest, elsewhere)
    except HoldfastError as error:
        message = f"{step.id}: {manifest.id} gets no runbook: {error.message}"
        context.tell({"event": "note", "message": message})
        return None
    # A file's name may hold bytes that are no text, and the shell needs them as they are.
    return text.encode("utf-8", "surrogateescape")


def restore_text(context: Context, manifest: Manifest, sealed: list[StoredFile]) -> bytes:
    """The RESTORE.md of a snapshot."""
    sections = []
    for name, entry in manifest.sources.items():
        source = open_source(context.spec.source(name))
        own = [Stored(a.part, a.form, a.key) for a in manifest.content_of(name)]
        folder = f"restored/{name}"
        sections.append(
            Section(
                name,
                entry.type,
                entry.taken_at,
                source.restore_commands(own, decode, folder),
                entry.notes,
                source.describe(),
                source.load_commands(folder),
            )
        )
    return instructions(
        snapshot=manifest.id,
        project=manifest.project,
        profile=manifest.profile,
        created_at=manifest.created_at,
        host=manifest.host,
        encrypted=manifest.encrypted,
        sections=sections,
        unchanged=manifest.unchanged,
        missing=manifest.missing,
        documents={one.key: decode_command(one.key, one.key) for one in sealed},
        signed=context.spec.signing is not None and context.spec.signing.key is not None,
    )
