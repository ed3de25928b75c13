"""Data to back up: half of it text that compresses, half of it noise that does not."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.measure import Bench
from runner.source import postgres_scratch
from runner.source.postgres_programs import available
from runner.source.postgres_server import Server
from runner.store.snapshot import (
    INSTRUCTIONS,
    MANIFEST,
    SUMS,
    ArtifactEntry,
    Manifest,
    SourceEntry,
    StoredFile,
    folder_of,
    sums,
)

WORDS = b"harbour crane anchor mooring rope tide pilot cargo ledger quay berth signal ".split()
CHUNK = 64 * 1024


def text(size: int, chance: random.Random) -> bytes:
    """Words, like those of a log or a dump."""
    words = chance.choices(WORDS, k=size // 5 + 1)
    numbers = (str(chance.randrange(10**6)).encode() for _ in range(size // 40 + 1))
    return b" ".join([*words, *numbers])[:size].ljust(size, b".")


def sqlite_file(path: Path, size: int) -> None:
    """A database of about `size` bytes in WAL mode: ledger rows of text, and blobs."""
    chance = random.Random(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = off")
    database.execute("pragma synchronous = off")
    database.execute("create table ledger (id integer primary key, note text, price integer)")
    database.execute("create table blobs (id integer primary key, data blob)")
    notes = text(CHUNK * 16, chance).decode()
    written = 0
    while written < size:
        rows = [
            (notes[at : at + 120], chance.randrange(10**6))
            for at in (chance.randrange(len(notes) - 120) for _ in range(4000))
        ]
        database.executemany("insert into ledger (note, price) values (?, ?)", rows)
        blobs = [(chance.randbytes(4000),) for _ in range(130)]
        database.executemany("insert into blobs (data) values (?)", blobs)
        written += 4000 * 132 + 130 * 4020
    database.commit()
    database.execute("pragma journal_mode = wal")
    database.close()


def tree(folder: Path, count: int, size: int) -> None:
    """`count` files of `size` bytes in all, spread over folders of a hundred."""
    chance = random.Random(2)
    words = text(4 * 1024 * 1024, chance)
    each = size // count
    for number in range(count):
        place = folder / f"{number // 100:04}"
        if number % 100 == 0:
            place.mkdir(parents=True)
        start = chance.randrange(len(words) - each)
        data = words[start : start + each] if number % 2 else chance.randbytes(each)
        (place / f"file-{number:06}").write_bytes(data)


def repository(bench: Bench, folder: Path, commits: int) -> None:
    """A small git repository with a history."""
    folder.mkdir(parents=True)

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=folder, env=bench.environment(), check=True)

    git("init", "--quiet", "--initial-branch=main")
    for number in range(commits):
        (folder / f"module_{number % 7}.py").write_text(f"VALUE = {number}\n")
        git("add", "--all")
        git("commit", "--quiet", "--message", f"Change {number}")


def catalog(target: Path, count: int) -> None:
    """A target that holds `count` snapshots of two sources, six hours apart, newest now."""
    now = datetime.now(UTC).replace(microsecond=0)
    content = b"a"
    digest = hashlib.sha256(content).hexdigest()
    predecessor = None
    for number in range(count):
        at = now - timedelta(hours=6) * (count - 1 - number)
        moment = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        name = f"{at:%Y%m%dT%H%M%SZ}-nightly-{number:06x}"
        artifacts = tuple(
            ArtifactEntry(source, part, form, key, moment, 1, digest, 1, digest)
            for source in ("db", "config")
            for part, form, key in (
                ("", "tar", f"{source}.tar.zst"),
                ("fingerprint", "json", f"{source}.fingerprint.json.zst"),
            )
        )
        manifest = Manifest(
            id=name,
            project="bench",
            profile="default",
            policy="nightly",
            sequence=number + 1,
            created_at=moment,
            host="bench",
            holdfast="0.1.0",
            spec_digest=digest,
            sources={source: SourceEntry("files", moment) for source in ("db", "config")},
            artifacts=artifacts,
            files=(StoredFile(INSTRUCTIONS, 1, digest),),
            predecessor=predecessor,
        )
        data = manifest.to_bytes()
        folder = target / folder_of("bench", "default", name)
        folder.mkdir(parents=True)
        for file in manifest.file_names():
            (folder / file).write_bytes(content)
        (folder / SUMS).write_bytes(sums(manifest, data))
        (folder / MANIFEST).write_bytes(data)
        predecessor = {"id": name, "sha256": hashlib.sha256(data).hexdigest()}


# What a fingerprint reads of pgbench's tables, in one connection.
SCAN = "select count(*), sum(hashtextextended(t::text, 0)) from only pgbench_accounts as t"


@dataclass(frozen=True)
class PostgresServer:
    """A scratch server of this machine's newest PostgreSQL."""

    programs: Path
    host: str  # the folder of its socket
    port: int = postgres_scratch.PORT
    user: str = postgres_scratch.SUPERUSER

    def command(self, line: str) -> str:
        """A shell command that runs one of its programs there."""
        where = f"-h {shlex.quote(self.host)} -p {self.port} -U {self.user}"
        name, _, arguments = line.partition(" ")
        return f"{shlex.quote(str(self.programs / name))} {where} {arguments}"


@contextlib.contextmanager
def postgres_server(home: Path) -> Iterator[PostgresServer]:
    """A server for as long as the block lasts."""
    programs = Path(max(available(Server(), "initdb"), key=lambda one: one.major).folder)
    try:
        yield PostgresServer(programs, str(postgres_scratch.start(home, programs).socket))
    finally:
        postgres_scratch.stop(home)


def pgbench(server: PostgresServer, scale: int) -> None:
    """The database `bench`, made by pgbench but for its rows: its own compress to nothing."""

    def run(line: str, stdin: str = "") -> None:
        arguments = ["bash", "-euc", server.command(line)]
        subprocess.run(arguments, check=True, text=True, input=stdin, capture_output=True)

    run("createdb bench")
    run(f"pgbench -q -i -I dt -s {scale} bench")
    run("psql -Xq -v ON_ERROR_STOP=1 bench", f"""
        insert into pgbench_accounts
        select n, n / 100000, n % 1000, left(md5(n::text) || md5(n || '-') || md5(n || '.'), 84)
        from generate_series(1, {scale * 100_000}) as n;
        insert into pgbench_branches select n, 0 from generate_series(1, {scale}) as n;
        insert into pgbench_tellers select n, n / 10, 0 from generate_series(1, {scale * 10}) as n;
    """)  # fmt: skip
    run("pgbench -q -i -I vp bench")
