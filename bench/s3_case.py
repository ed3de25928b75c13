"""What is measured of buckets: against the same bytes sent by plain programs to the same server.

The server runs on the same processors, so its CPU time is counted too: where the ratio of the CPU
times is over a limit already, no order of the work can bring the times below it. That is so of
three targets at once, which are therefore measured over lines that are slower than the processors.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import data
from bench.cases import MIB, Result, Sizes, alternate, make_folder, remove
from bench.measure import HOLDFAST, Bench, Measured, apart
from bench.s3_server import S3, s3_server
from runner.store.seal import keygen

LISTED_COLD_SECONDS, LISTED_WARM_SECONDS = 3.0, 0.5
MOST_MEMORY = 250 * 1000 * 1000  # parts of several uploads are held at the same time
DISK = "{type: local, path: backups}"
LINE = "40M"  # a second: a good line of a rented server


def s3(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """One large file to a bucket and back, encrypted; to three targets; and a long list."""
    folder = make_folder(bench, "s3")
    with s3_server(folder, "one", "two", "many") as server:
        server.write_keys(folder)
        bench = replace(bench, server=server.process)
        identity, recipient = keygen()
        (folder / "key").write_text(identity)
        (folder / "key").chmod(0o600)
        (folder / "big").mkdir()
        apart(data.sqlite_file, folder / "database", sizes.sqlite)
        # SQLite leaves out a page at 1 GiB: tar would take the file for a sparse one, and write it
        # back in pieces of 512 bytes.
        apart(shutil.copyfile, folder / "database", folder / "big" / "file")
        os.sync()
        one = {"one": server.declared("one")}
        _write_spec(folder, one, recipient)
        title = f"S3, {sizes.sqlite // MIB} MiB"
        alone: list[Measured] = []
        yield from _there_and_back(bench, folder, server, recipient, title, alone)
        yield from _to_three(bench, folder, server, recipient, title, alone[0])
        yield from _over_lines(bench, folder, recipient, title)
        yield from _long_list(bench, folder, server, sizes)


def _there_and_back(
    bench: Bench, folder: Path, server: S3, recipient: str, title: str, alone: list[Measured]
) -> Iterator[Result]:
    pipeline = f"zstd -q -3 -c big/file | age -r {recipient} | {server.client('rcat', 'one/plain')}"
    theirs, ours = alternate(
        bench,
        lambda: bench.shell(pipeline, folder),
        lambda: bench.once([HOLDFAST, "backup"], folder),
        lambda: _clean(bench, folder, server),
    )
    alone.append(ours)
    against = "zstd -3 | age | rclone rcat"
    yield Result(f"{title}: backup", ours, against, theirs, 1.1, MOST_MEMORY)
    fetch = server.client("cat", "one/plain")
    restore: list[str | Path] = [HOLDFAST, "restore", "--source", "big", "--to", "restored"]
    theirs, ours = alternate(
        bench,
        lambda: bench.shell(f"{fetch} | age -d -i key | zstd -q -d -o back && sync back", folder),
        lambda: bench.once(restore, folder),
        lambda: remove(folder / "restored", folder / "back"),
    )
    yield Result(f"{title}: restore", ours, "rclone cat | age -d | zstd -d && sync", theirs, 1.1)


def _to_three(
    bench: Bench, folder: Path, server: S3, recipient: str, title: str, alone: Measured
) -> Iterator[Result]:
    """Against one target alone, and against plain programs that also read back what they wrote."""
    targets = {name: server.declared(name) for name in ("one", "two")}
    _write_spec(folder, {"disk": DISK, **targets}, recipient)
    put = {name: server.client("rcat", f"{name}/plain") for name in targets}
    back = [f"{server.client('cat', f'{name}/plain')} | sha256sum >sum.{name}" for name in targets]
    pipeline = (
        f"zstd -q -3 -c big/file | age -r {recipient} | tee plain >({put['one']}) | {put['two']}\n"
        f"wait\n{back[0]} &\n{back[1]} &\nsha256sum <plain >sum\n"
        "wait\ncmp sum sum.one\ncmp sum sum.two"
    )
    theirs, ours = alternate(
        bench,
        lambda: bench.shell(pipeline, folder),
        lambda: bench.once([HOLDFAST, "backup"], folder),
        lambda: _clean(bench, folder, server),
    )
    title = f"{title}: backup to three targets"
    yield Result(title, ours, "to one of them", alone, None, MOST_MEMORY)
    programs = "zstd | age | tee, rclone; cat | sha256sum"
    yield Result(title, ours, programs, theirs, None, MOST_MEMORY)


def _over_lines(bench: Bench, folder: Path, recipient: str, title: str) -> Iterator[Result]:
    """The same three targets, each server with a line of its own, against one of them alone."""
    measured = []
    for disk, names in ({}, ["one"]), ({"disk": DISK}, ["one", "two"]):
        with contextlib.ExitStack() as stack:
            targets = {}
            for name in names:
                place = folder / f"line-{len(names)}-{name}"
                targets[name] = stack.enter_context(s3_server(place, name, line=LINE)).declared(
                    name
                )
            _write_spec(folder, {**disk, **targets}, recipient)
            remove(folder / "backups", folder / ".holdfast")
            measured.append(replace(bench, server=None).once([HOLDFAST, "backup"], folder))
    alone, together = measured
    title = f"{title}: backup to three targets over lines of {LINE}iB/s"
    yield Result(title, together, "to one of them", alone, 1.3, MOST_MEMORY)


def _long_list(bench: Bench, folder: Path, server: S3, sizes: Sizes) -> Iterator[Result]:
    for name in ("db", "config"):
        (folder / name).mkdir()
    (folder / "backup.yaml").write_text(
        "version: 1\nproject: bench\n"
        "sources: {db: {type: files, paths: [db]}, config: {type: files, paths: [config]}}\n"
        f"targets:\n  many: {server.declared('many')}\n"
        "policies:\n  nightly: {schedule: 6h, keep: {daily: 7, weekly: 4, monthly: 12}}\n"
    )
    apart(data.catalog, server.data / "many" / "dr", sizes.snapshots)
    title = f"S3, {sizes.snapshots:,} snapshots"
    asked = partial(bench.once, [HOLDFAST, "list"], folder)
    asked()  # the server itself looks at its folders for the first time
    remove(folder / ".holdfast")
    yield Result(f"{title}: list, the first time", asked(), "", None, LISTED_COLD_SECONDS)
    yield Result(f"{title}: list", bench.median(asked), "", None, LISTED_WARM_SECONDS)


def _write_spec(folder: Path, targets: Mapping[str, str], recipient: str) -> None:
    lines = "".join(f"  {name}: {text}\n" for name, text in targets.items())
    (folder / "backup.yaml").write_text(
        "version: 1\nproject: bench\nsources: {big: {type: files, paths: [big]}}\n"
        f"targets:\n{lines}"
        f"encryption: {{recipients: [{recipient}], identity: {{secret: 'file:key'}}}}\n"
    )


def _clean(bench: Bench, folder: Path, server: S3) -> None:
    """Forget earlier backups; the servers are told, since they remember their folders."""
    remove(folder / "backups", folder / ".holdfast")
    for bucket in ("one", "two"):
        bench.shell(f"{server.client('purge', f'{bucket}/dr')} || true", folder)
