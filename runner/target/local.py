"""A folder as a target."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from runner import durable
from runner.errors import Locked, StepFailed, UsageError
from runner.owner import lock
from runner.spec.model import TargetSpec
from runner.target import Entry, KeyExists
from runner.target.keys import Incoming, own, parts_of

CHUNK = 1024 * 1024

# How many bytes are written between two looks at the reserve.
RESERVE_STEP = 64 * 1024 * 1024

# How often a folder is made anew that a prune takes away, empty, before something is in it.
ATTEMPTS = 20

_REASONS = {
    errno.ENOSPC: ("is full", "Free some space there, or prune."),
    errno.EDQUOT: ("has no quota left", "Free some space there, or raise the quota."),
    errno.EROFS: ("is read-only", "Mount it for writing; look for errors of the disk first."),
    errno.EACCES: ("refuses this user", "Give this user read and write permission there."),
    errno.EPERM: ("refuses this user", "Give this user read and write permission there."),
    errno.EIO: ("reports an input/output error", "Check the disk: dmesg tells more."),
    errno.ENOTDIR: ("has a file where a folder belongs", "Move that file away."),
}


def open_target(spec: TargetSpec) -> LocalTarget:
    """The folder that a spec declares: `path`, and `min_free` bytes that stay free."""
    try:
        path = Path(spec.options["path"]).expanduser()
    except RuntimeError as error:
        raise UsageError(f"The path of target {spec.name}: {error}.") from error
    return LocalTarget(spec.name, (spec.folder / path).resolve(), spec.options.get("min_free", 0))


class LocalTarget:
    """Keys are files below `root`. What starts with a dot and ends with `.partial` or `.lock`
    is the target's own, and never listed.
    """

    def __init__(self, name: str, root: Path, min_free: int = 0) -> None:
        self.name = name
        self.root = root
        self._min_free = min_free

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,  # noqa: ARG002
    ) -> int:
        """Store `chunks` under `key`; see the protocol."""
        path = self._path(key)
        incoming = Incoming(self._within_reserve(chunks))
        with self._explained(f"{key} was not written", incoming):
            if exclusive and path.exists():
                raise KeyExists(key)
            try:
                return self._persistent(
                    lambda: durable.write_chunks(path, incoming, exclusive=exclusive),
                    path.parent,
                    incoming,
                )
            except FileExistsError as error:
                if error is incoming.error or not exclusive:
                    raise
                raise KeyExists(key) from error

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call."""
        path = self._path(key)
        with self._explained(f"{key} was not read"):
            found = path.is_file()
        if not found:
            raise FileNotFoundError(errno.ENOENT, f"target {self.name} has no such object", key)
        return self._read(path, offset, length)

    def _read(self, path: Path, offset: int, length: int | None) -> Iterator[bytes]:
        left = length
        with self._explained(f"{path} was not read"), path.open("rb", buffering=0) as file:
            file.seek(offset)
            while left is None or left > 0:
                chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below `prefix`, folder by folder, sorted by name in each."""
        pending = [prefix]
        while pending:
            folder = pending.pop()
            below = []
            for found in self._scan(folder):
                key = f"{folder}/{found.name}" if folder else found.name
                if found.is_dir(follow_symlinks=False):
                    below.append(key)
                elif found.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        yield _entry(key, found.stat(follow_symlinks=False))
            pending.extend(reversed(below))

    def find(self, prefix: str, name: str) -> Iterator[Entry]:
        """Every `<prefix>/<folder>/<name>`, by one look into each folder, sorted."""
        parent = f"{prefix}/" if prefix else ""
        with self._explained(f"{prefix or 'it'} was not listed"):
            for folder in self.folders(prefix):
                key = f"{parent}{folder}/{name}"
                try:
                    found = os.lstat(f"{self.root}/{key}")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield _entry(key, found)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, sorted."""
        return [one.name for one in self._scan(prefix) if one.is_dir(follow_symlinks=False)]

    def delete(self, key: str) -> None:
        """Remove one object, durably, and the folders that this leaves empty."""
        path = self._path(key)
        with self._explained(f"{key} was not removed"):
            try:
                path.unlink()
                durable.sync_folder(path.parent)
            except (FileNotFoundError, NotADirectoryError):
                return
            self._remove_empty(path.parent)

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        """Remove temporary files below `prefix` older than so many seconds; return their keys. A
        folder `prefix` that is empty goes as well: a first write that failed leaves it.
        """
        now = self.now().timestamp()
        removed = []
        with self._explained("unfinished files were not removed"):
            # What `now` touches lies in the root; elsewhere it may be in use this very moment.
            touched = self.root.glob(".*.partial") if older_than else ()
            for path in sorted({*touched, *self._folder(prefix).rglob(".*.partial")}):
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime >= older_than:
                        path.unlink()
                        removed.append(path.relative_to(self.root).as_posix())
                        self._remove_empty(path.parent)
            self._remove_empty(self._folder(prefix))
        return removed

    def now(self) -> datetime:
        """The file system's clock, read off a file that is touched there.

        The ages of objects are by that clock, which on a network mount is the server's. Where
        nothing can be written no age matters, and it is the host's clock.
        """
        try:
            return datetime.fromtimestamp(_touch(self.root), UTC)
        except OSError:
            return datetime.now(UTC)

    def free(self) -> int | None:
        """Bytes that this user can still write, the reserve taken off; 0 when it is used up."""
        place = self.root
        try:
            while not place.exists():
                place = place.parent
            found = os.statvfs(place)
        except OSError:
            return None
        return max(0, found.f_bavail * found.f_frsize - self._min_free)

    @contextlib.contextmanager
    def lock(self, key: str, owner: str) -> Iterator[None]:
        """Hold the lock `key`. The kernel frees it when this process ends, however it does."""
        path = self._path(key)
        path = path.with_name(f".{path.name}.lock")
        with self._explained(f"{key} was not locked"):
            descriptor = self._persistent(lambda: self._flock(path, key), path.parent)
        try:
            # Whose lock it is has no room on a full disk, which a prune is to free.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, owner.encode(), 0)
            yield
        finally:
            # Removed while it is held: who waits for this very file looks again at the name.
            path.unlink(missing_ok=True)
            os.close(descriptor)
            self._remove_empty(path.parent)

    def _flock(self, path: Path, key: str) -> int:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, durable.PRIVATE_FILE)
            try:
                if not lock(descriptor):
                    owner = os.pread(descriptor, 1000, 0).decode(errors="replace")
                    raise Locked(
                        f"{key} at {self.name} is locked by {owner or 'another run'}.",
                        remedy="Wait until that run has ended.",
                    )
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def check(self) -> None:
        """Raise StepFailed with the reason and remedy unless one can read and write here."""
        with self._explained("nothing can be kept there"):
            self._require_parent()
            if self.root.exists() and not self.root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder")
            place = self.root if self.root.exists() else self.root.parent
            _touch(place)
            os.scandir(place).close()
        self._require_room()

    def location(self, key: str) -> str:
        """The absolute path of that key."""
        return str(self._folder(key))

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        source = shlex.quote(f"{self._folder(prefix)}/.")
        return [f"mkdir -p -- {folder}", f"cp -a -- {source} {folder}"]

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*parts_of(key))

    def _folder(self, prefix: str) -> Path:
        return self._path(prefix) if prefix else self.root

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        with self._explained(f"{folder or 'it'} was not listed"):
            try:
                with os.scandir(self._folder(folder)) as found:
                    return sorted((one for one in found if not own(one.name)), key=_name)
            except (FileNotFoundError, NotADirectoryError):
                # Nothing is kept in a folder that is not there; of a place that cannot be one,
                # nobody knows what is kept.
                if os.path.lexists(self.root) and not self.root.is_dir():
                    raise
                return []

    def _persistent(
        self, act: Callable[[], int], folder: Path, incoming: Incoming | None = None
    ) -> int:
        """Make `folder`, and act in it; again if a prune took the empty folder away between."""
        self._require_parent()
        for _ in range(ATTEMPTS - 1):
            try:
                durable.make_folder(folder)
                return act()
            except FileNotFoundError:
                # What was taken from the chunks is gone: a second attempt would miss it.
                if incoming is not None and incoming.begun:
                    raise
        durable.make_folder(folder)
        return act()

    def _require_parent(self) -> None:
        # Made silently, it would hide that a disk is not mounted, and fill another one.
        if not self.root.parent.is_dir():
            raise StepFailed(
                f"Target {self.name}: the folder {self.root.parent} is missing.",
                remedy="Mount the disk, or create that folder.",
            )

    def _require_room(self) -> None:
        if self.free() == 0:
            reserve = f"not more than the {self._min_free} bytes of min_free" * (self._min_free > 0)
            raise StepFailed(
                f"Target {self.name} at {self.root} has {reserve or 'nothing'} free.",
                remedy="Free some space there, or prune.",
            )

    def _within_reserve(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        unseen = RESERVE_STEP
        for chunk in chunks:
            unseen += len(chunk)
            if self._min_free and unseen >= RESERVE_STEP:
                self._require_room()
                unseen = 0
            yield chunk

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    @contextlib.contextmanager
    def _explained(self, what: str, incoming: Incoming | None = None) -> Iterator[None]:
        """Errors of the file system in words; those of the incoming chunks as they are."""
        try:
            yield
        except OSError as error:
            if incoming is not None and error is incoming.error:
                raise
            number = error.errno or 0
            reason, remedy = _REASONS.get(
                number, (f"fails: {os.strerror(number)}", "Look at that folder and its disk.")
            )
            raise StepFailed(
                f"Target {self.name} at {self.root} {reason}: {what}.", remedy=remedy
            ) from error


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _entry(key: str, found: os.stat_result) -> Entry:
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return Entry(key, found.st_size, modified, f"{found.st_mtime_ns}-{found.st_size}")


def _touch(folder: Path) -> float:
    """Write to a file in `folder` for a moment; the time at which that happened there."""
    path = folder / f".{os.urandom(8).hex()}.partial"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, durable.PRIVATE_FILE)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        path.unlink()
