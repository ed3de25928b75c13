"""What is measured, and against what: the same data, in the same run, on the same machine."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import data
from bench.measure import HOLDFAST, Bench, Measured, apart, middle, write_spec
from bench.redis_server import fill, redis_server

MIB = 1 << 20
MOST_MEMORY = 200 * 1000 * 1000
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    ours: Measured
    against: str  # the command that it is compared with; empty: nothing
    theirs: Measured | None
    most: float | None  # the ratio, or without a rival the seconds, that it should not exceed
    memory: int = MOST_MEMORY  # bytes that the peak should not exceed

    @property
    def figure(self) -> float:
        """The ratio, or the seconds."""
        return self.ours.seconds / self.theirs.seconds if self.theirs else self.ours.seconds


@dataclass(frozen=True)
class Sizes:
    """How large the data is."""

    sqlite: int  # bytes
    files: int  # how many
    files_bytes: int  # in all
    memory: tuple[int, ...]  # bytes of each database whose backup's memory is shown
    snapshots: int
    pgbench: int  # the scale: hundreds of thousands of rows, 15 MB
    redis: int  # keys


FULL = Sizes(
    1024 * MIB, 50_000, 700 * MIB, (102 * MIB, 1024 * MIB, 5120 * MIB), 10_000, 50, 1_000_000
)
SMALL = Sizes(100 * MIB, 5_000, 70 * MIB, (10 * MIB, 100 * MIB), 1_000, 5, 100_000)


def small_bot(bench: Bench, _: Sizes) -> Iterator[Result]:
    """A bot's whole backup, and what a person asks most often."""
    folder = make_folder(bench, "bot")
    apart(data.sqlite_file, folder / "data/bot.db", MIB)
    apart(data.tree, folder / "config", 20, 40_000)
    apart(data.repository, bench, folder / "code", 20)
    sources = {
        "db": "{type: sqlite, path: data/bot.db}",
        "config": "{type: files, paths: [config]}",
        "code": "{type: git, path: code}",
    }
    write_spec(folder, sources)
    parts = ["data", "config", "code"]
    backup = bench.median(lambda: bench.once([HOLDFAST, "backup"], folder))
    if shutil.which("restic"):
        restic = ["restic", "--quiet", "--repo", str(folder / "restic")]
        bench.once([*restic, "init"], folder)
        theirs = bench.median(lambda: bench.once([*restic, "backup", *parts], folder))
        yield Result("small bot: backup", backup, "restic backup", theirs, None)
    if not shutil.which("borgmatic"):
        yield Result("small bot: backup", backup, "", None, None)
        return
    borgmatic = _borgmatic(bench, folder, parts)
    create = bench.median(lambda: bench.once([*borgmatic, "create"], folder))
    listed = bench.median(lambda: bench.once([*borgmatic, "list"], folder))
    yield Result("small bot: backup", backup, "borgmatic create", create, 0.5)
    for command in ("validate", "list", "status"):
        ours = bench.median(partial(bench.once, [HOLDFAST, command], folder))
        yield Result(f"small bot: {command}", ours, "borgmatic list", listed, 1 / 3)


