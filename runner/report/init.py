"""Init: look around, make a key, and write a first spec that validates."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.errors import UsageError
from runner.report.left_out import unignored
from runner.report.look_around import ENVIRONMENT, Found, look_around, quoted
from runner.report.outcome import Outcome
from runner.spec.schema import ROOT, find_folder
from runner.store.age import keygen

TASKS = '''"""Holdfast's commands by `invoke`: `invoke backup --profile prod`."""

from runner.commands import namespace

__all__ = ["namespace"]
'''

# What no repository is to hold, and a path that each of these patterns matches.
_SAFETY = "*.before-*"
_OURS = {".holdfast/": ".holdfast/runs", "backups/": "backups/one", _SAFETY: "a.before-one"}


def initialise(folder: Path, file: Path, *, force: bool, tasks: bool) -> Outcome:
    """Write the spec and the key. Nothing that exists is replaced unless `force` says so; where
    there is a spec, `tasks` alone can still be had.
    """
    if tasks and file.exists() and not force:
        notes = [f"Kept: {file} (--force replaces it)", _write_tasks(folder, force=False)]
        return Outcome("init", {"file": str(file)}, notes=tuple(notes))
    found = look_around(folder)
    if not found.sources:
        raise UsageError(
            f"Nothing to protect was found in {folder}: no SQLite database, no {ENVIRONMENT} that "
            "names a server, no configuration folder, no git repository.",
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
    notes += _left_out(found)
    notes.append("Next: holdfast validate && holdfast backup && holdfast drill")
    data = {"file": str(file), "key": str(key), "recipient": recipient}
    return Outcome("init", data, notes=tuple(notes))


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
    sources = found.sources
    lines = [
        f"# yaml-language-server: $schema={(find_folder() / ROOT).as_uri()}",
        "version: 1",
        f"project: {quoted(project)}",
        *(["env_file: [.env]"] if found.environment else []),
        "",
        "sources:",
        *(f"  {name}: {{{options}}}" for name, options in sources),
        *(f"  # {one}" for one in _left_out(found)),
        "",
        "targets:",
        "  # One more on another disk, and one off this site, make three copies.",
        "  disk: {type: local, path: backups}",
        "",
        "encryption:",
        f"  recipients: [{recipient}]",
        f"  identity: {{secret: {quoted('file:' + str(key))}}}",
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


def _left_out(found: Found) -> Iterator[str]:
    """What is not protected by this spec, and what to do; each a line of printable text."""
    if found.files_left_out:
        listed = _printable(", ".join(found.files_left_out))
        yield (
            f"NOT in it: {listed}. What of it cannot be made again must be added to the paths of a "
            "source of type files."
        )
    if found.servers_left_out:
        listed = _printable(", ".join(found.servers_left_out))
        yield (
            f"NOT in it: {listed}. Declare each as a source. Where there is no type for it, have a "
            "dump written before each backup, into a folder that a source of type files holds."
        )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


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
    if missing := unignored(folder, _OURS):
        last = f" {_SAFETY} are the safety copies of what a restore replaces, of .env too."
        yield f"Add to .gitignore: {' '.join(missing)}.{last if _SAFETY in missing else ''}"
