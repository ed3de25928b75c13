"""Walk a tree in the order of an archive, and hash what is in it with two threads."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from typing import NamedTuple

from runner.errors import StepFailed
from runner.source.files_entry import ListWriter, entry_line, raw, shown, text, xattrs_text
from runner.source.tar_stream import FIFO, FILE, FOLDER, HARDLINK, LINK, OTHER, READ_BYTES

THREADS = 2
_BATCH = 64  # files that a thread takes at once
_WINDOW = 8  # batches under way: bounds the memory

_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: LINK, stat.S_IFIFO: FIFO}
_NOTHING = hashlib.sha256().hexdigest()
_local = threading.local()
_by_name = attrgetter("name")


class Found(NamedTuple):
    """One path that a walk met."""

    name: bytes  # as an archive would store it
    path: bytes
    status: os.stat_result


def walk(root: bytes, stored: str, *, skip: Callable[[str], bool] | None = None) -> Iterator[Found]:
    """Everything in `root`, itself first, under names that start with `stored`.

    What `skip` says of a name holds for all that is below it.
    """
    top = Found(raw(stored), root, os.lstat(root))
    yield top
    open_folders = [_children(top, skip)] if stat.S_ISDIR(top.status.st_mode) else []
    while open_folders:
        for found in open_folders[-1]:
            yield found
            if stat.S_ISDIR(found.status.st_mode):
                open_folders.append(_children(found, skip))
                break
        else:
            open_folders.pop()


def _children(folder: Found, skip: Callable[[str], bool] | None) -> Iterator[Found]:
    prefix = b"" if folder.name == b"." else folder.name + b"/"
    with os.scandir(folder.path) as names:
        entries = sorted(names, key=_by_name)
    for entry in entries:
        name = prefix + entry.name
        if skip is None or not skip(text(name)):
            yield Found(name, entry.path, entry.stat(follow_symlinks=False))


def write_list(trees: Iterable[tuple[bytes, str]], lines: ListWriter) -> None:
    """Write the list of the entries of (path, stored name) trees, as a capture would.

    Raises StepFailed when something cannot be read.
    """
    first_names: dict[tuple[int, int], bytes] = {}
    pending: deque[Future[list[tuple[str, int]]]] = deque()
    batch: list[tuple[Found, bytes]] = []
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for path, stored in trees:
                for found in walk(path, stored):
                    batch.append((found, _first_name(found, first_names)))
                    if len(batch) == _BATCH:
                        pending.append(pool.submit(_lines, batch))
                        batch = []
                        if len(pending) > _WINDOW:
                            _add(lines, pending.popleft())
            pending.append(pool.submit(_lines, batch))
            for future in pending:
                _add(lines, future)
    except OSError as error:
        name = shown(os.fsdecode(error.filename or "a file"))
        raise StepFailed(
            f"{name} cannot be read again: {error.strerror}.",
            remedy="Restore as a user who may read what is restored.",
        ) from error


def _first_name(found: Found, first_names: dict[tuple[int, int], bytes]) -> bytes:
    """The name that was met first for the same file; empty if this is the first."""
    status = found.status
    if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
        return b""
    first = first_names.setdefault((status.st_dev, status.st_ino), found.name)
    return b"" if first == found.name else first


def _add(lines: ListWriter, future: Future[list[tuple[str, int]]]) -> None:
    for line, size in future.result():
        lines.add(line, size)


def _lines(batch: Iterable[tuple[Found, bytes]]) -> list[tuple[str, int]]:
    return [_line(found, first) for found, first in batch]


def _line(found: Found, first: bytes) -> tuple[str, int]:
    name, path, status = found
    if first:
        return entry_line(name, HARDLINK, (0, 0, 0, 0, 0), "", first, "{}"), 0
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), OTHER)
    digest, link, size = "", b"", 0
    if kind == FILE:
        size = status.st_size
        digest = _hash(path, size)
    elif kind == LINK:
        link = os.readlink(path)  # noqa: PTH115 - bytes, in a hot loop
    names = os.listxattr(path, follow_symlinks=False)
    attributes = "{}"
    if names:
        attributes = xattrs_text(
            (os.fsencode(one), os.getxattr(path, one, follow_symlinks=False)) for one in names
        )
    numbers = (status.st_mode & 0o7777, status.st_uid, status.st_gid, size, status.st_mtime_ns)
    return entry_line(name, kind, numbers, digest, link, attributes), size


def _hash(path: bytes, size: int) -> str:
    """sha256 of a file that nobody writes to and that had `size` bytes just now."""
    if size == 0:
        return _NOTHING
    buffer: bytearray | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = bytearray(READ_BYTES)
    digest = hashlib.sha256()
    view = memoryview(buffer)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while size > 0 and (count := os.readv(descriptor, [buffer])):
            digest.update(view[:count])
            size -= count
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def mark(trees: Iterable[tuple[bytes, str]], skip: Callable[[str], bool]) -> str:
    """A hash of what a walk shows without reading: it differs if the content may differ."""
    digest = hashlib.sha256()
    for path, stored in trees:
        for name, _, status in walk(path, stored, skip=skip):
            # The spec's own folder is where state and staging come and go.
            times = () if name == b"." else (status.st_mtime_ns, status.st_ctime_ns)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            owner = (status.st_uid, status.st_gid)
            digest.update(b"%d %s" % (len(name), name))
            digest.update(repr((status.st_ino, status.st_mode, owner, size, times)).encode())
    return digest.hexdigest()
