"""Git as a process, in an environment where no repository makes it run anything else.

A repository's own configuration can name programs (fsmonitor, hooks, filters, transports). What
only lists refs is run on the repository itself, with those settings overridden; what reads
objects or the working tree is run in a *shadow*: an empty repository of ours, with settings of
ours, that borrows nothing but the object folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import process
from runner.errors import StepFailed

# Overrides what any repository says; the same as `-c name=value`.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.logAllRefUpdates": "false",
    "core.quotePath": "false",
    "advice.graftFileDeprecated": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.ext.allow": "never",
    "safe.directory": "*",
}
_FIXED = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_PAGER": "cat",
}
# What reaching a remote may need: keys, agents, proxies, and the user's own configuration.
_FOR_REMOTES = (
    "HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS",
    "SSH_ASKPASS", "http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "no_proxy",
    "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def text(raw: bytes) -> str:
    """A name as text that any JSON can hold: backslashes and what is not UTF-8 are escaped."""
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def environment(
    git_dir: Path | None = None, work_tree: Path | None = None, *, remote: bool = False
) -> dict[str, str]:
    """The whole environment of a git process."""
    kept = ("PATH", "TMPDIR", *(_FOR_REMOTES if remote else ()))
    found = {name: os.environ[name] for name in kept if name in os.environ} | _FIXED
    if not remote:
        found["GIT_CONFIG_GLOBAL"] = os.devnull
    for index, (name, value) in enumerate(_SETTINGS.items()):
        found |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    found["GIT_CONFIG_COUNT"] = str(len(_SETTINGS))
    if git_dir is not None:
        found["GIT_DIR"] = str(git_dir)
    if work_tree is not None:
        found["GIT_WORK_TREE"] = str(work_tree)
    return found


def git(
    *arguments: str | Path,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    accept: Sequence[int] = (0,),
    folder: Path | None = None,
) -> process.Outcome:
    """Run git to its end; its output must fit in memory. Raises CommandFailed."""
    return process.run(
        ["git", *arguments], environment=environment, stdin=stdin, accept=accept, folder=folder
    )


@dataclass(frozen=True)
class Repository:
    """Where a repository's parts are."""

    root: Path  # the working copy, or the bare repository
    git_dir: Path  # what holds HEAD, refs and objects
    bare: bool

    @property
    def environment(self) -> dict[str, str]:
        """For what reads refs or the index. An explicit folder is read whoever owns it."""
        return environment(self.git_dir, None if self.bare else self.root)


def find(root: Path) -> Repository | None:
    """The repository whose root is `root`; None where there is none.

    Raises StepFailed for a linked worktree, whose refs and objects are another folder's.
    """
    dot = root / ".git"
    bare = False
    if dot.is_file():
        git_dir = root / os.fsdecode(dot.read_bytes().removeprefix(b"gitdir:").strip())
    elif dot.is_dir():
        git_dir = dot
    else:
        git_dir, bare = root, True
    if (git_dir / "commondir").exists():
        main = (git_dir / (git_dir / "commondir").read_text().strip()).resolve()
        raise StepFailed(
            f"{root} is a linked worktree: its refs and objects are in {main}.",
            remedy=f"Declare the main repository instead: path: {main.parent}",
        )
    whole = (git_dir / "HEAD").exists() and (git_dir / "objects").is_dir()
    return Repository(root, git_dir, bare) if whole else None


def missing(root: Path) -> StepFailed:
    """The error for a path that is no repository's root."""
    for parent in root.parents:
        if (parent / ".git").exists():
            return StepFailed(
                f"{root} is not the root of a git repository, but lies in that of {parent}.",
                remedy=f"Declare the root: path: {parent}",
            )
    return StepFailed(
        f"{root} is not a git repository.", remedy="Correct `path`, or run `git init` there."
    )


def shadow(
    repository: Repository, folder: Path, object_format: str, head: str, settings: str = ""
) -> dict[str, str]:
    """Make a shadow of `repository` in the new `folder`; the environment that uses it.

    `head` is the commit that the working tree is compared with; empty: none yet.
    """
    (folder / "refs").mkdir(parents=True)
    (folder / "objects").mkdir()
    (folder / "info").mkdir()
    (folder / "HEAD").write_text(f"{head or 'ref: refs/heads/unborn'}\n")
    version = "0" if object_format == "sha1" else "1"
    extensions = "" if version == "0" else f"[extensions]\n\tobjectformat = {object_format}\n"
    (folder / "config").write_text(
        f"[core]\n\trepositoryformatversion = {version}\n\tbare = false\n{extensions}{settings}",
        errors="surrogateescape",
    )
    names = ["shallow", "index", "info/exclude", "info/attributes", "info/sparse-checkout"]
    names += [path.name for path in repository.git_dir.glob("sharedindex.*")]
    for name in names:
        if (repository.git_dir / name).is_file():
            # With its time: by that git knows which files may have changed since unseen.
            shutil.copy2(repository.git_dir / name, folder / name)
    work_tree = None if repository.bare else repository.root
    borrowed = {"GIT_OBJECT_DIRECTORY": str(repository.git_dir / "objects")}
    return environment(folder, work_tree) | borrowed
