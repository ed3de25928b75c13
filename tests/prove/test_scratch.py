"""A scratch folder goes with its run: at its end, or, if it was killed, by the next sweep."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner.daemon import note_daemon
from runner.errors import StepFailed
from runner.prove.scratch import scratch_folder, sweep

HOLD = """
import sys
from pathlib import Path
from runner.prove.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "held") as folder:
    (folder / "data").write_text("x")
    (folder / "closed").mkdir(mode=0o500)
    print(folder, flush=True)
    sys.stdin.read()
"""


def holding(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_is_private_empty_and_gone_afterwards(tmp_path: Path) -> None:
    parent = tmp_path / "state" / "scratch"
    with scratch_folder(parent, "drill: my/db") as folder:
        assert folder.parent == parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []
        (folder / "locked").mkdir()
        (folder / "locked" / "file").write_text("x")
        (folder / "locked").chmod(0o500)
    assert list(parent.iterdir()) == []


def test_is_gone_after_an_error_which_goes_on(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise StepFailed("the disk is gone")

    with pytest.raises(StepFailed, match="the disk is gone"):  # noqa: SIM117 - one is the subject
        with scratch_folder(tmp_path, "one") as folder:
            fail(folder)
    assert list(tmp_path.iterdir()) == []


def test_two_of_the_same_name_are_two(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "one") as first, scratch_folder(tmp_path, "one") as second:
        assert first != second


def test_a_folder_that_cannot_be_made_is_a_clear_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StepFailed, match="No scratch folder"),
        scratch_folder(tmp_path / "file" / "scratch", "one"),
    ):
        pytest.fail("was made")


def test_a_killed_run_s_folder_is_swept_and_a_living_one_s_is_kept(tmp_path: Path) -> None:
    killed, orphan = holding(tmp_path)
    living, kept = holding(tmp_path)
    try:
        assert sweep(tmp_path) == []
        killed.kill()
        killed.communicate()
        assert (orphan / "data").exists()
        assert sweep(tmp_path) == [orphan]
        assert not orphan.exists()
        assert (kept / "data").exists()
    finally:
        living.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_note_whose_folder_was_never_made_is_swept(tmp_path: Path) -> None:
    killed, orphan = holding(tmp_path)
    killed.kill()
    killed.communicate()
    (orphan / "closed").rmdir()
    (orphan / "data").unlink()
    orphan.rmdir()
    assert sweep(tmp_path) == [orphan]
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_does_not_save_an_orphan(tmp_path: Path) -> None:
    killed, orphan = holding(tmp_path)
    killed.kill()
    killed.communicate()
    note = orphan.with_name(f"{orphan.name}.owner")
    note.write_text(note.read_text().replace(f'"pid": {killed.pid}', f'"pid": {os.getpid()}'))
    assert sweep(tmp_path) == [orphan]


def test_of_containers_with_names_of_their_own_only_the_dead_one_s_is_swept(tmp_path: Path) -> None:
    living, kept = holding(tmp_path)
    killed, orphan = holding(tmp_path)
    for folder in (kept, orphan):
        note = folder.with_name(f"{folder.name}.owner")
        note.write_text(note.read_text().replace(socket.gethostname(), "3f0c9d1e7a52"))
    # A server of it has an id that is another process's here.
    note_daemon(orphan / "server.process", living.pid)
    note = orphan / "server.process"
    note.write_text(note.read_text().replace(socket.gethostname(), "3f0c9d1e7a52"))
    killed.kill()
    killed.communicate()
    try:
        assert sweep(tmp_path) == [orphan]
        assert (kept / "data").exists()
        assert living.poll() is None
    finally:
        living.communicate("")


def test_one_that_lives_in_another_container_is_kept(tmp_path: Path) -> None:
    living, kept = holding(tmp_path)
    killed, orphan = holding(tmp_path)
    killed.kill()
    killed.communicate()
    # Of the same host name, but with processes of its own: here nobody has its id.
    note = kept.with_name(f"{kept.name}.owner")
    dead = orphan.with_name(f"{orphan.name}.owner").read_text()
    note.write_text(dead)
    try:
        assert sweep(tmp_path) == [orphan]
        assert (kept / "data").exists()
    finally:
        living.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_note_whose_maker_was_killed_before_it_wrote_is_swept(tmp_path: Path) -> None:
    (tmp_path / "scratch-killed.owner").touch()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"pid": "1"}', "\xff"])
def test_what_says_nothing_of_its_owner_is_left_alone(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "scratch-x-00000000"
    folder.mkdir()
    folder.with_name(f"{folder.name}.owner").write_text(text, encoding="latin-1")
    (tmp_path / "other").mkdir()
    assert sweep(tmp_path) == []
    assert folder.exists()


def test_a_dead_note_takes_nothing_but_a_scratch_folder_with_it(tmp_path: Path) -> None:
    killed, orphan = holding(tmp_path)
    killed.kill()
    killed.communicate()
    precious = tmp_path / "precious"
    precious.mkdir()
    note = orphan.with_name(f"{orphan.name}.owner")
    (tmp_path / "precious.owner").write_text(note.read_text())
    assert sweep(tmp_path) == [orphan]
    assert precious.exists()


def test_a_link_in_the_folder_s_place_is_removed_and_not_followed(tmp_path: Path) -> None:
    killed, orphan = holding(tmp_path)
    killed.kill()
    killed.communicate()
    precious = tmp_path / "precious"
    orphan.rename(precious)
    orphan.symlink_to(precious)
    assert sweep(tmp_path) == [orphan]
    assert (precious / "data").exists()


def test_a_parent_that_does_not_exist_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "gone") == []
