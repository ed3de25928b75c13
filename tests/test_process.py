"""Processes: their output, their failures, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from runner import process
from runner.errors import StepFailed, is_local
from runner.process import CommandFailed


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int) -> None:
    while alive(pid):
        time.sleep(0.01)


def wait_for(path: Path) -> str:
    while not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.01)
    return path.read_text()


def test_output_comes_back(tmp_path: Path) -> None:
    outcome = process.run(
        ["bash", "-c", 'cat; echo " in $(pwd) with $NAME"; echo careful >&2'],
        stdin=b"said",
        folder=tmp_path,
        environment={"NAME": "a name", "PATH": os.environ["PATH"]},
    )
    assert outcome.stdout == f"said in {tmp_path} with a name\n".encode()
    assert outcome.stderr == "careful"
    assert outcome.status == 0
    assert outcome.seconds > 0


def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    hostile: list[str | bytes] = ["$(touch gone)", "; touch gone", "*", "-n", "a\nb", b"\xff\xfe"]
    outcome = process.run(["printf", "%s\\0", *hostile], folder=tmp_path)
    assert outcome.stdout.split(b"\0")[:-1] == [os.fsencode(one) for one in hostile]
    assert list(tmp_path.iterdir()) == []


def test_large_input_and_output_do_not_block() -> None:
    data = os.urandom(3_000_000)
    assert process.run(["cat"], stdin=data).stdout == data
    assert process.run(["true"], stdin=data).stdout == b""


def test_a_failure_says_what_the_program_said() -> None:
    with pytest.raises(CommandFailed, match=r"bash ended with status 3: no such table") as caught:
        process.run(["bash", "-c", "echo no such table >&2; exit 3"])
    assert caught.value.outcome.status == 3
    assert process.run(["bash", "-c", "exit 3"], accept=(0, 3)).status == 3


def test_a_signal_is_named() -> None:
    with pytest.raises(CommandFailed, match="ended by signal 9"):
        process.run(["bash", "-c", "kill -9 $$"])


@pytest.mark.parametrize(
    ("script", "local"),
    [
        ("exit 3", False),
        ("echo 'fatal: bad object' >&2; exit 128", False),
        ("kill -9 $$", True),
        ("no-such-program", True),
        ("echo 'write error: No space left on device' >&2; exit 1", True),
    ],
)
def test_what_a_program_says_of_its_machine_is_known(script: str, local: bool) -> None:
    with pytest.raises(CommandFailed) as caught:
        process.run(["bash", "-c", script])
    assert is_local(caught.value) == local


def test_a_temporary_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StepFailed, match="No temporary file can be made") as caught:
        process.run(["true"])
    assert is_local(caught.value)


def test_only_the_end_of_long_complaints_is_kept() -> None:
    with pytest.raises(CommandFailed) as caught:
        process.run(["bash", "-c", "seq 1000000 >&2; exit 1"])
    assert len(caught.value.outcome.stderr) <= process.TAIL_BYTES
    assert caught.value.message.endswith("999999\n1000000")


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "plain").chmod(0o755)
    with pytest.raises(StepFailed, match="no-such-program was not found") as caught:
        process.run(["no-such-program"])
    assert "doctor" in caught.value.remedy
    with pytest.raises(StepFailed, match="plain cannot be started: Exec format error"):
        process.run([tmp_path / "plain"])
    with pytest.raises(StepFailed, match=r"cannot be started: Permission denied"):
        process.run([tmp_path])
    with pytest.raises(StepFailed, match="missing is missing"):
        process.run(["true"], folder=tmp_path / "missing")
    with pytest.raises(StepFailed, match="cannot be started: embedded null byte"):
        process.run(["true", "a\0b"])


def test_time_is_limited_for_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(CommandFailed, match=r"bash took longer than 0.3 s"):
        process.run(["bash", "-c", f"sleep 1000 & echo $! > {note}; wait"], timeout=0.3)
    wait_until_gone(int(note.read_text()))


def test_reading_streams(tmp_path: Path) -> None:
    with process.reading(["seq", "100000"]) as stream:
        assert sum(1 for _ in stream) == 100_000
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as source, process.reading(["cat"], stdin=source) as stream:
        assert stream.read() == b"from a file"


def test_reading_checks_the_status_at_the_end() -> None:
    with (
        pytest.raises(CommandFailed, match="status 1: dump: lost the connection"),
        process.reading(
            ["bash", "-c", "echo some; echo dump: lost the connection >&2; exit 1"]
        ) as stream,
    ):
        assert stream.read() == b"some\n"


def test_a_reader_that_fails_ends_the_process() -> None:
    pids: list[int] = []

    def fail(line: bytes) -> None:
        pids.append(int(line))
        raise KeyError

    with (
        pytest.raises(KeyError),
        process.reading(["bash", "-c", "echo $$; exec sleep 1000"]) as stream,
    ):
        fail(stream.readline())
    assert not alive(pids[0])


def test_feeding_streams(tmp_path: Path) -> None:
    with process.feeding(["bash", "-c", f"cat > {tmp_path}/out"]) as stream:
        for _ in range(100):
            stream.write(b"x" * 10_000)
    assert (tmp_path / "out").stat().st_size == 1_000_000


def test_feeding_prefers_the_programs_words_to_a_broken_pipe() -> None:
    def feed(script: str) -> None:
        with process.feeding(["bash", "-c", script]) as stream:
            for _ in range(100):
                stream.write(b"x" * 100_000)

    with pytest.raises(CommandFailed, match="status 1: disk full"):
        feed("head -c 10 > /dev/null; echo disk full >&2; exit 1")
    with pytest.raises(CommandFailed, match="bash stopped reading early"):
        feed("head -c 10 > /dev/null")


def test_a_process_that_ignores_the_first_signal_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    with process.started(
        ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
    ) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
    assert stubborn.returncode == -signal.SIGKILL


def test_one_scope_is_stopped_alone(tmp_path: Path) -> None:
    ended: dict[str, str] = {}

    def work(name: str) -> None:
        script = (
            f"echo $$ > {tmp_path}/{name}; until test -e {tmp_path}/enough; do sleep 0.05; done"
        )
        with process.scope(name):
            try:
                process.run(["bash", "-c", script])
                ended[name] = "well"
            except CommandFailed as error:
                ended[name] = error.message

    threads = [threading.Thread(target=work, args=(name,)) for name in ("dump", "copy")]
    for thread in threads:
        thread.start()
    for name in ("dump", "copy"):
        wait_for(tmp_path / name)
    process.stop_scope("dump")
    threads[0].join()
    (tmp_path / "enough").touch()
    threads[1].join()
    assert "signal 15" in ended["dump"]
    assert ended["copy"] == "well"
