"""Sources: what is protected. One protocol, one module a type.

A restore never touches what is live until it is sure: `stage` writes beside it, `fingerprint`
proves the staged content, `swap` exchanges the two by renames and keeps the old one as the
safety copy, `unswap` takes that back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from runner.errors import StepFailed
from runner.store.seal import Sealed, Sink

# JSON that says what a source's content is, so that two can be compared.
Fingerprint = Mapping[str, Any]

# JSON by which a source finds its safety copies again, and where they stood.
Kept = Mapping[str, Any]


class Capture(Protocol):
    """What the store gives a source that is being captured."""

    @property
    def excluded(self) -> Sequence[Path]:
        """Absolute paths that no capture contains: state, local targets, the identity."""

    @property
    def scratch(self) -> Path:
        """An empty private folder that is removed afterwards."""

    def store(self, form: str, produce: Callable[[Sink], object], *, part: str = "") -> Sealed:
        """Stream what `produce` writes into the artifact `<source>[.<part>].<form>`."""


@dataclass(frozen=True)
class Captured:
    """What a capture found out. The artifacts were stored on the way."""

    taken_at: datetime  # the consistent instant of the content, in UTC
    fingerprint: Fingerprint
    consistency: str = "exact"  # exact | fuzzy
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a person should know: skipped sockets, files that changed


@dataclass(frozen=True)
class Stored:
    """One artifact of a snapshot as a restore needs to know it."""

    part: str  # empty for the main artifact
    form: str  # sqlite, tar, bundle, …
    key: str  # the file's name in the snapshot's folder, with its compression and encryption


@dataclass(frozen=True)
class Content:
    """One thing inside a snapshot's artifacts, as `ls` shows it."""

    name: str  # a path relative to the restored folder, a table, a ref; undecodable bytes escaped
    kind: str  # file, folder, link, table, …
    bytes: int = 0
    modified: datetime | None = None  # in UTC


class Artifacts(Protocol):
    """One source's artifacts in one snapshot, opened for a restore."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that was taken at the snapshot's instant."""

    @property
    def parts(self) -> Sequence[str]:
        """The parts there are; the main one is the empty string."""

    def read(self, part: str = "") -> Iterator[bytes]:
        """The content, decrypted and decompressed. Raises StepFailed at its end, at the
        latest, if what was stored is not what was written.
        """


@dataclass(frozen=True)
class Place:
    """Where a restore puts a source, and how."""

    token: str  # of the run: names what lies beside the live content; [a-z0-9]+
    destination: str = ""  # a path, a name, a URL; empty: where the source itself stands
    include: tuple[str, ...] = ()  # globs; empty: everything
    running: bool = False  # write into what is live, without a swap (`--live`)
    existing: str = "skip"  # skip | overwrite | flush: what to do with what is there already
    protected: tuple[Path, ...] = ()  # absolute paths that must stay where they are
    # For a source without a folder of its own. Both may not be there yet; only `discard` removes
    # the first, nothing the second.
    workspace: Path | None = None  # this run's and this source's alone: what is staged, and notes
    safety: Path | None = None  # where files go that keep what was live


