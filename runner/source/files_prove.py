"""Read a tree again, wholly: the list of its entries as a capture would have written it.

Once there is much to read, a second process reads every other part of it. What was read behind its
writer, and not touched since, is not read once more.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runner.errors import StepFailed
from runner.source.files_behind import Known
from runner.source.files_entry import ListWriter, entry_line, shown, text, xattrs_text
from runner.source.files_hash import Content, Reader
from runner.source.files_helper import MOST_FILES, Batch, Helper, helping, worth_a_helper
from runner.source.files_walk import Found, walk
from runner.source.tar_stream import FIFO, FILE, FOLDER, HARDLINK, LINK, OTHER

_WINDOW = 64  # batches that wait for one before them: bounds the memory

_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: LINK, stat.S_IFIFO: FIFO}


@dataclass
class Entries(Batch):
    """Neighbours of a walk, whose files are read together unless that was done before."""

    # Each with its kind, the name that was met first for the same file, and what is known of it.
    entries: list[tuple[Found, str, bytes, Content | None]] = field(default_factory=list)

    def add(self, found: Found, first: bytes, known: Known) -> None:
        """Take an entry in."""
        kind = HARDLINK if first else _KINDS.get(stat.S_IFMT(found.status.st_mode), OTHER)
        content = None
        if kind == FILE:
            content = known.content(found)
            if content is None:
                self.add_file(found.path, found.status.st_size)
        self.entries.append((found, kind, first, content))

    @property
    def full(self) -> bool:
        """Whether the next entry belongs into another batch."""
        return len(self.entries) >= MOST_FILES or super().full


def write_list(trees: Iterable[tuple[bytes, str]], lines: ListWriter, known: Known) -> None:
    """Write the list of the entries of (path, stored name) trees. What is `known` of the content
    of files is not read again.

    Raises StepFailed when something cannot be read.
    """
    waiting: deque[Entries] = deque()
    helper: Helper | None = None
    reader = Reader()
    content = files = 0
    try:
        with contextlib.ExitStack() as stack:
            for batch in _batches(trees, known):
                content += batch.content
                files += len(batch.files)
                if helper is None and worth_a_helper(content, files):
                    helper = stack.enter_context(helping())
                waiting.append(batch)
                if helper is None or not batch.files or not helper.takes(batch):
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


def _batches(trees: Iterable[tuple[bytes, str]], known: Known) -> Iterator[Entries]:
    first_names: dict[tuple[int, int], bytes] = {}
    batch = Entries()
    for path, stored in trees:
        for found in walk(path, stored):
            batch.add(found, _first_name(found, first_names), known)
            if batch.full:
                yield batch
                batch = Entries()
    yield batch


def _first_name(found: Found, first_names: dict[tuple[int, int], bytes]) -> bytes:
    """The name that was met first for the same file; empty if this is the first."""
    status = found.status
    if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
        return b""
    first = first_names.setdefault((status.st_dev, status.st_ino), found.name)
    return b"" if first == found.name else first


def _add(lines: ListWriter, batch: Entries, helper: Helper | None) -> None:
    while batch.read is None:
        assert helper is not None
        helper.collect()
    read = iter(batch.read)
    for found, kind, first, known in batch.entries:
        if kind == HARDLINK:
            lines.add(entry_line(text(found.name), kind, (0, 0, 0, 0, 0), "", first, "{}"), 0)
            continue
        name, path, status = found
        digest, link, size = "", b"", 0
        if kind == FILE:
            size = status.st_size
            content = known or next(read) or Reader().content(path, size)
            digest, attributed = content.sha256, content.attributed
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
