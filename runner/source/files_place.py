"""Where a restore of files stands: its staging folders, and where each root goes.

Every step after `stage` finds this again from the place alone: the staging folders have the
run's token in their name, and the first of them holds the layout.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.durable import make_folder, sync_folder, write_bytes
from runner.errors import StepFailed
from runner.source import Place
from runner.source.files_roots import Root
from runner.source.mounts import holds_mount, mount_of, mount_points
from runner.swap import forget, remove_tree, staging

_LAYOUT = "layout.json"
_COMPLETE = "complete"


@dataclass(frozen=True)
class Spot:
    """One root on its way: where it is staged and where it goes."""

    stored: str  # its name in the archive
    live: Path  # absolute
    container: Path  # the staging folder, on the same file system

    @property
    def staged(self) -> Path:
        """The root in its staging folder."""
        return self.container / "tree" / self.stored


@dataclass(frozen=True)
class Layout:
    """All roots of one restore."""

    spots: tuple[Spot, ...]  # in the order of the archive; at least one

    @property
    def containers(self) -> list[Path]:
        """The staging folders, the one with the layout first."""
        return list(dict.fromkeys(spot.container for spot in self.spots))

    @property
    def home(self) -> Path:
        """The staging folder that holds what is known of the restore."""
        return self.spots[0].container

    @property
    def expected(self) -> Path:
        """The snapshot's own list of entries."""
        return self.home / "expected.jsonl"

    @property
    def found(self) -> Path:
        """The list of what was staged."""
        return self.home / "found.jsonl"

    @property
    def behind(self) -> Path:
        """What was read again while the rest was unpacked."""
        return self.home / "behind"

    @property
    def record(self) -> Path:
        """The moves of the swap."""
        return self.home / "moves.json"

    @property
    def before(self) -> Path:
        """What the swap must know of the time before it."""
        return self.home / "before.json"

    @property
    def complete(self) -> bool:
        """Whether all of the content is staged."""
        return (self.home / _COMPLETE).exists()

    def set_complete(self) -> None:
        """Say, durably, that all of the content is staged."""
        write_bytes(self.home / _COMPLETE, b"")


@dataclass(frozen=True)
class Placing:
    """How one source's roots are laid out at one place."""

    name: str  # the source's
    roots: Sequence[Root]
    place: Place
    destination: Path | None  # absolute; None: each root's own place

    def lives(self, names: Sequence[str]) -> Mapping[str, Path]:
        """Where each stored root goes. Raises StepFailed for one that the spec does not name."""
        for name in names:
            if name != os.path.normpath(name) or name.startswith(("/", "..")):
                raise StepFailed(f"The snapshot's fingerprint names an unsafe path: {name!r}.")
        if self.destination is not None:
            return {name: self.destination / name for name in names}
        known = {root.stored: root.live for root in self.roots}
        for name in names:
            if name not in known:
                raise StepFailed(
                    f"The snapshot holds `{name}`, which `paths` of {self.name} no longer names.",
                    remedy="Restore with --to FOLDER, and move what you need.",
                )
        return {name: known[name] for name in names}

    def create(self, names: Sequence[str]) -> Layout:
        """Make the staging folders, empty and private, and write the layout down."""
        lives = self.lives(names)
        by_disk: dict[tuple[int, Path], Path] = {}
        spots = []
        for name in names:
            container = self._container(self.destination or lives[name])
            # One file system may be mounted twice, and no rename goes from there to there.
            mount = mount_of(container.parent, self.mounts)
            device = _nearest(container.parent).stat().st_dev
            container = by_disk.setdefault((device, mount), container)
            spots.append(Spot(name, lives[name], container))
        layout = Layout(tuple(spots))
        for container in layout.containers:
            container.parent.mkdir(parents=True, exist_ok=True)
            make_folder(container)
            with contextlib.suppress(OSError):  # of a folder above: what is unpacked has its own
                os.removexattr(container, "system.posix_acl_default")
            make_folder(container / "tree")
        rows = [[spot.stored, str(spot.live), str(spot.container)] for spot in spots]
        write_bytes(layout.home / _LAYOUT, json.dumps(rows).encode())
        return layout

    @functools.cached_property
    def mounts(self) -> frozenset[Path]:
        """What is mounted, wherever that is."""
        return mount_points()

    def find(self) -> Layout | None:
        """The layout that an earlier step wrote down."""
        for container in self._candidates():
            if (container / _LAYOUT).exists():
                rows = json.loads((container / _LAYOUT).read_bytes())
                return Layout(tuple(Spot(n, Path(live), Path(c)) for n, live, c in rows))
        return None

    def remove(self) -> None:
        """Remove all staging folders, and the destination's folder if it was made for them."""
        layout = self.find()
        if layout is not None:
            # Without its moves nobody takes missing content for content that has arrived.
            forget(layout.record)
        listed = [] if layout is None else layout.containers[::-1]
        for container in [*listed, *self._candidates()]:
            if os.path.lexists(container):
                remove_tree(container)
                sync_folder(container.parent)

    def _candidates(self) -> Iterator[Path]:
        for live in [self.destination] if self.destination else [one.live for one in self.roots]:
            yield self._inside(live)
            yield self._beside(live)

    def _container(self, live: Path) -> Path:
        return self._inside(live) if self.must_stay(live) else self._beside(live)

    def must_stay(self, live: Path) -> bool:
        """Whether a live folder cannot be renamed away: something in it, or it itself, stays."""
        if live.is_symlink() or not live.is_dir():
            return False
        return (
            guarded(live, self.place.protected)
            or live.stat().st_dev != live.parent.stat().st_dev
            or holds_mount(live, self.mounts)
            or not os.access(live.parent, os.W_OK)
        )

    def _inside(self, live: Path) -> Path:
        return staging(live / self.name, self.place.token, self.name)

    def _beside(self, live: Path) -> Path:
        return staging(live, self.place.token, self.name)


def guarded(live: Path, protected: Iterable[Path]) -> bool:
    """Whether a protected path is `live` or lies in it."""
    real = without_links(live)
    return any(
        folder in (path, *path.parents)
        for one in protected
        for folder, path in ((live, one), (real, without_links(one)))
    )


def without_links(path: Path) -> Path:
    """Where a path leads. One that leads round in a circle stays as it is from there on."""
    return Path(os.path.realpath(path))


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
