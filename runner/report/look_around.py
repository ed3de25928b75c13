"""What a folder holds that a backup should have: databases, caches, configuration, a repository."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner.errors import UsageError
from runner.report import left_out
from runner.report.compose import NAMES, started_here
from runner.swap import is_ours

SQLITE_MAGIC = b"SQLite format 3\0"
DEEPEST = 4
SKIPPED = {"node_modules", "venv", ".venv", "__pycache__", ".git", ".holdfast", "backups"}
ENVIRONMENT = ".env"
CONFIGURATION = (ENVIRONMENT, "config", "conf", *NAMES)

POSTGRES = ("postgres", "postgresql")
REDIS = ("redis", "rediss")
TAKEN = ("config", "code", "system", "latest", "this-run", "default")


@dataclass(frozen=True)
class Found:
    """What there is to protect."""

    sources: tuple[tuple[str, str], ...]  # a name, and its options as they stand in a spec
    environment: bool  # whether there is a .env
    files_left_out: tuple[str, ...] = ()  # relative paths that no source holds
    servers_left_out: tuple[str, ...] = ()  # in words, where each of them is named


def look_around(folder: Path) -> Found:
    """What lies in a folder, or is named by its .env, that a backup should have."""
    from runner.spec.expand import read_env_file

    names = _Names()
    files = sorted(path.relative_to(folder) for path in _databases(folder))
    sources = [(names.of(one.stem), f"type: sqlite, path: {_path(one)}") for one in files]
    values, _ = read_env_file(folder / ENVIRONMENT)
    sources += _servers(folder, values, names)
    configuration = [name for name in CONFIGURATION if (folder / name).exists()]
    if configuration:
        sources.append(("config", f"type: files, paths: [{', '.join(map(quoted, configuration))}]"))
    if (folder / ".git").exists():
        sources.append(("code", "type: git, path: ."))
    return Found(
        tuple(sources),
        (folder / ENVIRONMENT).is_file(),
        left_out.files(folder, [*map(str, files), *configuration]),
        left_out.servers(folder, values, [options for _, options in sources]),
    )


def quoted(text: str) -> str:
    """A text as a YAML scalar in which nothing is expanded. Raises UsageError if it is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode(errors="backslashreplace")
        raise UsageError(
            f"The name {shown} is not UTF-8: a spec cannot name it.", remedy="Rename it."
        ) from None
    escaped = text.replace("$", "$$")
    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) and text.lower() != "null"
    return escaped if plain else json.dumps(escaped)


def _path(path: Path) -> str:
    # A `~` at its beginning would stand for somebody's home.
    return quoted(f"./{path}" if str(path).startswith("~") else str(path))


class _Names:
    """Names of sources, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, wish: str) -> str:
        name = re.sub(r"[^a-z0-9_-]+", "-", wish.lower()).strip("-_")[:50] or "db"
        if name in TAKEN:
            name = f"{name}-db"
        while name in self._given:
            name += "2"
        self._given.add(name)
        return name


def _databases(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        deep = len(here.relative_to(folder).parts) >= DEEPEST
        folders[:] = [] if deep else sorted(set(folders) - SKIPPED)
        for name in files:
            path = here / name
            # What a restore kept of a database is none to protect.
            if not is_ours(name) and _is_sqlite(path):
                yield path


def _is_sqlite(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


def _servers(folder: Path, values: Mapping[str, str], names: _Names) -> Iterator[tuple[str, str]]:
    """The servers that variables of the .env name; a password stays there, by reference."""
    composed = started_here(folder)
    seen: set[str] = set()
    for variable, value in values.items():
        # A word alone chooses a driver: CACHE_DRIVER=redis.
        scheme = value.partition("://")[0].partition("+")[0] if "://" in value else ""
        kind = "postgres" if scheme in POSTGRES else "redis" if scheme in REDIS else ""
        if kind and value not in seen:
            seen.add(value)
            name = "main" if variable == "DATABASE_URL" else "cache" if kind == "redis" else ""
            options = _of_url(kind, variable, value, composed)
            yield names.of(name or variable.lower().removesuffix("_url")), options
    if not seen and values.get("POSTGRES_DB"):
        yield names.of("main"), _of_variables(values, composed)


def _of_url(kind: str, variable: str, value: str, composed: Mapping[str, str]) -> str:
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
    except ValueError:
        host, parts = "", urlsplit("")
    # Only containers of the same file can resolve such a name: the programs run in there.
    if kind == "postgres" and host in composed:
        told = {"dbname": unquote(parts.path.lstrip("/")), "user": unquote(parts.username or "")}
        fields = [f"{name}: {quoted(text)}" for name, text in told.items() if text]
        return ", ".join(["type: postgres", f"exec: {quoted(_inside(host))}", *fields])
    return f'type: {kind}, url: {{secret: "env:{variable}"}}'


def _of_variables(values: Mapping[str, str], composed: Mapping[str, str]) -> str:
    """A server as the official container's variables declare it."""
    told = {"dbname": values["POSTGRES_DB"], "user": values.get("POSTGRES_USER", "postgres")}
    fields = [f"{name}: {quoted(text)}" for name, text in told.items()]
    container = next((name for name, image in composed.items() if "postgres" in image), None)
    if container is not None:
        return ", ".join(["type: postgres", f"exec: {quoted(_inside(container))}", *fields])
    if values.get("POSTGRES_PASSWORD"):
        fields.append('password: {secret: "env:POSTGRES_PASSWORD"}')
    return ", ".join(["type: postgres", "host: 127.0.0.1", *fields])


def _inside(service: str) -> str:
    return f"docker compose exec -T {service}"
