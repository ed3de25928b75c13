"""Read large files again while they are being unpacked, so that the proof has less left to do.

What is hashed is what a file holds, behind its writer, never what was handed to that. The proof
believes it of a file that nobody touched since; every other one it reads itself, small ones too:
to open them twice costs more than it saves.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from runner.source.files_hash import Content
from runner.source.files_helper import Batch, Helper, helping, worth_a_helper
from runner.source.files_place import Layout
from runner.source.files_walk import Found

LARGE = 8 << 20  # bytes: smaller files are left to the proof

# The hash, whether there are attributes, inode, size, time of the last change, length of the name.
_RECORD = struct.Struct("!64s?QQQI")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class ReadBehind:
    """Has large files read again. Tell it of them in the order of the archive."""

    def __init__(self, tree: Path, record: IO[bytes], stack: contextlib.ExitStack) -> None:
        self._tree = os.fsencode(tree) + b"/"
        self._record = record
        self._stack = stack
        self._helper: Helper | None = None
        self._files = self._bytes = 0  # so far
        self._waiting: deque[tuple[bytes, Batch]] = deque()
        self._asked: list[tuple[bytes, Batch]] = []

    def begins(self, name: bytes, size: int) -> None:
        """The content of a file of `size` bytes comes next."""
        if size < LARGE:
            return
        self._files += 1
        self._bytes += size
        batch = Batch()
        batch.add_file(self._tree + name, size)
        self._waiting.append((name, batch))
        if self._helper is None and worth_a_helper(self._bytes, self._files):
            self._helper = self._stack.enter_context(helping(behind=True))

    def go_on(self) -> None:
        """Have read what can be by now."""
        while self._waiting and self._helper is not None:
            if not self._helper.takes(self._waiting[0][1]):
                break
            self._asked.append(self._waiting.popleft())

    def finish(self) -> None:
        """Tar has ended: note what was read. What was not asked for yet is left to the proof."""
        if self._helper is not None:
            self._helper.end()
        for name, batch in self._asked:
            for (path, _), content in zip(batch.files, batch.read or (), strict=True):
                if content is not None:
                    self._note(name, path, content)
        self._record.flush()

    def _note(self, name: bytes, path: bytes, content: Content) -> None:
        status = os.lstat(path)
        if status.st_ino == content.inode:
            known = (content.inode, status.st_size, status.st_ctime_ns)
            record = (content.sha256.encode("ascii"), content.attributed, *known, len(name))
            self._record.write(_RECORD.pack(*record) + name)


class Known:
    """What was read behind the writer, in the order in which it was."""

    def __init__(self, record: IO[bytes] | None) -> None:
        self._record = record
        self._name = b""
        self._content: Content | None = None
        self._marks: tuple[int, ...] = ()
        self._advance()

    def content(self, found: Found) -> Content | None:
        """What is in a file; None: it must be read. Asked in the order of the archive."""
        if self._content is None or found.name != self._name:
            return None
        content, marks = self._content, self._marks
        self._advance()
        status = found.status
        same = marks == (status.st_ino, status.st_size, status.st_ctime_ns)
        return content if same else None

    def _advance(self) -> None:
        head = b"" if self._record is None else self._record.read(_RECORD.size)
        if self._record is None or len(head) < _RECORD.size:
            self._content = None
            return
        digest, attributed, inode, size, changed, length = _RECORD.unpack(head)
        self._name = self._record.read(length)
        self._content = Content(digest.decode("ascii"), attributed, inode)
        self._marks = (inode, size, changed)


@contextlib.contextmanager
def reading_behind(layout: Layout) -> Iterator[ReadBehind | None]:
    """For the unpacking of a layout; None where tar writes to several file systems at once."""
    boot = _boot()
    if len(layout.containers) > 1 or not boot:
        yield None
        return
    with layout.behind.open("wb") as record, contextlib.ExitStack() as stack:
        record.write(boot)
        yield ReadBehind(layout.home / "tree", record, stack)


@contextlib.contextmanager
def known(layout: Layout) -> Iterator[Known]:
    """What was read while the layout was unpacked: nothing, if the machine was started since, as
    what was not on the disk by then is lost.
    """
    boot = _boot()
    with contextlib.ExitStack() as stack:
        record = None
        if boot and layout.behind.exists():
            record = stack.enter_context(layout.behind.open("rb"))
        yield Known(record if record is not None and record.read(len(boot)) == boot else None)


def _boot() -> bytes:
    """What tells this start of the machine from every other; empty where nothing does."""
    try:
        return _BOOT.read_bytes()
    except OSError:
        return b""
