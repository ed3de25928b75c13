"""Exchange staged and live paths by renames, with safety copies; resumable and undoable.

The moves are written down durably before the first rename, and each one's progress is read off
the disk itself: a staged path that is gone has arrived. So a kill anywhere between two renames
leaves a state from which `exchange` goes forward and `undo` goes back.

Names beside the live content: `.holdfast-<token>-…` is staging, `<name>.before-<token>` a safety
copy. No capture takes either in; `is_ours` knows them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.durable import make_folder, sync_folder, write_bytes
from runner.errors import StepFailed

STAGING_PREFIX = ".holdfast-"
SAFETY_INFIX = ".before-"

# A run's token is its time and six hex digits; `recovery` is what a runbook's commands write.
_RUN = r"(?:\d{8}t\d{6}z[0-9a-f]{6}|recovery)"
# What SQLite keeps beside a database goes along with it, under its name.
_SIDE = "(?:-wal|-shm|-journal)?"
_OURS = re.compile(rf"\.holdfast-{_RUN}-.*|.+\.before-{_RUN}{_SIDE}", re.DOTALL)


def is_ours(name: str) -> bool:
    """Whether a file's name is that of a staging folder or a safety copy."""
    return _OURS.fullmatch(name) is not None


def staging(live: Path, token: str, name: str) -> Path:
    """Where content for `live` is staged: beside it, so that a rename brings it in."""
    return live.parent / f"{STAGING_PREFIX}{token}-{name}"


def safety(live: Path, token: str) -> Path:
    """The name under which what `live` was is kept."""
    return live.with_name(f"{live.name}{SAFETY_INFIX}{token}")


@dataclass(frozen=True)
class Move:
    """One exchange: what is `staged` becomes `live`, what was live becomes `safety`."""

    staged: Path
    live: Path
    safety: Path
    had_live: bool  # whether there was something live when the moves were written down


def plan_moves(pairs: Sequence[tuple[Path, Path]], token: str) -> list[Move]:
    """Moves for (staged, live) pairs, as things stand now."""
    return [
        Move(staged, live, safety(live, token), os.path.lexists(live)) for staged, live in pairs
    ]


def exchange(moves: Sequence[Move], record: Path) -> list[Path]:
    """Perform the moves that are not performed yet; return the safety copies.

    `record` is the file that remembers them; an existing one wins over `moves`. It must outlive
    the swap and lie on a disk that survives a crash, beside the staging, for example.
    """
    if record.exists():
        moves = read_moves(record)
    else:
        make_folder(record.parent)
        write_bytes(record, json.dumps(rows_of(moves)).encode())
    for move in moves:
        _forward(move)
    return [move.safety for move in moves if move.had_live]


def progress(record: Path) -> str:
    """How far the recorded moves got: absent | partial | done."""
    if not record.exists():
        return "absent"
    states = {_arrived(move) for move in read_moves(record)}
    if states <= {True}:
        return "done"
    untouched = all(not _begun(move) for move in read_moves(record))
    return "absent" if untouched else "partial"


def undo(record: Path) -> None:
    """Bring back what was live before the recorded moves, and what was staged to staging."""
    if record.exists():
        for move in reversed(read_moves(record)):
            _backward(move)
        record.unlink()
        sync_folder(record.parent)


def forget(record: Path) -> None:
    """Drop the record of moves: they can be neither undone nor resumed any more.

    Comes before the staging is removed, or a staged path that is gone would look arrived.
    """
    if record.exists():
        record.unlink()
        sync_folder(record.parent)


def read_moves(record: Path) -> list[Move]:
    """The recorded moves."""
    return moves_from(json.loads(record.read_text()))


def moves_from(rows: Sequence[Sequence[Any]]) -> list[Move]:
    """Moves that `rows_of` wrote. Names are kept byte for byte."""
    return [
        Move(Path(os.fsdecode(bytes.fromhex(s))), Path(os.fsdecode(bytes.fromhex(v))),
             Path(os.fsdecode(bytes.fromhex(k))), had)
        for s, v, k, had in rows
    ]  # fmt: skip


