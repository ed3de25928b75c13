"""Processes: each in its own group, with a timeout, killed as a group, every status counted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner.errors import StepFailed

SHELL = ("bash", "-eu", "-o", "pipefail", "-c")
GRACE_SECONDS = 5.0
TAIL_BYTES = 4096
NOT_STARTED = (126, 127)  # how a shell, or what starts programs in its place, says so

# What programs say of the machine that they run on, in their own words or the C library's.
LOCAL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Permission denied",
    "Input/output error",
    "Too many open files",
    "Resource temporarily unavailable",
    "Cannot allocate memory",
    "out of memory",
    "Out of memory",
)

_running: dict[subprocess.Popen[bytes], str] = {}  # with the scope that each was started in
_stoppable: dict[object, tuple[str, Callable[[], None]]] = {}  # with their scopes
_running_lock = threading.Lock()
_scope: ContextVar[str] = ContextVar("scope", default="")


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    arguments: tuple[str, ...]
    status: int  # negative: the signal that ended it
    stdout: bytes
    stderr: str  # the tail of it
    seconds: float


class CommandFailed(StepFailed):
    """A process ended with another status than 0, or ran out of time."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        local = (
            outcome.status < 0
            or outcome.status in NOT_STARTED
            or any(words in outcome.stderr for words in LOCAL_WORDS)
        )
        super().__init__(message, local=local)
        self.outcome = outcome


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: SIGTERM, and SIGKILL after a grace period."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def stoppable(stop: Callable[[], None]) -> Iterator[None]:
    """`stop` is called when the processes that the block could start are killed.

    For what waits and is no process: a connection. It is called in another thread, and must
    neither fail nor take long.
    """
    key = object()
    with _running_lock:
        _stoppable[key] = (_scope.get(), stop)
    try:
        yield
    finally:
        with _running_lock:
            del _stoppable[key]


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Processes that the block starts belong to `name`, so that `stop_scope` finds them.

    A thread that the block starts must be started with a copy of its context.
    """
    token = _scope.set(name)
    try:
        yield
    finally:
        _scope.reset(token)


def stop_scope(name: str) -> None:
    """Kill the groups that were started in one scope: called when a step's time is over, or its
    run is interrupted. Others may start there afterwards: the step has to tidy up.
    """
    with _running_lock:
        processes = [one for one, scope in _running.items() if scope == name]
        stops = [stop for scope, stop in _stoppable.values() if scope == name]
    for stop in stops:
        stop()
    for process in processes:
        kill_group(process)


def _not_started(
    arguments: Sequence[str | bytes | Path], folder: Path | None, error: Exception
) -> StepFailed:
    name = _name(arguments)
    if folder is not None and not folder.is_dir():
        return StepFailed(f"{name} was not started: the folder {folder} is missing.", local=True)
    if isinstance(error, FileNotFoundError):
        return StepFailed(
            f"{name} was not found.", remedy="`holdfast doctor` says how to get it.", local=True
        )
    reason = error.strerror if isinstance(error, OSError) else error
    return StepFailed(f"{name} cannot be started: {reason}.", local=True)


def temporary_file() -> IO[bytes]:
    """A file without a name. Raises StepFailed where none can be made: a bare error of it would be
    taken for one of the file that is read meanwhile.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise StepFailed(
            f"No temporary file can be made: {error.strerror}.",
            remedy="Free some room in TMPDIR, or let it name a folder that this user may write.",
            local=True,
        ) from error


@contextlib.contextmanager
def started(
    arguments: Sequence[str | bytes | Path],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is killed if the block is left before it ended."""
    try:
        process = subprocess.Popen(
            list(arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=None if environment is None else dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _not_started(arguments, folder, error) from error
    with _running_lock:
        _running[process] = _scope.get()
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process)
        with _running_lock:
            _running.pop(process, None)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def run(
    arguments: Sequence[str | bytes | Path],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
    accept: Sequence[int] = (0,),
) -> Outcome:
    """Run a process to its end and return its output, which must fit in memory.

    Raises CommandFailed when its status is not in `accept` or `timeout` seconds have passed.
    """
    began = time.monotonic()
    with (
        temporary_file() as errors,
        started(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            environment=environment,
            folder=folder,
        ) as process,
    ):
        late = False
        try:
            output, _ = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            late = True
            kill_group(process)
            output = b""
        outcome = _outcome(arguments, process.returncode, output, errors, began)
    if late:
        raise CommandFailed(f"{_name(arguments)} took longer than {timeout:g} s.", outcome)
    return _accepted(outcome, accept)


@contextlib.contextmanager
def reading(
    arguments: Sequence[str | bytes | Path],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    accept: Sequence[int] = (0,),
) -> Iterator[IO[bytes]]:
    """The process's standard output as a stream; its status is checked when the block ends."""
    began = time.monotonic()
    with (
        temporary_file() as errors,
        started(
            arguments,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            environment=environment,
            folder=folder,
        ) as process,
    ):
        assert process.stdout is not None
        yield process.stdout
        process.stdout.close()
        process.wait()
        _accepted(_outcome(arguments, process.returncode, b"", errors, began), accept)


@contextlib.contextmanager
def feeding(
    arguments: Sequence[str | bytes | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[IO[bytes]]:
    """The process's standard input as a stream; its status is checked when the block ends.

    If the process ends early, its own words are raised instead of a broken pipe.
    """
    began = time.monotonic()
    with (
        temporary_file() as errors,
        started(
            arguments,
            stdin=subprocess.PIPE,
            stderr=errors,
            environment=environment,
            folder=folder,
        ) as process,
    ):
        assert process.stdin is not None
        broken = False
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            broken = True
        process.wait()
        outcome = _outcome(arguments, process.returncode, b"", errors, began)
        _accepted(outcome, (0,))
        if broken:
            raise CommandFailed(f"{_name(arguments)} stopped reading early.", outcome)


def _outcome(
    arguments: Sequence[str | bytes | Path],
    status: int,
    output: bytes,
    errors: IO[bytes],
    began: float,
) -> Outcome:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - TAIL_BYTES))
    tail = errors.read().decode(errors="replace").strip()
    names = tuple(os.fsdecode(one) for one in arguments)
    return Outcome(names, status, output, tail, time.monotonic() - began)


def _name(arguments: Sequence[str | bytes | Path]) -> str:
    return Path(os.fsdecode(arguments[0])).name


def _accepted(outcome: Outcome, accept: Sequence[int]) -> Outcome:
    if outcome.status in accept:
        return outcome
    ended = (
        f"was ended by signal {-outcome.status}"
        if outcome.status < 0
        else f"ended with status {outcome.status}"
    )
    words = f": {outcome.stderr[-1000:]}" if outcome.stderr else "."
    raise CommandFailed(f"{_name(outcome.arguments)} {ended}{words}", outcome)