@dataclass(frozen=True)
class Prompt:
    """A program that a person types to, to look into what was restored."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the person's own
    stdin: bytes | None = None  # None: the person's own
    folder: Path | None = None  # where it runs; None: anywhere


@dataclass(frozen=True)
class Copy:
    """One safety copy that still exists."""

    where: str  # a path, or a database's name
    bytes: int


@dataclass(frozen=True)
class Examined:
    """One thing that `doctor` looked at."""

    what: str
    verdict: str  # ok | warn | FAIL
    found: str  # with the remedy, where there is something to do


class Refused(StepFailed):
    """The question was asked, and the content itself says no: a missing table, damage."""


class Source(Protocol):
    """What every type of source does. Failures raise StepFailed, in words a person can use.

    Everything after `stage` works on the place alone: what is staged is found by its token, in
    whatever process runs next.
    """

    name: str
    # Whether `differences` finds every change of the main artifact's content: what proves nothing
    # of the kind is hashed while it is staged.
    compares_content: ClassVar[bool]

    @property
    def paths(self) -> Sequence[Path]:
        """The absolute local paths that hold the live content; empty for a server."""

    def describe(self) -> str:
        """Where the live content is, for a person."""

    def exists(self) -> bool:
        """Whether there is live content now."""

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:
        """A cheap value that differs whenever the content may have changed; None: no such.

        `excluded` are absolute paths that no capture contains.
        """

    def capture_commands(self) -> list[str]:
        """What a person would type to get the same artifacts, roughly."""

    def capture(self, capture: Capture) -> Captured:
        """Store the artifacts and the fingerprint of one consistent instant."""

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """What is inside, without reading the main artifact."""

    def examine(self) -> Iterator[Examined]:
        """What `doctor` should say beyond whether it exists: programs, versions, rights."""

    def destination(self, typed: str) -> str:
        """What a person typed as another place to restore to, in a form that means the same in
        any folder. Raises UsageError for what this source cannot be restored to.
        """

    def require_possible(self, place: Place) -> None:
        """Raise UsageError for what a restore to `place` never does. Looks at nothing."""

    def scratch_destination(self, folder: Path) -> str:
        """A destination inside a scratch folder, for drills and verification: a path. For a
        server the folder itself: `stage` starts a scratch server there, with a process note.
        """

    def placed(self, path: Path, destination: str) -> Path:
        """Where one of `paths` stands in what was restored to `destination`."""

    def address(self, destination: str) -> str:
        """What a command is told of what stands at `destination`: a path, or a URL without a
        password.
        """

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """The program to look into what was restored to a scratch destination.

        `text` is what is typed there, and it ends after that; None: standard input is read.
        Raises PersonNeeded, saying what to install, where there is none.
        """

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:
        """The first value that SQL (kind `sql`) or a Redis command (`redis`) answers, asked so
        that it can change nothing, for at most `timeout` seconds.

        `where` is what `staged` returned or a place's destination; empty: the live content.
        Raises Refused when the content says no, StepFailed when it could not be asked.
        """

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Write the content beside the destination, checked on the way.

        Replaces an earlier, unfinished stage of the same place.
        """

    def staged(self, place: Place) -> Path | str | None:
        """Where the staged content stands, if it is whole: a path, or a server's URL as text;
        None otherwise.
        """

    def fingerprint(self, place: Place) -> Fingerprint:
        """The fingerprint of the staged content, taken anew."""

    def differences(self, expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:
        """How the staged content differs from the snapshot's; empty when they are equal.

        With `place.include`, only what was asked for is compared. Raises PersonNeeded when it
        cannot be told.
        """

    def identity(self, place: Place) -> str:
        """What stands at the destination now: differs when somebody exchanged it. For a server
        `absent` when nothing does.
        """

    def gate(self, place: Place) -> None:
        """Raise PersonNeeded with the remedy if the live content is in use by an application."""

    def swap(self, place: Place) -> Sequence[str]:
        """Exchange live and staged content; return the safety copies. Goes on where an
        interrupted swap stopped.
        """

    def swapped(self, place: Place) -> str:
        """How far the swap got: absent | partial | done."""

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless what was staged now stands at the destination and opens; return
        what a person should know of what stands beside it.
        """

    def unswap(self, place: Place) -> None:
        """Put the safety copy back. Harmless where nothing was swapped."""

    def discard(self, place: Place) -> None:
        """Remove what was staged; never a safety copy. Harmless where there is nothing."""

    def keep(self, place: Place) -> Kept:
        """What it takes to put back what a swap replaced, also once `discard` has forgotten it."""

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Exchange what is live with what an earlier swap replaced; return the safety copies.

        Where nothing stood before, nothing does afterwards. The place is that of a new run:
        `swapped`, `unswap`, `keep` and `discard` do for it what they do for a swap. Goes on where
        it was interrupted. Raises StepFailed where a safety copy is gone.
        """

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The safety copies that there still are."""

    def drop(self, kept: Kept) -> None:
        """Remove the safety copies."""

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """Shell lines that turn the stored files into `folder` (`restored/<source>`).

        `decode` gives the pipeline that prints a file's content. Lines run in the snapshot's
        folder by `bash -e` with ordinary tools; everything from the spec or the data is quoted.
        """

    def place_commands(self, folder: str) -> list[str]:
        """Shell lines that move `folder`, as made by `restore_commands`, to where the source
        stands, keeping what is there as `<path>.before-recovery`.
        """

    def load_commands(self, folder: str) -> list[str]:
        """Shell lines that load `folder`, as made by `restore_commands`, into the server that
        the `PG*` variables or `REDIS_DATA_DIR` name; none where there is no server.
        """


Decode = Callable[[Stored], str]
