"""A drill's picture of the live machine: what was restored stands, by links, where commands
would find it. A relative path of a command or an env file means the same in a drill as live.
"""

from __future__ import annotations

import os
from pathlib import Path

from runner.execute.context import Context

# No source can have this name: each source restores into a folder of its name beside it.
MIRROR = ".mirror"


def mirrored(path: Path, context: Context) -> Path:
    """Where a live path stands in a drill; the path itself otherwise."""
    if context.scratch is None:
        return path
    root = context.scratch / MIRROR
    root.mkdir(exist_ok=True)
    return root / _inside(path, context)


def env_file_values(context: Context) -> dict[str, str]:
    """What the spec's env files say now: in a drill, those that it restored."""
    from runner.spec.expand import read_env_file

    values: dict[str, str] = {}
    for path in context.spec.env_files:
        values |= read_env_file(mirrored(path, context))[0]
    return values


def restored_place(source: str, context: Context) -> str:
    """Where a drill restores a source."""
    assert context.scratch is not None
    return context.source(source).scratch_destination(context.scratch / source)


def mirror_restored(source: str, context: Context) -> None:
    """Link what a drill restored of a source to where its live content would stand."""
    if context.scratch is None:
        return
    place, restored = restored_place(source, context), context.source(source)
    for path in restored.paths:
        _link(restored.placed(path, place), mirrored(path, context), context)


def _inside(path: Path, context: Context) -> Path:
    """A path as it stands in a restored tree: relative to the spec, or without its slash."""
    folder, absolute = context.spec.folder.absolute(), path.absolute()
    if absolute.is_relative_to(folder):
        return absolute.relative_to(folder)
    return Path(str(absolute).lstrip("/"))


def _link(restored: Path, place: Path, context: Context) -> None:
    if not os.path.lexists(restored):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    # A link in restored content may lead to what is live.
    context.require_scratch(str(place.parent))
    if place.is_dir() and not place.is_symlink():
        for child in restored.iterdir() if restored.is_dir() else ():
            _link(child, place / child.name, context)
        return
    place.unlink(missing_ok=True)
    place.symlink_to(restored)
