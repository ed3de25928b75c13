"""Extract an archive into staging folders, letting nothing through that could leave them.

Each member is checked before any byte of it reaches tar, against the rules of a safe archive and
against the snapshot's own list: a forged archive has no list that agrees with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.errors import StepFailed
from runner.process import feeding
from runner.source import Artifacts
from runner.source.files_behind import ReadBehind, reading_behind
from runner.source.files_capture import ENVIRONMENT
from runner.source.files_entry import (
    entry_ends,
    read_entry,
    shown,
    text,
    xattrs_text,
)
from runner.source.files_place import Layout
from runner.source.files_roots import Wanted
from runner.source.tar_stream import (
    FILE,
    FOLDER,
    HARDLINK,
    LINK,
    OTHER,
    PIPE_BYTES,
    TRAILER,
    Member,
    TarRefused,
    TarStream,
)

EXTRACT = (
    "tar",
    "--extract",
    "--file=-",
    "--numeric-owner",
    "--same-permissions",
    "--delay-directory-restore",
    "--xattrs",
    "--xattrs-include=*",
)
LIST_PART = "entries"
_HASH_LENGTH = 64


def stage_tar(artifacts: Artifacts, layout: Layout, wanted: Wanted) -> None:
    """Extract the wanted members into the layout's staging folders, durably.

    Raises StepFailed when the archive or its list is not what the fingerprint says, holds what
    no backup of ours holds, or cannot be written.
    """
    _save_list(artifacts, layout.expected)
    with layout.expected.open("rb") as lines, reading_behind(layout) as behind:
        gate = Gate(layout, wanted, lines, _linked_to(layout, wanted), behind)
        stream = TarStream(gate)
        with contextlib.ExitStack() as stack:
            pipes = [
                stack.enter_context(
                    feeding(
                        [*EXTRACT, "--blocking-factor=512", f"--directory={container / 'tree'}"],
                        environment={**os.environ, **ENVIRONMENT},
                    )
                )
                for container in layout.containers
            ]
            for pipe in pipes:
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            for block in artifacts.read():
                for route, piece in stream.feed(block):
                    pipes[route].write(piece)
                    if behind is not None:
                        behind.go_on()
            stream.finish()
            gate.finish()
            for pipe in pipes:
                pipe.write(TRAILER)
        if behind is not None:
            behind.finish()
    layout.set_complete()


def _save_list(artifacts: Artifacts, path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in artifacts.read(LIST_PART):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != artifacts.fingerprint.get("sha256"):
        raise StepFailed(
            "The snapshot's list of files does not belong to its fingerprint.",
            remedy="Restore another snapshot: `holdfast list` shows them.",
        )


def _linked_to(layout: Layout, wanted: Wanted) -> Iterator[str]:
    """The names that wanted hard links share their file with: those must be extracted too."""
    with layout.expected.open("rb") as lines:
        for line in lines:
            if b',"hardlink",' in line:
                entry = read_entry(line)
                if entry.kind == HARDLINK and wanted(entry.name):
                    yield entry.link


class Gate:
    """Lets through the members that are wanted; refuses what does not agree with the list."""

    def __init__(
        self,
        layout: Layout,
        wanted: Wanted,
        lines: Iterator[bytes],
        linked_to: Iterable[str] = (),
        behind: ReadBehind | None = None,
    ) -> None:
        containers = layout.containers
        # Each root's name, what the names in it start with, and the number of its folder.
        self._roots = [
            (
                one.stored,
                "" if one.stored == "." else f"{one.stored}/",
                containers.index(one.container),
            )
            for one in layout.spots
        ]
        self._wanted = wanted
        self._lines = lines
        self._links: set[bytes] = set()  # the symbolic links so far
        self._folder = b""  # the last folder that was found to be reached through no link
        self._linked_to = frozenset(linked_to)
        self._behind = behind

    def begin(self, member: Member) -> int | None:
        """The number of the staging folder that the member goes to; None: it is not wanted."""
        name = _safe(member.name, folder=member.kind == FOLDER)
        link = _safe(member.link) if member.kind == HARDLINK else member.link
        self._check_kind(member, name)
        self._check_way(name)
        if member.kind == HARDLINK:
            self._check_way(link)
        stored = text(name)
        self._check_listed(member, stored, link)
        if member.kind == LINK or link in self._links:
            self._links.add(name)
            self._folder = b""
        if not self._wanted(stored) and stored not in self._linked_to:
            return None
        if member.kind == HARDLINK:
            self._check_together(stored, text(link))
        if self._behind is not None and member.kind == FILE and member.size:
            self._behind.begins(name, member.size)
        return self._route(stored)

    def content(self, data: memoryview, last: bool) -> None:
        """Nothing: the proof reads what was written, and the store checks what was read."""

    def finish(self) -> None:
        """Raise unless every entry of the list came, and all that was wanted among them."""
        missing = next(self._lines, None)
        if missing is not None:
            raise TarRefused("The archive holds less than the snapshot's list says.")
        if self._wanted.unmet:
            unmet = ", ".join(map(shown, self._wanted.unmet))
            raise StepFailed(
                f"Nothing in the snapshot matches --include {unmet}.",
                remedy="`holdfast ls` shows the names that globs are matched with.",
            )

    def _check_kind(self, member: Member, name: bytes) -> None:
        if member.kind == OTHER:
            raise TarRefused(f"The archive holds a device: {shown(text(name))}.")
        if b"\0" in member.link or (member.kind == LINK and not member.link):
            raise TarRefused(f"The archive holds a damaged link: {shown(text(name))}.")

    def _check_way(self, name: bytes) -> None:
        folder = name.rpartition(b"/")[0]
        if folder == self._folder or not self._links:
            return
        way = folder
        while way:
            if way in self._links:
                raise TarRefused(f"The archive reaches {shown(text(name))} through a link.")
            way = way.rpartition(b"/")[0]
        self._folder = folder

    def _check_listed(self, member: Member, name: str, link: bytes) -> None:
        numbers = (member.mode, member.uid, member.gid, member.size, member.mtime)
        attributes = xattrs_text(member.xattrs) if member.xattrs else "{}"
        before, after = entry_ends(name, member.kind, numbers, link, attributes)
        line = next(self._lines, b"").decode()
        length = len(before) + len(after) + (_HASH_LENGTH if member.kind == FILE else 0)
        if len(line) != length or not line.startswith(before) or not line.endswith(after):
            raise TarRefused(
                f"The archive does not agree with the snapshot's list at {shown(name)}."
            )

    def _route(self, name: str) -> int:
        for stored, start, number in self._roots:
            if name == stored or name.startswith(start):
                return number
        raise TarRefused(f"{shown(name)} is in none of the snapshot's folders.")

    def _check_together(self, name: str, target: str) -> None:
        if self._route(name) != self._route(target):
            raise StepFailed(
                f"{shown(name)} and {shown(target)} are one file with two names, but go to "
                "different file systems.",
                remedy="Restore with --to a folder of one file system.",
            )


def _safe(name: bytes, *, folder: bool = False) -> bytes:
    """A member's name without `./` and a folder's slash. Raises TarRefused for an unsafe one."""
    plain = name[2:] if name[:2] == b"./" else name
    if folder and plain.endswith(b"/"):
        plain = plain[:-1]
    if not plain and folder:
        return b"."
    parts = plain.split(b"/")
    if b"" in parts or b".." in parts or b"." in parts or b"\0" in plain:
        if folder and plain == b".":
            return plain
        raise TarRefused(f"The archive holds an unsafe name: {shown(text(name))}.")
    return plain
