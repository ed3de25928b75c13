"""Uncommitted work: what of a working tree is not as HEAD has it, as a tar and as hashes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import StepFailed
from runner.source.git_command import git, text
from runner.source.git_tar import BUFFER, reading, writing
from runner.store.seal import Sink
from runner.swap import is_ours

DELETED = "deleted"


@dataclass
class Work:
    """What a capture of uncommitted work found."""

    found: dict[str, str] = field(default_factory=dict)  # what each path is; see `describe`
    deleted: list[bytes] = field(default_factory=list)  # tracked paths that are gone
    nested: list[str] = field(default_factory=list)  # other repositories inside; not captured
    moved: list[str] = field(default_factory=list)  # paths that changed while they were read


def changed_paths(environment: Mapping[str, str], root: Path) -> list[bytes]:
    """The paths that differ from HEAD or are untracked, sorted; ignored ones are not among
    them, and a nested repository ends with a slash.
    """
    return sorted({entry[3:] for entry in _status(environment, root, "all")})


def reveal(shadow: Mapping[str, str], root: Path) -> None:
    """Have a shadow's index look also at the files that git was told not to look at
    (`--skip-worktree`, `--assume-unchanged`): a change that stays out of commits is work, too.
    """
    listed = git("ls-files", "-v", "-z", environment=shadow, folder=root).stdout
    hidden = [one for one in listed.split(b"\0") if one[:1] in (b"S", b"s") or one[:1].islower()]
    # What is left out of a sparse checkout is not there, and nobody's work.
    there = [one[2:] for one in hidden if os.path.lexists(os.path.join(os.fsencode(root), one[2:]))]  # noqa: PTH118
    names = b"\0".join(there)
    for flag in ("--no-skip-worktree", "--no-assume-unchanged") if there else ():
        git("update-index", flag, "-z", "--stdin", environment=shadow, folder=root, stdin=names)


def tracked_changes(environment: Mapping[str, str], root: Path) -> list[bytes]:
    """The tracked paths that differ from HEAD, each with how (`XY path`), sorted."""
    return sorted(_status(environment, root, "no"))


def _status(environment: Mapping[str, str], root: Path, untracked: str) -> list[bytes]:
    listed = git(
        "status", "--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=all",
        f"--untracked-files={untracked}", environment=environment, folder=root,
    ).stdout  # fmt: skip
    return [entry for entry in listed.split(b"\0") if entry]


def capturable(paths: Iterable[bytes], root: Path, excluded: Sequence[Path]) -> Iterator[bytes]:
    """The paths but those that no capture contains: `excluded`, staging and safety copies."""
    base = os.fsencode(root)
    left_out = [os.fsencode(path) for path in excluded]
    for path in paths:
        full = os.path.join(base, path)  # noqa: PTH118 - bytes
        if any(full == one or full.startswith(one + b"/") for one in left_out):
            continue
        if not any(is_ours(os.fsdecode(part)) for part in path.split(b"/")):
            yield path


def write(paths: Iterable[bytes], root: Path, work: Work, sink: Sink) -> None:
    """Stream the files at `paths` as a tar, and note in `work` what was read."""
    with writing(sink) as archive:
        for path in paths:
            if path.endswith(b"/"):
                work.nested.append(text(path))
                continue
            try:
                work.found[text(path)] = _add(archive, root, path, work)
            except (FileNotFoundError, NotADirectoryError):
                work.found[text(path)] = DELETED
                work.deleted.append(path)
            except OSError as error:
                raise StepFailed(
                    f"{text(path)} in {root} cannot be read: {error.strerror}.",
                    remedy="Make it readable, or list it in .gitignore.",
                ) from error


def _add(archive: tarfile.TarFile, root: Path, path: bytes, work: Work) -> str:
    full = _full(root, path)
    member = tarfile.TarInfo(os.fsdecode(path))
    status = os.lstat(full)
    member.mtime, member.mode = int(status.st_mtime), _mode(status)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(full)  # noqa: PTH115
        member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(target)
        archive.addfile(member)
        return _link(target)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(path)
    descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        member.size = os.fstat(descriptor).st_size
        reader = _Hashing(file, member.size)
        archive.addfile(member, reader)
        after = os.fstat(descriptor)
    if reader.short or (after.st_mtime_ns, after.st_size) != (status.st_mtime_ns, member.size):
        work.moved.append(text(path))
    return f"file {member.mode:03o} {reader.digest.hexdigest()}"


class _Hashing(io.BufferedIOBase):
    """A file that is hashed as it is read, and filled up with zeros if it became shorter."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()
        self.short = False

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        if len(data) < wanted:
            self.short = True
            data += bytes(wanted - len(data))
        self._left -= len(data)
        self.digest.update(data)
        return data


def describe(tree: Path, path: bytes) -> str:
    """What stands at `path`: `file MODE HASH`, `link HASH`, or `deleted`."""
    try:
        full = _full(tree, path)
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            return _link(os.readlink(full))  # noqa: PTH115
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb", buffering=0) as file:  # noqa: PTH123
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return f"file {_mode(status):03o} {digest}"
    except (FileNotFoundError, NotADirectoryError):
        pass
    return DELETED


def _full(root: Path, path: bytes) -> bytes:
    """Where `path` is in `root`. Raises NotADirectoryError if that is behind a link, which has
    taken a folder's place: for git, the folder's files are gone.
    """
    base, above = os.fsencode(root), os.path.dirname(path)  # noqa: PTH120 - bytes
    if above and os.path.realpath(os.path.join(base, above)) != os.path.join(  # noqa: PTH118
        os.path.realpath(base), above
    ):
        raise NotADirectoryError(path)
    return os.path.join(base, path)  # noqa: PTH118


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777


def _link(target: bytes) -> str:
    return f"link {hashlib.sha256(target).hexdigest()}"


def put_back(chunks: Iterator[bytes], deleted: Iterable[bytes], tree: Path) -> list[bytes]:
    """Apply uncommitted work to a clean checkout; return its paths.

    Raises StepFailed when it is damaged or reaches out of the tree.
    """
    paths = []
    for path in deleted:
        _remove(_inside(tree, path))
        paths.append(path)
    with reading(chunks, "uncommitted") as archive:
        for member in archive:
            path = os.fsencode(member.name)
            _extract(archive, member, _inside(tree, path))
            paths.append(path)
    return paths


def _inside(tree: Path, path: bytes) -> Path:
    """Where `path` is in the tree. Raises StepFailed if that is outside, or git's own."""
    parts = path.split(b"/")
    full = tree / os.fsdecode(path)
    if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in parts):
        raise StepFailed(f"The artifact `uncommitted` has a path it may not have: {text(path)}.")
    # Staging is private, so nobody exchanges a folder between this look and the write.
    if full.parent.resolve() != tree.resolve() / full.parent.relative_to(tree):
        raise StepFailed(f"The artifact `uncommitted` would write through a link: {text(path)}.")
    return full


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    if member.issym():
        path.symlink_to(member.linkname)
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise StepFailed(f"The artifact `uncommitted` has an odd member: {path.name!r}.")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file, BUFFER)
    path.chmod(member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
