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


def count(text: str) -> int | None:
    """A number of things; None: all of them."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise UsageError(f"`{text}` is no number of them.", remedy="Write --last 20, or all.")
    return int(text)


def as_shown(globs: Sequence[str]) -> tuple[str, ...]:
    """Globs with bytes that are no text as `ls` shows them: no plan can hold the bytes."""
    return tuple(os.fsencode(one).decode("utf-8", "backslashreplace") for one in globs)


def given(value: str, flag: str) -> str:
    """A value that must be there."""
    if not value:
        raise UsageError(f"--{flag} is missing.", remedy=f"Give --{flag}.")
    return value