def large_sqlite(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """One large database, there and back."""
    folder = make_folder(bench, "sqlite")
    apart(data.sqlite_file, folder / "big.db", sizes.sqlite)
    write_spec(folder, {"db": "{type: sqlite, path: big.db}"})
    title = f"SQLite, {sizes.sqlite // MIB} MiB"
    theirs, ours = alternate(
        bench,
        lambda: bench.shell(
            "rm -f copy copy.zst; sqlite3 big.db '.backup copy' && zstd -q -3 -T0 copy -o copy.zst",
            folder,
        ),
        lambda: bench.once([HOLDFAST, "backup"], folder),
        lambda: remove(folder / "backups", folder / ".holdfast"),
    )
    yield Result(f"{title}: backup", ours, "sqlite3 .backup && zstd -3 -T0", theirs, 1.2)
    theirs, ours = alternate(
        bench,
        lambda: bench.shell("rm -f back; zstd -q -d copy.zst -o back && sync back", folder),
        lambda: bench.once([HOLDFAST, "restore", "--source", "db", "--to", "restored.db"], folder),
        lambda: remove(folder / "restored.db"),
    )
    yield Result(f"{title}: restore", ours, "zstd -d && sync", theirs, 1.3)


def many_files(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """A tree of many small files, there and back."""
    folder = make_folder(bench, "files")
    apart(data.tree, folder / "tree", sizes.files, sizes.files_bytes)
    write_spec(folder, {"tree": "{type: files, paths: [tree]}"})
    title = f"{sizes.files:,} files, {sizes.files_bytes // MIB} MiB"
    theirs, ours = alternate(
        bench,
        lambda: bench.shell("tar -cf - tree | zstd -q -3 -T0 -f -o tree.tar.zst", folder),
        lambda: bench.once([HOLDFAST, "backup"], folder),
        lambda: remove(folder / "backups", folder / ".holdfast"),
    )
    yield Result(f"{title}: backup", ours, "tar | zstd -3 -T0", theirs, 1.5)
    if shutil.which("restic"):
        restic = ["restic", "--quiet", "--repo", str(folder / "restic")]
        rival = bench.median(
            lambda: bench.once([*restic, "backup", "tree"], folder),
            lambda: bench.shell("rm -rf restic; restic --quiet --repo restic init", folder),
        )
        yield Result(f"{title}: backup", ours, "restic backup", rival, 1.0)
    # Each run has a folder of its own: where many files have just been removed, ext4 searches long
    # for an inode that it may use again, and whoever comes first pays for it.
    places = map("restored-{}".format, itertools.count())
    unpack = "mkdir {0} && zstd -q -dc tree.tar.zst | tar -C {0} -xf - && sync -f {0}"
    theirs, ours = alternate(
        bench,
        lambda: bench.shell(unpack.format(next(places)), folder),
        lambda: bench.once([HOLDFAST, "restore", "--source", "tree", "--to", next(places)], folder),
        lambda: None,
    )
    yield Result(f"{title}: restore", ours, "zstd -d | tar -x && sync", theirs, 1.3)


def memory(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """Peak memory of a backup and a restore as the database grows."""
    for size in sizes.memory:
        folder = make_folder(bench, "memory")
        apart(data.sqlite_file, folder / "big.db", size)
        write_spec(folder, {"db": "{type: sqlite, path: big.db}"})
        backup = bench.once([HOLDFAST, "backup"], folder)
        yield Result(f"SQLite, {size // MIB} MiB: backup", backup, "", None, None)
        restore = bench.once([HOLDFAST, "restore", "--source", "db", "--to", "back.db"], folder)
        yield Result(f"SQLite, {size // MIB} MiB: restore", restore, "", None, None)
        shutil.rmtree(folder)


def large_catalog(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """What a person asks of a target with very many snapshots."""
    folder = make_folder(bench, "catalog")
    for name in ("db", "config"):
        (folder / name).mkdir()
    write_spec(
        folder,
        {name: f"{{type: files, paths: [{name}]}}" for name in ("db", "config")},
        "policies:\n  nightly: {schedule: 6h, keep: {daily: 7, weekly: 4, monthly: 12}}\n",
    )
    apart(data.catalog, folder / "backups", sizes.snapshots)
    title = f"{sizes.snapshots:,} snapshots"
    first = bench.once([HOLDFAST, "list"], folder)
    yield Result(f"{title}: list, the first time", first, "", None, None)
    for arguments in (["list"], ["status"], ["prune", "--dry-run"]):
        # Nothing was ever run or proven here, so `status` has something to complain of.
        asked = partial(bench.once, [HOLDFAST, *arguments], folder, accept=(0, 4, 5, 7))
        ours = bench.median(asked)
        yield Result(f"{title}: {' '.join(arguments)}", ours, "", None, 1.0)


def postgres(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """A database whose rows hardly compress, there and back with its content proven."""
    folder = make_folder(bench, "postgres")
    with data.postgres_server(folder / "server") as server:
        apart(data.pgbench, server, sizes.pgbench)
        where = f"host: {server.host}, port: {server.port}, user: {server.user}"
        write_spec(folder, {"db": f"{{type: postgres, {where}, dbname: bench}}"})
        psql, dump, load = (server.command(name) for name in ("psql -Xq", "pg_dump", "pg_restore"))
        title = f"PostgreSQL, {15 * sizes.pgbench} MB"
        plain, ours = alternate(
            bench,
            lambda: bench.shell(f"{dump} -Fc -Z0 bench | zstd -q -3 -T0 -f -o dump.zst", folder),
            lambda: bench.once([HOLDFAST, "backup"], folder),
            lambda: remove(folder / "backups", folder / ".holdfast"),
        )
        yield Result(f"{title}: backup", ours, "pg_dump -Fc -Z0 | zstd -3 -T0", plain, 1.35)
        gzip = bench.once(["bash", "-c", f"{dump} -Fc bench > dump.gz"], folder)
        yield Result(f"{title}: backup", ours, "pg_dump -Fc", gzip, 0.4)
        bench.shell(f"{dump} -Fd -Z0 -j2 -f dump bench", folder)
        theirs, ours = alternate(
            bench,
            lambda: bench.shell(
                f"{psql} -c 'create database back' postgres && {load} -j2 -d back dump"
                f" && {psql} -c '{data.SCAN}' back > scan",
                folder,
            ),
            lambda: bench.once([HOLDFAST, "restore", "--source", "db", "--to", "again"], folder),
            lambda: bench.shell(
                "for name in back again; do"
                f' {psql} -c "drop database if exists $name with (force)" postgres; done',
                folder,
            ),
        )
        yield Result(f"{title}: restore", ours, "pg_restore -j2 && the same scan", theirs, 1.3)


def redis(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """Many small keys of all types; and what a restore and its proof do with them."""
    folder = make_folder(bench, "redis")
    with redis_server() as live, redis_server() as empty:
        apart(fill, live, sizes.redis)
        write_spec(folder, {"cache": f"{{type: redis, socket: {live}}}"})
        title = f"Redis, {sizes.redis:,} keys"
        dump = f"redis-cli -s {live} --rdb -"
        theirs, ours = alternate(
            bench,
            lambda: bench.shell(f"{dump} 2> said | zstd -q -3 -f -o copy.rdb.zst", folder),
            lambda: bench.once([HOLDFAST, "backup"], folder),
            lambda: remove(folder / "backups", folder / ".holdfast"),
        )
        yield Result(f"{title}: backup", ours, "redis-cli --rdb | zstd -3", theirs, 1.2)
        part = [sys.executable, "-m", "bench.redis_server"]
        read = bench.median(lambda: bench.once([*part, "fingerprint", live], ROOT))
        yield Result(f"{title}: fingerprint", read, "", None, sizes.redis / 80_000)
        # redis-cli leaves the mark of the stream's end behind what it writes to a pipe.
        bench.shell("zstd -dc copy.rdb.zst | head -c -40 > copy.rdb", folder)
        loaded = bench.median(
            lambda: bench.once([*part, "load", empty, folder / "copy.rdb"], ROOT),
            lambda: bench.shell(f"redis-cli -s {empty} flushall", folder),
        )
        yield Result(f"{title}: keys restored", loaded, "", None, sizes.redis / 150_000)
        whole = ["restore", "--source", "cache", "--existing", "flush", "--confirm", "cache"]
        proven = bench.median(lambda: bench.once([HOLDFAST, *whole], folder))
        yield Result(f"{title}: restore, proven", proven, "", None, None)


Case = Callable[[Bench, Sizes], Iterator[Result]]
CASES: dict[str, Case] = {
    "bot": small_bot,
    "sqlite": large_sqlite,
    "files": many_files,
    "memory": memory,
    "catalog": large_catalog,
    "postgres": postgres,
    "redis": redis,
}


def make_folder(bench: Bench, name: str) -> Path:
    """A new folder of that name to work in."""
    folder = bench.folder / name
    folder.mkdir()
    return folder


def remove(*paths: Path) -> None:
    """Remove files and folders; those that are not there are no error."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def alternate(
    bench: Bench,
    theirs: Callable[[], Measured],
    ours: Callable[[], Measured],
    clean: Callable[[], object],
) -> tuple[Measured, Measured]:
    """Both medians, measured in turn, so that a slow minute of the machine hits both."""
    pairs = []
    for _ in range(bench.runs):
        clean()
        pairs.append((theirs(), ours()))
    return middle([pair[0] for pair in pairs]), middle([pair[1] for pair in pairs])


def _borgmatic(bench: Bench, folder: Path, parts: list[str]) -> list[str]:
    """A borgmatic with an empty repository for the same data; the start of its commands."""
    config = folder / "borgmatic.yaml"
    sources = "".join(f"        - {folder / part}\n" for part in parts)
    config.write_text(
        f"location:\n    source_directories:\n{sources}"
        f"    repositories:\n        - {folder / 'borg'}\n"
    )
    bench.once(["borg", "init", "--encryption", "repokey-blake2", folder / "borg"], folder)
    return ["borgmatic", "--config", str(config)]
