"""Scratch folders: private, removed when their run ends, and swept when their owner was killed.

Scratch servers that were started in one are ended before it goes.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from runner.daemon import end_daemons
from runner.durable import PRIVATE_FILE, PRIVATE_FOLDER, make_folder, sync_folder
from runner.errors import StepFailed
from runner.owner import Owner, alive, lock, seen, this_process
from runner.swap import remove_tree

PREFIX = "scratch-"
NOTE = ".owner"

_NOTE = re.compile(r"scratch-[A-Za-z0-9_.-]+\.owner")
_ODD = re.compile(r"[^A-Za-z0-9_-]+")


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new, empty folder that is this user's alone and this block's, inside `parent`.

    Raises StepFailed when it cannot be removed at the end. `sweep` removes it where the process
    is killed: the note that names its owner stands beside it, from before it is made until after
    it is gone.
    """
    folder = parent / f"{PREFIX}{_ODD.sub('-', name)[:60]}-{secrets.token_hex(4)}"
    note = folder.with_name(f"{folder.name}{NOTE}")
    with ExitStack() as stack:
        try:
            make_folder(parent)
            stack.enter_context(_held(note, folder))
        except OSError as error:
            raise StepFailed(
                f"No scratch folder can be made in {parent}: {error}.",
                remedy="Check its permissions and the free space.",
            ) from error
        try:
            yield folder
        except BaseException as error:
            try:
                _remove(folder, note)
            except OSError as left:
                error.add_note(f"{folder} is left over: {left}")
            raise
        try:
            _remove(folder, note)
        except OSError as error:
            raise StepFailed(
                f"The scratch folder {folder} cannot be removed: {error}.",
                remedy="Remove it by hand; nothing needs it.",
            ) from error


def sweep(parent: Path) -> list[Path]:
    """Remove the scratch folders right below `parent` whose owner is dead; return them. What the
    commands of a drill left in the background goes with its folder.

    What this user did not make is left alone, and so is what cannot be removed.
    """
    from runner.prove.command import end_left_behind

    swept = []
    with suppress(FileNotFoundError):
        for note in sorted(parent.iterdir()):
            if not _NOTE.fullmatch(note.name) or not _is_orphan(note):
                continue
            folder = note.with_name(note.name.removesuffix(NOTE))
            with suppress(OSError), note.open("r+b") as file:
                # A process of another container is not seen here, or has an id that means nothing.
                if lock(file.fileno(), wait=0):
                    end_left_behind(folder)
                    _remove(folder, note)
                    swept.append(folder)
    return swept


@contextmanager
def _held(note: Path, folder: Path) -> Iterator[None]:
    """Make both, and hold the kernel's lock on the note, which says nothing before it is locked."""
    with os.fdopen(_locked(note), "wb", buffering=0) as file:
        try:
            file.write(json.dumps(this_process().to_json()).encode())
            os.fsync(file.fileno())
            sync_folder(note.parent)
            folder.mkdir(mode=PRIVATE_FOLDER)
        except BaseException:
            note.unlink(missing_ok=True)
            raise
        yield


def _locked(note: Path) -> int:
    """A new note, locked; made again where it was swept before it was locked."""
    while True:
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        lock(descriptor, wait=math.inf)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _is_orphan(note: Path) -> bool:
    """Whether a note is ours, and its owner is dead or not seen from here. An unreadable one says
    nothing.
    """
    folder = note.with_name(note.name.removesuffix(NOTE))
    try:
        if note.lstat().st_uid != os.geteuid():
            return False
        if os.path.lexists(folder) and folder.lstat().st_uid != os.geteuid():
            return False
        text = note.read_text()
        if not text:
            return True  # its maker was killed before it was locked and written, or makes it anew
        owner = Owner.from_json(json.loads(text))
        return not seen(owner) or not alive(owner)
    except (OSError, ValueError):
        return False


def _remove(folder: Path, note: Path) -> None:
    for inner in folder.glob(f"{PREFIX}*{NOTE}"):
        # A scratch folder in a scratch folder: its killed owner could not end its servers.
        end_daemons(inner.with_name(inner.name.removesuffix(NOTE)))
    end_daemons(folder)
    remove_tree(folder)
    note.unlink(missing_ok=True)
