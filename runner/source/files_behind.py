"""Read files again while others are still being unpacked, so that the proof has less left to do.

What is hashed is what the files hold, behind their writer, never what was handed to that. The
proof believes it of a file that nobody touched since; every other one it reads itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from runner.source.files_hash import Content
from runner.source.files_helper import Batch, Helper, helping, worth_a_helper
from runner.source.files_place import Layout
from runner.source.files_walk import Found
from runner.source.tar_stream import PIPE_BYTES

LARGE = 8 << 20  # bytes: such a file is read while it grows
_ON_THE_WAY = 2 * PIPE_BYTES  # more than the pipe to tar holds, with what tar has read of it
_WINDOW = 256  # groups that wait to be read: what is before them is left to the proof

# The hash, whether there are attributes, inode, size, time of the last change, length of the name.
_RECORD = struct.Struct("!64s?QQQI")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class _Group:
    """Neighbours of the archive that are read together; a large file is alone in its group."""

    names: list[bytes] = field(default_factory=list)  # as the archive has them
    batch: Batch = field(default_factory=Batch)
    end: float = math.inf  # how many bytes were handed to tar when all of it was

    @property
    def large(self) -> bool:
        return self.batch.content >= LARGE


class ReadBehind:
    """Has files read again. Tell it of them in their order, and of what was handed to tar."""

    def __init__(self, tree: Path, record: IO[bytes], stack: contextlib.ExitStack) -> None:
        self._tree = os.fsencode(tree) + b"/"
        self._record = record
        self._stack = stack
        self._helper: Helper | None = None
        self._files = self._bytes = 0  # so far
        self._handed: float = 0
        self._open = _Group()
        self._closed: list[_Group] = []  # since something was handed on
        self._waiting: deque[_Group] = deque()
        self._asked: deque[_Group] = deque()

    def begins(self, name: bytes, size: int) -> None:
        """The content of a file of `size` bytes comes next; that of all before it has ended."""
        self._files += 1
        self._bytes += size
        if self._open.names and (size >= LARGE or self._open.large or self._open.batch.full):
            self._closed.append(self._open)
            self._open = _Group()
        if not self._open.names:
            self._waiting.append(self._open)
        self._open.names.append(name)
        self._open.batch.add_file(self._tree + name, size)

    def handed(self, count: int) -> None:
        """So many bytes more were handed to tar."""
        self._handed += count
        for group in self._closed:
            group.end = self._handed
        self._closed.clear()
        if self._helper is None and worth_a_helper(self._bytes, self._files):
            self._helper = self._stack.enter_context(helping(behind=True))
        if self._helper is not None:
            self._ask(self._helper)
        while len(self._waiting) > _WINDOW:
            self._waiting.popleft()

    def finish(self) -> None:
        """Tar has ended: note what was read. What was not asked for yet is left to the proof."""
        if self._helper is not None:
            self._helper.end()
        for group in self._asked:
            self._note(group)
        self._record.flush()

    def _ask(self, helper: Helper) -> None:
        while self._waiting and (self._waiting[0].large or self._written(self._waiting[0])):
            if not helper.takes(self._waiting[0].batch):
                break
            self._asked.append(self._waiting.popleft())
        while self._asked and self._asked[0].batch.read and self._written(self._asked[0]):
            self._note(self._asked.popleft())

    def _written(self, group: _Group) -> bool:
        """Whether tar does nothing more to the group's files."""
        return self._handed >= group.end + _ON_THE_WAY

    def _note(self, group: _Group) -> None:
        read = zip(group.names, group.batch.files, group.batch.read or (), strict=True)
        for name, (path, _), content in read:
            if content is None:
                continue
            status = os.lstat(path)
            if status.st_ino != content.inode:
                continue
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
