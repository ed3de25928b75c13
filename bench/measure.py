"""Time, CPU time and peak memory of whole processes, their children included."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOLDFAST = Path(sys.executable).with_name("holdfast")


@dataclass(frozen=True)
class Measured:
    """What one run, or the median of several, took."""

    seconds: float
    peak: int  # bytes: the largest resident size of any one process of the tree
    cpu: float | None = None  # seconds, with those of the server beside it; None: not measured


@dataclass(frozen=True)
class Bench:
    """A folder to work in, and a home that belongs to nobody."""

    folder: Path
    runs: int
    server: int | None = None  # the process whose CPU time counts too: it shares the machine

    def environment(self) -> dict[str, str]:
        """The environment of everything that is measured."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{HOLDFAST.parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "GIT_AUTHOR_NAME": "Bench",
            "GIT_AUTHOR_EMAIL": "bench@example.org",
            "GIT_COMMITTER_NAME": "Bench",
            "GIT_COMMITTER_EMAIL": "bench@example.org",
            "RESTIC_PASSWORD": "bench",
            "BORG_PASSPHRASE": "bench",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "TMPDIR": str(self.folder),
        }

    def once(
        self, arguments: Sequence[str | Path], folder: Path, accept: Sequence[int] = (0,)
    ) -> Measured:
        """Run a command to its end. Raises SystemExit, with what it said, when it fails."""
        log = self.folder / "log"
        with log.open("wb") as output:
            served = _used(self.server)
            began = time.monotonic()
            process = subprocess.Popen(
                [str(one) for one in arguments],
                cwd=folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accept:
            said = log.read_text(errors="replace")[-2000:]
            sys.exit(f"{' '.join(map(str, arguments))}: status {process.returncode}\n{said}")
        cpu = usage.ru_utime + usage.ru_stime + _used(self.server) - served
        return Measured(seconds, usage.ru_maxrss * 1024, cpu)

    def shell(self, line: str, folder: Path) -> Measured:
        """Run a shell pipeline, every stage of which must succeed."""
        return self.once(["bash", "-eu", "-o", "pipefail", "-c", line], folder)

    def median(
        self, measure: Callable[[], Measured], before: Callable[[], object] = lambda: None
    ) -> Measured:
        """The median of several runs; `before` runs, unmeasured, before each."""
        found = []
        for _ in range(self.runs):
            before()
            found.append(measure())
        return middle(found)


def apart(make: Callable[..., object], *arguments: object) -> None:
    """Run `make` in a process of its own: the kernel counts what this one holds when it starts
    another towards the peak of that other. Raises SystemExit when it fails.
    """
    process = multiprocessing.get_context("fork").Process(target=make, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(f"{make.__name__} failed")


def middle(found: Sequence[Measured]) -> Measured:
    """The medians of the times, and the largest peak."""
    cpu = [one.cpu for one in found if one.cpu is not None]
    return Measured(
        statistics.median(one.seconds for one in found),
        max(one.peak for one in found),
        statistics.median(cpu) if cpu else None,
    )


def _used(process: int | None) -> float:
    """The CPU seconds that a process has used."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_spec(folder: Path, sources: Mapping[str, str], more: str = "") -> None:
    """A spec with one local target; `sources` are lines of YAML by name."""
    lines = "\n".join(f"  {name}: {text}" for name, text in sources.items())
    (folder / "backup.yaml").write_text(
        "version: 1\nproject: bench\n"
        f"sources:\n{lines}\n"
        "targets:\n  disk: {type: local, path: backups}\n" + more
    )
