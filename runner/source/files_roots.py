"""What a `files` source protects: its roots, the names they are stored under, and what is left out.

A relative path is stored as it is written, an absolute one (and one that leaves the spec's folder)
without its leading slash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.source.files_entry import order, shown
from runner.swap import SAFETY_INFIX, STAGING_PREFIX, is_ours

_TOKENS = ("[0-9]" * 8 + "t" + "[0-9]" * 6 + "z" + "[0-9a-f]" * 6, "recovery")
OUR_GLOBS = tuple(
    glob for token in _TOKENS for glob in (f"{STAGING_PREFIX}{token}-*", f"?*{SAFETY_INFIX}{token}")
)


@dataclass(frozen=True)
class Root:
    """One path of the spec."""

    stored: str  # its name in the archive: relative, normal, "." for the spec's folder itself
    base: Path  # the folder that the stored name starts in: the spec's, or /
    live: Path  # absolute, normal

    def holds(self, name: str) -> bool:
        """Whether the stored `name` is this root or lies in it."""
        return self.stored in (".", name) or name.startswith(f"{self.stored}/")


def roots_of(options: Mapping[str, Any], folder: Path) -> tuple[Root, ...]:
    """The roots in the order of their stored names; a path inside another one is left out.

    Raises StepFailed when two different paths would have the same name.
    """
    found: dict[Path, Root] = {}
    for path in options["paths"]:
        root = _root(path, folder)
        found.setdefault(root.live, root)
    outer = [one for one in found.values() if not any(p in found for p in one.live.parents)]
    names: dict[str, Root] = {}
    for root in sorted(outer, key=lambda one: order(one.stored)):
        other = next((one for one in names.values() if one.holds(root.stored)), None)
        if other is not None:
            raise StepFailed(
                f"{root.live} would be stored as `{root.stored}`, which {other.live} holds.",
                remedy="Put one of them into a source of its own.",
            )
        names[root.stored] = root
    return tuple(names.values())


def _root(path: str, folder: Path) -> Root:
    expanded = os.path.expanduser(path)  # noqa: PTH111 - pathlib would drop nothing we want kept
    normal = os.path.normpath(expanded)
    if os.path.isabs(normal) or normal.split("/")[0] == "..":  # noqa: PTH117
        live = Path(os.path.normpath(folder / normal))
        return Root(str(live).lstrip("/") or ".", Path("/"), live)
    return Root(normal, folder, folder / normal)


def excluded_names(root: Root, excluded: Iterable[Path]) -> Iterator[str]:
    """The stored names of those absolute paths that lie in `root`.

    Raises StepFailed when the root itself lies in one of them.
    """
    for path in excluded:
        for live, inner in ((root.live, path), (_real(root.live), _real(path))):
            if live == inner or inner in live.parents:
                raise StepFailed(
                    f"{root.live} lies in {path}, which no backup contains.",
                    remedy="Take it out of `paths`, or move it.",
                )
            if live in inner.parents:
                below = str(inner.relative_to(live))
                yield below if root.stored == "." else f"{root.stored}/{below}"


def mounted_names(root: Root, points: Iterable[Path]) -> Iterator[str]:
    """The stored names of those mount points that lie below `root`."""
    real = _real(root.live)
    for point in points:
        if real in point.parents:
            below = str(point.relative_to(real))
            yield below if root.stored == "." else f"{root.stored}/{below}"


def _real(path: Path) -> Path:
    """The path without links on the way to it; its last name stays as it is."""
    return path.parent.resolve() / path.name


def plain_glob(glob: str) -> str:
    """A glob without what is often written around it, and tar would match with nothing."""
    return glob.removeprefix("./").rstrip("/") or "."


class Globs:
    """Globs over stored names, as GNU tar's wildcards that match slashes.

    `anchored` ones match a whole name or a folder above it, and what is written just like them;
    others also from any slash on.
    """

    def __init__(self, globs: Sequence[str], *, anchored: bool) -> None:
        start = "" if anchored else "(?:.*/)?"
        plain = [plain_glob(glob) for glob in globs]
        patterns = [start + translate(one) for one in plain]
        if anchored:  # `pages/[id].js` is what a person copies from a listing
            patterns += [re.escape(one) + r"\Z" for one in plain]
        self._patterns = [re.compile(one, re.DOTALL) for one in patterns]
        self._folder = ""
        self._folder_matches = False

    def __call__(self, name: str) -> bool:
        """Whether a glob matches `name` or a folder above it."""
        if not self._patterns:
            return False
        folder = name.rpartition("/")[0]
        if folder != self._folder:
            self._folder_matches = bool(folder) and (self._one(folder) or self(folder))
            self._folder = folder
        return self._folder_matches or self._one(name)

    def _one(self, name: str) -> bool:
        return any(pattern.match(name) for pattern in self._patterns)


class Wanted:
    """What `--include` chooses: names as they are, or as `ls` shows them. Nothing given: all."""

    def __init__(self, globs: Sequence[str]) -> None:
        # One of each for names as they are, and for names as shown: they remember folders.
        self._globs = {
            one: (Globs([one], anchored=True), Globs([one], anchored=True)) for one in globs
        }
        self._unmet = set(globs)

    def __call__(self, name: str) -> bool:
        """Whether a name is wanted."""
        if not self._globs:
            return True
        seen = shown(name)
        met = {
            glob
            for glob, (as_it_is, as_shown) in self._globs.items()
            if as_it_is(name) or as_shown(seen)
        }
        self._unmet -= met
        return bool(met)

    @property
    def unmet(self) -> list[str]:
        """The globs that no name so far has matched."""
        return sorted(self._unmet)


def left_out(name: str) -> bool:
    """Whether a stored name is, or lies in, a staging folder or a safety copy."""
    if STAGING_PREFIX not in name and SAFETY_INFIX not in name:
        return False
    return any(is_ours(part) for part in name.split("/"))
