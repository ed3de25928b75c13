"""One restore of PostgreSQL databases: the server, the names, and the note of what was begun.

Databases are restored under names of their own beside the live ones. What a run made is found
again by the note in its workspace, which is written before the first of them is created.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from runner.durable import make_folder, write_bytes
from runner.errors import StepFailed, UsageError
from runner.source import Place, postgres_scratch
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_server import SCHEMES, Server
from runner.source.postgres_session import Session, connect, literal

MOST_NAME_BYTES = 63  # of a name in PostgreSQL
MAINTENANCE = ("postgres", "template1")  # what there is to connect to while others are renamed
STAGED_PREFIX = "holdfast_"
PAUSE_SECONDS = 0.2

# No such database; may not connect to it; it takes no connections now.
_NOT_THIS_ONE = ("3D000", "28000", "42501", "55000")
_ABSENT = "does not exist"  # what psql says, which gives no code
# What a server says that lets nobody in yet, and for how many seconds it is asked again.
_SOON = {
    "the database system is starting up": 60.0,
    "the database system is in recovery mode": 60.0,
    "the database system is not yet accepting connections": 60.0,
    # It has not seen yet that another of its processes crashed.
    "server closed the connection": 5.0,
    "terminating connection because of crash": 5.0,
}

_DATABASES = "SELECT oid, datname FROM pg_catalog.pg_database"


@dataclass(frozen=True)
class Member:
    """One database of a restore."""

    part: str  # the artifact that it comes from
    origin: str  # its name when it was captured
    live: str  # its name once it is swapped in
    staged: str  # its name until then
    safety: str  # what is live then has this name afterwards
    limit: int = -1  # of connections, once it is live; -1: none
    oid: int = 0  # of what was staged; 0: not created yet


@dataclass(frozen=True)
class Note:
    """What a run staged."""

    members: tuple[Member, ...]
    whole: bool = False  # everything was restored
    in_place: bool = False  # the role makes no databases: what is live is written into
    roles: tuple[str, ...] = ()  # that were made for it
    tables: tuple[str, ...] = ()  # of a restore in part: the only ones that have their rows
    uncomputed: tuple[str, ...] = ()  # materialized views that stay empty, and why


@dataclass(frozen=True)
class Spot:
    """Where one restore goes."""

    source: Server  # the declared one
    destination: str  # empty, a database's name, a URL; the home of a scratch server
    token: str
    workspace: Path

    @classmethod
    def of(cls, source: Server, place: Place) -> Spot:
        """The spot of a place. Raises StepFailed for a place without a workspace."""
        if place.workspace is None:
            raise StepFailed("A restore of PostgreSQL needs a folder for its notes, and has none.")
        return cls(source, place.destination, place.token, place.workspace)

    @property
    def home(self) -> Path | None:
        """The folder of the scratch server that it goes to; None for a real server."""
        return scratch_home(self.destination)

    @property
    def server(self) -> Server:
        """The server. Raises StepFailed for a scratch server that was not started."""
        return reach(self.source, self.destination)

    @property
    def mark(self) -> str:
        """What tells this source's restore from another's of the same run, at the same server."""
        return hashlib.sha256(os.fsencode(self.workspace)).hexdigest()[:8]

    @property
    def note_file(self) -> Path:
        """Remembers what was staged."""
        return self.workspace / "postgres-staged.json"

    @property
    def record(self) -> Path:
        """Remembers what is being exchanged."""
        return self.workspace / "postgres-swap.json"

    @property
    def files(self) -> Path:
        """Decoded artifacts, while they are restored from."""
        return self.workspace / "artifacts"

    def note(self) -> Note | None:
        """What was staged, if something was begun."""
        found = document(self.note_file)
        if found is None:
            return None
        found["members"] = [Member(**one) for one in found["members"]]
        fields = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()}
        return Note(**cast("dict[str, Any]", fields))

    def noted(self) -> Note:
        """What was staged. Raises StepFailed when nothing was."""
        note = self.note()
        if note is None:
            raise StepFailed(f"Nothing is staged for {self.source.describe()}.")
        return note

    @property
    def expected_file(self) -> Path:
        """The snapshot's fingerprint, for the one that is taken anew."""
        return self.workspace / "postgres-expected.json"

    def write(self, note: Note) -> None:
        """Remember what is staged."""
        make_folder(self.workspace)
        write_bytes(self.note_file, json.dumps(asdict(note)).encode())


def scratch_home(destination: str) -> Path | None:
    """The home of the scratch server that a destination names; None for any other."""
    return Path(destination) if destination.startswith("/") else None


