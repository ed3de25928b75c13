"""Exchange staged and live files: whole where nothing in the way must stay, else piece by piece."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner import swap
from runner.durable import write_bytes
from runner.errors import PersonNeeded, StepFailed
from runner.process import run
from runner.source import Kept, replaced
from runner.source.files_place import Layout, Placing, guarded, without_links
from runner.source.mounts import mount_of


@dataclass(frozen=True)
class Attributes:
    """What a folder that stays in its place has, but for its entries."""

    mode: int
    uid: int
    gid: int
    modified: int  # nanoseconds since 1970
    xattrs: dict[str, str]  # values in hexadecimal

    @classmethod
    def of(cls, folder: Path) -> Attributes:
        """Those that a folder has now."""
        status = folder.stat()
        xattrs = {}
        with contextlib.suppress(OSError):
            for name in os.listxattr(folder):
                xattrs[name] = os.getxattr(folder, name).hex()
        mode = stat.S_IMODE(status.st_mode)
        return cls(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)

    def apply(self, folder: Path) -> None:
        """Give them to a folder, as far as this user may."""
        with contextlib.suppress(PermissionError):
            if os.geteuid() == 0:
                os.chown(folder, self.uid, self.gid)
            now = Attributes.of(folder)
            for name in now.xattrs.keys() - self.xattrs.keys():
                os.removexattr(folder, name)
            for name, value in self.xattrs.items():
                if now.xattrs.get(name) != value:
                    os.setxattr(folder, name, bytes.fromhex(value))
            folder.chmod(self.mode)
            os.utime(folder, ns=(folder.stat().st_atime_ns, self.modified))


@dataclass
class Pieces:
    """What is exchanged, and which folders stay and only take on attributes."""

    pairs: list[tuple[Path, Path]]  # staged, live
    merged: list[tuple[Path, Path]]  # staged, live folders

    @classmethod
    def of(cls, placing: Placing, layout: Layout, wanted: Callable[[str], bool]) -> Pieces:
        """The pieces of a staged layout."""
        pieces = cls([], [])
        for spot in layout.spots:
            if os.path.lexists(spot.staged):
                pieces.add(placing, spot.stored, spot.staged, spot.live, wanted)
        return pieces

    def add(
        self, placing: Placing, name: str, staged: Path, live: Path, wanted: Callable[[str], bool]
    ) -> None:
        """Add what a staged path needs to get to its live path."""
        chosen = wanted(name)
        plain = not staged.is_dir() or staged.is_symlink()
        if chosen and not placing.must_stay(live) and not self._is_guarded(placing, live):
            self.pairs.append((staged, live))
            return
        if plain or (chosen and (live.is_symlink() or not live.is_dir())):
            if chosen and not self._is_anothers(placing, live):
                kind = "a file" if plain else "a folder of its own"
                raise PersonNeeded(
                    f"{live} must stay where it is, for what is mounted or stored in it, and the "
                    f"snapshot has {kind} there.",
                    remedy="Restore with --to FOLDER, and move what you need.",
                )
            return
        if chosen:
            self.merged.append((staged, live))
        for entry in sorted(os.listdir(staged)):  # noqa: PTH208 - names, not paths
            inner = entry if name == "." else f"{name}/{entry}"
            self.add(placing, inner, staged / entry, live / entry, wanted)

    @staticmethod
    def _is_anothers(placing: Placing, live: Path) -> bool:
        """Whether what stands there is another's to restore."""
        protected = placing.place.protected
        real = without_links(live)
        return live in protected or real in (without_links(one) for one in protected)

    @staticmethod
    def _is_guarded(placing: Placing, live: Path) -> bool:
        return os.path.lexists(live) and guarded(live, placing.place.protected)


def within_reach(placing: Placing, layout: Layout, wanted: Callable[[str], bool]) -> Pieces:
    """The pieces of a staged layout. Raises StepFailed when a rename cannot bring one in, and
    PersonNeeded when something that must stay is in the way.
    """
    pieces = Pieces.of(placing, layout, wanted)
    for staged, live in pieces.pairs:
        mount = mount_of(live.parent, placing.mounts)
        if mount != mount_of(staged.parent, placing.mounts):
            raise StepFailed(
                f"{live} is on the file system mounted at {mount}, of which the snapshot knows "
                "nothing: no rename brings it there.",
                remedy=f"Restore with --to, and move it; from now on, let {mount} be a source of "
                "its own, and `exclude` it here.",
            )
    return pieces


