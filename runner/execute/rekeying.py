"""Writing a snapshot that stands for another one and that other recipients open.

Each file is read, decrypted and encrypted in one stream; the manifest is written last. The old one
is not touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import HoldfastError, PersonNeeded, StepFailed
from runner.execute.actions.base import Outputs
from runner.execute.actions.source import require_fit
from runner.execute.clocks import tell_of_clock
from runner.execute.context import Context
from runner.execute.copying import TargetFailed, Watched, finish, target_failed
from runner.execute.documents import restore_text
from runner.execute.remembering import remember
from runner.plan.model import Step
from runner.secret import Secret
from runner.spec.model import Spec
from runner.store.catalog import is_published, read_manifest
from runner.store.chain import Link
from runner.store.documents import RUNBOOK_COPY, is_document, read_document, store_document
from runner.store.reseal import Reseal, opens
from runner.store.seal import Seal, compression_of, parse_identities
from runner.store.signature import sign, stored_signature, unsigned
from runner.store.snapshot import INSTRUCTIONS, ArtifactEntry, Manifest, StoredFile, folder_of, sums
from runner.store.stored import whole_file
from runner.target import Target


def identities_at_hand(spec: Spec, given: Secret | None) -> tuple[str, ...]:
    """What can open snapshots here: the identity that was given, and the declared one if it is
    there. Raises what reading the given one raises, or the declared one where it is the only one.
    """
    declared = spec.encryption.identity if spec.encryption else None
    texts = [] if given is None else [given.reveal()]
    if declared is not None:
        try:
            texts.append(declared.reveal())
        except HoldfastError:
            if given is None:
                raise
    return tuple(one for text in texts for one in parse_identities(text))


def opens_declared(spec: Spec, file: Path | None) -> bool:
    """Whether an identity at hand (that in `file`, or the declared one) opens what is encrypted to
    the declared recipients. False also where that cannot be found out.
    """
    if spec.encryption is None:
        return False
    given = None if file is None else Secret(f"file:{file}")
    try:
        return opens(spec.encryption.recipients, identities_at_hand(spec, given))
    except HoldfastError:
        return False


def write(step: Step, context: Context) -> Outputs:
    """Write what is to stand for a snapshot, at the first target that takes it."""
    identities = identities_at_hand(context.spec, context.identity)
    passed_over: dict[str, str] = {}
    for name in step.params["targets"]:
        try:
            done = _Writing(step, context, context.target(name), identities).write()
        except TargetFailed as error:
            last = error
            passed_over[name] = error.message
            context.tell({"event": "note", "message": f"{step.id}: {error.message}"})
            continue
        return {**done, "passed_over": passed_over}
    raise last


class _Writing:
    """One try: from the targets that hold a snapshot to one of them."""

    def __init__(
        self, step: Step, context: Context, target: Target, identities: tuple[str, ...]
    ) -> None:
        self._params = step.params
        self._context = context
        self._spec = context.spec
        self._target = target
        self._watched = Watched(target)
        assert self._spec.encryption is not None
        self._recipients = self._spec.encryption.recipients
        self._reseal = Reseal(identities, self._recipients, context.progress(step))
        self._as_it_is = replace(self._reseal, recipients=())
        self._began_beside = False

    def write(self) -> Outputs:
        """Take it from the first target where it is whole. Raises TargetFailed where it is the
        one that is written to that fails.
        """
        require_fit(self._watched, self._context, others=len(self._params["targets"]) > 1)
        self._began_beside = self._is_there()
        doubtful: dict[str, str] = {}
        for origin in sorted(self._params["from"], key=lambda name: name != self._target.name):
            try:
                manifest, data = self._write_from(self._context.target(origin))
            except StepFailed as error:
                if self._watched.failure is not None or isinstance(error, TargetFailed):
                    raise target_failed(error) from error
                last = error
                doubtful[origin] = error.message
                continue
            return {
                "snapshot": manifest.id,
                "target": self._target.name,
                "manifest_sha256": hashlib.sha256(data).hexdigest(),
                "bytes": sum(one.bytes for one in manifest.artifacts),
                "doubtful": doubtful,
            }
        raise last

    def _write_from(self, origin: Target) -> tuple[Manifest, bytes]:
        spec, old = self._spec, self._params["old"]
        before, data = read_manifest(origin, spec.project, spec.profile, old)
        if hashlib.sha256(data).hexdigest() != self._params["manifest_sha256"]:
            raise StepFailed(
                f"The manifest of {old} at {origin.name} is not the one that was read before.",
                remedy="Somebody changed it: look at it, and at who may write there.",
            )
        signs = self._must_sign(origin, before, data)
        if not before.encrypted:
            self._require_declared(before)
        elif set(before.recipients) == set(self._recipients):
            self._reseal = self._as_it_is
        elif not self._reseal.identities:
            raise PersonNeeded(
                f"{old} is encrypted, and no identity is declared.",
                remedy="Give the one that opens it now: --identity FILE.",
            )
        artifacts = tuple(self._artifact(origin, one) for one in before.artifacts)
        files = tuple(self._file(origin, before, one) for one in before.files if _kept(before, one))
        manifest = self._manifest(before, artifacts=artifacts, files=files)
        if not before.encrypted:
            manifest = self._with_instructions(manifest)
        new = manifest.to_bytes()
        signing = spec.signing
        key = signing.key if signs and signing is not None else None
        signature = None if key is None else sign(sums(manifest, new), key)
        try:
            tell_of_clock(self._target, self._context)
            self._require_still_there()
            finish(self._target, self._folder(manifest.id), manifest, new, signature)
        except StepFailed as error:
            raise target_failed(error) from error
        digest = hashlib.sha256(new).hexdigest()
        remember(spec, self._target.name, Link(manifest.id, manifest.sequence, digest))
        return manifest, new

    def _require_still_there(self) -> None:
        """Raise StepFailed where a prune or a person removed meanwhile what this was to stand for:
        it must not come back under another name.
        """
        if self._began_beside and not self._is_there():
            raise StepFailed(
                f"{self._params['old']} was removed from {self._target.name} while it was "
                "encrypted anew.",
                remedy="It stays removed. Run rekey again for what else there is.",
            )

    def _is_there(self) -> bool:
        return is_published(self._target, self._folder(self._params["old"]))

    def _must_sign(self, origin: Target, manifest: Manifest, data: bytes) -> bool:
        """Whether what is written has to be signed. Nothing that a stranger made is: raises
        StepFailed for that, and PersonNeeded where nobody can tell or sign.
        """
        folder, signers = self._folder(manifest.id), self._context.signers()
        if signers is not None:
            problem = unsigned(origin, folder, sums(manifest, data), signers)
            if problem is not None:
                raise StepFailed(
                    f"{manifest.id} at {origin.name} is not encrypted anew: {problem}",
                    remedy="Who made it? Look at it, and delete it if nobody knows.",
                )
        elif stored_signature(origin, folder) is None:
            return False
        signing = self._spec.signing
        if signing is None or signing.key is None or signers is None:
            raise PersonNeeded(
                f"{manifest.id} is signed, so what stands for it has to be signed too.",
                remedy="Declare signing.key, and signing.allowed_signers to check the old one.",
            )
        return True

    def _artifact(self, origin: Target, one: ArtifactEntry) -> ArtifactEntry:
        written, head = self._sealed(origin, StoredFile(one.key, one.bytes, one.sha256))
        base = one.base and self._params["ids"].get(one.base, one.base)
        new = replace(one, key=written.key, bytes=written.bytes, sha256=written.sha256)
        return replace(new, base=base, content_sha256=None, head_sha256=head)

    def _file(self, origin: Target, manifest: Manifest, file: StoredFile) -> StoredFile:
        new = self._folder(self._params["snapshot"])
        if is_document(file.key, RUNBOOK_COPY) and self._reseal.recipients:
            text = read_document(origin, manifest, RUNBOOK_COPY, self._reseal.identities)
            seal = Seal(compression_of(file.key), self._recipients)
            target = self._watched.as_target()
            return store_document(target, new, RUNBOOK_COPY, self._renamed(text), seal)
        if file.key != INSTRUCTIONS:
            return self._sealed(origin, file)[0]
        path = f"{self._folder(manifest.id)}/{file.key}"
        text = self._renamed(whole_file(origin, path, file.sha256, file.bytes))
        self._watched.as_target().put(f"{new}/{file.key}", [text])
        return StoredFile(file.key, len(text), hashlib.sha256(text).hexdigest())

    def _sealed(self, origin: Target, file: StoredFile) -> tuple[StoredFile, str | None]:
        folder, new = self._folder(self._params["old"]), self._folder(self._params["snapshot"])
        return self._reseal.write(origin, folder, file, self._watched.as_target(), new)

    def _renamed(self, text: bytes) -> bytes:
        """A text for people that names snapshots, with their new names."""
        for old, new in self._params["ids"].items():
            text = text.replace(old.encode(), new.encode())
        return text

    def _manifest(self, before: Manifest, **files: Any) -> Manifest:
        ids = self._params["ids"]
        return replace(
            before,
            **files,
            id=self._params["snapshot"],
            encrypted=True,
            recipients=self._recipients,
            unchanged={name: ids.get(one, one) for name, one in before.unchanged.items()},
            predecessor=self._predecessor() or before.predecessor,
            rekeyed={
                "id": before.id,
                "sha256": self._params["manifest_sha256"],
                "at": self._params["at"],
            },
        )

    def _require_declared(self, before: Manifest) -> None:
        """Raise StepFailed unless the sources are declared: encrypted files need other commands."""
        for name, entry in before.sources.items():
            source = self._spec.sources.get(name)
            if source is None or source.type != entry.type:
                raise StepFailed(
                    f"{before.id} is not encrypted, and stays so: no source {name} of type "
                    f"{entry.type} is declared any more, so its {INSTRUCTIONS} cannot be written.",
                    remedy="Declare that source again, or delete the snapshot.",
                )

    def _with_instructions(self, manifest: Manifest) -> Manifest:
        """With a RESTORE.md that opens what was not encrypted before."""
        text = restore_text(self._context, manifest, list(manifest.files))
        folder = self._folder(manifest.id)
        self._watched.as_target().put(f"{folder}/{INSTRUCTIONS}", [text])
        own = StoredFile(INSTRUCTIONS, len(text), hashlib.sha256(text).hexdigest())
        return replace(manifest, files=(own, *manifest.files))

    def _predecessor(self) -> Mapping[str, str] | None:
        """What stands for the predecessor, if that is known."""
        step = self._params["before"]
        outputs = self._context.outputs(step) if step is not None else {}
        if "manifest_sha256" in outputs:
            return {"id": outputs["snapshot"], "sha256": outputs["manifest_sha256"]}
        known: Mapping[str, str] | None = self._params["predecessor"]
        return known

    def _folder(self, snapshot: str) -> str:
        return folder_of(self._spec.project, self._spec.profile, snapshot)


def _kept(before: Manifest, file: StoredFile) -> bool:
    """Whether a file is of use again: the commands of what was not encrypted are not."""
    written = file.key == INSTRUCTIONS or is_document(file.key, RUNBOOK_COPY)
    return before.encrypted or not written
