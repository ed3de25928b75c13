"""Init: look around, make a key, and write a first spec that validates."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.errors import UsageError
from runner.report.outcome import Outcome
from runner.store.age import keygen

SQLITE_MAGIC = b"SQLite format 3\0"
DEEPEST = 4
SKIPPED = {"node_modules", "venv", ".venv", "__pycache__", ".git", ".holdfast", "backups"}
CONFIGURATION = (
    ".env",
    "config",
    "conf",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yml",
    "compose.yaml",
)

TASKS = '''"""Holdfast's commands by `invoke`: `invoke backup --profile prod`."""

from runner.commands import namespace

__all__ = ["namespace"]
'''


@dataclass(frozen=True)
class Found:
    """What there is to protect."""

    databases: tuple[Path, ...]  # SQLite files, relative to the folder
    configuration: tuple[str, ...]
    repository: bool


def initialise(folder: Path, file: Path, *, force: bool, tasks: bool) -> Outcome:
    """Write the spec and the key. Nothing that exists is replaced unless `force` says so."""
    found = look_around(folder)
    if not (found.databases or found.configuration or found.repository):
        raise UsageError(
            f"Nothing to protect was found in {folder}: no SQLite database, no {CONFIGURATION[0]}, "
            "no configuration folder, no git repository.",
            remedy="Go to the folder of your service, or write backup.yaml by hand.",
        )
    if file.exists() and not force:
        raise UsageError(f"{file} exists already.", remedy="--force replaces it.")
    project = _project(folder)
    key, recipient = _key(project)
    write_bytes(file, _spec(found, project, key, recipient).encode())
    notes = [f"Written: {file}", f"Key: {key}", *_advice(folder, key)]
    if tasks:
        notes.insert(1, _write_tasks(folder, force=force))
    notes.append("Next: holdfast validate && holdfast backup && holdfast drill")
    data = {"file": str(file), "key": str(key), "recipient": recipient}
    return Outcome("init", data, notes=tuple(notes))


def look_around(folder: Path) -> Found:
    """What lies in a folder that a backup should have."""
    return Found(
        databases=tuple(sorted(path.relative_to(folder) for path in _databases(folder))),
        configuration=tuple(name for name in CONFIGURATION if (folder / name).exists()),
        repository=(folder / ".git").exists(),
    )


def _databases(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        deep = len(here.relative_to(folder).parts) >= DEEPEST
        folders[:] = [] if deep else sorted(set(folders) - SKIPPED)
        for name in files:
            path = here / name
            if path.is_file() and not path.is_symlink() and _is_sqlite(path):
                yield path


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


def _project(folder: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_")[:63]
    return name if name and name not in ("system", "latest", "this-run", "default") else "project"


def _key(project: str) -> tuple[Path, str]:
    """A new key outside of everything that is backed up, or the one that is there already."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "holdfast"
    key = folder / f"{project}.key"
    if key.exists():
        for line in key.read_text().splitlines():
            if line.startswith("# public key: "):
                return key, line.removeprefix("# public key: ").strip()
        raise UsageError(
            f"{key} exists and does not say its public key.", remedy="Move it away, or add it."
        )
    identity, recipient = keygen()
    try:
        make_folder(folder)
        write_bytes(key, identity.encode(), exclusive=True)
    except OSError as error:
        raise UsageError(f"The key cannot be written to {key}: {error.strerror}.") from error
    return key, recipient


def _spec(found: Found, project: str, key: Path, recipient: str) -> str:
    sources = list(_sources(found))
    lines = [
        "# yaml-language-server: $schema=schema/spec.json",
        "version: 1",
        f"project: {project}",
        *(["env_file: [.env]"] if ".env" in found.configuration else []),
        "",
        "sources:",
        *(f"  {name}: {{{options}}}" for name, options in sources),
        "",
        "targets:",
        "  # One more on another disk, and one off this site, make three copies.",
        "  disk: {type: local, path: backups}",
        "",
        "encryption:",
        f"  recipients: [{recipient}]",
        f"  identity: {{secret: {_quoted('file:' + str(key))}}}",
        "",
        "policies:",
        "  nightly:",
        '    schedule: "0 2 * * *"',
        "    verify: restored",
        "    keep: {daily: 14, weekly: 8, monthly: 12}",
        "",
        "objectives:",
        "  system: {rto: 4h, drill_every: 90d}",
        *(f"  {name}: {{rpo: 26h}}" for name, _ in sources),
    ]
    return "\n".join(lines) + "\n"


def _sources(found: Found) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    for path in found.databases:
        stem = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:50] or "db"
        name = stem if stem not in names and stem not in ("config", "code") else f"{stem}-db"
        while name in names:
            name += "2"
        names.add(name)
        yield name, f"type: sqlite, path: {_quoted(str(path))}"
    if found.configuration:
        yield "config", f"type: files, paths: [{', '.join(map(_quoted, found.configuration))}]"
    if found.repository:
        yield "code", "type: git, path: ."


def _quoted(text: str) -> str:
    import json

    escaped = text.replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_./-]+", text) else json.dumps(escaped)


def _write_tasks(folder: Path, *, force: bool) -> str:
    path = folder / "tasks.py"
    if path.exists() and not force:
        return f"Kept: {path} (add: from runner.commands import namespace)"
    write_bytes(path, TASKS.encode())
    return f"Written: {path}"


def _advice(folder: Path, key: Path) -> Iterator[str]:
    yield (
        f"Copy {key} to a place that survives this machine, a password manager or a drive in a "
        "drawer: without it no backup can be read, and nobody can make it again."
    )
    if (folder / ".git").exists():
        yield "Add .holdfast/ and backups/ to .gitignore."
