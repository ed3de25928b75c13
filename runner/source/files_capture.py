"""Capture with GNU tar, reading its stream once: hashes and the list come out on the way."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from runner.errors import StepFailed
from runner.process import started
from runner.source.files_entry import ListWriter, entry_line, shown, text, xattrs_text
from runner.source.files_roots import (
    OUR_GLOBS,
    Root,
    excluded_names,
    left_out,
    mounted_names,
)
from runner.source.mounts import mount_points
from runner.source.tar_sparse import SparseHash
from runner.source.tar_stream import (
    FILE,
    FOLDER,
    HARDLINK,
    OTHER,
    PIPE_BYTES,
    READ_BYTES,
    TRAILER,
    Member,
    TarStream,
)
from runner.store.seal import Sink

CREATE = (
    "tar",
    "--create",
    "--format=pax",
    "--pax-option=delete=atime,delete=ctime",
    "--xattrs",
    "--xattrs-include=*",
    "--sparse",
    "--sort=name",
    "--numeric-owner",
)
# Raw names and English words, whatever the user's locale is, and none of the user's own options.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC0", "TAR_OPTIONS": ""}
MOST_NOTES = 10
# PATH_MAX, and room for the folder below which a restore unpacks: tar stores what no program could
# open by its path, and cannot bring it back.
MOST_NAME_BYTES = 4096 - 256

# What tar says of a file that was not still while it was read.
_MOVED = ("file changed as we read it", "File shrank by", "File removed before we read it")
_UNSTORED = ("ignored", "not dumped")


@dataclass(frozen=True)
class Selection:
    """What a capture takes in."""

    roots: Sequence[Root]  # at least one
    exclude: Sequence[str]  # globs, as `tar --exclude` reads them
    one_file_system: bool
    excluded: Sequence[Path] = ()  # absolute paths that no capture contains

    def arguments(self) -> list[str]:
        """The options of tar that choose the files."""
        chosen = ["--one-file-system"] if self.one_file_system else []
        chosen += ["--anchored", "--no-wildcards"]
        # The spec's own folder is given as `.`, and tar's names in it then start with `./`.
        names = sorted(self.excluded_names())
        chosen += [f"--exclude={start}{name}" for name in names for start in ("", "./")]
        chosen += ["--no-anchored", "--wildcards", "--wildcards-match-slash"]
        chosen += [f"--exclude={glob}" for glob in OUR_GLOBS]
        globs: Iterable[str] = self.exclude
        if any(root.stored == "." for root in self.roots):
            # Else `.?*` and `*/data` would match the `./` that no stored name starts with.
            chosen.append("--anchored")
            globs = (f"*/{glob}" for glob in globs)
        chosen += [f"--exclude={glob}" for glob in globs]
        for root in self.roots:
            chosen += [f"--directory={root.base}", f"--add-file={root.stored}"]
        return chosen

    def excluded_names(self) -> set[str]:
        """The stored names of the paths that no capture contains."""
        return {name for root in self.roots for name in excluded_names(root, self.excluded)}

    def mounted_names(self) -> set[str]:
        """The stored names below the roots where something is mounted now."""
        points = mount_points()
        return {name for root in self.roots for name in mounted_names(root, points)}


@dataclass
class Findings:
    """What a capture found out."""

    changed: list[str] = field(default_factory=list)  # files that were not still
    unstored: list[str] = field(default_factory=list)  # sockets, devices, other file systems
    said: list[str] = field(default_factory=list)  # whatever else tar said

    def notes(self) -> tuple[str, ...]:
        """The findings for a person, at most ten of each sort."""
        return tuple(
            line for lines in (self.changed, self.unstored, self.said) for line in _limited(lines)
        )


def capture_tar(selection: Selection, sink: Sink, entries: ListWriter) -> Findings:
    """Write the archive to `sink` and its list to `entries`.

    Raises StepFailed when a file cannot be read or a root is not there.
    """
    for root in selection.roots:
        if not os.path.lexists(root.live):
            raise StepFailed(
                f"{root.live} does not exist.", remedy="Bring it back, or correct `paths`."
            )
    recorder = Recorder(selection, entries)
    with tempfile.TemporaryFile() as errors:
        status = _run_tar(selection, sink, recorder, errors)
        errors.seek(0)
        findings = _read_words(errors, status)
    recorder.finish()
    findings.unstored[:0] = recorder.unstored
    findings.said += [
        f"{shown(one)}: something is mounted there, where no restore in place reaches: let it be "
        "a source of its own, and `exclude` it here"
        for one in sorted(recorder.mounted)
    ]
    links = (root for root in selection.roots if root.live.is_symlink())
    findings.said += [
        f"{one.stored}: a link; what it points to is not in the backup" for one in links
    ]
    return findings


def _run_tar(selection: Selection, sink: Sink, recorder: Recorder, errors: IO[bytes]) -> int:
    stream = TarStream(recorder)
    arguments = [*CREATE, "--quoting-style=escape", "--blocking-factor=512", "--file=-"]
    with started(
        [*arguments, *selection.arguments()],
        stdout=-1,
        stderr=errors,
        environment={**os.environ, **ENVIRONMENT},
    ) as process:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        while block := os.read(descriptor, READ_BYTES):
            for _, piece in stream.feed(block):
                sink.write(piece)
        status = process.wait()
    if status in (0, 1):
        stream.finish()
        sink.write(TRAILER)
    return status


class Recorder:
    """Writes the list of a stream's members, and drops what does not belong into a backup."""

    def __init__(self, selection: Selection, entries: ListWriter) -> None:
        self._entries = entries
        self._excluded = selection.excluded_names()
        self._mounts = selection.mounted_names()
        self._missing = {root.stored for root in selection.roots}
        self._hash: hashlib._Hash | SparseHash | None = None
        self._member: Member | None = None
        self._name = ""
        self.unstored: list[str] = []
        self.mounted: set[str] = set()  # mount points, with something in the archive

    def begin(self, member: Member) -> int | None:
        """Drop what may not be in a backup."""
        stored = member.name
        if len(stored) > MOST_NAME_BYTES:
            raise StepFailed(
                f"{shown(text(stored[:100]))}… leads to a path of {len(stored)} bytes, "
                "which cannot be brought back.",
                remedy="Move it up, or name the folder in `exclude`.",
            )
        name = text(stored[2:] if stored.startswith(b"./") else stored).rstrip("/") or "."
        if self._missing and name != ".":
            # The spec's own folder holds something, or everything in it was excluded.
            self._missing -= {name, "."}
        if member.kind == OTHER:
            self.unstored.append(f"{shown(name)}: a device is not backed up")
            return None
        if self._forbidden(name):
            return None
        if self._mounts:
            self._note_mounts(name, member.kind)
        self._member, self._name = member, name
        self._hash = SparseHash(member.size) if member.sparse else None
        return 0

    def content(self, data: memoryview, last: bool) -> None:
        """Hash what passes; with the last piece, write the member's line."""
        member = self._member
        assert member is not None
        digest = ""
        if member.kind == FILE:
            if self._hash is None:
                self._hash = hashlib.sha256(data)
            else:
                self._hash.update(data)
            if last:
                digest = self._hash.hexdigest()
        if last:
            numbers = (member.mode, member.uid, member.gid, member.size, member.mtime)
            link = member.link
            if member.kind == HARDLINK and link.startswith(b"./"):
                link = link[2:]
            attributes = xattrs_text(member.xattrs) if member.xattrs else "{}"
            line = entry_line(self._name, member.kind, numbers, digest, link, attributes)
            self._entries.add(line, member.size)

    def finish(self) -> None:
        """Raise StepFailed if a root gave nothing at all."""
        if self._missing:
            raise StepFailed(
                f"Nothing of {', '.join(sorted(self._missing))} is in the backup.",
                remedy="A glob in `exclude` matches all of it: make it more precise.",
            )

    def _note_mounts(self, name: str, kind: str) -> None:
        """A mounted folder stays as it is, and only what is in it cannot be exchanged."""
        self.mounted |= {
            one
            for one in self._mounts
            if name.startswith(f"{one}/") or (name == one and kind != FOLDER)
        }

    def _forbidden(self, name: str) -> bool:
        if left_out(name):
            return True
        # Most captures exclude nothing by name, and this is asked of every member.
        return bool(self._excluded) and any(
            name == one or name.startswith(f"{one}/") for one in self._excluded
        )


def _read_words(errors: IO[bytes], status: int) -> Findings:
    """Sort what tar said. Raises StepFailed when it could not read something."""
    findings = Findings()
    failures = []
    for line in errors:
        words = line.decode(errors="replace").strip().removeprefix("tar: ")
        if any(sign in words for sign in _MOVED):
            findings.changed.append(words)
        elif words.endswith(_UNSTORED):
            findings.unstored.append(words)
        elif re.search(r": Cannot |: Read error|: Error ", words) and "Warning:" not in words:
            failures.append(words)
        elif not words.startswith("Exiting with failure status"):
            findings.said.append(words)
    if status not in (0, 1):
        shown_failures = "; ".join(_limited(failures or findings.said))
        raise StepFailed(
            f"tar could not read everything: {shown_failures or f'status {status}'}.",
            remedy="Run as a user who may read it, or name it in `exclude`.",
        )
    findings.said += failures
    return findings


def _limited(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_NOTES
    return [*lines[:MOST_NOTES], f"and {more} more"] if more > 0 else list(lines)
