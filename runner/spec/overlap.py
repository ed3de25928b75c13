"""Which paths of a spec lie inside each other, where they should not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from runner.secret import Secret
from runner.spec.convert import resolve
from runner.spec.marks import Place
from runner.spec.model import SourceSpec, Spec, TargetSpec

Doubt = tuple[Place, str]


def paths_of(item: SourceSpec | TargetSpec) -> list[Path]:
    """Where a source or a target lies on this machine: its `path` and `paths`, links followed.

    A git source without either is the repository that the spec stands in. A target that is no
    folder of this machine lies nowhere here.
    """
    if isinstance(item, TargetSpec) and item.type != "local":
        return []
    named = item.options.get("paths", ())
    here = "." if item.type == "git" and "url" not in item.options else None
    names = [
        item.options.get("path", here),
        *(named if isinstance(named, list | tuple) else ()),
    ]
    return [_real(resolve(item.folder, name)) for name in names if isinstance(name, str)]


def misplaced_keys(spec: Spec) -> Iterator[Doubt]:
    """Secret files inside a source, a target or the state folder."""
    holders = [(f"the source `{one.name}`", paths_of(one)) for one in spec.sources.values()]
    holders += [(f"the target `{one.name}`", paths_of(one)) for one in spec.targets.values()]
    holders.append(("the state folder", [_real(spec.state)]))
    for place, secret in _secrets(spec):
        kind, _, file = secret.reference.partition(":")
        if kind != "file":
            continue
        key = _real(resolve(spec.folder, file))
        for what, folders in holders:
            if any(_inside(key, folder) for folder in folders):
                message = (
                    f"This key lies inside {what}: it is lost, or found, together with what it "
                    "opens. Keep it elsewhere, with a copy off this machine."
                )
                yield place, message
                break


def late_folders(spec: Spec) -> Iterator[Doubt]:
    """Working folders of recovery steps that only a later step restores."""
    restored_at = {name: index for index, step in enumerate(spec.recovery) for name in step.restore}
    for index, step in enumerate(spec.recovery):
        if step.restore or step.manual or step.working_dir == spec.folder:
            continue
        folder = _real(step.working_dir)
        for name, source in spec.sources.items():
            later = restored_at.get(name, -1) > index
            if later and any(_inside(folder, path) for path in paths_of(source)):
                message = (
                    f"This folder is part of the source `{name}`, which is restored later: on an "
                    f"empty machine it is not there yet. Restore `{name}` first."
                )
                yield ("recovery", index, "working_dir"), message


def overlaps(spec: Spec) -> Iterator[Doubt]:
    """Sources that hold each other's content, so that one restore undoes the other's.

    A repository that tracks another source's files leaves them to that source.
    """
    numbers = {name: number for number, name in enumerate(spec.sources)}
    for inner, outer, path, folder in _held(spec):
        twins = outer.type == inner.type and path == folder
        if outer.type not in ("files", inner.type) or (outer.type == "git" and not twins):
            continue
        if twins and numbers[outer.name] > numbers[inner.name]:
            continue
        yield ("sources", inner.name), _stored_twice(path, outer, spec, twins=twins)


def _held(spec: Spec) -> Iterator[tuple[SourceSpec, SourceSpec, Path, Path]]:
    """Each source beside one that holds it: the first path that both have, and what it lies in."""
    places = {one.name: paths_of(one) for one in spec.sources.values()}
    holders: dict[Path, list[SourceSpec]] = {}
    for one in spec.sources.values():
        for folder in places[one.name]:
            holders.setdefault(folder, []).append(one)
    for inner in spec.sources.values():
        found: dict[str, tuple[SourceSpec, SourceSpec, Path, Path]] = {}
        for path in places[inner.name]:
            for folder in (path, *path.parents):
                for outer in holders.get(folder, ()):
                    if outer is not inner and not _left_out(path, folder, outer):
                        found.setdefault(outer.name, (inner, outer, path, folder))
        yield from found.values()


def _stored_twice(path: Path, outer: SourceSpec, spec: Spec, *, twins: bool) -> str:
    remedy = "Remove one of the two." if twins else f"Exclude it from `{outer.name}`."
    return (
        f"{_shown(path, spec)} belongs to the source `{outer.name}` too: it is stored twice, and "
        f"whichever is restored last wins. {remedy}"
    )


def _secrets(spec: Spec) -> Iterator[tuple[Place, Secret]]:
    if spec.encryption is not None and spec.encryption.identity is not None:
        yield ("encryption", "identity"), spec.encryption.identity
    for part, items in (("sources", spec.sources), ("targets", spec.targets)):
        for name, item in items.items():
            yield from _secrets_in(item.options, (part, name))


def _secrets_in(value: Any, place: Place) -> Iterator[tuple[Place, Secret]]:
    if isinstance(value, Secret):
        yield place, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _secrets_in(one, (*place, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _secrets_in(one, (*place, index))


def _left_out(path: Path, folder: Path, source: SourceSpec) -> bool:
    """Whether a source that holds `folder` excludes `path`, or something around it."""
    patterns = source.options.get("exclude", ())
    if not isinstance(patterns, list | tuple):
        return False
    around = [one for one in (path, *path.parents) if one != folder and _inside(one, folder)]
    names = [name for one in around for name in (one.name, str(one), str(one.relative_to(folder)))]
    names += [os.path.relpath(one, _real(source.folder)) for one in around]
    return any(fnmatch(name, str(pattern).rstrip("/")) for name in names for pattern in patterns)


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _shown(path: Path, spec: Spec) -> str:
    folder = _real(spec.folder)
    return str(path.relative_to(folder)) if _inside(path, folder) else str(path)
