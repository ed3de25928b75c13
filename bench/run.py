"""`make bench`: speed and memory against plain shell pipelines and other tools, in one run."""

from __future__ import annotations

import argparse
import compileall
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import runner
from bench import cases
from bench.cases import FULL, SMALL, Result
from bench.drill_case import drill
from bench.measure import Bench, Measured
from bench.s3_case import s3

CASES = {**cases.CASES, "s3": s3, "drill": drill}

HEADINGS = ("what", "holdfast", "CPU", "peak", "against", "took", "CPU", "ratio", "at most", "")


def main() -> None:
    """Run the cases that were asked for; everything they write is removed again."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the data, for a look")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many (default 3)")
    parser.add_argument("--in", dest="folder", type=Path, help="where to work (default: a new one)")
    parser.add_argument("case", nargs="*", help=f"any of: {', '.join(CASES)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.case) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    # As pip does when it installs: no run that is measured compiles its own modules.
    compileall.compile_dir(Path(runner.__file__).parent, quiet=1)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for name in options.case or CASES:
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=options.folder) as folder:
            bench = Bench(Path(folder), options.runs)
            for result in CASES[name](bench, SMALL if options.small else FULL):
                console.print(f"{result.what}: {result.ours.seconds:.2f} s")
                table.add_row(*row(result))
    console.print()
    console.print(table)


def row(result: Result) -> list[str | Text]:
    """A result as the cells of the table."""
    theirs = result.theirs
    fine = result.ours.peak <= result.memory
    if result.most is not None:
        fine = fine and result.figure <= result.most
    unit = "" if theirs else " s"
    return [
        result.what,
        f"{result.ours.seconds:.2f} s",
        _cpu(result.ours),
        f"{result.ours.peak / 1e6:.0f} MB",
        result.against,
        f"{theirs.seconds:.2f} s" if theirs else "",
        _cpu(theirs) if theirs else "",
        f"{result.figure:.2f}" if theirs else "",
        "" if result.most is None else f"{result.most:.2f}{unit}",
        Text("ok", "green") if fine else Text("over", "bold red"),
    ]


def _cpu(one: Measured) -> str:
    return "" if one.cpu is None else f"{one.cpu:.2f} s"


if __name__ == "__main__":
    main()
