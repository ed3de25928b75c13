"""What the flags of several commands have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runner.errors import UsageError

SNAPSHOT = "Id of a snapshot, a unique beginning of one, or its last six digits."
ADDRESS = "Address of a target: s3://bucket/prefix?region=…, sftp://…, a path."
AT = "Time: the newest snapshot of each source that is not after it (2026-11-20 02:15, 2h ago)."
POLICY = "Names of policies; repeat it, or separate by commas."
SOURCE = "Names of sources; repeat it, or separate by commas."
TARGET = "Names of targets; repeat it, or separate by commas."

# What to give where a flag that must be there is missing.
_WANTED = {
    "out": "FILE",
    "plan": "FILE, which `--dry-run --out FILE` wrote",
    "snapshot": "ID: `holdfast list` shows them",
    "source": "NAME: `holdfast list` shows them",
    "to": "FOLDER",
}


def count(text: str) -> int | None:
    """A number of things; None: all of them."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise UsageError(f"`{text}` is no number of them.", remedy="Write --last 20, or all.")
    return int(text)


def percent(text: str) -> float:
    """The fraction that a flag such as `10%` says."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f"`{text}` is no part of a whole.", remedy="Write 10%, or 100% for all.")
    return value


def as_shown(globs: Sequence[str]) -> tuple[str, ...]:
    """Globs with bytes that are no text as `ls` shows them: no plan can hold the bytes."""
    return tuple(os.fsencode(one).decode("utf-8", "backslashreplace") for one in globs)


def given(value: str, flag: str) -> str:
    """A value that must be there."""
    if not value:
        raise UsageError(f"--{flag} is missing.", remedy=f"Give --{flag} {_WANTED[flag]}.")
    return value
