"""A program that a person types to: it has the terminal, and this process waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import Interrupted, StepFailed

GRACE_SECONDS = 5.0


def stop_signals() -> list[signal.Signals]:
    """What is to stop this process, but for what it was started to ignore: `nohup` means it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let what is to stop this process raise Interrupted in the block, so that it cleans up.

    While it cleans up, further ones are ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = stop_signals()

    def stop(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, _ignore)
        raise Interrupted("It was interrupted.")

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hand_over(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    stdin: bytes | None = None,
    capture: bool = False,
    note: Callable[[int], None] = lambda _pid: None,
) -> tuple[int, bytes]:
    """Let a program have standard input and output; return its status, and what it printed.
    `note` is given its process id as soon as it runs.

    With a terminal it stays in this process's group, which is the one that may read from there,
    and Ctrl-C is its own. `stdin` is given to it instead of ours; with `capture` what it prints
    is returned. Raises StepFailed when it cannot be started.
    """
    interactive = stdin is None and sys.stdin.isatty()
    try:
        program: subprocess.Popen[bytes] = subprocess.Popen(
            list(arguments),
            stdin=_stdin(stdin),
            stdout=subprocess.PIPE if capture else None,
            env=dict(environment),
            cwd=folder,
            process_group=None if interactive else 0,
        )
    except OSError as error:
        raise StepFailed(f"{arguments[0]} cannot be started: {error}.") from error
    with _left_to_it(interactive):
        try:
            note(program.pid)
            printed, _ = program.communicate(stdin)
        except BaseException:
            _end(program, group=not interactive)
            raise
    return program.returncode, printed or b""


def _stdin(given: bytes | None) -> Any:
    if given is not None:
        return subprocess.PIPE
    with contextlib.suppress(OSError, ValueError):
        return sys.stdin.fileno()
    return subprocess.DEVNULL


@contextlib.contextmanager
def _left_to_it(interactive: bool) -> Iterator[None]:
    """While a program has the terminal, Ctrl-C means it, and not this process."""
    if not interactive or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(program: subprocess.Popen[bytes], *, group: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(program.pid, number)
            else:
                program.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_SECONDS)
            return


def _ignore(_number: int, _frame: object) -> None:
    """A handler, since what is ignored stays so in a program that is started."""
