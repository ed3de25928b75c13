"""Writes that survive a crash: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

FLUSHED_AT_ONCE = 32 * 1024 * 1024  # bytes

# Linux's numbers for renameat2 and sync_file_range, which Python does not wrap.
AT_FDCWD = -100
RENAME_NOREPLACE = 1
SYNC_FILE_RANGE_WRITE = 2


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the block say of which file; those of an open file's writes alone do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such thing for a folder: nothing more can be done.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, private to this user, and make them durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        try:
            one.mkdir(mode=PRIVATE_FOLDER)
        except FileExistsError as error:
            # One look: it may be taken away meanwhile, which is another error than a file.
            if not stat.S_ISDIR(one.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(one)) from error
        sync_folder(one.parent)


def write_chunks(
    path: Path,
    chunks: Iterable[bytes],
    *,
    exclusive: bool = False,
    behind: Callable[[int, int], None] = lambda _descriptor, _written: None,
) -> int:
    """Write `chunks` to `path` so that it is visible whole or not at all; return its bytes.

    With `exclusive` an existing file raises FileExistsError and stays as it is. `behind` is told,
    after every write, a descriptor to read from and how many bytes there are. If any of them
    raises, nothing is left behind.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.partial")
    written = flushed = 0
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    with naming(path):
                        count = file.write(view)
                    view = view[count:]
                    written += count
                    behind(descriptor, written)
                if written - flushed >= FLUSHED_AT_ONCE:
                    _begin_to_flush(descriptor, flushed, written - flushed)
                    flushed = written
            os.fsync(descriptor)
        if exclusive:
            _rename_if_free(temporary, path)
        else:
            temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    return written


def _begin_to_flush(descriptor: int, start: int, count: int) -> None:
    """Let the disk begin with a part of a file, so that there is less to wait for at the end."""
    import ctypes

    # Whether it began is of no account: the file is synced when all of it is written.
    start_and_count = (ctypes.c_int64(start), ctypes.c_int64(count))
    ctypes.CDLL(None).sync_file_range(descriptor, *start_and_count, SYNC_FILE_RANGE_WRITE)


def _rename_if_free(source: Path, path: Path) -> None:
    """Give a file its name unless that is taken: then raise FileExistsError."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        # USB sticks and cameras' cards are formatted without hard links.
        _renameat2(source, path)
    else:
        source.unlink()


def _renameat2(source: Path, path: Path) -> None:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(source), os.fsencode(path)
    if library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def write_bytes(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write a small file durably; see `write_chunks`."""
    write_chunks(path, [data], exclusive=exclusive)


def sweep_partials(folder: Path, older_than: float) -> None:
    """Remove what killed writers left right inside `folder`, older than so many seconds."""
    newest = time.time() - older_than
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < newest:
                    path.unlink()
