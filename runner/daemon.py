"""Servers that outlive the process that started them: noted, so that whoever comes next ends them.

The note lies in the scratch folder that the server belongs to, so that nothing else is ever ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.durable import write_bytes
from runner.owner import Owner, alive, owner_of, seen
from runner.swap import remove_tree

SUFFIX = ".process"
DEEPEST = 1  # folders below the one that is searched: deeper lies restored content, which may lie
PREFIX = "holdfast-"  # of the name of each folder elsewhere
GRACE_SECONDS = 5.0
PAUSE_SECONDS = 0.05
MOST_LOG_BYTES = 4000  # that are told


def note_daemon(path: Path, pid: int, folders: Sequence[Path] = (), *, group: bool = False) -> None:
    """Write the note of a running server; `path` ends in `.process`.

    `folders` are private folders elsewhere that go with it, each named `holdfast-…`: a short one
    for its socket, say. With `group`, it leads a process group of its own, which is ended with it.
    Raises ProcessLookupError when there is no such process, OSError when it cannot be written.
    """
    note = {
        "owner": owner_of(pid).to_json(),
        "folders": [str(one) for one in folders],
        "group": group,
    }
    write_bytes(path, json.dumps(note).encode())


def note_folders(path: Path, folders: Sequence[Path]) -> None:
    """Note the folders of a server before it is started, so that they never outlive it."""
    write_bytes(path, json.dumps({"folders": [str(one) for one in folders]}).encode())


def end_daemons(folder: Path) -> None:
    """End each server that a note in `folder` names, and remove its folders and the note.

    Notes that another user could have written are left alone. Raises OSError when something
    cannot be removed.
    """
    for note in list(_notes(folder, DEEPEST)):
        end_daemon(note)


def end_daemon(note: Path) -> None:
    """End the server that one note names, and remove its folders and the note; see above."""
    with contextlib.suppress(FileNotFoundError):
        owner, folders, group = _read(note)
        if owner is not None:
            end_process(owner, group=group)
        for one in folders:
            if one.is_absolute() and one.name.startswith(PREFIX) and os.path.lexists(one):
                remove_tree(one)
        note.unlink(missing_ok=True)


def _notes(folder: Path, depth: int) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                if depth > 0:
                    yield from _notes(Path(entry.path), depth - 1)
            elif entry.name.endswith(SUFFIX) and _is_own_file(entry):
                yield Path(entry.path)


def _is_own_file(entry: os.DirEntry[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _read(note: Path) -> tuple[Owner | None, list[Path], bool]:
    """The server, its folders, and whether it leads a group; nothing of a torn or foreign note."""
    try:
        found = json.loads(note.read_bytes())
        folders = [Path(one) for one in found.get("folders", ())]
        owner = Owner.from_json(found["owner"]) if "owner" in found else None
        return owner, folders, found.get("group") is True
    except (ValueError, TypeError, AttributeError):
        return None, [], False


def end_process(owner: Owner, *, group: bool = False) -> None:
    """SIGTERM, and SIGKILL for what is still there after the grace period. One that is not seen
    from here, in another container, has an id that is another's here.
    """
    kill = os.killpg if group else os.kill
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        while seen(owner) and alive(owner) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                kill(owner.pid, signal_number)
            time.sleep(PAUSE_SECONDS)


def last_words(log: Path) -> str:
    """The end of what a server has logged; empty where it has not."""
    try:
        return log.read_text(errors="replace")[-MOST_LOG_BYTES:].strip()
    except OSError:
        return ""
