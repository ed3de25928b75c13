"""What a folder holds or uses that a first spec does not protect: nobody misses it in time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from runner.errors import HoldfastError
from runner.report import compose
from runner.source.git_command import find, git
from runner.swap import is_ours

# Made anew by a build or by the next start; or Holdfast's own: each snapshot holds its spec.
_MADE_ANEW = {
    "backup.yaml", ".git", ".holdfast", "backups", "node_modules", "venv", ".venv", "__pycache__",
    "vendor", "dist", "build", "target", "tmp", "log", "logs", ".cache", ".next", ".DS_Store",
}  # fmt: skip
_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database
_MOST = 10  # of files and folders that are named

# Images of servers that hold data, by a part of their name.
_SERVERS = re.compile(
    r"postg|timescale|pgvector|supabase|redis|valkey|keydb|dragonfly|mysql|mariadb|percona|mongo"
    r"|mssql|clickhouse|influxdb|elasticsearch|opensearch|cassandra|scylla|couch|neo4j|rabbitmq"
    r"|minio|meilisearch|qdrant|weaviate|etcd|rethinkdb"
)
_TOOLS = re.compile(r"exporter|express|commander|insight|admin|bouncer")  # they hold none
_KINDS = {
    "postgres": re.compile(r"postg|timescale|pgvector|supabase"),
    "redis": re.compile(r"redis|valkey|keydb|dragonfly"),
}
_ADDRESS = re.compile(r"(mysql2?|mariadb|mongodb|sqlserver|mssql|clickhouse|amqps?)[+:]")
_CHOOSING = ("DB_CONNECTION", "DB_ENGINE", "DB_TYPE", "DB_CLIENT", "DB_DRIVER")
_DRIVER = re.compile(r"mysql|mariadb|pgsql|postgres(ql)?|sqlsrv|mongodb")


def files(folder: Path, taken: Iterable[str]) -> tuple[str, ...]:
    """What lies in the folder, is in no repository there, and is none of the paths `taken`."""
    paths = {one + end for one in taken for end in ("", *_BESIDE)}
    found = [one for entry in _outside_git(folder) for one in _parts(folder, entry, paths)]
    shown = found[:_MOST]
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return (*shown, *more)


def unignored(folder: Path, names: Mapping[str, str]) -> list[str]:
    """Those patterns of `names`, each with a path that it matches, that the repository there does
    not ignore yet; without a repository none.
    """
    try:
        repository = find(folder)
        if repository is None:
            return []
        answer = git(
            *("check-ignore", "--no-index", "--stdin", "-z"),
            environment=repository.environment,
            stdin=b"".join(os.fsencode(path) + b"\0" for path in names.values()),
            accept=(0, 1),
            folder=folder,
        )
    except (HoldfastError, OSError):
        return list(names)
    ignored = {os.fsdecode(one) for one in answer.stdout.split(b"\0")}
    return [pattern for pattern, path in names.items() if path not in ignored]


def _outside_git(folder: Path) -> list[str]:
    """What no commit can hold, as deep as it has to be named; without a repository everything."""
    try:
        repository = find(folder)
        if repository is not None:
            arguments = ("ls-files", "-z", "--others", "--directory", "--no-empty-directory")
            answer = git(*arguments, environment=repository.environment, folder=folder)
            return sorted(os.fsdecode(one).rstrip("/") for one in answer.stdout.split(b"\0") if one)
        return sorted(path.name for path in folder.iterdir())
    except (HoldfastError, OSError):
        return []


def _parts(folder: Path, entry: str, taken: set[str]) -> Iterator[str]:
    """The entry, or those parts of it that are not taken."""
    above = {str(one) for one in (Path(entry), *Path(entry).parents)}
    anew = _MADE_ANEW & set(Path(entry).parts) or entry.endswith((".pyc", "_cache"))
    if anew or above & taken or is_ours(Path(entry).name):
        return
    path = folder / entry
    if path.is_dir() and not path.is_symlink():
        if any(one.startswith(f"{entry}/") for one in taken):
            for below in sorted(path.iterdir()):
                yield from _parts(folder, f"{entry}/{below.name}", taken)
            return
        entry += "/"
    yield entry


def servers(folder: Path, values: Mapping[str, str], sources: Iterable[str]) -> tuple[str, ...]:
    """Servers that a .env (its `values`) or a compose file names and that no source reaches.

    `sources` are options as they stand in a spec.
    """
    declared = list(sources)
    return (*_of_variables(values, declared), *_of_containers(folder, declared))


def _of_variables(values: Mapping[str, str], declared: list[str]) -> Iterator[str]:
    for variable, value in values.items():
        if "://" in value and (address := _ADDRESS.match(value)):
            yield f"the {address[1]} server of {variable} in .env"
            continue
        driver = value.rpartition(".")[2] if variable in _CHOOSING else ""
        known = driver.startswith("p") and _has("postgres", declared)
        if _DRIVER.fullmatch(driver) and not known:
            yield f"the {driver} server of {variable} in .env"


def _of_containers(folder: Path, declared: list[str]) -> Iterator[str]:
    for file, service, image in compose.everywhere(folder):
        if _SERVERS.search(image) and not _TOOLS.search(image):
            here = len(file.parts) == 1
            if not _reached(service if here else None, image, declared):
                yield f"the service {service} of {file} ({image})"


def _reached(service: str | None, image: str, declared: list[str]) -> bool:
    """Whether a source holds what a service does; `service` is None where none can be exec'd.

    Which container an address leads to is not known: any of its kind will do.
    """
    kind = next((one for one, name in _KINDS.items() if name.search(image)), None)
    if kind is None or not _has(kind, declared):
        return False
    inside = [one for one in declared if "docker compose exec" in one]
    if kind == "postgres" and inside:
        return any(f' -T {service}"' in one for one in inside)
    return True


def _has(kind: str, declared: list[str]) -> bool:
    return any(one.startswith(f"type: {kind}") for one in declared)
