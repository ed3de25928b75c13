"""The user's commands run as written, are waited for alone, and are ended with all they started."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import StepFailed
from runner.process import CommandFailed
from runner.prove import command
from runner.prove.command import (
    DRILL,
    command_environment,
    end_left_behind,
    isolation,
    run_command,
)

needs_isolation = pytest.mark.skipif(
    isolation() == "none", reason="unshare may not make a network namespace on this machine"
)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    while is_running(pid):
        time.sleep(0.02)


@pytest.fixture
def trap() -> Iterator[int]:
    """The port of a server on this machine's loopback, as one of production might stand there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_runs_as_written_in_its_folder(tmp_path: Path) -> None:
    text = """printf '%s\\n' "$GREETING" 'a "quoted" $word' > out; echo done; echo oh >&2"""
    outcome = run_command(text, folder=tmp_path, environment={"GREETING": "hi"}, timeout=None)
    assert (tmp_path / "out").read_text() == 'hi\na "quoted" $word\n'
    assert outcome.stderr == "done\noh"
    assert outcome.status == 0


@pytest.mark.parametrize(
    "text",
    [
        "false; touch went-on",
        'echo "$UNHEARD_OF"; touch went-on',
        "false | true; touch went-on",
        "-n oops",
    ],
)
def test_an_error_anywhere_ends_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(CommandFailed, match="ended with status") as failed:
        run_command(text, folder=tmp_path, environment={}, timeout=None)
    assert failed.value.outcome.status != 0
    assert not (tmp_path / "went-on").exists()


def test_only_the_declared_environment_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "not-for-you")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    seen = run_command(
        "env", folder=tmp_path, environment={"LANG": "de_DE.UTF-8", "MINE": "1"}, timeout=None
    ).stderr.splitlines()
    assert "MINE=1" in seen
    assert "LANG=de_DE.UTF-8" in seen
    assert not any("CLOUD_TOKEN" in line for line in seen)
    assert "SSH_AUTH_SOCK" in command_environment({})
    assert "SSH_AUTH_SOCK" not in command_environment({}, isolated=True)


def test_a_server_left_in_the_background_holds_nobody_up_and_lives_on(tmp_path: Path) -> None:
    text = "nohup sleep 600 & echo $! > pid"
    outcome = run_command(text, folder=tmp_path, environment={}, timeout=60)
    server = int((tmp_path / "pid").read_text())
    try:
        assert outcome.seconds < 60
        assert is_running(server)
    finally:
        os.kill(server, signal.SIGKILL)


def test_a_timeout_ends_the_children_of_children(tmp_path: Path) -> None:
    text = "bash -c 'trap \"\" TERM; sleep 600 & echo $! > pid; wait; sleep 600'; echo never"
    with pytest.raises(CommandFailed, match=r"took longer than 0\.5 s"):
        run_command(text, folder=tmp_path, environment={}, timeout=0.5)
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_only_the_tail_of_long_output_is_kept(tmp_path: Path) -> None:
    text = "for i in {1..20000}; do echo line $i; done; printf '\\xff'; exit 3"
    with pytest.raises(CommandFailed, match="line 20000") as failed:
        run_command(text, folder=tmp_path, environment={}, timeout=None)
    assert failed.value.outcome.status == 3
    assert len(failed.value.outcome.stdout) <= 4096


def test_its_end_by_a_signal_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="signal 9: it printed nothing"):
        run_command("kill -9 $$", folder=tmp_path, environment={}, timeout=None)


@pytest.mark.parametrize("text", ["echo a\0b", ": " + "x" * 200_000])
def test_what_cannot_be_started_is_a_clear_failure(tmp_path: Path, text: str) -> None:
    with pytest.raises(StepFailed, match="cannot be started"):
        run_command(text, folder=tmp_path, environment={}, timeout=None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="gone does not exist"):
        run_command("true", folder=tmp_path / "gone", environment={}, timeout=None)


def reach(port: int) -> str:
    """A command that connects to a port of the loopback."""
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); print('reached')"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


@needs_isolation
def test_an_isolated_command_does_not_reach_this_machine_s_servers(
    tmp_path: Path, trap: int
) -> None:
    plain = run_command(reach(trap), folder=tmp_path, environment={}, timeout=60)
    assert plain.stderr == "reached"
    with pytest.raises(CommandFailed, match="refused"):
        run_command(reach(trap), folder=tmp_path, environment={}, timeout=60, isolated=True)


@needs_isolation
def test_an_isolated_command_has_a_loopback_of_its_own(tmp_path: Path) -> None:
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(server.getsockname()); print('met itself')"
    )
    text = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    outcome = run_command(text, folder=tmp_path, environment={}, timeout=60, isolated=True)
    assert outcome.stderr == "met itself"


@needs_isolation
def test_isolated_or_not_the_user_and_the_status_are_the_same(tmp_path: Path) -> None:
    for isolated in (False, True):
        with pytest.raises(CommandFailed) as failed:
            run_command(
                "id -u; exit 5", folder=tmp_path, environment={}, timeout=60, isolated=isolated
            )
        assert failed.value.outcome.status == 5
        assert failed.value.outcome.stderr == str(os.getuid())


def test_what_is_about_to_run_a_program_of_a_drill_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two it has no environment that could be read."""
    monkeypatch.setattr(command, "BEGINNING_SECONDS", 60.0)
    later = f"sleep 0.3; exec env {DRILL}={tmp_path} sleep 600"
    with subprocess.Popen(["bash", "-c", later], env={}) as process:
        end_left_behind(tmp_path)
        assert process.wait() == -signal.SIGTERM
