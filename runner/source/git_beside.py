"""What a live repository has beside what a snapshot holds: the repositories of its submodules, the
objects of Git LFS, its linked worktrees. It is taken along into the one that replaces it; without
it git refuses every command in a submodule or a worktree.
"""

from __future__ import annotations

from pathlib import Path

from runner import process
from runner.durable import make_folder
from runner.source.git_command import Repository, environment, find, git

_SYMBOLIC = b"ref: "
_OF_A_WORKTREE = ("HEAD", "commondir", "gitdir", "locked")


def take_along(live: Path, repository: Repository) -> None:
    """Bring it from what stands at `live` into the staged repository."""
    old = find(live)
    if old is None:
        return
    if (old.git_dir / "modules").is_dir():
        modules = old.git_dir / "modules"
        process.run(["cp", "-a", "--reflink=auto", "--", modules, repository.git_dir])
    if (old.git_dir / "lfs").is_dir():
        _take_objects(old.git_dir / "lfs", repository.git_dir)
    for worktree in sorted((old.git_dir / "worktrees").glob("*")):
        if (worktree / "HEAD").is_file() and _has_head(repository, worktree):
            _take_worktree(worktree, repository)


def _take_objects(old: Path, git_dir: Path) -> None:
    """By links: they may be many gigabytes, and nobody writes into one."""
    linked = process.run(["cp", "-al", "--", old, git_dir], accept=range(256))
    if linked.status != 0:  # a file system without them, or another one
        process.run(["rm", "-rf", "--", git_dir / old.name])
        process.run(["cp", "-a", "--reflink=auto", "--", old, git_dir])


def _has_head(repository: Repository, worktree: Path) -> bool:
    """Whether the snapshot has what a worktree is at: else git would call all of it damaged."""
    head = (worktree / "HEAD").read_bytes().strip().removeprefix(_SYMBOLIC)
    asked = ("rev-parse", "-q", "--verify", "--end-of-options", head.decode() + "^{commit}")
    return git(*asked, environment=repository.environment, accept=range(256)).status == 0


def _take_worktree(worktree: Path, repository: Repository) -> None:
    """Without its index, whose objects may be nowhere: what was staged there is now a change."""
    new = repository.git_dir / "worktrees" / worktree.name
    make_folder(new)
    for name in _OF_A_WORKTREE:
        if (worktree / name).is_file():
            (new / name).write_bytes((worktree / name).read_bytes())
    git("read-tree", "HEAD", environment=environment(new))
