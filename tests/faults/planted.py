"""Disasters that look like good backups: every hash in the snapshot agrees with what lies there.

Each is planted into the newest snapshot of a service, or into what is backed up, and must be told
by a drill. The table of `docs/explanation/planted-disasters.md` lists them all.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyrage

from tests.faults.bad_day import IDENTITY, replace_content, reseal, snapshots, unpacked
from tests.postgres_service import PostgresService
from tests.redis_service import RedisService
from tests.service import Service
from tests.tools import run

FAILED, MISSED, UNKNOWN = 4, 5, 7
ASKS = f"{sys.executable} {Path(__file__).with_name('page.py')} 'players online'"
PAGE = (
    '{name: page, probe: {http: "http://127.0.0.1:8080/", body: "players online"}, '
    f'drill: "{ASKS}"}}'
)
Stack = TypeVar("Stack")


@dataclass(frozen=True)
class Disaster(Generic[Stack]):
    """One lie, and how it is found out."""

    what: str  # as the table in the documentation says it
    plant: Callable[[Stack], None]  # before the drill
    told: str  # words that the drill's error holds
    step: str | None  # how the step begins that says so; None: refused before the first
    status: int = FAILED
    stack: str = "plain"  # which small service


def newest(service: Service) -> Path:
    return snapshots(service)[-1]


def before(service: Service) -> Path:
    return snapshots(service)[-2]


# SQLite


def altered_database(*statements: str) -> Callable[[Service], None]:
    """The snapshot's database, after these statements."""

    def plant(service: Service) -> None:
        folder, file = newest(service), service.folder / "altered.db"
        file.write_bytes(unpacked(folder / "db.sqlite.zst"))
        with sqlite3.connect(file) as database:
            for statement in statements:
                database.execute(statement)
        database.close()
        replace_content(folder, {"db.sqlite.zst": file.read_bytes()})

    return plant


def yesterdays_database(service: Service) -> None:
    content = unpacked(before(service) / "db.sqlite.zst")
    replace_content(newest(service), {"db.sqlite.zst": content})


def another_database(service: Service) -> None:
    file = service.folder / "another.db"
    with sqlite3.connect(file) as database:
        database.execute("create table orders(id integer primary key, total real)")
        database.execute("insert into orders values(1, 9.5)")
    database.close()
    replace_content(newest(service), {"db.sqlite.zst": file.read_bytes()})


def broken_page(service: Service) -> None:
    folder = newest(service)
    content = bytearray(unpacked(folder / "db.sqlite.zst"))
    content[4096 * 2 : 4096 * 2 + 512] = b"\xff" * 512
    replace_content(folder, {"db.sqlite.zst": bytes(content)})


def page_of_an_error(service: Service) -> None:
    content = b"<html><body>503 Service Unavailable</body></html>\n"
    replace_content(newest(service), {"db.sqlite.zst": content})


def nothing_at_all(service: Service) -> None:
    replace_content(newest(service), {"db.sqlite.zst": b""})


def emptied_before_the_backup(service: Service) -> None:
    with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
        database.execute("delete from players")
    database.close()
    service.program("backup", status=0)


SQLITE = [
    Disaster(
        "an empty but valid SQLite database: the backup is true to an emptied table",
        emptied_before_the_backup,
        "players exist",
        "db.check",
    ),
    Disaster("yesterday's database under today's id", yesterdays_database, "players", "db.prove"),
    Disaster("one table is missing", altered_database("drop table items"), "items", "db.prove"),
    Disaster(
        "a table with one row changed",
        altered_database("update items set price = price + 0.01 where rowid = 77"),
        "items",
        "db.prove",
    ),
    Disaster(
        "two rows have exchanged a value, so that every sum is the same",
        altered_database("update players set name = 'player ' || (7 - id) where id in (3, 4)"),
        "players",
        "db.prove",
    ),
    Disaster(
        "an index that was not there",
        altered_database("create index odd on items(name)"),
        "the schema differs",
        "db.prove",
    ),
    Disaster(
        "the database has another `user_version`: the application would migrate it again",
        altered_database("pragma user_version = 3"),
        "user_version",
        "db.prove",
    ),
    Disaster("another service's database", another_database, "is missing", "db.prove"),
    Disaster("a database with a broken page", broken_page, "malformed", "db.prove"),
    Disaster(
        "a web page where a database should be", page_of_an_error, "not a database", "db.prove"
    ),
    Disaster("a database file of no bytes", nothing_at_all, "is missing", "db.prove"),
]


# Files


