"""A SQLite file restored beside the live one, exchanged with it, and taken back.

The live database is brought to rest first, so that no instant of the exchange has a database
without its WAL, or a WAL beside a database that is not its own. What SQLite leaves beside a
damaged one goes along under the safety copy's name.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import swap
from runner.durable import make_folder, sync_folder, write_bytes, write_chunks
from runner.errors import StepFailed, UsageError
from runner.source import Artifacts, Fingerprint
from runner.source.sqlite_capture import fingerprint_of
from runner.source.sqlite_live import SPARE, copy_live, must_open, settle, write_live
from runner.source.sqlite_names import SIDES, side
from runner.source.sqlite_readback import ReadBack
from runner.swap import Move


@dataclass(frozen=True)
class Spot:
    """One restore of one database."""

    live: Path  # absolute, links followed: where the file stands or will stand
    folder: Path  # the staging, beside it
    safety: Path  # what was live, afterwards

    @classmethod
    def of(cls, live: Path, token: str, name: str) -> Spot:
        """The spot of a run's token and a source's name."""
        live = Path(os.path.realpath(live))
        return cls(live, swap.staging(live, token, name), swap.safety(live, token))

    @property
    def staged(self) -> Path:
        """The restored file, until it is swapped in."""
        return self.folder / "database"

    @property
    def note(self) -> Path:
        """What is staged, and what it should be; there only once that is whole."""
        return self.folder / "staged.json"

    @property
    def record(self) -> Path:
        """The moves of the exchange."""
        return self.folder / "moves.json"

    @property
    def written(self) -> Path:
        """How far the writing into a running app's database got: begun | done."""
        return self.folder / "written"

    def noted(self) -> dict[str, Any]:
        """The note. Raises StepFailed when nothing is staged."""
        try:
            note: dict[str, Any] = json.loads(self.note.read_bytes())
        except FileNotFoundError as error:
            raise StepFailed(f"Nothing is staged for {self.live}.") from error
        return note


def stage(spot: Spot, artifacts: Artifacts) -> None:
    """Write the file beside the destination. Raises StepFailed if what was stored is damaged."""
    if spot.live.exists() and not spot.live.is_file():
        raise UsageError(f"{spot.live} is no file.", remedy="Name the file: --to FOLDER/NAME.db")
    if swapped(spot) != "absent":
        raise StepFailed(f"{spot.live} was already replaced by this run.")
    discard(spot)
    expected = artifacts.fingerprint
    try:
        spot.live.parent.mkdir(parents=True, exist_ok=True)
        _check_room(spot, expected["file"]["bytes"])
        make_folder(spot.folder)
        with ReadBack() as read_back:
            count = write_chunks(spot.staged, artifacts.read(), behind=read_back)
            file = {"bytes": count, "sha256": read_back.sha256()}
        status = spot.staged.stat()
        noted = {"inode": status.st_ino, "expected": dict(expected)}
        noted |= {"file": file, "changed": status.st_ctime_ns}
        write_bytes(spot.note, json.dumps(noted).encode())
    except OSError as error:
        raise StepFailed(
            f"{spot.live} cannot be restored to its folder: {error.strerror or error}.",
            remedy="Check its permissions and the room on its disk, or choose another with --to.",
        ) from error


def fingerprint(spot: Spot) -> Fingerprint:
    """The fingerprint of what is staged or, once it is swapped in, of what is live."""
    noted = spot.noted()
    expected: Fingerprint = noted["expected"]
    path = spot.staged if spot.staged.exists() else spot.live
    if noted["file"] == expected["file"] and _unchanged_since(spot.note, noted, path):
        return expected
    return fingerprint_of(path, expected["level"], expected)


def exchange(spot: Spot) -> list[Path]:
    """Swap live and staged; return the safety copy, if there was a live file."""
    if swap.progress(spot.record) == "absent":
        if spot.live.exists():
            settle(spot.live)
            _set_aside(spot)
        _adopt(spot)
    moves = swap.plan_moves([(spot.staged, spot.live)], _token(spot))
    return swap.exchange(moves, spot.record)


def put_back(spot: Spot, moves: Sequence[Move]) -> list[Path]:
    """Exchange the live file with the safety copy of an earlier swap, by the moves for that."""
    if swap.progress(spot.record) == "absent" and spot.live.exists():
        settle(spot.live)
        _set_aside(spot)
    copies = swap.exchange(moves, spot.record)
    for move in swap.read_moves(spot.record):
        if move.live == spot.live:
            for suffix in SIDES:
                _move(side(move.staged, suffix), side(spot.live, suffix))
    return copies