def reach(source: Server, destination: str) -> Server:
    """The server of a destination, and its database where it names one."""
    home = scratch_home(destination)
    if home is not None:
        return scratch_server(home)
    if destination.startswith(SCHEMES):
        wanted = Server(url=destination).keywords()
        name = wanted.pop("dbname", "")
        ours = source.keywords()
        if all(ours.get(key) == value for key, value in wanted.items() if key != "application"):
            # The same server: with its password, and its prefix command.
            return source.database(name) if name else source
    return source.at(destination)


def scratch_server(home: Path, dbname: str = "postgres") -> Server:
    """The scratch server of a home. Raises StepFailed when none was started there."""
    cluster = postgres_scratch.find(home)
    if cluster is None:
        raise StepFailed(f"No scratch server runs in {home}.")
    return Server.on_socket(
        cluster.socket,
        postgres_scratch.PORT,
        postgres_scratch.SUPERUSER,
        dbname,
        str(cluster.programs),
    )


def plan_members(spot: Spot, databases: Mapping[str, Mapping[str, Any]]) -> tuple[Member, ...]:
    """The names of a restore of databases that a fingerprint describes.

    Raises UsageError when one name is given for several.
    """
    given = _given_name(spot)
    if given and len(databases) > 1 and spot.destination:
        raise UsageError(
            f"The snapshot holds {len(databases)} databases: they cannot all be named {given}.",
            remedy="Give a server without a database: --to postgresql://USER@HOST/",
        )
    members: list[Member] = []
    for number, (origin, described) in enumerate(databases.items()):
        live = given if given and len(databases) == 1 else origin
        safety = safety_name(live, spot.token, [one.safety for one in members])
        limit = int(described.get("database", {}).get("connections", -1))
        staged = f"{STAGED_PREFIX}{spot.token}{spot.mark}_{number}"
        members.append(Member(described["part"], origin, live, staged, safety, limit))
    return tuple(members)


@contextlib.contextmanager
def maintenance(server: Server, avoid: Sequence[str] = ()) -> Iterator[Session]:
    """A session with a database of the server that is none of `avoid`."""
    names = [name for name in MAINTENANCE if name not in avoid]
    if server.dbname and server.dbname not in (*names, *avoid):
        names.append(server.dbname)
    for last, name in enumerate(names, 1):
        try:
            session = _connected(server.database(name))
        except ServerSaid as error:
            elsewhere = error.state in _NOT_THIS_ONE or _ABSENT in error.message
            if last == len(names) or not elsewhere:
                raise
            continue
        try:
            yield session
        finally:
            session.close()
        return


def _connected(server: Server) -> Session:
    """A session, as soon as a server that is starting takes it: after a crash, it is soon back."""
    begun = time.monotonic()
    while True:
        try:
            return connect(server)
        except ServerSaid as error:
            waited = time.monotonic() - begun
            if not any(sign in error.message and waited < most for sign, most in _SOON.items()):
                raise
        time.sleep(PAUSE_SECONDS)


def oids(session: Session, names: Sequence[str]) -> dict[str, int]:
    """The databases of these names that there are, with their oids."""
    if not names:
        return {}
    wanted = ", ".join(literal(name) for name in names)
    rows = session.rows(f"{_DATABASES} WHERE datname IN ({wanted})")
    return {str(name): int(oid or 0) for oid, name in rows}


def names_of(session: Session, wanted: Sequence[int]) -> dict[int, str]:
    """The present names of databases, by oid; what is gone is missing."""
    listed = ", ".join(str(one) for one in wanted) or "0"
    rows = session.rows(f"{_DATABASES} WHERE oid IN ({listed})")
    return {int(oid or 0): str(name) for oid, name in rows}


def created(note: Note, staged: str, oid: int) -> Note:
    """The note with a database that has come into being."""
    members = (replace(one, oid=oid) if one.staged == staged else one for one in note.members)
    return replace(note, members=tuple(members))


def document(path: Path) -> Any:
    """A small JSON file; None when there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _given_name(spot: Spot) -> str:
    if spot.home is not None:
        return ""
    return spot.server.dbname


def safety_name(live: str, token: str, taken: Sequence[str]) -> str:
    """`<name>_before_<token>`, cut to what PostgreSQL takes; none of `taken`."""
    number = 0
    while True:
        ending = f"_before_{token}{f'_{number}' if number else ''}"
        room = MOST_NAME_BYTES - len(ending.encode())
        name = live.encode(errors="surrogateescape")[:room].decode(errors="ignore") + ending
        if name not in taken:
            return name
        number += 1
