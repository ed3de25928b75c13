"""A scratch server ends with its folder, whoever removes that; nothing else is ever ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.daemon import end_daemons, note_daemon, note_folders
from runner.owner import alive, owner_of
from runner.prove.scratch import scratch_folder

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"
WAIT = "import sys; sys.stdin.read()"


@contextmanager
def server(program: str = "print(1, flush=True)\n") -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when it is told to, or with its block."""
    process = subprocess.Popen(
        [sys.executable, "-c", program + WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_noted_server_and_its_folders_end(tmp_path: Path) -> None:
    socket = tmp_path / "holdfast-socket"
    socket.mkdir()
    (tmp_path / "scratch" / "main").mkdir(parents=True)
    note = tmp_path / "scratch" / "main" / "server.process"
    note_folders(note, [socket])
    with server() as process:
        note_daemon(note, process.pid, [socket])
        owner = owner_of(process.pid)
        end_daemons(tmp_path / "scratch")
        assert not alive(owner)
    assert not socket.exists()
    assert not note.exists()


def test_one_that_ignores_the_signal_ends_too(tmp_path: Path) -> None:
    with server(STUBBORN) as process:
        note_daemon(tmp_path / "server.process", process.pid)
        owner = owner_of(process.pid)
        end_daemons(tmp_path)
        assert not alive(owner)


def test_a_scratch_folder_takes_its_server_along(tmp_path: Path) -> None:
    with server() as process:
        with scratch_folder(tmp_path, "drill") as folder:
            note_daemon(folder / "server.process", process.pid)
            owner = owner_of(process.pid)
        assert not alive(owner)


def test_another_process_of_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with server() as process:
        note = tmp_path / "server.process"
        note_daemon(note, process.pid)
        document = json.loads(note.read_bytes())
        document["owner"]["started"] += 1
        note.write_text(json.dumps(document))
        end_daemons(tmp_path)
        assert process.poll() is None


def test_restored_content_cannot_name_what_to_remove(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    ours = tmp_path / "holdfast-elsewhere"
    for folder in (precious, ours):
        folder.mkdir()
    scratch = tmp_path / "scratch"
    deep = scratch / "config" / "config"
    deep.mkdir(parents=True)
    note_folders(deep / "evil.process", [ours])
    note_folders(scratch / "odd.process", [precious])
    (scratch / "torn.process").write_text('{"owner": {"pid"')
    (scratch / "linked.process").symlink_to(deep / "evil.process")
    end_daemons(scratch)
    assert precious.exists()
    assert ours.exists()
    assert not os.path.lexists(scratch / "torn.process")
