"""A real repository with all that people do to one, and how to look at it without our code."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HOME = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "LC_ALL": "C",
}


def git(folder: Path, *arguments: str | bytes, stdin: bytes = b"", status: int = 0) -> str:
    """What git says, in that folder."""
    outcome = subprocess.run(
        ["git", *arguments], cwd=folder, env=HOME, input=stdin, capture_output=True, check=False
    )
    assert outcome.returncode == status, outcome.stderr.decode()
    return outcome.stdout.decode(errors="backslashreplace")


def commit(folder: Path, name: str | bytes, content: str, message: str = "work") -> None:
    """Write a file and commit it."""
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    git(folder, "add", "--", name)
    git(folder, "commit", "-q", "-m", message)


def many_commits(folder: Path, count: int) -> None:
    """A long history, quickly."""
    lines = []
    for number in range(count):
        body = f"line {number}\n" * 5
        lines.append(
            f"commit refs/heads/main\ncommitter Ada <ada@example.org> {1700000000 + number} +0000\n"
            f"data 6\nwork {number % 10}\nM 100644 inline history/{number % 17}.txt\n"
            f"data {len(body)}\n{body}\n"
        )
    git(folder, "fast-import", "--quiet", stdin="".join(lines).encode())


def build(folder: Path, *, object_format: str = "sha1") -> None:
    """Branches, a merge, tags, notes, stashes, odd names, remotes, hooks, a link, a mode."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{_built(object_format)}/.", f"{folder}/"], check=True)


@functools.cache
def _built(object_format: str) -> Path:
    """Such a repository, made once and copied often."""
    folder = Path(tempfile.mkdtemp(prefix="repository-"))
    atexit.register(shutil.rmtree, folder)
    _build(folder, object_format)
    return folder


def _build(folder: Path, object_format: str) -> None:
    git(folder, "init", "-q", "-b", "main", f"--object-format={object_format}")
    many_commits(folder, 120)
    git(folder, "reset", "-q", "--hard")
    (folder / "link").symlink_to("history/3.txt")
    (folder / "run me").write_text("#!/bin/sh\n")
    (folder / "run me").chmod(0o755)
    for name in (
        b"-dash",
        b"sp ace 'q\" $(touch pwned)",
        b"new\nline",
        b"latin-\xe9",
        b"deep/er/x",
    ):
        commit(folder, name, "content of an odd name\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "link and mode")
    git(folder, "checkout", "-q", "-b", "feature/$(touch${IFS}pwned)'s")
    commit(folder, "feature.txt", "new\n")
    git(folder, "checkout", "-q", "main")
    commit(folder, "main.txt", "main\n")
    git(folder, "merge", "-q", "--no-ff", "-m", "merge", "feature/$(touch${IFS}pwned)'s")
    git(folder, "tag", "light")
    git(folder, "tag", "-a", "v1", "-m", "a release")
    git(folder, "notes", "add", "-m", "a note", "HEAD")
    git(folder, "update-ref", "refs/remotes/origin/main", "HEAD~1")
    git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    git(folder, "update-ref", b"refs/heads/na\xefve", "HEAD~2")
    for number in (1, 2, 3):
        (folder / "main.txt").write_text(f"stashed {number}\n")
        git(folder, "stash", "push", "-q", "-m", f"stash number {number}")
    git(folder, "remote", "add", "origin", "https://example.org/a'b $c.git")
    git(folder, "config", "branch.main.remote", "origin")
    git(folder, "config", "branch.main.merge", "refs/heads/main")
    git(folder, "config", "user.name", 'A "quoted" \\ name')
    (folder / ".git" / "info" / "exclude").write_text("*.excluded\n")
    (folder / ".git" / "hooks" / "post-commit").write_text("#!/bin/sh\nexit 0\n")
    (folder / ".git" / "hooks" / "post-commit").chmod(0o755)


def observe(folder: Path) -> dict[str, Any]:
    """Refs, HEAD, stashes, remotes and every file, read by git and by eye."""
    git(folder, "fsck", "--full", "--no-dangling")
    exclude = git(folder, "rev-parse", "--git-path", "info/exclude").strip()
    head = git(folder, "rev-parse", "--symbolic-full-name", "HEAD").strip()
    return {
        "refs": git(folder, "show-ref", "--head"),
        "head": head,
        "stashes": git(folder, "log", "-g", "--format=%gd %H %gs", "refs/stash"),
        "notes": git(folder, "log", "-1", "--format=%N", "main"),
        "remotes": git(folder, "config", "--get-regexp", r"^(remote|branch)\."),
        "user": git(folder, "config", "--default", "", "user.name"),
        "origin": git(folder, "symbolic-ref", "-q", "refs/remotes/origin/HEAD"),
        "log": hashlib.sha256(git(folder, "log", "--all", "--format=raw").encode()).hexdigest(),
        "files": files(folder),
        "excluded": (folder / exclude).read_text(),
    }


def files(folder: Path) -> dict[str, str]:
    """Every file but git's own and the safety copies: what kind and which content."""
    found = {}
    for path in folder.rglob("*"):
        key = os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")
        if key.startswith((".git/", ".holdfast-", ".git.before-")):
            continue
        if path.is_symlink():
            found[key] = f"-> {path.readlink()}"
        elif path.is_file():
            executable = bool(path.stat().st_mode & 0o100)
            found[key] = f"{executable} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def remove(folder: Path) -> None:
    """Lose it."""
    shutil.rmtree(folder)