def replaced(spot: Spot) -> list[Move]:
    """The moves of a swap that is done, whichever way it was."""
    if spot.written.exists():
        return [Move(spot.staged, spot.live, spot.safety, True)]
    return swap.read_moves(spot.record)


def write_into_running(spot: Spot) -> list[Path]:
    """Write what is staged into the database that an app has open, after a safety copy."""
    if not spot.written.exists():
        make_folder(spot.folder)
        copy = spot.folder / "safety"
        copy_live(spot.live, copy)
        _give(copy, spot.live)
        _sync(copy)
        copy.replace(spot.safety)
        sync_folder(spot.safety.parent)
        write_bytes(spot.written, b"begun")
    if spot.written.read_bytes() != b"done":
        write_live(spot.staged, spot.live)
        write_bytes(spot.written, b"done")
    return [spot.safety]


def swapped(spot: Spot) -> str:
    """How far either way of bringing it in got: absent | partial | done."""
    if spot.written.exists():
        return "done" if spot.written.read_bytes() == b"done" else "partial"
    return swap.progress(spot.record)


def confirm(spot: Spot) -> None:
    """Raise StepFailed unless what was staged is live, and opens."""
    if swapped(spot) != "done":
        raise StepFailed(f"What was restored does not stand at {spot.live} yet.")
    if not spot.written.exists() and spot.live.stat().st_ino != spot.noted()["inode"]:
        raise StepFailed(f"{spot.live} is not the file that was restored: somebody replaced it.")
    must_open(spot.live)


def take_back(spot: Spot) -> None:
    """Bring back what was live, whatever the swap got to."""
    if spot.written.exists():
        write_live(spot.safety, spot.live)
        spot.written.unlink()
        sync_folder(spot.folder)
        spot.safety.unlink()
        return
    if swap.progress(spot.record) == "done" and spot.live.exists():
        # What was restored may have been opened since: its own WAL must not meet the old file.
        settle(spot.live)
        for suffix in SIDES:
            _move(side(spot.live, suffix), side(swap.read_moves(spot.record)[0].staged, suffix))
    swap.undo(spot.record)
    if spot.live.exists() and not spot.safety.exists():
        for suffix in SIDES:
            if not side(spot.live, suffix).exists():
                _move(side(spot.safety, suffix), side(spot.live, suffix))


def discard(spot: Spot) -> None:
    """Remove the staging."""
    swap.forget(spot.record)
    swap.remove_tree(spot.folder)


def _unchanged_since(note: Path, noted: dict[str, Any], path: Path) -> bool:
    """Whether `path` is the file that was read back, and nobody wrote to it since."""
    status = path.stat()
    same = (status.st_ino, status.st_ctime_ns) == (noted["inode"], noted["changed"])
    # A change within the same tick of the file system's clock would not show.
    return same and note.stat().st_mtime_ns > status.st_ctime_ns


def _set_aside(spot: Spot) -> None:
    for suffix in SIDES:
        _move(side(spot.live, suffix), side(spot.safety, suffix))


def _move(old: Path, new: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        old.rename(new)
        sync_folder(old.parent)
        sync_folder(new.parent)


def _adopt(spot: Spot) -> None:
    """Give the staged file the owner, mode and attributes that the live one has, or had."""
    if spot.live.exists():
        _give(spot.staged, spot.live)
        return
    stood = spot.noted()["expected"].get("stood", {})
    with contextlib.suppress(KeyError, PermissionError):
        owner, group = pwd.getpwnam(stood["owner"]), grp.getgrnam(stood["group"])
        os.chown(spot.staged, owner.pw_uid, group.gr_gid)
    spot.staged.chmod(stood.get("mode", 0o600))


def _give(path: Path, origin: Path) -> None:
    status = origin.stat()
    with contextlib.suppress(PermissionError):  # only root may give a file away
        os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o7777)
    with contextlib.suppress(OSError):  # a file system without any
        for name in {*os.listxattr(origin), *os.listxattr(path)}:  # its ACL is one of them
            _give_attribute(path, origin, name)


def _give_attribute(path: Path, origin: Path, name: str) -> None:
    with contextlib.suppress(OSError):  # one that is the system's own
        if name in os.listxattr(origin):
            os.setxattr(path, name, os.getxattr(origin, name))
        else:
            os.removexattr(path, name)  # of the folder's default


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check_room(spot: Spot, needed: int) -> None:
    free = shutil.disk_usage(spot.live.parent).free
    if free < needed + SPARE:
        raise StepFailed(
            f"{spot.live} needs {needed + SPARE:,} bytes beside it, where {free:,} are free.",
            remedy="Free some room there, or restore to another disk with --to.",
            local=True,
        )


def _token(spot: Spot) -> str:
    return spot.safety.name.removeprefix(spot.live.name + swap.SAFETY_INFIX)
