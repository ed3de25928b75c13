"""One restore of one Redis server: where it goes, and the notes that the next process finds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes
from runner.errors import StepFailed, UsageError
from runner.source import Place, redis_names, redis_scratch
from runner.source.redis_address import Address
from runner.source.redis_choose import Chosen, as_list, from_list
from runner.source.redis_file import Summary
from runner.source.redis_scratch import ScratchServer
from runner.swap import SAFETY_INFIX

STAGED = "staged"  # the scratch server that what was stored is looked at in
PLACED = "placed"  # the scratch server that a drill restores to


@dataclass(frozen=True)
class Owned:
    """A server of this machine, which may be stopped and started."""

    data: Path  # its data folder, absolute
    stop: str
    start: str
    folder: Path  # where these commands run


@dataclass(frozen=True)
class Spot:
    """One restore."""

    name: str  # the source's
    place: Place
    live: Address  # the server that is restored to, unless that is a scratch one
    workspace: Path  # files and notes
    safety: Path  # a folder
    owned: Owned | None = None  # None: only its keys can be written
    member: int = 0  # of a cluster's primaries, each of which is restored on its own
    slots: tuple[tuple[int, int], ...] = ()  # the first and last of each range; empty: all keys
    chosen: Chosen = None  # the databases that the spec names; see `databases`

    @classmethod
    def of(
        cls, name: str, place: Place, live: Address, owned: Owned | None, chosen: Chosen
    ) -> Spot:
        """The spot of a place. Raises UsageError where it names no Redis server."""
        if place.workspace is None or place.safety is None:
            raise UsageError("A Redis server cannot be restored without a folder to work in.")
        return cls(name, place, live, place.workspace, place.safety, owned, chosen=chosen)

    @property
    def home(self) -> Path | None:
        """The folder of the scratch server that is restored to; None: a server is."""
        path = Path(self.place.destination)
        return path if path.is_absolute() else None

    @property
    def servers(self) -> Path:
        """Where the notes of scratch servers lie, so that they go with the drill's folder."""
        return self.home or self.workspace

    @property
    def address(self) -> Address:
        """The server that is restored to. Raises StepFailed if it is a scratch one that does not
        run.
        """
        if self.home is not None:
            placed = redis_scratch.find(self.home, PLACED)
            if placed is None:
                raise StepFailed(f"No Redis server runs in {self.home}.")
            return replace(placed.address, database=self.live.database)
        return self.live

    @property
    def scratch(self) -> ScratchServer | None:
        """The server that holds what was staged, if it runs."""
        return redis_scratch.find(self.servers, STAGED)

    @property
    def note(self) -> Path:
        """What is staged; there only once that is whole."""
        return self.workspace / "staged.json"

    @property
    def record(self) -> Path:
        """How far the swap got."""
        return self.workspace / f"swap{self._suffix}.json"

    @property
    def functions(self) -> Path:
        """The functions that were live, as the server gave them."""
        return self.workspace / f"functions{self._suffix}"

    @property
    def delay(self) -> Path:
        """A setting of the server that is to be put back; see redis_delay."""
        return self.workspace / f"delay{self._suffix}"

    def file(self, number: int) -> Path:
        """A staged artifact."""
        return self.workspace / f"content.{number}"

    def outcomes(self, number: int) -> Path:
        """A letter for each key of a staged artifact that was brought in; see redis_load."""
        return self.workspace / f"outcomes.{number}{self._suffix}"

    @property
    def databases(self) -> Chosen:
        """Those that the restore concerns: they are in the snapshot, and the source's own. None:
        the whole server, with its functions. Raises StepFailed when nothing is staged.
        """
        return self.noted().chosen

    @property
    def copy(self) -> Path:
        """The safety copy of what was live."""
        token = f"{self.name}{SAFETY_INFIX}{self.place.token}"
        return self.safety / f"{token}{self._suffix}.rdb"

    @property
    def wanted(self) -> Callable[[bytes], bool] | None:
        """Whether a key is asked for, and belongs to this server; None: each does."""
        asked = redis_names.matches(self.place.include)
        if not self.slots:
            return asked
        here = redis_names.within(self.slots)
        return here if asked is None else lambda key: here(key) and asked(key)

    @property
    def probe(self) -> bytes:
        """The name of a key that would belong to this server."""
        names = (b"holdfast:probe:%d" % number for number in itertools.count())
        here = redis_names.within(self.slots)
        return next(name for name in names if not self.slots or here(name))

    @property
    def _suffix(self) -> str:
        return f".{self.member}" if self.member else ""

    def noted(self) -> Staged:
        """What is staged. Raises StepFailed when nothing is."""
        found = _read(self.note)
        if found is None:
            raise StepFailed(f"Nothing is staged of {self.name}.")
        return Staged.from_json(found)

    def progress(self) -> dict[str, Any] | None:
        """The record of the swap; None: it has not begun."""
        return _read(self.record)

    def write(self, path: Path, document: dict[str, Any]) -> None:
        """Write a note durably."""
        make_folder(self.workspace)
        write_bytes(path, json.dumps(document).encode())


@dataclass(frozen=True)
class Staged:
    """What is staged of a snapshot."""

    forms: tuple[str, ...]  # of each artifact: rdb | resp
    hashes: tuple[str, ...]  # sha256 of each
    summary: Summary  # of all
    loaded: int  # keys that the scratch server took
    expired: tuple[int, int]  # keys whose time was over before, and after it took them
    unproven: str = ""  # why there is no scratch server; empty: there is
    remedy: str = ""
    chosen: Chosen = None  # the databases that are staged; None: all, and the functions

    def to_json(self) -> dict[str, Any]:
        """The note."""
        noted = {"summary": self.summary.to_json(), "chosen": as_list(self.chosen)}
        return {**vars(self), **noted}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Staged:
        """Read the note."""
        return cls(
            **document
            | {
                "forms": tuple(document["forms"]),
                "hashes": tuple(document["hashes"]),
                "summary": Summary.from_json(document["summary"]),
                "expired": (document["expired"][0], document["expired"][1]),
                "chosen": from_list(document.get("chosen")),
            }
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return found
