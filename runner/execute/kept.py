"""What recoveries replaced and kept: a note for each source of each run, in the state folder.

A note is written once a swap is confirmed, and is forgotten with the safety copies that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.durable import make_folder, sync_folder, write_bytes

FOLDER = "safety"
SUFFIX = ".kept.json"


@dataclass(frozen=True)
class Note:
    """What one run replaced of one source."""

    run: str
    source: str
    at: str  # when it was confirmed, RFC 3339 in UTC
    place: Mapping[str, Any]  # the parameters of the place that it was restored to
    kept: Mapping[str, Any]  # what the source needs to find and to put back its safety copies
    stood: bool  # whether anything stood there
    count: int = 0  # how many safety copies there were; 0: not noted
    going: bool = False  # their removal began, so what is left of them may be a part

    @property
    def instant(self) -> datetime:
        """When it was confirmed."""
        return datetime.fromisoformat(self.at)


def write_note(state: Path, note: Note) -> None:
    """Remember it durably."""
    make_folder(state / FOLDER)
    write_bytes(_file(state, note.run, note.source), json.dumps(asdict(note)).encode())


def forget_note(state: Path, run: str, source: str) -> None:
    """Forget it; harmless where there is none."""
    path = _file(state, run, source)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)


def removal_begins(state: Path, note: Note) -> None:
    """Write down durably that what is left of its safety copies is of no use from now on."""
    write_note(state, replace(note, going=True))


def read_note(state: Path, run: str, source: str) -> Note | None:
    """The note of one source of a run, if there is one."""
    return _read(_file(state, run, source))


def read_notes(state: Path) -> list[Note]:
    """All notes, oldest first. A torn or foreign file is none."""
    found = filter(None, map(_read, (state / FOLDER).glob(f"*{SUFFIX}")))
    return sorted(found, key=lambda note: (note.at, note.run, note.source))


def _read(path: Path) -> Note | None:
    # One that another command forgets meanwhile is none either.
    try:
        return Note(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _file(state: Path, run: str, source: str) -> Path:
    return state / FOLDER / f"{run}.{source}{SUFFIX}"
