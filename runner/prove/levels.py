"""Verification: how sure one can be of a snapshot, as deep as was asked.

`stored`: every file is as it was written. `readable`: it also opens, and its content is what was
captured. `restored`: it was brought back into a scratch place, and equals its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from runner.errors import HoldfastError, Interrupted, StepFailed, is_local
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.restored import Restorable, judged, restore_and_ask, told
from runner.prove.scratch import scratch_folder
from runner.prove.stored import (
    Folder,
    Progress,
    file_problem,
    left_out,
    look,
    own_problems,
    shadows,
    strangers,
)
from runner.source import Place
from runner.spec.model import Probe
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS, SKIP, Sample
from runner.store.signature import Signers
from runner.store.snapshot import ArtifactEntry
from runner.store.stored import Damaged
from runner.target import Target


@dataclass(frozen=True)
class Finding:
    """What one verification says of one source of a snapshot at one target."""

    snapshot: str
    target: str
    source: str  # empty: the files of the snapshot that belong to no source
    level: str  # the one that was asked for
    verdict: str  # PASS | FAIL | SKIP | COULD-NOT-VERIFY
    reason: str
    basis: str  # source: compared with the source's instant | artifact | stored
    sample: Sample | None = None  # None: everything that belongs to it was read


def verify(
    level: str,
    target: Target,
    project: str,
    profile: str,
    snapshot_id: str,
    *,
    sources: Sequence[str] = (),
    sample: float = 1.0,
    identities: Callable[[], Sequence[str]],
    open_source: Callable[[str], Restorable],
    scratch: Path,
    token: str,
    checks: Mapping[str, Sequence[Probe]] | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    signers: Signers | None = None,
) -> list[Finding]:
    """One finding for each source, or for each of `sources`; before them one of the source ""
    where something is to be said of the files that belong to none. If one of these is damaged,
    all findings are FAIL, and nothing is restored.

    `sample` is the share of the large files' bytes that level `stored` reads, chosen by `token`; a
    source of which a file was left out is SKIP, since nobody knows. The other levels read all.
    `checks` are asked at level `restored`, without a network where the kernel allows it.

    With `signers`, a snapshot that none of them signed is damaged. Raises UsageError when
    `snapshot_id` is no id, Interrupted when the run is stopped.
    """
    try:
        folder = look(target, project, profile, snapshot_id)
        problems = own_problems(folder, signers, progress)
    except StepFailed as error:
        lost = Said(FAIL if isinstance(error, Damaged) else COULD_NOT_VERIFY, error.message)
        said = [(source, lost) for source in ("", *sources)]
    else:
        verification = Verification(
            folder=folder,
            identities=identities,
            open_source=open_source,
            scratch=scratch,
            token=token,
            share=sample if level == "stored" else 1.0,
            checks=checks or {},
            environment=environment or {},
            progress=progress,
        )
        said = [
            (source, replace(one, sample=verification.sample(source)))
            for source, one in _all_said(
                verification, level, sources or _all_sources(folder), problems
            )
        ]
    return [one.finding(snapshot_id, target.name, source, level) for source, one in said]


@dataclass(frozen=True)
class Said:
    """What is said of one source."""

    verdict: str
    reason: str
    basis: str = "stored"
    sample: Sample | None = None

    def finding(self, snapshot: str, target: str, source: str, level: str) -> Finding:
        """The same, of that source of that snapshot."""
        return Finding(
            snapshot, target, source, level, self.verdict, self.reason, self.basis, self.sample
        )


@dataclass(frozen=True)
class Verification:
    """One snapshot at one target, and what is needed to look at it."""

    folder: Folder
    identities: Callable[[], Sequence[str]]
    open_source: Callable[[str], Restorable]
    scratch: Path  # scratch folders are made in it, and always removed
    token: str  # of the run
    share: float  # of the large files' bytes, that is read
    checks: Mapping[str, Sequence[Probe]]  # by source
    environment: Mapping[str, str]  # of the checks' commands
    progress: Progress | None

    def of(self, source: str, level: str) -> Said:
        """What can be said of one source; what is wrong with it stays with it."""
        manifest = self.folder.manifest
        entries = manifest.of(source)
        if not entries:
            return self._absent(source)
        if source not in manifest.sources:
            return Said(FAIL, "the manifest lists files of it, and does not describe it")
        try:
            problems = self._problems(entries, read=level == "stored")
            if problems:
                return Said(FAIL, "; ".join(problems))
            if level == "stored":
                return self._stored(entries)
            return self._readable(source) if level == "readable" else self._restored(source)
        except Interrupted:
            raise
        except Damaged as error:
            return Said(FAIL, error.message)
        except (HoldfastError, OSError, MemoryError) as error:
            basis = self._basis(source) if level == "restored" else None
            return self._unverified(error, entries, basis)

    @cached_property
    def unread(self) -> frozenset[str]:
        """The keys of the artifacts that the sample leaves out."""
        return left_out(self.folder, self.share, self.token)

    def sample(self, source: str) -> Sample | None:
        """Which files of a source are read; None where that is all of them, or there is none."""
        keys = [entry.key for entry in self.folder.manifest.of(source)]
        if self.share >= 1.0 or not keys:
            return None
        read = tuple(key for key in keys if key not in self.unread)
        return Sample(
            self.share, self.token, read, tuple(key for key in keys if key in self.unread)
        )

    def _absent(self, source: str) -> Said:
        manifest = self.folder.manifest
        if source in manifest.unchanged:
            return Said(SKIP, f"unchanged; its content is in {manifest.unchanged[source]}")
        if source in manifest.missing:
            return Said(SKIP, "it is not in this snapshot: its capture failed")
        return Said(COULD_NOT_VERIFY, "it is not in this snapshot")

    def _problems(self, entries: Sequence[ArtifactEntry], *, read: bool) -> list[str]:
        keys = {entry.key for entry in entries}
        found = [
            f"{name} lies there and could be taken for {listed}"
            for name, listed in shadows(self.folder)
            if listed in keys
        ]
        for entry in entries:
            wanted = read and entry.key not in self.unread
            problem = file_problem(self.folder, entry, self.progress, read=wanted)
            if problem is not None:
                found.append(f"{entry.key}: {problem}")
        return found

    def _stored(self, entries: Sequence[ArtifactEntry]) -> Said:
        unread = [entry.key for entry in entries if entry.key in self.unread]
        if unread:
            read = [entry.key for entry in entries if entry.key not in self.unread]
            rest = f"; read, and as written: {told(read)}" if read else ""
            words = f"there, of the right size, but not in the sample: {told(unread)}"
            return Said(SKIP, f"{words}{rest}")
        size = sum(entry.bytes for entry in entries)
        return Said(PASS, f"{len(entries)} files of {size} bytes are as they were written")

    def _readable(self, source: str) -> Said:
        artifacts = self._artifacts(source)
        size = artifacts.finish()
        return Said(PASS, f"{size} bytes of content are what was captured")

    def _restored(self, source: str) -> Said:
        artifacts = self._artifacts(source)
        with scratch_folder(self.scratch, source) as folder:
            restorable = self.open_source(source)
            place = Place(
                self.token,
                destination=restorable.scratch_destination(folder / "restored"),
                workspace=folder / "workspace",
                safety=folder / "safety",
            )
            differences, answers = restore_and_ask(
                restorable,
                artifacts,
                place,
                checks=self.checks.get(source, ()),
                environment=self.environment,
            )
        artifacts.finish()
        basis = self._basis(source)
        verdict, reason = judged(answers)
        if differences:
            return Said(FAIL, f"restored, it differs: {told(differences)}; {reason}", basis)
        return Said(verdict, f"restored, it equals its fingerprint; {reason}", basis)

    def _basis(self, source: str) -> str:
        """What a restored source is compared with."""
        exact = self.folder.manifest.sources[source].consistency == "exact"
        return "source" if exact else "artifact"

    def _unverified(
        self, error: Exception, entries: Sequence[ArtifactEntry], basis: str | None
    ) -> Said:
        """What to say when a level could not be reached: damage tells more than a missing key.

        With a `basis` it was to be restored. If the copy is as it was written, a failure is not
        its own: what was captured does not restore, or this machine could not do it.
        """
        message = error.message if isinstance(error, HoldfastError) else str(error)
        if isinstance(error, MemoryError):
            message = "There is not enough memory."
        try:
            if self.progress is not None:
                self.progress(0)  # a run that is stopped meanwhile concludes nothing
            problems = self._problems(entries, read=True)
        except StepFailed as unread:
            said = dict.fromkeys((message, unread.message, unread.remedy))
            return Said(COULD_NOT_VERIFY, " ".join(said).strip())
        if problems:
            return Said(FAIL, "; ".join(problems))
        if basis is not None and isinstance(error, StepFailed) and not is_local(error):
            return Said(FAIL, message, basis)
        return Said(COULD_NOT_VERIFY, f"{message} What is stored is as it was written.")

    def _artifacts(self, source: str) -> SnapshotArtifacts:
        folder = self.folder
        return SnapshotArtifacts(
            folder.target,
            folder.path,
            folder.manifest,
            source,
            self.identities,
            progress=self.progress,
        )


def _all_said(
    verification: Verification, level: str, sources: Sequence[str], problems: Sequence[str]
) -> Iterator[tuple[str, Said]]:
    """What is said of the files that belong to no source, if anything, and of each source.

    With `problems` the manifest is no ground to restore from; the stored files are still read.
    """
    if problems:
        doubt = f"the snapshot's own files are damaged: {'; '.join(problems)}"
        yield "", Said(FAIL, doubt)
        for source in sources:
            said = verification.of(source, "stored")
            yield source, Said(FAIL, f"{doubt}; of {source} itself: {said.verdict}, {said.reason}")
        return
    others = strangers(verification.folder)
    if others:
        yield "", Said(SKIP, f"also in the folder, and no part of the snapshot: {told(others)}")
    for source in sources:
        yield source, verification.of(source, level)


def _all_sources(folder: Folder) -> list[str]:
    manifest = folder.manifest
    stored = [entry.source for entry in manifest.artifacts]
    return list(dict.fromkeys((*manifest.sources, *stored, *manifest.missing, *manifest.unchanged)))
