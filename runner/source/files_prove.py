"""Read a tree again, wholly: the list of its entries as a capture would have written it.

Once there is much to read, a second process reads every other part of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from subprocess import PIPE, Popen

from runner.errors import StepFailed
from runner.process import started
from runner.source import files_hash
from runner.source.files_entry import ListWriter, entry_line, shown, text, xattrs_text
from runner.source.files_hash import ANSWER_BYTES, Content, Reader, answered, question
from runner.source.files_walk import Found, walk
from runner.source.tar_stream import FIFO, FILE, FOLDER, HARDLINK, LINK, OTHER

# One batch: enough to be worth a question, and far less than a pipe takes at once.
_MOST_ENTRIES = 64
_MOST_PATH_BYTES = 16 << 10
_MOST_CONTENT_BYTES = 1 << 20

_UNDER_WAY = 2  # batches at the second process: the next one waits there for the last to end
_WINDOW = 64  # batches that wait for one before them: bounds the memory
_FILE_COSTS = 16 << 10  # opening a file takes as long as hashing so many bytes
_WORTH_A_PROCESS = 64 << 20  # bytes, or files at that cost

_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: LINK, stat.S_IFIFO: FIFO}


@dataclass
class Batch:
    """Neighbours of a walk, whose files are read together."""

    entries: list[tuple[Found, str, bytes]] = field(default_factory=list)  # kind, first name
    files: list[tuple[bytes, int]] = field(default_factory=list)  # path and size, in their order
    paths: int = 0  # bytes of the files' paths
    content: int = 0  # bytes of the files
    read: list[Content] | None = None  # of each file, once that is known

    def add(self, found: Found, first: bytes) -> None:
        """Take an entry in; `first` is the name that was met before for the same file."""
        kind = HARDLINK if first else _KINDS.get(stat.S_IFMT(found.status.st_mode), OTHER)
        self.entries.append((found, kind, first))
        if kind == FILE:
            self.files.append((found.path, found.status.st_size))
            self.paths += len(found.path)
            self.content += found.status.st_size

    @property
    def full(self) -> bool:
        """Whether the next entry belongs into another batch."""
        return (
            len(self.entries) >= _MOST_ENTRIES
            or self.content >= _MOST_CONTENT_BYTES
            or self.paths >= _MOST_PATH_BYTES
        )


def write_list(trees: Iterable[tuple[bytes, str]], lines: ListWriter) -> None:
    """Write the list of the entries of (path, stored name) trees.

    Raises StepFailed when something cannot be read.
    """
    waiting: deque[Batch] = deque()
    helper: Helper | None = None
    reader = Reader()
    seen = 0
    try:
        with contextlib.ExitStack() as stack:
            for batch in _batches(trees):
                seen += batch.content + len(batch.files) * _FILE_COSTS
                if helper is None and seen > _WORTH_A_PROCESS and _processors() > 1:
                    helper = stack.enter_context(_helper())
                waiting.append(batch)
                if helper is None or not helper.takes(batch):
                    batch.read = [reader.content(*file) for file in batch.files]
                while waiting and (waiting[0].read is not None or len(waiting) > _WINDOW):
                    _add(lines, waiting.popleft(), helper)
            for batch in waiting:
                _add(lines, batch, helper)
    except OSError as error:
        name = shown(os.fsdecode(error.filename or "a file"))
        raise StepFailed(
            f"{name} cannot be read again: {error.strerror}.",
            remedy="Restore as a user who may read what is restored.",
        ) from error


def _batches(trees: Iterable[tuple[bytes, str]]) -> Iterator[Batch]:
    first_names: dict[tuple[int, int], bytes] = {}
    batch = Batch()
    for path, stored in trees:
        for found in walk(path, stored):
            batch.add(found, _first_name(found, first_names))
            if batch.full:
                yield batch
                batch = Batch()
    yield batch


def _first_name(found: Found, first_names: dict[tuple[int, int], bytes]) -> bytes:
    """The name that was met first for the same file; empty if this is the first."""
    status = found.status
    if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
        return b""
    first = first_names.setdefault((status.st_dev, status.st_ino), found.name)
    return b"" if first == found.name else first


def _add(lines: ListWriter, batch: Batch, helper: Helper | None) -> None:
    while batch.read is None:
        assert helper is not None
        helper.collect()
    read = iter(batch.read)
    for found, kind, first in batch.entries:
        if kind == HARDLINK:
            lines.add(entry_line(text(found.name), kind, (0, 0, 0, 0, 0), "", first, "{}"), 0)
            continue
        name, path, status = found
        digest, link, size = "", b"", 0
        if kind == FILE:
            size = status.st_size
            digest, attributed = next(read)
        else:
            attributed = True
            if kind == LINK:
                link = os.readlink(path)  # noqa: PTH115 - bytes, in a hot loop
        attributes = _attributes(path) if attributed else "{}"
        numbers = (status.st_mode & 0o7777, status.st_uid, status.st_gid, size, status.st_mtime_ns)
        lines.add(entry_line(text(name), kind, numbers, digest, link, attributes), size)


def _attributes(path: bytes) -> str:
    names = os.listxattr(path, follow_symlinks=False)
    return xattrs_text(
        (os.fsencode(one), os.getxattr(path, one, follow_symlinks=False)) for one in names
    )


class Helper:
    """A second process that reads batches of files."""

    def __init__(self, process: Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asking = process.stdin
        self._answers = process.stdout.fileno()
        self._under_way: deque[Batch] = deque()

    def takes(self, batch: Batch) -> bool:
        """Give it a batch, unless it has enough to do."""
        while self._under_way and select.select([self._answers], [], [], 0)[0]:
            self.collect()
        if len(self._under_way) >= _UNDER_WAY:
            return False
        try:
            self._asking.write(question(batch.files))
            self._asking.flush()
        except BrokenPipeError as error:
            raise _ended() from error
        self._under_way.append(batch)
        return True

    def collect(self) -> None:
        """Take the answer for the batch that has been under way for longest."""
        batch = self._under_way.popleft()
        left = len(batch.files) * ANSWER_BYTES
        answer = bytearray()
        while left > len(answer):
            piece = os.read(self._answers, left - len(answer))
            if not piece:
                raise _ended()
            answer += piece
        told = (
            answered(bytes(answer[at : at + ANSWER_BYTES])) for at in range(0, left, ANSWER_BYTES)
        )
        batch.read = [
            one or Reader().content(*file) for one, file in zip(told, batch.files, strict=True)
        ]


@contextlib.contextmanager
def _helper() -> Iterator[Helper]:
    program = [sys.executable, "-I", "-S", files_hash.__file__]
    with started(program, stdin=PIPE, stdout=PIPE) as process:
        yield Helper(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _ended() -> StepFailed:
    return StepFailed(
        "The process that reads the restored files again ended early.", remedy="Resume the run."
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0))
