"""The user's own commands: run by bash as written, in a small declared environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from runner import process
from runner.daemon import PAUSE_SECONDS, SUFFIX, end_process, note_daemon
from runner.errors import StepFailed
from runner.owner import Owner, owner_of, this_process
from runner.process import SHELL, TAIL_BYTES, CommandFailed, Outcome

# All that a command is given unless the spec declares more: cron and a bare host have no others,
# so a command that works by hand for some other variable's sake would fail on the bad day.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK")

DRILL = "HOLDFAST_DRILL"  # names a drill's scratch folder to its commands

BEGINNING_SECONDS = 1.0  # so long a process may take from its fork to the program that it runs

# An agent signs for servers of production; a drill has no business with them.
NOT_IN_ISOLATION = ("SSH_AUTH_SOCK",)

_UNSHARED = (
    ("unshare", "--net", "--"),  # as root
    ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--"),
    ("unshare", "--user", "--map-root-user", "--net", "--"),  # util-linux before 2.38
)

# A new network has its loopback down. No program that every host has brings it up.
_LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
try:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x49))
except OSError:
    pass
os.execvp(sys.argv[1], sys.argv[1:])
"""


def command_environment(declared: Mapping[str, str], *, isolated: bool = False) -> dict[str, str]:
    """The whole environment of a command: what is inherited, and over it what is declared."""
    left_out = NOT_IN_ISOLATION if isolated else ()
    inherited = {
        name: os.environ[name] for name in INHERITED if name in os.environ and name not in left_out
    }
    return {"PATH": os.defpath} | inherited | dict(declared)


def run_command(
    text: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float | None,
    isolated: bool = False,
) -> Outcome:
    """Run `text` as `bash -eu -o pipefail -c` does, in `folder`, and wait for bash alone.

    What it leaves in the background lives on and holds nobody up; such a service must send its
    output elsewhere, for ours is an unnamed file that grows. The outcome's `stdout` and `stderr`
    are both the tail of the two streams in one, not scrubbed. With `isolated` it runs without a
    network where `isolation()` says so; sockets in the file system stay within its reach.

    Raises CommandFailed when the status is not 0, or when `timeout` seconds have passed: then
    the whole process group is killed, as it is when the run is stopped.
    """
    arguments = [*(_without_network() if isolated else ()), *SHELL, "--", text]
    if not folder.is_dir():
        raise StepFailed(
            f"The command's folder {folder} does not exist.", remedy="Create it, or correct it."
        )
    began = time.monotonic()
    late = False
    try:
        with (
            tempfile.TemporaryFile() as output,
            process.started(
                arguments,
                stdout=output,
                stderr=output,
                environment=command_environment(environment, isolated=isolated),
                folder=folder,
            ) as bash,
            _noted(bash.pid, environment if isolated else {}),
        ):
            try:
                bash.wait(timeout)
            except subprocess.TimeoutExpired:
                late = True
                process.kill_group(bash)
            tail = _tail(output)
    except (OSError, ValueError) as error:
        raise StepFailed(f"The command cannot be started: {error}.") from error
    words = tail.decode(errors="replace").strip()
    outcome = Outcome((*SHELL, text), bash.returncode, tail, words, time.monotonic() - began)
    if late or outcome.status != 0:
        raise CommandFailed(_complaint(outcome, timeout if late else None), outcome)
    return outcome


@contextmanager
def _noted(pid: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Have what sweeps a drill's folder end its command, which outlives a SIGKILL of the drill."""
    scratch = environment.get(DRILL)
    if scratch is None:
        yield
        return
    note = Path(scratch) / f"command-{pid}{SUFFIX}"
    with suppress(ProcessLookupError):
        note_daemon(note, pid, group=True)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def end_left_behind(scratch: Path) -> None:
    """End what a drill's commands left in the background, also what began a session of its own: its
    environment names the drill's folder, as nothing else's does.
    """
    mark = f"{DRILL}={scratch}".encode()
    deadline = time.monotonic() + BEGINNING_SECONDS
    left = list(Path("/proc").glob("[0-9]*"))
    while left:
        left = [one for one in left if not _is_settled(one, mark)]
        if time.monotonic() > deadline:
            return
        if left:
            time.sleep(PAUSE_SECONDS)


def _is_settled(folder: Path, mark: bytes) -> bool:
    """End the process of this folder of /proc if it has the mark; False where that shows later."""
    with suppress(OSError):
        environment = (folder / "environ").read_bytes()
        owner = owner_of(int(folder.name))
        if mark in environment.split(b"\0"):
            end_process(owner)
        return bool(environment) or not _may_be_beginning(folder, owner)
    return True


def _may_be_beginning(folder: Path, owner: Owner) -> bool:
    """Whether it is younger than this process and about to run a program, whose environment it does
    not have yet. The kernel's own threads have none either, and no program.
    """
    return owner.started >= this_process().started and bool((folder / "exe").readlink())


def isolation() -> str:
    """What keeps an isolated command from the world here: `network`, or `none`."""
    return "network" if _without_network() else "none"


@cache
def _without_network() -> tuple[str, ...]:
    """The start of an argument list that runs the rest in a network of its own; tried for real."""
    own = Path("/proc/self/ns/net")
    for unshared in _UNSHARED:
        arguments = (*unshared, sys.executable, "-I", "-S", "-c", _LOOPBACK_UP)
        try:
            # Not by `process.run`: what this finds holds for later, also while a run is stopped.
            tried = subprocess.run(
                [*arguments, "readlink", str(own)], capture_output=True, timeout=10, check=False
            )
            if tried.returncode == 0 and tried.stdout.strip() != os.fsencode(own.readlink()):
                return arguments
        except (OSError, subprocess.TimeoutExpired):
            continue
    return ()


def _tail(output: IO[bytes]) -> bytes:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL_BYTES))
    return output.read(TAIL_BYTES)


def _complaint(outcome: Outcome, timeout: float | None) -> str:
    if timeout is not None:
        ended = f"took longer than {timeout:g} s and was killed"
    elif outcome.status < 0:
        ended = f"was ended by signal {-outcome.status}"
    else:
        ended = f"ended with status {outcome.status}"
    return f"The command {ended}: {outcome.stderr[-1000:] or 'it printed nothing'}"
