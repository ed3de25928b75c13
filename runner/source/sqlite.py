"""The `sqlite` source: one database file, captured under its writers, restored by a swap."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from runner.errors import PersonNeeded, StepFailed, UsageError
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
    sqlite_ask,
    sqlite_capture,
    sqlite_compare,
    sqlite_live,
    sqlite_place,
    sqlite_users,
)
from runner.source.sqlite_names import SIDES
from runner.source.sqlite_place import Spot
from runner.spec.model import SourceSpec

quote = shlex.quote


def open_source(spec: SourceSpec) -> SqliteSource:
    """The source that a spec declares."""
    path = spec.folder / Path(spec.options["path"]).expanduser()
    return SqliteSource(
        spec.name, Path(os.path.normpath(path)), spec.options.get("fingerprint", "auto")
    )


@dataclass(frozen=True)
class SqliteSource:
    """A SQLite database. See the protocol `runner.source.Source`."""

    compares_content: ClassVar[bool] = True

    name: str
    path: Path  # absolute; may be a link
    level: str = "auto"  # of the fingerprint: auto | content | counts | none

    @property
    def paths(self) -> Sequence[Path]:
        """The database's file."""
        return [self.path]

    def describe(self) -> str:
        """The database's path."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:  # noqa: ARG002
        """From the file's and the WAL's stat and headers."""
        return sqlite_live.changed_mark(self._file)

    def capture_commands(self) -> list[str]:
        """The sqlite3 shell's own online backup."""
        copy = f"{self.name}.sqlite"
        return [f"sqlite3 {quote(str(self.path))} '.backup {copy}'", f"zstd -3 -T0 --rm {copy}"]

    def capture(self, capture: Capture) -> Captured:
        """Store the database as `sqlite` and its schema as `schema.sql`."""
        return sqlite_capture.capture_database(self._file, self.level, capture)

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """The tables, with their rows where they were counted."""
        for name, table in artifacts.fingerprint.get("tables", {}).items():
            rows = table.get("rows")
            said = "" if rows is None else f" of {rows} row" + "s" * (rows != 1)
            yield Content(name, f"table{said}")

    def destination(self, typed: str) -> str:
        """A file."""
        return str(Path(typed).expanduser().absolute())

    def require_possible(self, place: Place) -> None:
        """It is restored whole."""
        if place.include:
            raise UsageError(
                "A part of a SQLite database cannot be restored alone.",
                remedy="Restore all of it to another file with --to, and copy what you need: "
                "ATTACH that file, and INSERT INTO … SELECT.",
            )

    def scratch_destination(self, folder: Path) -> str:
        """A file of the same name in the folder."""
        return str(folder / self.path.name)

    def placed(self, path: Path, destination: str) -> Path:  # noqa: ARG002 - there is one path
        """The destination itself."""
        return Path(destination)

    def address(self, destination: str) -> str:
        """The file's path."""
        return destination or str(self.path)

    def examine(self) -> Iterator[Examined]:
        """Nothing more."""
        yield from ()

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """The sqlite3 shell."""
        program = prompts.installed("sqlite3", package="sqlite3")
        if text is not None:
            return Prompt((program, "-bail", destination, text), stdin=b"")
        return Prompt((program, destination) if sys.stdin.isatty() else
                      (program, "-bail", destination))  # fmt: skip

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:
        """One value by SQL, read only."""
        if kind != "sql":
            raise StepFailed(f"{self.name} is a SQLite database: ask it SQL, not {kind}.")
        return sqlite_ask.ask(Path(where) if where else self.path, question, timeout)

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Write the file beside its destination."""
        self.require_possible(place)
        sqlite_place.stage(self._spot(place), artifacts)

    def staged(self, place: Place) -> Path | str | None:
        """The staged file, once it is whole."""
        spot = self._spot(place)
        return spot.staged if spot.note.exists() and spot.staged.exists() else None

    def fingerprint(self, place: Place) -> Fingerprint:
        """The hash of the staged file; all of its content where that is another than captured."""
        return sqlite_place.fingerprint(self._spot(place))

    def differences(
        self,
        expected: Fingerprint,
        found: Fingerprint,
        place: Place,  # noqa: ARG002 - it is always restored whole
    ) -> Sequence[str]:
        """None for the same bytes; else table by table."""
        return sqlite_compare.compare(expected, found)

    def identity(self, place: Place) -> str:
        """The live file's device and inode."""
        live = self._spot(place).live
        if not live.exists():
            return "absent"
        status = live.stat()
        return f"{status.st_dev}:{status.st_ino}"

    def gate(self, place: Place) -> None:
        """Raise PersonNeeded, naming the processes that use the database."""
        live = self._spot(place).live
        if place.running or not live.exists():
            return
        users = sqlite_users.users(live)
        if users:
            raise PersonNeeded(
                f"{live} is in use by {', '.join(users)}.",
                remedy="Stop the app and go on, or restore with --live.",
            )

    def swap(self, place: Place) -> Sequence[str]:
        """Exchange by renames or, with `running`, write into the database that is open."""
        spot = self._spot(place)
        if place.running and spot.live.exists() and not spot.record.exists():
            copies = sqlite_place.write_into_running(spot)
        else:
            copies = sqlite_place.exchange(spot)
        return [str(copy) for copy in copies]

    def swapped(self, place: Place) -> str:
        """How far the swap got."""
        return sqlite_place.swapped(self._spot(place))

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless the restored file is live and opens."""
        sqlite_place.confirm(self._spot(place))
        return ()

    def unswap(self, place: Place) -> None:
        """Put the safety copy back."""
        sqlite_place.take_back(self._spot(place))

    def discard(self, place: Place) -> None:
        """Remove the staged file."""
        sqlite_place.discard(self._spot(place))

    def keep(self, place: Place) -> Kept:
        """The file's move."""
        return replaced.note_of(sqlite_place.replaced(self._spot(place)), place.token)

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Exchange the file with its safety copy."""
        spot = self._spot(place)
        moves = [] if spot.record.exists() else replaced.moves_back(kept, place.token)
        return [str(copy) for copy in sqlite_place.put_back(spot, moves)]

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The old file."""
        return replaced.copies(kept)

    def drop(self, kept: Kept) -> None:
        """Remove the old file, and what SQLite kept beside it."""
        for one in replaced.copies(kept):
            for suffix in SIDES:
                Path(one.where + suffix).unlink(missing_ok=True)
        replaced.drop(kept)

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """Decompress to `folder` under the file's own name; check it where sqlite3 is there."""
        main = next(one for one in stored if not one.part)
        file = quote(f"{folder}/{self.path.name}")
        check = f"sqlite3 {file} 'PRAGMA quick_check' || echo 'not checked'"
        return [
            f"mkdir -p -- {quote(folder)}",
            f"{decode(main)} > {file}",
            f"if command -v sqlite3 > /dev/null; then {check}; fi",
        ]

    def place_commands(self, folder: str) -> list[str]:
        """Move the old file and what SQLite keeps beside it aside; put the new one there."""
        live, kept = str(self.path), f"{self.path}.before-recovery"
        lines = [f"mkdir -p -- {quote(str(self.path.parent))}"]
        for suffix in (*SIDES, ""):
            old, aside = quote(live + suffix), quote(kept + suffix)
            lines.append(f"if [ -e {old} ]; then mv --backup=numbered -T -- {old} {aside}; fi")
        old, aside = quote(live), quote(kept)
        same = f"chmod --reference={aside} -- {old} && chown --reference={aside} -- {old}"
        return [
            *lines,
            f"mv -T -- {quote(f'{folder}/{self.path.name}')} {old}",
            f"if [ -e {aside} ]; then {same}; fi",
        ]

    def load_commands(self, folder: str) -> list[str]:  # noqa: ARG002
        """There is no server."""
        return []

    @property
    def _file(self) -> Path:
        """The file itself: SQLite keeps its WAL beside that, never beside a link to it."""
        return Path(os.path.realpath(self.path))

    def _spot(self, place: Place) -> Spot:
        live = Path(place.destination).expanduser() if place.destination else self.path
        return Spot.of(live.absolute(), place.token, self.name)
