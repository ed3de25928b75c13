"""What a drill costs beside the restores that it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench import data
from bench.cases import Result, Sizes, alternate, make_folder, remove
from bench.measure import HOLDFAST, Bench, Measured, apart, write_spec

# The same content out of the same snapshot, as durable, by hand.
BY_HAND = """
rm -rf by-hand && mkdir by-hand
zstd -q -d backups/bench/default/*/db.sqlite.zst -o by-hand/bot.db
mkdir by-hand/tree && zstd -q -dc backups/bench/default/*/tree.tar.zst | tar -xp -C by-hand/tree
zstd -q -d backups/bench/default/*/code.bundle.zst -o by-hand/code.bundle
git clone -q by-hand/code.bundle by-hand/code
sync -f by-hand
"""
OVERHEAD_SECONDS = 5.0


def drill(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """A drill's restores against those by hand; and all that it does beside."""
    folder = make_folder(bench, "drill")
    apart(data.sqlite_file, folder / "bot.db", sizes.sqlite // 4)
    apart(data.tree, folder / "tree", sizes.files // 10, sizes.files_bytes // 10)
    apart(data.repository, bench, folder / "code", 20)
    sources = {
        "db": "{type: sqlite, path: bot.db}",
        "tree": "{type: files, paths: [tree]}",
        "code": "{type: git, path: code}",
    }
    write_spec(folder, sources)
    bench.once([HOLDFAST, "backup"], folder)
    others: list[float] = []

    def drilled() -> Measured:
        whole = bench.once([HOLDFAST, "drill", "--report-dir", "reports", "--quiet"], folder)
        (report,) = (folder / "reports").glob("*.json")
        phases = json.loads(report.read_text())["phases"]
        others.append(whole.seconds - sum(one["seconds"] for one in phases.values()))
        return Measured(phases["restore"]["seconds"], whole.peak)

    theirs, ours = alternate(
        bench,
        lambda: bench.shell(BY_HAND, folder),
        drilled,
        lambda: remove(folder / "reports", folder / ".holdfast"),
    )
    yield Result("drill: its restores", ours, "zstd -d, tar -x, git clone, sync", theirs, 1.15)
    beside = Measured(max(others), ours.peak)
    yield Result("drill: all beside restoring and proving", beside, "", None, OVERHEAD_SECONDS)
