"""Exchanging a staged repository with the live one, entry by entry where that must be.

A destination that is not there, or is a bare repository, is exchanged in whole. In one that is
there, `.git` and the tracked files move, and nothing else: what git does not track (data, state,
targets, other sources) stays exactly where it is. What they replace lies in one folder beside,
`.git.before-<token>`, as a small working copy of its own: `.git` and the replaced files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import swap
from runner.durable import make_folder, sync_folder
from runner.errors import PersonNeeded, StepFailed
from runner.process import CommandFailed
from runner.source.git_command import Repository, find, git
from runner.swap import Move

GIT = ".git"


def tracked(repository: Repository) -> frozenset[bytes]:
    """The paths in a repository's index; none where that cannot be read."""
    try:
        listed = git(
            "ls-files", "-z", environment=repository.environment, folder=repository.root
        ).stdout
    except CommandFailed:
        return frozenset()  # it is being restored because it is damaged
    return frozenset(filter(None, listed.split(b"\0")))


def whole(staged: Path, live: Path, token: str, protected: Sequence[Path]) -> list[Move]:
    """The move that exchanges all of a destination."""
    _refuse_protected(live, protected)
    return swap.plan_moves([(staged, live)], token)


def entries(
    staged: Path, live: Path, token: str, protected: Sequence[Path], old: frozenset[bytes]
) -> list[Move]:
    """The moves that exchange `.git` and the tracked files inside an existing folder.

    `old` are the paths that the live repository tracks; what of them the staged one has not is
    moved to the safety folder. Raises PersonNeeded if something protected would have to move.
    """
    return list(_Entries(staged, live, safety_folder(live, token), protected, old).moves())


def safety_folder(live: Path, token: str) -> Path:
    """Where what an exchange inside `live` replaces is kept."""
    return swap.safety(live / GIT, token)


def make_room(moves: Sequence[Move], live: Path) -> None:
    """Make the folders that safety copies are moved into; they belong to whom `live` belongs."""
    folders = dict.fromkeys(move.safety.parent for move in moves if move.had_live)
    for folder in folders:
        make_folder(folder)
    inside = [one for folder in folders for one in (folder, *folder.parents) if live in one.parents]
    if inside:
        give(inside, live)


def give(paths: Iterable[Path], owner: Path) -> None:
    """Let files belong to whom `owner` belongs, if this process may give files away."""
    status = owner.stat()
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, 0):
        for path in paths:
            os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def settle(folders: set[Path]) -> None:
    """Make names durable that moved between folders."""
    for folder in folders:
        if folder.is_dir():
            sync_folder(folder)


def remove_empty(folder: Path) -> None:
    """Remove a safety folder in which nothing is left but folders."""
    if not folder.is_dir() or any(names for _, _, names in os.walk(folder)):
        return
    for inner, _, _ in os.walk(folder, topdown=False):
        if Path(inner).is_symlink():
            return
        Path(inner).rmdir()


@dataclass(frozen=True)
class _Entries:
    """The moves of one exchange inside a folder."""

    staged: Path
    live: Path
    safety: Path  # the folder of all safety copies
    protected: Sequence[Path]
    old: frozenset[bytes]

    def moves(self) -> Iterator[Move]:
        exchanged: set[bytes] = set()
        for path in (GIT.encode(), *self._exchanged(b"")):
            exchanged.add(path)
            name = os.fsdecode(path)
            live = self.live / name
            yield Move(self.staged / name, live, self.safety / name, os.path.lexists(live))
        for path in sorted(self.old):
            if self._disappears(path, exchanged):
                name = os.fsdecode(path)
                kept = self.safety / name
                # Seen from the safety copy: that is where the file arrives.
                yield Move(self.live / name, kept, kept, False)

    def _exchanged(self, folder: bytes) -> Iterator[bytes]:
        """What moves in as one, below `folder`, which is there on both sides."""
        for entry in sorted(os.scandir(os.fsencode(self.staged / os.fsdecode(folder))), key=_name):
            path = os.path.join(folder, entry.name)  # noqa: PTH118 - bytes
            if path == GIT.encode():
                continue
            live = self.live / os.fsdecode(path)
            if self._is_protected(live):
                continue
            both_folders = entry.is_dir(follow_symlinks=False) and _is_folder(live)
            if both_folders and (self._guards(live) or not self._only_tracked(path)):
                yield from self._exchanged(path)
                continue
            _refuse_protected(live, self.protected)
            yield path

    def _disappears(self, path: bytes, exchanged: set[bytes]) -> bool:
        """Whether the old repository's `path` is live, movable, and not in the new one."""
        parts = path.split(b"/")
        above = [b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        live = self.live / os.fsdecode(path)
        return (
            os.path.lexists(live)
            and not _is_folder(live)
            and not os.path.lexists(self.staged / os.fsdecode(path))
            and not any(one in exchanged for one in above)
            and all(_is_folder(self.live / os.fsdecode(one)) for one in above[:-1])
            and not self._is_protected(live)
        )

    def _only_tracked(self, folder: bytes) -> bool:
        """Whether the live folder holds nothing but what its repository tracks."""
        found = sorted(os.scandir(os.fsencode(self.live / os.fsdecode(folder))), key=_name)
        for entry in found:
            path = os.path.join(folder, entry.name)  # noqa: PTH118
            if entry.is_dir(follow_symlinks=False):
                if not self._only_tracked(path):
                    return False
            elif path not in self.old:
                return False
        return bool(found)

    def _is_protected(self, live: Path) -> bool:
        """Whether `live` is there and is protected, or lies in what is."""
        return os.path.lexists(live) and any(live.is_relative_to(one) for one in self.protected)

    def _guards(self, live: Path) -> bool:
        """Whether something protected is inside `live`."""
        return any(one.is_relative_to(live) for one in self.protected)


def require_same_shape(live: Path, *, bare: bool) -> None:
    """Raise PersonNeeded if a working copy would replace something else, or the reverse."""
    try:
        there = find(live)
    except StepFailed as error:
        raise PersonNeeded(
            error.message, remedy="Restore with --to into another folder."
        ) from error
    used = live.is_dir() and any(live.iterdir())
    other = (
        there is not None and there.bare if not bare else used and (there is None or not there.bare)
    )
    if other or (os.path.lexists(live) and not live.is_dir()):
        kind = "a bare repository" if bare else "a working copy"
        raise PersonNeeded(
            f"The snapshot is {kind}, and {live} is something else.",
            remedy="Restore with --to into an empty folder, or move that away first.",
        )


def _refuse_protected(live: Path, protected: Sequence[Path]) -> None:
    for one in protected:
        if one.is_relative_to(live) and os.path.lexists(one):
            raise PersonNeeded(
                f"{live} would be replaced as a whole, but {one}, which must stay, lies in it.",
                remedy="Restore with --to into another folder, and move what you need by hand.",
            )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name
