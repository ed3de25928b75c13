"""Questions asked of what was restored, or of what lives again. A no is FAIL; a question that
could not be asked is COULD-NOT-VERIFY, never a pass.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from runner.errors import HoldfastError, Interrupted, StepFailed
from runner.process import NOT_STARTED, SHELL, CommandFailed
from runner.prove.answer import (
    Answer,
    Asked,
    Reply,
    could_not,
    expectation,
    judge,
    passed,
    refused,
)
from runner.prove.command import run_command
from runner.prove.network import ask_http, ask_tcp, host_and_port
from runner.source import Refused
from runner.spec.model import Probe
from runner.store.records import PASS, SKIP

__all__ = ["KINDS", "Answer", "Asked", "ask", "shell_form"]

TIMEOUT_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0


def ask(
    probe: Probe,
    asked: Asked,
    *,
    timeout: float = TIMEOUT_SECONDS,
    interrupted: threading.Event | None = None,
) -> Answer:
    """Ask until it holds or `probe.within` seconds are over; the answer is the last reply.

    One attempt takes `timeout` seconds at most. Raises Interrupted when that event is set.
    """
    question = KINDS[probe.kind]
    stop = interrupted or threading.Event()
    deadline = time.monotonic() + probe.within
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        reply = question(probe, asked, timeout)
        left = deadline - time.monotonic()
        if reply.verdict in (PASS, SKIP) or left <= 0:
            name = probe.name or f"{probe.kind} {probe.value}"
            return Answer(name, probe.kind, reply.verdict, reply.expected, reply.actual)
        if stop.wait(min(pause, left)):
            raise Interrupted(f"The question {probe.name or probe.value} was given up.")
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def shell_form(probe: Probe) -> list[str]:
    """Shell lines that ask the same and fail on a no; a comment where a person must ask."""
    words = _SHELL_FORMS[probe.kind](probe) if probe.kind in _SHELL_FORMS else []
    if not words:
        whom = f" of {probe.source}" if probe.source else ""
        lines = f"Ask{whom}, and expect {expectation(probe)}: {probe.value}".splitlines()
        return [f"# {line}" for line in lines]
    if probe.within > 0:
        again = 'until "$@"; do sleep 1; done'
        words = ["timeout", f"{probe.within:g}", "bash", "-c", again, "until", *words]
    return [shlex.join(words)]


def _ask_file(probe: Probe, asked: Asked, _timeout: float) -> Reply:
    expected = "a file that is not empty"
    if asked.path is None or not asked.path.is_dir():
        return could_not(expected, "there is no restored folder to look in")
    name = PurePosixPath(probe.value)
    if name.is_absolute() or ".." in name.parts or "\0" in probe.value:
        return could_not(expected, "the path must be relative and stay in what was restored")
    path = asked.path / name
    try:
        # A link out of the restored tree shows what is live, which proves nothing.
        if not path.resolve().is_relative_to(asked.path.resolve()):
            return could_not(expected, "it is a link that leads out of what was restored")
        if not path.exists():
            return refused(expected, "it does not exist")
        return _ask_size(path, expected)
    except (OSError, RuntimeError) as error:
        return could_not(expected, str(error))


def _ask_size(path: Path, expected: str) -> Reply:
    if path.is_dir():
        entries = sum(1 for _ in path.iterdir())
        return passed(expected, f"{entries} entries") if entries else refused(expected, "0 entries")
    size = path.stat().st_size
    return passed(expected, f"{size} bytes") if size else refused(expected, "0 bytes")


def _ask_run(probe: Probe, asked: Asked, timeout: float) -> Reply:
    expected = f"status {0 if probe.expect is None else probe.expect}"
    if asked.path is None:
        return could_not(expected, "there is no folder to run it in")
    folder = asked.path if asked.path.is_dir() else asked.path.parent
    try:
        outcome = run_command(
            probe.value,
            folder=folder,
            environment=asked.environment,
            timeout=timeout,
            isolated=asked.isolated,
        )
    except CommandFailed as error:
        outcome = error.outcome
        late = outcome.seconds >= timeout
        if late or outcome.status < 0 or outcome.status in NOT_STARTED:
            return could_not(expected, error.message)
    except StepFailed as error:
        return could_not(expected, error.message)
    actual = f"status {outcome.status}"
    if actual == expected:
        return passed(expected, actual)
    return refused(expected, f"{actual}: {outcome.stderr[-300:]}")


def _ask_source(probe: Probe, asked: Asked, timeout: float) -> Reply:
    """A value that the source itself reads out of its content."""
    expected = expectation(probe)
    if asked.source is None:
        return could_not(expected, f"{probe.kind} is asked of a source, and none is named")
    try:
        value = asked.source(probe.kind, probe.value, timeout)
    except Refused as error:
        return refused(expected, error.message)
    except HoldfastError as error:
        return could_not(expected, f"{error.message} {error.remedy}".strip())
    return judge(probe, value)


# A question takes the probe, what is asked, and the seconds that it may take.
KINDS: dict[str, Callable[[Probe, Asked, float], Reply]] = {
    "file": _ask_file,
    "http": ask_http,
    "redis": _ask_source,
    "run": _ask_run,
    "sql": _ask_source,
    "tcp": ask_tcp,
}


def _http_words(probe: Probe) -> list[str]:
    status = 200 if probe.expect is None else probe.expect
    follow = "" if str(status).startswith("3") else "L"
    tls = "-k " if probe.options.get("insecure") else ""
    tls += f"--cacert {shlex.quote(probe.options['ca'])} " if "ca" in probe.options else ""
    body = probe.options.get("body")
    unread = "-o /dev/null " if body is None else ""
    asking = f"""curl -s{follow} {tls}-m 60 {unread}-w '%{{http_code}}' --noproxy '*' -- "$1\""""
    if body is None:
        return ["bash", "-c", f'test "$({asking})" = "$2"', "http", probe.value, str(status)]
    # The status is the last three characters of what is printed.
    holds = 'test "${answer: -3}" = "$2" && [[ "${answer%???}" == *"$3"* ]]'
    asked = f"answer=$({asking} | tr -d '\\0'); {holds}"
    return ["bash", "-c", asked, "http", probe.value, str(status), body]


def _run_words(probe: Probe) -> list[str]:
    words = [*SHELL, "--", probe.value]
    if probe.expect is None or str(probe.expect) == "0":
        return words
    ending = 'status=0; "${@:2}" || status=$?; test "$status" = "$1"'
    return ["bash", "-c", ending, "run", str(probe.expect), *words]


def _tcp_words(probe: Probe) -> list[str]:
    address = host_and_port(probe.value)
    if address is None:
        return []
    return ["bash", "-c", ': < "/dev/tcp/$1/$2"', "tcp", address[0], str(address[1])]


_SHELL_FORMS: dict[str, Callable[[Probe], list[str]]] = {
    "file": lambda probe: ["test", "-s", probe.value],
    "http": _http_words,
    "run": _run_words,
    "tcp": _tcp_words,
}
