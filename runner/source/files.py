"""Files and folders, by GNU tar.

The artifacts are a tar archive and, beside it, the list of its entries with a hash of each: one
JSON array a line. The fingerprint is that list's own hash, so it stays small however many files
there are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from runner import swap
from runner.errors import StepFailed
from runner.source import (
    Artifacts,
    Capture,
    Captured,
    Content,
    Copy,
    Decode,
    Examined,
    Fingerprint,
    Kept,
    Place,
    Prompt,
    Stored,
    prompts,
    replaced,
)
from runner.source.files_entry import Comparison, ListWriter, read_entry, shown
from runner.source.files_place import Layout, Placing
from runner.source.files_roots import (
    Globs,
    Root,
    Wanted,
    excluded_names,
    left_out,
    plain_glob,
    roots_of,
)
from runner.source.tar_stream import HARDLINK
from runner.spec.model import SourceSpec
from runner.store.seal import Sink

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIST_PART = "entries"
OWNERS_NOTE = "owners and privileged attributes were not restored: that needs root"


def open_source(spec: SourceSpec) -> FilesSource:
    """The source that a spec of type `files` declares."""
    return FilesSource(spec)


class FilesSource:
    """Paths of the local machine."""

    compares_content: ClassVar[bool] = True

    def __init__(self, spec: SourceSpec) -> None:
        self.name = spec.name
        self._folder = spec.folder
        self._options: Mapping[str, Any] = spec.options
        self._roots: tuple[Root, ...] = roots_of(spec.options, spec.folder)
        self._exclude = tuple(plain_glob(one) for one in spec.options.get("exclude", ()))

    @property
    def paths(self) -> Sequence[Path]:
        """Where the roots are."""
        return [root.live for root in self._roots]

    def describe(self) -> str:
        """The roots, for a person."""
        return ", ".join(shown(str(root.live)) for root in self._roots)

    def exists(self) -> bool:
        """Whether any of the roots is there."""
        return any(os.path.lexists(root.live) for root in self._roots)

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:
        """A hash of names, times, sizes, owners and inodes, without what is never captured."""
        from runner.source.files_walk import mark

        # Of some globs tar has a reading of its own, of `?` as one byte too; what they leave out
        # only changes the mark.
        plain = [one for one in self._exclude if not set(one) & set("[\\?")]
        matches = Globs(plain, anchored=False)
        trees = [(os.fsencode(r.live), r.stored) for r in self._roots if os.path.lexists(r.live)]
        try:
            names = {name for root in self._roots for name in excluded_names(root, excluded)}
            seen = mark(trees, lambda name: name in names or left_out(name) or matches(name))
        except (OSError, StepFailed):
            # Nothing is skipped then, and the capture tells what is wrong.
            return None
        # Another choice may take in what was there all the while.
        chosen = f"{seen} {self._exclude} {self._options.get('one_file_system', False)}"
        return hashlib.sha256(chosen.encode(errors="surrogateescape")).hexdigest()

    def capture_commands(self) -> list[str]:
        """The same archive, by hand."""
        from runner.source.files_commands import capture_lines

        return capture_lines(self.name, self._selection(()))

    def capture(self, capture: Capture) -> Captured:
        """Store the archive and its list.

        Raises StepFailed when a path of the spec does not exist or a file cannot be read. Files
        that change or vanish meanwhile are noted, and make the capture fuzzy.
        """
        from runner.process import run
        from runner.source.files_capture import Findings, capture_tar

        selection = self._selection(capture.excluded)
        listed = capture.scratch / "entries.jsonl"
        findings: list[Findings] = []
        summary: dict[str, Any] = {}
        taken_at = datetime.now(UTC)

        def archive(sink: Sink) -> None:
            with ListWriter(listed) as lines:
                findings.append(capture_tar(selection, sink, lines))
                summary.update(lines.summary())

        def listing(sink: Sink) -> None:
            with listed.open("rb") as lines:
                while block := lines.read(1 << 18):
                    sink.write(block)

        capture.store("tar", archive)
        capture.store("json", listing, part=_LIST_PART)
        version = run(["tar", "--version"]).stdout.split(b"\n")[0].split()[-1].decode()
        return Captured(
            taken_at,
            {
                "format": 1,
                "roots": [root.stored for root in self._roots],
                **summary,
            },
            consistency="fuzzy" if findings[0].changed else "exact",
            versions={"tar": version},
            notes=findings[0].notes(),
        )

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """The entries of the list, in the archive's order."""
        rest = b""
        for block in artifacts.read(_LIST_PART):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                entry = read_entry(line)
                modified = None
                if entry.kind != HARDLINK:
                    with contextlib.suppress(OverflowError):  # after the year 9999, before 1
                        modified = _EPOCH + timedelta(microseconds=entry.mtime // 1000)
                yield Content(shown(entry.name), entry.kind, entry.bytes, modified)

    def destination(self, typed: str) -> str:
        """A folder."""
        return str(Path(typed).expanduser().absolute())

    def require_possible(self, place: Place) -> None:
        """All that can be asked for is."""

    def scratch_destination(self, folder: Path) -> str:
        """A folder of its own."""
        return str(folder / self.name)

    def placed(self, path: Path, destination: str) -> Path:
        """Below the destination, under the name that it is stored by."""
        return Path(destination) / next(one.stored for one in self._roots if one.live == path)

    def address(self, destination: str) -> str:
        """The restored tree; the spec's folder for what is live."""
        return destination or str(self._folder)

    def examine(self) -> Iterator[Examined]:
        """Nothing more."""
        yield from ()

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """A shell in the restored folder."""
        return prompts.shell(destination, text)

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:  # noqa: ARG002
        """It holds no values."""
        raise StepFailed(f"{self.name} is made of files: it cannot be asked {kind}.")

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Extract the archive into staging folders beside the places of its roots."""
        from runner.source.files_stage import stage_tar
        from runner.source.files_swap import within_reach

        if self.swapped(place) != "absent":
            raise StepFailed(
                f"{self.name} is being swapped.", remedy="Resume that run, or take it back, first."
            )
        self.discard(place)
        placing = self._placing(place)
        layout = placing.create(artifacts.fingerprint["roots"])
        stage_tar(artifacts, layout, Wanted(place.include))
        within_reach(placing, layout, Wanted(place.include))

    def staged(self, place: Place) -> Path | None:
        """The folder that holds the tree with its stored names."""
        layout = self._placing(place).find()
        if layout is None or not layout.complete or swap.progress(layout.record) != "absent":
            return None
        return layout.home / "tree"

    def fingerprint(self, place: Place) -> Fingerprint:
        """Read everything again from the staged tree, which is durable once this returns."""
        from runner.process import feeding
        from runner.source.files_behind import known
        from runner.source.files_prove import write_list

        layout = self._staged_layout(place)
        trees = [
            (os.fsencode(s.staged), s.stored) for s in layout.spots if os.path.lexists(s.staged)
        ]
        with contextlib.ExitStack() as writing:
            for container in layout.containers:
                # A run that is resumed after a power cut takes what was proven for proven; and
                # the disk may as well write while the processors read.
                writing.enter_context(feeding(["sync", "--file-system", container]))
            with known(layout) as read, ListWriter(layout.found) as lines:
                write_list(trees, lines, read)
                summary = lines.summary()
        return {
            "format": 1,
            "roots": [spot.stored for spot in layout.spots],
            **summary,
            "notes": [] if _owners_are_as_before(layout, place) else [OWNERS_NOTE],
        }

    def differences(self, expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:
        """Names and what is different about them; without the lists, that something is."""
        if expected["sha256"] == found["sha256"]:
            return []
        layout = self._placing(place).find()
        lists = [] if layout is None else [layout.expected, layout.found]
        hashes = [_hash_of(one) for one in lists if one.exists()]
        if layout is not None and hashes == [expected["sha256"], found["sha256"]]:
            comparison = Comparison(Wanted(place.include), owners=not found.get("notes"))
            return comparison.differences(*lists)
        counted = "{entries} entries of {bytes} bytes"
        return [
            f"content differs: {counted.format(**found)} instead of {counted.format(**expected)}"
        ]

    def identity(self, place: Place) -> str:
        """The roots' inodes."""
        destination = self._destination(place)
        lives = [root.live for root in self._roots] if destination is None else [destination]
        seen = [f"{live.lstat().st_ino}" if os.path.lexists(live) else "-" for live in lives]
        return ",".join(seen)

    def gate(self, place: Place) -> None:
        """Nothing: a program that has a file open keeps the old one until it opens it again."""

    def swap(self, place: Place) -> Sequence[str]:
        """Rename what is staged to its place, and what was there to its safety copy.

        A folder is exchanged whole, with what the snapshot left out of it now in the safety
        copy, unless something that must stay lies in it: then its entries are, one by one.
        """
        from runner.source.files_swap import swap_in

        return swap_in(self._placing(place), self._staged_layout(place), Wanted(place.include))

    def swapped(self, place: Place) -> str:
        """How far the swap got: absent | partial | done."""
        layout = self._placing(place).find()
        return "absent" if layout is None else swap.progress(layout.record)

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless every root that was staged now stands at its place."""
        from runner.source.files_swap import confirm_in

        confirm_in(self._placing(place).find())
        return ()

    def unswap(self, place: Place) -> None:
        """Put the safety copies back."""
        from runner.source.files_swap import swap_out

        layout = self._placing(place).find()
        if layout is not None:
            swap_out(layout)

    def discard(self, place: Place) -> None:
        """Remove the staging folders."""
        self._placing(place).remove()

    def keep(self, place: Place) -> Kept:
        """The moves, and what the folders that stayed were like."""
        from runner.source.files_swap import note_of

        layout = self._placing(place).find()
        if layout is None:
            raise StepFailed(f"Nothing of {self.name} was exchanged.")
        return note_of(layout, place.token)

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Exchange each path with its safety copy."""
        from runner.source.files_swap import put_back

        return put_back(self._placing(place), kept)

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The old files and folders."""
        return replaced.copies(kept)

    def drop(self, kept: Kept) -> None:
        """Remove them."""
        replaced.drop(kept)

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """Unpack the archive."""
        from runner.source.files_commands import restore_lines

        return restore_lines(stored, decode, folder)

    def place_commands(self, folder: str) -> list[str]:
        """Move each root to its place."""
        from runner.source.files_commands import place_lines

        return place_lines(self._roots, folder)

    def load_commands(self, folder: str) -> list[str]:  # noqa: ARG002
        """There is no server."""
        return []

    def _selection(self, excluded: Sequence[Path]) -> Any:
        from runner.source.files_capture import Selection

        one = bool(self._options.get("one_file_system", False))
        return Selection(self._roots, self._exclude, one, tuple(excluded))

    def _destination(self, place: Place) -> Path | None:
        if not place.destination:
            return None
        return Path(os.path.normpath(self._folder / Path(place.destination).expanduser()))

    def _placing(self, place: Place) -> Placing:
        return Placing(self.name, self._roots, place, self._destination(place))

    def _staged_layout(self, place: Place) -> Layout:
        layout = self._placing(place).find()
        if layout is None or not layout.complete:
            raise StepFailed(f"Nothing of {self.name} is staged.", remedy="Restore it again.")
        return layout


def _owners_are_as_before(layout: Layout, place: Place) -> bool:
    """Whether nothing differs by what only root can restore."""
    if os.geteuid() == 0 or _hash_of(layout.expected) == _hash_of(layout.found):
        return True
    strictly = Comparison(Wanted(place.include), owners=True)
    return not strictly.differences(layout.expected, layout.found)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
