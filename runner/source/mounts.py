"""Where file systems are mounted: no rename reaches across, and one of a folder above takes the
mount along, so that what is put in the folder's place lies beneath it, or without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mount_points() -> frozenset[Path]:
    """Every mount point that this process sees; none where the kernel has no list of them."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset()
    fifth = (line.split(b" ")[4] for line in lines)
    plain = (_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), one) for one in fifth)
    return frozenset(Path(os.fsdecode(one)) for one in plain)


def holds_mount(folder: Path, points: Iterable[Path]) -> bool:
    """Whether something is mounted on `folder` or below."""
    real = Path(os.path.realpath(folder))
    return any(one.is_relative_to(real) for one in points)


def mount_of(path: Path, points: frozenset[Path]) -> Path:
    """The mount point that `path`, which need not exist, is under."""
    real = Path(os.path.realpath(path))
    return next((one for one in (real, *real.parents) if one in points), Path("/"))
