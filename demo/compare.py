"""The demo's own comparison, which knows nothing of Holdfast: what is there, byte for byte."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Observation:
    """What one source holds at one moment."""

    summary: str  # for a person
    facts: dict[str, Any] = field(default_factory=dict)  # empty: there is nothing


def observe(stack: Path) -> dict[str, Observation]:
    """What each of the three sources holds now."""
    return {"db": _database(stack), "config": _tree(stack), "code": _repository(stack)}


def differences(before: Observation, after: Observation) -> list[str]:
    """The facts that are not the same in both."""
    return sorted(
        name
        for name in before.facts.keys() | after.facts.keys()
        if before.facts.get(name) != after.facts.get(name)
    )


def _database(stack: Path) -> Observation:
    path = stack / "data" / "quaybot.db"
    if not path.exists():
        return Observation("no database")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    tables = [
        name
        for (name,) in database.execute("select name from sqlite_schema where type = 'table'")
        if not name.startswith("sqlite_")
    ]
    rows = {
        f"rows of {table}": database.execute(f'select count(*) from "{table}"').fetchone()[0]
        for table in sorted(tables)
    }
    dump = hashlib.sha256()
    for line in database.iterdump():
        dump.update(line.encode() + b"\n")
    pragmas = {
        name: database.execute(f"pragma {name}").fetchone()[0]
        for name in ("user_version", "application_id", "journal_mode", "integrity_check")
    }
    database.close()
    total = sum(rows.values())
    return Observation(
        f"{len(rows)} tables, {total:,} rows", rows | pragmas | {"dump": dump.hexdigest()}
    )


def _tree(stack: Path) -> Observation:
    facts: dict[str, Any] = {}
    parts = [stack / ".env", stack / "docker-compose.yml", stack / "config"]
    for path in sorted([*parts, *(stack / "config").rglob("*")]):
        if path.is_symlink():
            facts[str(path.relative_to(stack))] = ("link", str(path.readlink()))
        elif path.exists():
            status = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            name = str(path.relative_to(stack))
            facts[name] = (oct(status.st_mode), status.st_mtime_ns, content)
    readable = _has_token(stack / ".env")
    files = sum(1 for one in facts.values() if one[-1])
    return Observation(f"{files} files, {'a token' if readable else 'no token'}", facts)


def _has_token(path: Path) -> bool:
    return path.exists() and b"QUAYBOT_TOKEN=" in path.read_bytes()


def _repository(stack: Path) -> Observation:
    if not (stack / ".git").exists():
        return Observation("no repository")
    refs = _git(stack, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    commits = _git(stack, "rev-list", "--all", "--count").strip()
    facts = {
        "refs": refs,
        "HEAD": _git(stack, "symbolic-ref", "HEAD").strip(),
        "commits": commits,
        "fsck": _git(stack, "fsck", "--full", "--strict", "--no-dangling", "--no-progress"),
        "uncommitted changes": _git(stack, "status", "--porcelain"),
        "tracked files": _git(stack, "ls-files", "--stage"),
    }
    return Observation(f"{len(refs)} refs, {commits} commits", facts)


def _git(stack: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(stack),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        # Without a repository of its own the folder must not answer for one that it lies in.
        "GIT_CEILING_DIRECTORIES": str(stack.parent),
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=stack,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"failed: {done.stdout}"
