"""Lives of the program, each of which ends by SIGKILL just before its n-th change of the world.

A change is what would still be there after the kill, or be missing: a file that is opened for
writing, written, synced, renamed or removed, a link, a folder, a mode, a process that is started.

Each line of standard input begins a life: `[folder, environment, n, only, words]` as JSON; only
changes that match that expression are counted. The answer is one line too: the change that it did
not live to make, or nothing where it lived to its end. One process begins them all, so that only
the first one has to import the program.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg  # noqa: F401 - each life has them at once
import redis  # noqa: F401

from runner import bootstrap, journeys, safety  # noqa: F401
from runner.__main__ import main
from runner.commands import beginning, keeping, looking, recovering  # noqa: F401
from runner.execute.actions import action_named  # noqa: F401
from runner.source import files, git, sqlite  # noqa: F401

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Of these Python tells whoever asks …
TOLD = (
    {"subprocess.Popen", "sqlite3.connect"}
    | {
        f"os.{verb}"
        for verb in ("chmod", "chown", "link", "mkdir", "remove", "removexattr", "rename", "rmdir")
    }
    | {f"os.{verb}" for verb in ("setxattr", "symlink", "truncate", "utime")}
)
# … and not of these.
UNTOLD = ("write", "pwrite", "fsync", "sendfile", "copy_file_range")

say = os.write


def begin(
    folder: str, environment: Mapping[str, str], nth: int, only: str, words: Sequence[str]
) -> None:
    """Be the program in that folder; die before the n-th change."""
    answer = os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["holdfast", *words]
    made = itertools.count(1)
    one_at_a_time = threading.Lock()

    def change(what: str) -> None:
        with one_at_a_time:
            if re.search(only, what) and next(made) == nth:
                say(answer, what.encode(errors="replace"))
                os.kill(os.getpid(), signal.SIGKILL)

    watch(change)
    main()


def watch(change: Callable[[str], None]) -> None:
    """Tell of each change before it is made."""

    def told(event: str, arguments: tuple[Any, ...]) -> None:
        if event in TOLD or (event == "open" and _is_change(*arguments)):
            change(f"{event} {arguments[0]!r}")

    for name in UNTOLD:
        setattr(os, name, _telling(change, name, getattr(os, name)))
    sys.addaudithook(told)


def _is_change(path: Any, _mode: Any, flags: int) -> bool:
    return isinstance(path, str) and bool(flags & WRITING) and not path.startswith("/dev/")


def _telling(change: Callable[[str], None], name: str, real: Callable[..., Any]) -> Any:
    def telling(descriptor: int, *arguments: Any, **more: Any) -> Any:
        change(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink()}")
        return real(descriptor, *arguments, **more)

    return telling


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            begin(*json.loads(line))
            sys.exit()
        os.waitpid(child, 0)
        print(flush=True)