def swap_in(placing: Placing, layout: Layout, wanted: Callable[[str], bool]) -> list[str]:
    """Bring in what is staged; return the safety copies. Goes on where it was interrupted."""
    moves: Sequence[swap.Move] = ()
    if not layout.record.exists():
        pieces = within_reach(placing, layout, wanted)
        moves = swap.plan_moves(pieces.pairs, placing.place.token)
        write_bytes(layout.before, _before(pieces))
        for container in layout.containers:
            # What is about to replace the live content must survive a crash.
            run(["sync", "--file-system", container])
        for _, live in pieces.pairs:
            live.parent.mkdir(parents=True, exist_ok=True)
    copies = swap.exchange(moves, layout.record)
    for live, attributes in _folders(layout, "after"):
        attributes.apply(live)
    return [str(copy) for copy in copies]


def swap_out(layout: Layout) -> None:
    """Bring back what was live before the swap."""
    if not layout.before.exists():
        return
    swap.undo(layout.record)
    for live, attributes in _folders(layout, "before"):
        attributes.apply(live)
    layout.before.unlink()


def note_of(layout: Layout, token: str) -> dict[str, Any]:
    """What it takes to put back what the swap replaced."""
    before = json.loads(layout.before.read_bytes())["before"]
    names = [spot.stored for spot in layout.spots]
    moves = swap.read_moves(layout.record)
    return {**replaced.note_of(moves, token), "names": names, "before": before}


def put_back(placing: Placing, kept: Kept) -> list[str]:
    """Exchange what is live with what an earlier swap replaced; return the safety copies."""
    layout = placing.find() or placing.create(kept["names"])
    moves: Sequence[swap.Move] = ()
    if not layout.record.exists():
        moves = replaced.moves_back(kept, placing.place.token)
        folders = [Path(os.fsdecode(bytes.fromhex(name))) for name, _ in kept["before"]]
        now = [[_hex(one), asdict(Attributes.of(one))] for one in folders if one.is_dir()]
        document = {"inodes": [], "before": now, "after": kept["before"]}
        write_bytes(layout.before, json.dumps(document).encode())
    copies = swap.exchange(moves, layout.record)
    for live, attributes in _folders(layout, "after"):
        if live.is_dir():
            attributes.apply(live)
    return [str(copy) for copy in copies]


def confirm_in(layout: Layout | None) -> None:
    """Raise StepFailed unless what was staged stands at its place."""
    if layout is None or swap.progress(layout.record) != "done":
        raise StepFailed(
            "The restored files are not in their places yet.", remedy="Resume the run."
        )
    arrived = json.loads(layout.before.read_bytes())["inodes"]
    for name, inode in arrived:
        live = Path(os.fsdecode(bytes.fromhex(name)))
        if not os.path.lexists(live) or live.lstat().st_ino != inode:
            raise StepFailed(
                f"{live} is not what was restored: something replaced it since.",
                remedy="Stop what writes there, and restore again.",
            )


def _before(pieces: Pieces) -> bytes:
    document = {
        "inodes": [[_hex(live), staged.lstat().st_ino] for staged, live in pieces.pairs],
        "before": [[_hex(live), asdict(Attributes.of(live))] for _, live in pieces.merged],
        "after": [[_hex(live), asdict(Attributes.of(staged))] for staged, live in pieces.merged],
    }
    return json.dumps(document).encode()


def _folders(layout: Layout, when: str) -> Iterator[tuple[Path, Attributes]]:
    """The folders that stay, the innermost first: setting an entry's time changes no folder's."""
    for name, attributes in reversed(json.loads(layout.before.read_bytes())[when]):
        yield Path(os.fsdecode(bytes.fromhex(name))), Attributes(**attributes)


def _hex(path: Path) -> str:
    return os.fsencode(path).hex()