def altered_tree(
    change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None],
) -> Callable[[Service], None]:
    """The snapshot's tree, each entry as `change` returns it; None leaves it out."""

    def plant(service: Service) -> None:
        folder, made = newest(service), io.BytesIO()
        packed = io.BytesIO(unpacked(folder / "config.tar.zst"))
        with (
            tarfile.open(fileobj=packed) as old,
            tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for entry in old:
                content = old.extractfile(entry) if entry.isfile() else None
                kept = change(entry, content.read() if content else b"")
                if kept is not None:
                    kept[0].size = len(kept[1])
                    new.addfile(kept[0], io.BytesIO(kept[1]))
        replace_content(folder, {"config.tar.zst": made.getvalue()})

    return plant


def without_env(entry: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes] | None:
    return None if entry.name.endswith(".env") else (entry, content)


def readable_by_all(entry: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    if entry.name.endswith("app.toml"):
        entry.mode = 0o666
    return entry, content


def one_letter_changed(entry: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return entry, content.replace(b"TOKEN=abc", b"TOKEN=abd")


def file_instead_of_link(entry: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    if entry.issym():
        entry.type, entry.linkname = tarfile.REGTYPE, ""
        return entry, b"name = 'quay'\n"
    return entry, content


def env_emptied_before_the_backup(service: Service) -> None:
    (service.folder / ".env").write_text("")
    service.program("backup", status=0)


FILES = [
    Disaster(
        "a config folder without `.env`",
        altered_tree(without_env),
        "does not agree",
        "config.stage",
    ),
    Disaster(
        "a `.env` that was emptied before the backup",
        env_emptied_before_the_backup,
        "settings are there",
        "config.check",
    ),
    Disaster(
        "one letter of a token changed", altered_tree(one_letter_changed), ".env", "config.prove"
    ),
    Disaster(
        "a private file that everybody may now write",
        altered_tree(readable_by_all),
        "app.toml",
        "config.stage",
    ),
    Disaster("a file where a link was", altered_tree(file_instead_of_link), "link", "config.stage"),
]


# git


def altered_repository(*commands: tuple[str, ...]) -> Callable[[Service], None]:
    """The snapshot's repository, bundled again after these git commands."""

    def plant(service: Service) -> None:
        folder, workshop = newest(service), service.folder / "workshop"
        workshop.mkdir()
        (workshop / "all.bundle").write_bytes(unpacked(folder / "code.bundle.zst"))
        run("git", "clone", "-q", "--mirror", "all.bundle", "mirror", folder=workshop)
        for command in commands:
            run("git", *command, folder=workshop / "mirror")
        made = ("git", "bundle", "create", "-q", "../made.bundle", "--all", "HEAD")
        run(*made, folder=workshop / "mirror")
        replace_content(folder, {"code.bundle.zst": (workshop / "made.bundle").read_bytes()})

    return plant


def only_the_newest_commit(service: Service) -> None:
    folder = newest(service)
    file = service.folder / "thin.bundle"
    run("git", "bundle", "create", "-q", file, "main", "^main~1", folder=service.folder / "code")
    replace_content(folder, {"code.bundle.zst": file.read_bytes()})


GIT = [
    Disaster(
        "a repository whose newest branch is missing",
        altered_repository(("update-ref", "-d", "refs/heads/next")),
        "next",
        "code.prove",
    ),
    Disaster(
        "a branch that stands one commit earlier",
        altered_repository(("update-ref", "refs/heads/main", "refs/heads/main~1")),
        "main",
        "code.prove",
    ),
    Disaster("a tag that is gone", altered_repository(("tag", "-d", "v1")), "v1", "code.prove"),
    Disaster(
        "a bundle that needs commits which are nowhere", only_the_newest_commit, "", "code.stage"
    ),
]


# The key, and what a recovery is told to run


def key_lost(service: Service) -> None:
    (service.folder / IDENTITY).unlink()


def key_of_somebody_else(service: Service) -> None:
    (service.folder / IDENTITY).write_text(f"{pyrage.x25519.Identity.generate()}\n")


def declared(old: str, new: str) -> Callable[[Service], None]:
    """Another text in the spec."""

    def plant(service: Service) -> None:
        file = service.folder / "backup.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return plant


def entry_gone(service: Service) -> None:
    folder = newest(service)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifacts"] = [one for one in manifest["artifacts"] if one["source"] != "config"]
    reseal(folder, manifest)


def artifact_gone(service: Service) -> None:
    (newest(service) / "code.bundle.zst").unlink()


def artifacts_of_another_day(service: Service) -> None:
    for name in ("db.sqlite.zst", "db.fingerprint.json.zst"):
        shutil.copyfile(before(service) / name, newest(service) / name)


SYSTEM = [
    Disaster(
        "a backup whose key is lost", key_lost, "quay.key cannot be read", "", stack="encrypted"
    ),
    Disaster(
        "a key that belongs to another backup",
        key_of_somebody_else,
        "No given identity opens",
        "",
        MISSED,
        "encrypted",
    ),
    Disaster(
        "a restore command that prints success and does nothing",
        declared(
            "  - {restore: [config, db]}\n",
            "  - {restore: config}\n  - {name: load, run: 'echo restored', drill: same}\n",
        ),
        "the database file does not exist",
        "answers",
    ),
    Disaster(
        "a deployment that fails behind a pipe",
        declared("test -s .env && echo deployed >> service.log", "false | tee -a service.log"),
        "ended with status 1",
        "deploy",
    ),
    Disaster(
        "a probe that is answered 200 with an error page",
        declared("  - {name: answers,", f"  - {PAGE}\n  - {{name: answers,"),
        "the page answers 200: <h1>Sorry</h1> no license",
        "page",
    ),
    Disaster("an artifact that is gone", artifact_gone, "code.bundle.zst", ""),
    Disaster(
        "yesterday's files beside today's manifest",
        artifacts_of_another_day,
        "db.",
        "",
    ),
    Disaster("a manifest that no longer lists a source", entry_gone, "no content of config", None),
]


# PostgreSQL


def altered_dump(*statements: str) -> Callable[[PostgresService], None]:
    """The dump of the database after these statements, under the older fingerprint."""

    def plant(service: PostgresService) -> None:
        service.database.execute(*statements)
        replace_content(service.snapshots()[-1], {"db.pgdump.zst": dumped(service)})

    return plant


def dumped(service: PostgresService, *arguments: str) -> bytes:
    cluster, name = service.database.cluster, service.database.name
    program = [str(cluster.bin / "pg_dump"), "-Fc", "-Z0", *arguments]
    environment = cluster.environment(name)
    return subprocess.run(program, env=environment, capture_output=True, check=True).stdout


def part_of_a_dump(service: PostgresService) -> None:
    replace_content(service.snapshots()[-1], {"db.pgdump.zst": dumped(service)[:-400]})


def schema_alone(service: PostgresService) -> None:
    content = dumped(service, "--schema-only")
    replace_content(service.snapshots()[-1], {"db.pgdump.zst": content})


def empty_before_the_backup(service: PostgresService) -> None:
    service.database.execute("TRUNCATE players CASCADE")
    service("backup", status=0)


def unknown_extension(service: PostgresService) -> None:
    """The snapshot says that it needs an extension which no server here has."""
    folder = service.snapshots()[-1]

    def change(document: dict[str, Any]) -> None:
        for one in document["fingerprint"]["databases"].values():
            one["extensions"]["no_such_thing"] = {"version": "1.0", "schema": "public"}

    replace_content(folder, {"db.pgdump.zst": unpacked(folder / "db.pgdump.zst")}, change)


POSTGRES = [
    Disaster(
        "an empty but valid PostgreSQL database: the backup is true to it",
        empty_before_the_backup,
        "players exist",
        "db.check",
    ),
    Disaster("a dump of the schema alone", schema_alone, "has 0 rows", "db.prove"),
    Disaster(
        "a dump without one table",
        altered_dump("DROP VIEW rich", "DROP TABLE items"),
        "items",
        "db.prove",
    ),
    Disaster(
        "a dump with one row changed",
        altered_dump("UPDATE items SET price = price + 0.01 WHERE name = 'item 7'"),
        "items",
        "db.prove",
    ),
    Disaster("a dump without a view", altered_dump("DROP VIEW rich"), "rich", "db.prove"),
    Disaster(
        "a dump without an index",
        altered_dump("DROP INDEX items_player_idx"),
        "items_player_idx",
        "db.prove",
    ),
    Disaster("a dump that ends early", part_of_a_dump, "", "db.stage"),
    Disaster(
        "a PostgreSQL extension that is missing here",
        unknown_extension,
        "no_such_thing",
        "db.stage",
        UNKNOWN,
    ),
]


# Redis


def altered_keys(*commands: tuple[str, ...]) -> Callable[[RedisService], None]:
    """What the server saves after these commands, under the older fingerprint.

    That names the file it belongs to: what the values were is known from the file alone.
    """

    def plant(service: RedisService) -> None:
        with service.server.connect() as client:
            for command in commands:
                client.execute_command(*command)
            while client.info("persistence")["rdb_bgsave_in_progress"]:  # for a backup's replica
                time.sleep(0.05)
            client.save()
        content = (service.server.folder / "dump.rdb").read_bytes()
        folder = service.snapshots()[-1]
        sealed = json.loads(unpacked(folder / "cache.fingerprint.json.zst"))

        def keep(document: dict[str, object]) -> None:
            document["artifacts"] = sealed["artifacts"]

        replace_content(folder, {"cache.rdb.zst": content}, keep)

    return plant


def half_a_file(service: RedisService) -> None:
    folder = service.snapshots()[-1]
    content = unpacked(folder / "cache.rdb.zst")
    replace_content(folder, {"cache.rdb.zst": content[: len(content) // 2]})


REDIS = [
    Disaster(
        "a Redis file with no keys",
        altered_keys(("FLUSHALL",)),
        "not what was captured",
        "cache.stage",
    ),
    Disaster(
        "a Redis file without one key",
        altered_keys(("DEL", "player:1")),
        "not what was captured",
        "cache.stage",
    ),
    Disaster(
        "a counter with another value",
        altered_keys(("SET", "coins:1", "9")),
        "not what was captured",
        "cache.stage",
    ),
    Disaster(
        "a session that would never expire",
        altered_keys(("PERSIST", "session:1")),
        "not what was captured",
        "cache.stage",
    ),
    Disaster("a Redis file that ends early", half_a_file, "", "cache.stage"),
]
