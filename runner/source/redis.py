"""The `redis` source: a Redis or Valkey server, read as a replica does, restored key by key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from runner import process
from runner.errors import HoldfastError, PersonNeeded, StepFailed, UsageError
from runner.secret import Secret
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
    redis_commands,
    redis_live,
    redis_members,
    redis_scratch,
    redis_stage,
)
from runner.source.redis_address import Address, address_of, parse, shown_address
from runner.source.redis_choose import Chosen, chosen_of, named
from runner.source.redis_connect import RawConnection, Unreachable, connect
from runner.source.redis_spot import PLACED, Owned, Spot
from runner.spec.model import SourceSpec

T = TypeVar("T")


def open_source(spec: SourceSpec) -> RedisSource:
    """The source that a spec declares."""
    return RedisSource(spec.name, spec.options, spec.folder)


@dataclass(frozen=True)
class RedisSource:
    """A server, with all its databases or some of them. See the protocol `runner.source.Source`."""

    compares_content: ClassVar[bool] = False  # the values are compared with the file's own

    name: str
    options: Mapping[str, Any]
    folder: Path  # relative paths in the options start here

    @property
    def server(self) -> Address:
        """The server that the spec names."""
        return address_of(self.options, self.folder)

    @property
    def chosen(self) -> Chosen:
        """The databases that the spec names; None: the whole server."""
        return chosen_of(self.options)

    @property
    def paths(self) -> Sequence[Path]:
        """None: the content is a server's."""
        return []

    def describe(self) -> str:
        """The server's address."""
        return shown_address(self.options, self.folder).url

    def exists(self) -> bool:
        """Whether the server answers and holds anything."""
        try:
            return not all(self._looked(self._is_empty, self.server))
        except (HoldfastError, OSError):
            return False

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:  # noqa: ARG002
        """From the server's own count of changes."""
        try:
            marks = self._looked(redis_live.changed_mark, self.server)
            # What is left out is no change, and what is no longer left out is one.
            return (
                None if None in marks else " ".join(map(str, (*marks, *sorted(self.chosen or ()))))
            )
        except HoldfastError:
            return None

    def capture_commands(self) -> list[str]:
        """redis-cli's own backup."""
        shown = shown_address(self.options, self.folder)
        return redis_commands.capture_commands(self.name, shown, self.chosen)

    def capture(self, capture: Capture) -> Captured:
        """Store an RDB, or the keys one by one; and the users."""
        from runner.source.redis_capture import capture_server

        return capture_server(self.server, self.options, capture)

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """The databases, with their keys."""
        for number, found in artifacts.fingerprint.get("databases", {}).items():
            yield Content(f"database {number}", f"database of {found['keys']:,} keys")

    def destination(self, typed: str) -> str:
        """The URL of a server, without a password."""
        named_there = parse(typed)
        if self.chosen is not None and named_there.database not in self.chosen | {0}:
            raise UsageError(
                f"Keys keep the numbers of their databases: {named(self.chosen)}, not "
                f"{named_there.database} as in this URL.",
                remedy="Leave the number out.",
            )
        if named_there.secret():
            raise UsageError(
                "A URL with a password would be seen in the process list and in the plan.",
                remedy="Leave the password out. The source's own is used, or REDISCLI_AUTH.",
            )
        return typed

    def require_possible(self, place: Place) -> None:
        """A part empties nothing."""
        if place.include and place.existing == "flush":
            emptied = "the whole server" if self.chosen is None else named(self.chosen)
            raise UsageError(
                f"--existing flush empties {emptied}, and --include brings back a part of it.",
                remedy="Use --existing overwrite.",
            )

    def scratch_destination(self, folder: Path) -> str:
        """The folder: a scratch server runs there."""
        return str(folder)

    def placed(self, path: Path, destination: str) -> Path:  # noqa: ARG002 - there are no paths
        """Never asked: the content is a server's."""
        return Path(destination)

    def address(self, destination: str) -> str:
        """The server's URL."""
        if Path(destination).is_absolute():
            placed = redis_scratch.find(Path(destination), PLACED)
            return destination if placed is None else placed.url(self.server.database)
        return self._at(destination).url

    def examine(self) -> Iterator[Examined]:
        """Whether the server can be asked, what this user may do there, and what is installed."""
        from runner.source.redis_examine import examine

        yield from examine(self.server, self.options)

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """redis-cli, at the scratch server."""
        program = prompts.installed("redis-cli", "valkey-cli", package="redis-tools")
        placed = redis_scratch.find(Path(destination), PLACED)
        if placed is None:
            raise StepFailed(f"No Redis server runs in {destination}.")
        at = [program, "-s", str(placed.socket), "-n", str(self.server.database)]
        if text is None:
            return Prompt(tuple(at))
        # From 7.0 on a mistake ends the program with a status of its own, where it is asked to.
        strict = process.run([program, "-e", "--version"], accept=(0, 1)).status == 0
        return Prompt((*at, *(["-e"] if strict else []), *redis_live.words(text)), stdin=b"")

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:
        """One value by a Redis command, read only."""
        if kind != "redis":
            raise StepFailed(f"{self.name} is a Redis server: ask it redis, not {kind}.")
        named = self.address(where)
        if named.startswith("/"):
            raise StepFailed(
                f"No Redis server holds what stands in {named}, so it cannot be asked.",
                remedy=f"apt-get install {redis_scratch.PACKAGE}",
            )
        address = self._at(named)
        with connect(address, timeout) as connection:
            connection.select(address.database)
            return redis_live.ask(connection, question)

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Write the artifacts into the workspace, and load them into a scratch server."""
        self.require_possible(place)
        spot = self._spot(place)
        if self.swapped(place) != "absent":
            raise StepFailed(f"{self.name} was already replaced by this run.")
        self.discard(place)
        try:
            redis_stage.stage(spot, artifacts)
        except BaseException:
            self.discard(place)
            raise

    def staged(self, place: Place) -> Path | str | None:
        """The scratch server; the file where none can be had."""
        return redis_stage.staged(self._spot(place))

    def fingerprint(self, place: Place) -> Fingerprint:
        """The content of the scratch server."""
        from runner.source.redis_prove import fingerprint

        return fingerprint(self._spot(place))

    def differences(self, expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:
        """By database. Raises PersonNeeded where no scratch server could be had."""
        from runner.source.redis_prove import differences

        return differences(expected, found, place)

    def identity(self, place: Place) -> str:
        """The start of the server that stands there, while it holds anything.

        One that is stopped is nobody's only where it is ours to start.
        """
        address = self.address(place.destination)
        if address.startswith("/"):  # a folder in which no server runs yet
            return "absent"
        try:
            at = self._at(address)
            if all(self._looked(self._is_empty, at)):
                return "absent"
            return " ".join(self._looked(redis_live.run_id, at))
        except Unreachable:
            if self._owned() is None:
                raise
            return "absent"

    def gate(self, place: Place) -> None:
        """Raise PersonNeeded, naming the clients, where what they use would be replaced."""
        spot = self._spot(place)
        if spot.home is not None or place.running or place.existing == "skip":
            return
        looked = self._looked(partial(redis_live.users, chosen=self.chosen), spot.address)
        users = [one for some in looked for one in some]
        if users:
            raise PersonNeeded(
                f"{spot.address.where} is in use by {', '.join(users[:5])}.",
                remedy="Stop the app and go on, or restore with --live.",
            )

    def swap(self, place: Place) -> Sequence[str]:
        """Keep what is live as a file, and bring the staged keys in."""
        from runner.source.redis_swap import exchange

        return exchange(self._spot(place))

    def swapped(self, place: Place) -> str:
        """How far the swap got."""
        from runner.source.redis_swap import swapped

        return swapped(self._spot(place))

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless every key that was restored is there, as it was; return which
        stayed as others.
        """
        from runner.source.redis_confirm import confirm

        return confirm(self._spot(place))

    def unswap(self, place: Place) -> None:
        """Remove what was brought in, and put the safety copy's keys back."""
        from runner.source.redis_swap import take_back

        take_back(self._spot(place))

    def discard(self, place: Place) -> None:
        """Remove what was staged."""
        from runner.source.redis_swap import discard

        discard(self._spot(place))

    def keep(self, place: Place) -> Kept:
        """The safety copies, or the moves of the server's files."""
        from runner.source.redis_back import note_of

        return note_of(self._spot(place), self._owned())

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Restore the safety copy in the place of everything."""
        from runner.source.redis_back import put_back

        whole = replace(place, existing="flush", include=())
        self.gate(whole)
        return put_back(self._spot(whole), kept)

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The files that keep what was live."""
        from runner.source.redis_back import copies

        return copies(kept)

    def drop(self, kept: Kept) -> None:
        """Remove them."""
        from runner.source.redis_back import drop

        drop(kept)

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """Decode the RDB, or the keys, and the users."""
        return redis_commands.restore_commands(stored, decode, folder)

    def place_commands(self, folder: str) -> list[str]:
        """Place the file where the data folder is known; else let the server copy another. Of some
        databases, bring in the keys.
        """
        owned = self._owned()
        shown = shown_address(self.options, self.folder)
        if self.chosen is not None:
            return redis_commands.some_place_commands(folder, shown, self.chosen)
        if owned is not None:
            return redis_commands.own_place_commands(folder, owned, shown)
        return redis_commands.place_commands(folder, shown)

    def load_commands(self, folder: str) -> list[str]:
        """Place the file in the data folder of a stopped server."""
        return redis_commands.load_commands(folder, self.chosen)

    def _spot(self, place: Place) -> Spot:
        scratch = Path(place.destination).is_absolute()
        live = self.server if scratch else self._at(place.destination)
        return Spot.of(self.name, place, live, self._owned(), self.chosen)

    def _is_empty(self, connection: RawConnection) -> bool:
        return redis_live.is_empty(connection, self.chosen)

    def _looked(self, look: Callable[[RawConnection], T], address: Address) -> list[T]:
        """What each primary tells."""
        found = []
        for one in redis_members.servers(address):
            with connect(one) as connection:
                found.append(look(connection))
        return found

    def _owned(self) -> Owned | None:
        options = self.options
        if not {"data_dir", "stop", "start"} <= options.keys():
            return None
        data = self.folder / Path(options["data_dir"]).expanduser()
        return Owned(data.absolute(), options["stop"], options["start"], self.folder)

    def _at(self, destination: str) -> Address:
        """The server of a destination, a URL; a scratch server knows none of our users."""
        if destination.startswith(redis_scratch.URL):
            return parse(destination)
        if not destination:
            return self.server
        address = self.server.at(destination)
        given = Secret("env:REDISCLI_AUTH")
        return replace(address, password=given) if "REDISCLI_AUTH" in os.environ else address
