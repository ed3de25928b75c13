"""What exchanges of paths replaced: noted, found again, put back by the same renames, let go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.source import Copy, Kept
from runner.swap import SAFETY_INFIX, Move, moves_from, remove_tree, rows_of


def note_of(moves: Sequence[Move], token: str) -> dict[str, Any]:
    """The note of moves that a run of this token made."""
    return {"token": token, "moves": rows_of(moves)}


def moves_back(kept: Kept, token: str) -> list[Move]:
    """The moves that put back what was there, and keep what is live under a new run's token.

    Raises StepFailed when a safety copy is gone.
    """
    return [
        back
        for move in reversed(moves_from(kept["moves"]))
        if (back := _back(move, kept["token"], token)) is not None
    ]


def copies(kept: Kept) -> list[Copy]:
    """The safety copies that there are."""
    return [Copy(str(path), size_of(path)) for path in _paths(kept)]


def drop(kept: Kept) -> None:
    """Remove them."""
    for path in _paths(kept):
        remove_tree(path)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(
        os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - a walk over many
        for folder, _, names in os.walk(path)
        for name in names
    )


def _back(move: Move, old: str, new: str) -> Move | None:
    kept = Path(str(move.safety).replace(SAFETY_INFIX + old, SAFETY_INFIX + new))
    moved_away = move.live == move.safety
    if not moved_away and not move.had_live:
        # Nothing stood there: what does now is only moved away.
        return Move(move.live, kept, kept, False) if os.path.lexists(move.live) else None
    if not os.path.lexists(move.safety):
        raise StepFailed(
            f"The safety copy {move.safety} is gone, so what was there cannot be put back.",
            remedy="Restore a snapshot: `list` shows what there is.",
        )
    place = move.staged if moved_away else move.live
    return Move(move.safety, place, kept, os.path.lexists(place))


def _paths(kept: Kept) -> Iterator[Path]:
    """Each safety copy once: what lies in one that is a folder belongs to it."""
    mark = SAFETY_INFIX + kept["token"]
    found: dict[Path, None] = {}
    for move in moves_from(kept["moves"]):
        if move.had_live or move.live == move.safety:
            whole = (one for one in (move.safety, *move.safety.parents) if mark in one.name)
            found[list(whole)[-1]] = None
    yield from (path for path in found if os.path.lexists(path))
