"""A snapshot's folder as it lies at a target, held against its own manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from runner.errors import UsageError
from runner.store.manifests import parse_manifest
from runner.store.records import ODD
from runner.store.signature import SIGNATURE, Signers, unsigned
from runner.store.snapshot import (
    MANIFEST,
    MOST_BYTES,
    SUMS,
    ArtifactEntry,
    Manifest,
    SnapshotId,
    StoredFile,
    folder_of,
    sums,
)
from runner.store.stored import Damaged, Stored
from runner.target import Target

BIG = 1024 * 1024  # smaller files are read whatever the sample

Progress = Callable[[int], None]

_SUFFIXES = (".age", ".zst", ".gz")


@dataclass(frozen=True)
class Folder:
    """What was found."""

    target: Target
    path: str
    manifest: Manifest
    manifest_bytes: bytes
    sizes: Mapping[str, int]  # of every file there is, by its name in the folder


def look(target: Target, project: str, profile: str, snapshot: str) -> Folder:
    """Read the manifest and list the folder.

    Raises Damaged when the manifest is not that snapshot's, StepFailed when the target cannot be
    read, UsageError when `snapshot` is no id.
    """
    path = folder_of(project, profile, snapshot)
    key = f"{path}/{MANIFEST}"
    try:
        data = b"".join(target.get(key, length=MOST_BYTES + 2))
    except FileNotFoundError as error:
        raise Damaged(target.name, key, "it is missing") from error
    try:
        manifest = parse_manifest(data, project, profile, snapshot)
    except (*ODD, UsageError) as error:
        raise Damaged(target.name, key, f"it cannot be read: {error}") from error
    sizes = {one.key.removeprefix(f"{path}/"): one.bytes for one in target.entries(path)}
    return Folder(target, path, manifest, data, sizes)


def own_problems(
    folder: Folder, signers: Signers | None, progress: Progress | None = None
) -> list[str]:
    """What is wrong with the files that belong to no source: the manifest, SHA256SUMS,
    RESTORE.md, the spec, and, where `signers` are declared, the signature. Any of it makes the
    whole snapshot doubtful. Raises StepFailed when a signature cannot be checked.
    """
    manifest = folder.manifest
    found = []
    if manifest.policy != SnapshotId.parse(manifest.id).policy:
        found.append(f"{MANIFEST} is one of policy {manifest.policy}")
    expected = sums(manifest, folder.manifest_bytes)
    listing = StoredFile(SUMS, len(expected), hashlib.sha256(expected).hexdigest())
    for file in (listing, *manifest.files):
        problem = file_problem(folder, file, progress)
        if problem is not None:
            found.append(f"{file.key}: {problem}")
    forged = None if signers is None else unsigned(folder.target, folder.path, expected, signers)
    return found if forged is None else [*found, forged]


def require_whole(folder: Folder, signers: Signers | None) -> None:
    """Raise Damaged where something is wrong with the files that belong to no source."""
    problems = own_problems(folder, signers)
    if problems:
        raise Damaged(folder.target.name, folder.manifest.id, "; ".join(problems))


def file_problem(
    folder: Folder,
    file: StoredFile | ArtifactEntry,
    progress: Progress | None,
    *,
    read: bool = True,
) -> str | None:
    """Why a file is not what was written; None when it is. Without `read` only its presence and
    size are looked at.
    """
    size = folder.sizes.get(file.key)
    if size is None:
        return "it is missing"
    if size != file.bytes:
        return f"it has {size} bytes, and {file.bytes} were written"
    if not read:
        return None
    stored = Stored(folder.target, f"{folder.path}/{file.key}", file.sha256, file.bytes)
    try:
        for chunk in stored:
            if progress is not None:
                progress(len(chunk))
        stored.finish()
    except Damaged as error:
        return error.reason
    finally:
        stored.close()
    return None


def strangers(folder: Folder) -> list[str]:
    """The files, and folders with files, that are there and belong to no snapshot."""
    known = {*folder.manifest.file_names(), MANIFEST, SUMS, SIGNATURE}
    return sorted({name.partition("/")[0] for name in folder.sizes} - known)


def shadows(folder: Folder) -> Iterator[tuple[str, str]]:
    """Each stranger that could be taken for a listed file, and that file: `db.sqlite` beside
    `db.sqlite.zst`, which a person who follows RESTORE.md might pick up.
    """
    listed = {_bare(name): name for name in (*folder.manifest.file_names(), MANIFEST, SUMS)}
    for name in strangers(folder):
        if _bare(name) in listed:
            yield name, listed[_bare(name)]


def left_out(folder: Folder, sample: float, draw: str) -> frozenset[str]:
    """The artifacts that a sample of that share does not read.

    All small ones are read, and of the big ones as many as hold at least that share of their
    bytes. Which ones depends on `draw` alone, never on what they hold: another draw reads others.
    """
    big = [one for one in folder.manifest.artifacts if one.bytes > BIG]
    place = f"{draw}/{folder.target.name}/{folder.manifest.id}"
    big.sort(key=lambda one: hashlib.sha256(f"{place}/{one.key}".encode()).digest())
    wanted = sample * sum(one.bytes for one in big)
    read = 0
    skipped = []
    for one in big:
        if read >= wanted:
            skipped.append(one.key)
        read += one.bytes
    return frozenset(skipped)


def _bare(name: str) -> str:
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name
