"""Walk a tree in the order of an archive."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from runner.source.files_entry import raw, text

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


def _attributes(path: bytes) -> list[tuple[str, bytes]]:
    """Extended ones, access control lists among them; none where the file system has none."""
    try:
        return [(key, os.getxattr(path, key)) for key in sorted(os.listxattr(path))]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def mark(trees: Iterable[tuple[bytes, str]], skip: Callable[[str], bool]) -> str:
    """A hash of what a walk shows without reading: it differs if the content may differ."""
    digest = hashlib.sha256()
    for path, stored in trees:
        for name, where, status in walk(path, stored, skip=skip):
            changed: object = (status.st_mtime_ns, status.st_ctime_ns)
            if name == b".":
                # The spec's own folder is where state and staging come and go.
                changed = _attributes(where)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            owner = (status.st_uid, status.st_gid)
            digest.update(b"%d %s" % (len(name), name))
            digest.update(repr((status.st_ino, status.st_mode, owner, size, changed)).encode())
    return digest.hexdigest()
