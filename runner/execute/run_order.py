"""In which order runs began. The clock may have jumped between two, so their ids do not tell."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from runner.durable import PRIVATE_FILE, naming

ORDER = "run-order"


def note_run(state: Path, run: str) -> None:
    """Note that a run begins now, after all that were noted before."""
    with _locked(state) as descriptor:
        os.lseek(descriptor, 0, os.SEEK_END)
        # A crash may have left half a line: this run is not to be lost behind it.
        os.write(descriptor, f"\n{run}\n".encode())


def in_order(state: Path, runs: Iterable[str]) -> list[str]:
    """The runs, oldest first; those that were never noted before all others, by their ids."""
    try:
        noted = (state / ORDER).read_text(errors="replace").split()
    except OSError:
        noted = []
    places = {run: place for place, run in enumerate(noted)}
    return sorted(runs, key=lambda run: (places.get(run, -1), run))


def forget_runs(state: Path, gone: Collection[str]) -> None:
    """Drop the notes of runs that are no longer kept."""
    with _locked(state) as descriptor:
        size = os.fstat(descriptor).st_size
        noted = os.pread(descriptor, size, 0).decode(errors="replace").split()
        # Written in place: who waits for the lock holds this very file. What a crash loses here
        # is order alone, and then the ids decide.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, "".join(f"{run}\n" for run in noted if run not in gone).encode(), 0)


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[int]:
    path = state / ORDER
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with naming(path):
            yield descriptor
    finally:
        os.close(descriptor)