def rows_of(moves: Sequence[Move]) -> list[list[Any]]:
    """Moves as JSON."""
    return [
        [*(os.fsencode(path).hex() for path in (move.staged, move.live, move.safety)),
         move.had_live]
        for move in moves
    ]  # fmt: skip


def remove_tree(path: Path) -> None:
    """Remove a file, link or folder, also one whose folders may not be written; missing is fine."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)  # noqa: PTH118 - a walk over many
            with contextlib.suppress(FileNotFoundError):
                if not os.path.islink(inner):  # noqa: PTH114
                    os.chmod(inner, 0o700)  # noqa: PTH101
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o700)
    _remove_all(path)


def _remove_all(path: Path) -> None:
    """Remove a tree into which a process of a killed run may still write for a moment, or which
    another command removes as well.
    """
    pauses = iter((0.05, 0.2, 1.0))
    while os.path.lexists(path):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # the other one is further
        except OSError as error:
            pause = next(pauses, None)
            if error.errno != errno.ENOTEMPTY or pause is None:
                raise
            time.sleep(pause)


def _forward(move: Move) -> None:
    if _arrived(move):
        return
    make_folder(move.live.parent)
    both_files = _is_plain_file(move.live) and _is_plain_file(move.staged)
    if move.had_live and not os.path.lexists(move.safety):
        if not (both_files and _linked(move.live, move.safety)):
            _rename(move.live, move.safety)
        sync_folder(move.live.parent)
    if os.path.lexists(move.live) and not (both_files and move.had_live):
        raise StepFailed(
            f"{move.live} came into being while it was being replaced.",
            remedy="Stop what writes there, move it away, and resume.",
        )
    _rename(move.staged, move.live)
    sync_folder(move.live.parent)
    sync_folder(move.staged.parent)


def _backward(move: Move) -> None:
    if _arrived(move):
        make_folder(move.staged.parent)
        _rename(move.live, move.staged)
    if move.had_live and os.path.lexists(move.safety):
        if not os.path.lexists(move.live):
            _rename(move.safety, move.live)
        elif os.path.samestat(move.live.lstat(), move.safety.lstat()):
            # Only the second name was made so far; renaming one of two names does nothing.
            move.safety.unlink()
        else:
            raise StepFailed(
                f"{move.live} came into being while it was being replaced. What stood there is "
                f"{move.safety}.",
                remedy="Stop what writes there, move it away, and type the same command again.",
            )
    if move.live.parent.is_dir():
        sync_folder(move.live.parent)


def _arrived(move: Move) -> bool:
    if os.path.lexists(move.staged) or not os.path.lexists(move.live):
        return False
    return not move.had_live or os.path.lexists(move.safety)


def _begun(move: Move) -> bool:
    return _arrived(move) or (move.had_live and os.path.lexists(move.safety))


def _linked(live: Path, copy: Path) -> bool:
    """Give a file its safety name beside its live name; False where links cannot be had."""
    try:
        os.link(live, copy)
    except OSError:
        return False
    return True


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _rename(old: Path, new: Path) -> None:
    try:
        old.rename(new)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise StepFailed(
                f"{old} and {new} are on different file systems; a rename cannot exchange them.",
                remedy="Restore with --to into a folder of the same file system, and move it.",
            ) from error
        remedy = "Check the permissions of the folder."
        if error.errno == errno.EPERM:
            # Even root is told this, of what has such an attribute.
            paths = shlex.join([str(old), str(old.parent)])
            remedy += f" Where `lsattr -d {paths}` shows an i or a, `chattr -i -a` takes it away."
        raise StepFailed(
            f"{old} cannot be renamed to {new}: {error.strerror}.", remedy=remedy
        ) from error
