"""The `postgres` source: databases of one server, dumped while they are used, proven by content."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from runner.errors import HoldfastError, PersonNeeded, StepFailed, UsageError
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
    postgres_ask,
    postgres_back,
    postgres_commands,
    postgres_examine,
    postgres_in_place,
    postgres_scratch,
    postgres_stage,
    postgres_swap,
)
from runner.source.postgres_capture import Wanted, capture_server
from runner.source.postgres_choose import databases_of
from runner.source.postgres_compare import compare, require_same_algorithm
from runner.source.postgres_fingerprint import ALGORITHM, database_fingerprint
from runner.source.postgres_globals import globals_fingerprint
from runner.source.postgres_place import (
    Member,
    Spot,
    document,
    maintenance,
    names_of,
    oids,
    reach,
    scratch_home,
    scratch_server,
)
from runner.source.postgres_server import SCHEMES, Server
from runner.source.postgres_session import value
from runner.spec.model import SourceSpec


def open_source(spec: SourceSpec) -> PostgresSource:
    """The source that a spec declares."""
    return PostgresSource(spec.name, Server.of(spec.options, spec.folder), spec.options)


@dataclass(frozen=True)
class PostgresSource:
    """One or several databases of a server. See the protocol `runner.source.Source`."""

    compares_content: ClassVar[bool] = False  # rows that are only counted

    name: str
    server: Server
    options: Mapping[str, Any]

    @property
    def paths(self) -> Sequence[Path]:
        """None: the content is a server's."""
        return []

    def describe(self) -> str:
        """The database and its server."""
        return self.server.describe()

    def exists(self) -> bool:
        """Whether the server answers and has the databases, or any of them."""
        try:
            with maintenance(self.server) as session:
                wanted = self.options.get("databases")
                if wanted == "all":
                    return True
                names = wanted or [self.server.dbname or value(session, "SELECT current_user")]
                return bool(oids(session, names))
        except (HoldfastError, OSError):
            return False

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:  # noqa: ARG002
        """None: no cheap number says that nothing was written."""
        return None

    def capture_commands(self) -> list[str]:
        """`pg_dump`, and `pg_dumpall` for what belongs to no database."""
        return postgres_commands.capture_commands(
            self.server,
            self.name,
            globals_too=bool(self.options.get("globals")),
            every="databases" in self.options,
        )

    def capture(self, capture: Capture) -> Captured:
        """Store each database as `pgdump` and the globals as `sql`."""
        return capture_server(self.server, Wanted.of(self.options), capture)

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """The tables, with their rows where they were counted."""
        databases = databases_of(artifacts.fingerprint)
        for database, described in databases.items():
            before = f"{database}: " if len(databases) > 1 else ""
            for name, table in described.get("tables", {}).items():
                rows = table.get("rows")
                said = "" if rows is None else f" of {rows} row" + "s" * (rows != 1)
                yield Content(before + name, f"table{said}")

    def examine(self) -> Iterator[Examined]:
        """The programs, the server, and what the role may do there."""
        return postgres_examine.examine(self.server, self.options)

    def destination(self, typed: str) -> str:
        """The name of a database on the same server, or the URL of another."""
        if typed.startswith("/") or ("://" in typed and not typed.startswith(SCHEMES)):
            raise UsageError(
                f"{typed} is no database.",
                remedy="Give a database's name, or postgresql://USER@HOST:PORT/DATABASE.",
            )
        if Server(url=typed).secret() if typed.startswith(SCHEMES) else "":
            raise UsageError(
                "A URL with a password would be seen in the process list and in the plan.",
                remedy="Leave the password out; give it as PGPASSWORD, or in ~/.pgpass.",
            )
        return typed

    def require_possible(self, place: Place) -> None:
        """Tables alone replace no database."""
        if place.include and not place.destination:
            raise UsageError(
                "Some tables alone cannot replace a database.",
                remedy="Restore them into another database: --to NAME.",
            )

    def scratch_destination(self, folder: Path) -> str:
        """The folder itself: a scratch server is started in it."""
        return str(folder)

    def placed(self, path: Path, destination: str) -> Path:  # noqa: ARG002 - there are no paths
        """Never asked: nothing stands at a path."""
        return path

    def address(self, destination: str) -> str:
        """A URL without a password; of the first database where there are several."""
        home = scratch_home(destination)
        server = reach(self.server, destination)
        if home is not None:
            names = postgres_scratch.databases(home)
            return server.database(names[0] if names else "postgres").address()
        return server.address()

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """psql, at the scratch server; in the first database where there are several."""
        home = scratch_home(destination)
        if home is None:
            raise StepFailed(f"{destination} is no scratch server.")
        names = postgres_scratch.databases(home)
        there = scratch_server(home, names[0] if names else "postgres")
        found = there.keywords()
        variables = {"PGHOST": found["host"], "PGPORT": found["port"], "PGUSER": found["user"],
                     "PGDATABASE": found["dbname"]}  # fmt: skip
        psql = str(Path(there.bin) / "psql")
        strict = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
        if text is not None:
            return Prompt((psql, *strict, "--command", text), variables, stdin=b"")
        return Prompt((psql, *(() if sys.stdin.isatty() else strict)), variables)

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:
        """What SQL answers, in a transaction that only reads."""
        if kind != "sql":
            raise StepFailed(f"PostgreSQL answers SQL, not `{kind}`.")
        home = scratch_home(where)
        server = reach(self.server, self.address(where) if home is not None else where)
        return postgres_ask.ask(server, question, timeout)

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Restore beside the live databases, or into a scratch server."""
        self.require_possible(place)
        spot = Spot.of(self.server, place)
        if self.swapped(place) != "absent":
            raise StepFailed(f"{self.describe()} was already replaced by this run.")
        self.discard(place)
        postgres_stage.stage(spot, artifacts, place.include)

    def staged(self, place: Place) -> Path | str | None:
        """The URL of the staged database, once it is whole; the first where there are several."""
        spot = Spot.of(self.server, place)
        note = spot.note()
        if note is None or not note.whole or self.swapped(place) == "done":
            return None
        if note.in_place:
            spot = postgres_stage.proof_spot(spot)
            note = spot.note()
            if note is None:  # nothing to be asked, but the dumps are there
                return str(Spot.of(self.server, place).workspace)
        return spot.server.database(self._ordered(note.members)[0].staged).address()

    def fingerprint(self, place: Place) -> Fingerprint:
        """The fingerprint of what was staged, wherever it stands by now."""
        spot = postgres_stage.standing(Spot.of(self.server, place))
        note = spot.noted()
        with maintenance(spot.server) as session:
            names = names_of(session, [one.oid for one in note.members])
            expected, found = document(spot.expected_file), {}
            made: dict[str, Any] = {}
            if "globals" in expected:
                made = {"globals": {**globals_fingerprint(session), "made": list(note.roles)}}
        for one in note.members:
            name = one.live if note.in_place else names.get(one.oid, one.staged)
            like = expected["databases"][one.origin]
            there = spot.server.database(name)
            found[one.origin] = database_fingerprint(there, like, expected["level"])
        return {
            "algorithm": ALGORITHM, "level": expected["level"], "databases": found, **made,
        }  # fmt: skip

    def differences(self, expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:
        """Database by database, table by table. Raises PersonNeeded where the two were taken in
        different ways.
        """
        require_same_algorithm(expected, found)
        if place.include:
            kept = {name: expected["databases"][name] for name in found["databases"]}
            expected = {**expected, "databases": kept}
        differences = compare(expected, found, place.include)
        spot = Spot.of(self.server, place)
        empty = postgres_stage.standing(spot).noted().uncomputed if spot.note() else ()
        if empty and not differences:
            raise PersonNeeded(
                "All is equal but what is computed of it: materialized views that stay empty, "
                f"{', '.join(empty)}.",
                remedy="Mend what they are computed of, and REFRESH MATERIALIZED VIEW.",
            )
        return differences

    def identity(self, place: Place) -> str:
        """The server's own identifier, and the databases of these names, by their oids."""
        spot = Spot.of(self.server, replace(place, workspace=place.workspace or Path()))
        server = spot.server
        with maintenance(server) as session:
            system = value(session, "SELECT system_identifier FROM pg_catalog.pg_control_system()")
            given = server.dbname if place.destination else ""
            declared = None if given else self.options.get("databases")
            names = declared or [given or self.server.dbname]
            found = {} if names == "all" else oids(session, list(names))
        if names != "all" and not found:
            return "absent"
        return f"{system}:{','.join(f'{oid}' for _, oid in sorted(found.items())) or 'all'}"

    def gate(self, place: Place) -> None:
        """Raise PersonNeeded, naming who is connected to what is to be replaced."""
        spot = Spot.of(self.server, place)
        note = spot.note()
        if note is None or place.running or spot.home is not None:
            return
        with maintenance(spot.server) as session:
            standing = list(oids(session, [one.live for one in note.members]))
            described = document(spot.expected_file)["databases"].values()
            partial = any(one.get("partial") for one in described)
            if standing and partial and not place.destination:
                raise PersonNeeded(
                    f"The snapshot holds a part of {standing[0]}; exchanged for it, all the rest "
                    "would be gone from the live database.",
                    remedy="Restore it into another database (--to NAME), and copy what you need.",
                )
            postgres_swap.require_idle(session, standing)

    def swap(self, place: Place) -> Sequence[str]:
        """Exchange by renames; return the names of the databases that keep what was live."""
        spot = Spot.of(self.server, place)
        if spot.noted().in_place:
            return postgres_in_place.write(spot, place.safety)
        if spot.home is not None:
            postgres_scratch.note_databases(
                spot.home, [one.live for one in self._ordered(spot.noted().members)]
            )
        return postgres_swap.exchange(spot)

    def swapped(self, place: Place) -> str:
        """How far the swap got, by the server's own catalog."""
        spot = Spot.of(self.server, place)
        states = (postgres_in_place.progress(spot), postgres_swap.progress(spot))
        return next((one for one in states if one != "absent"), "absent")

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless the restored databases bear the live names, and open."""
        spot = Spot.of(self.server, place)
        note = spot.note()
        (postgres_in_place if note and note.in_place else postgres_swap).confirm(spot)
        return ()

    def unswap(self, place: Place) -> None:
        """Give what was live its names back."""
        spot = Spot.of(self.server, place)
        postgres_in_place.take_back(spot)
        postgres_swap.undo(spot)

    def discard(self, place: Place) -> None:
        """Drop what was staged; stop a scratch server that nothing was swapped into."""
        spot = Spot.of(self.server, place)
        postgres_stage.discard(spot)

    def keep(self, place: Place) -> Kept:
        """The databases by oid and name; the dumps where there are no copies."""
        return postgres_back.note_of(Spot.of(self.server, place))

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Exchange the names again, or load the dumps."""
        spot = Spot.of(self.server, place)
        if not place.running:
            with maintenance(spot.server) as session:
                standing = oids(session, postgres_back.live_names(kept))
                postgres_swap.require_idle(session, list(standing))
        return postgres_back.put_back(spot, kept, place.safety)

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The databases `…_before_…`, or the dumps."""
        return postgres_back.copies(self.server, kept)

    def drop(self, kept: Kept) -> None:
        """Drop them."""
        postgres_back.drop(self.server, kept)

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """Decode the dumps, for `pg_restore`."""
        return postgres_commands.restore_commands(stored, decode, folder)

    def place_commands(self, folder: str) -> list[str]:
        """Load them into the server, beside what is renamed `<name>_before_recovery`."""
        return postgres_commands.place_commands(self.server, folder)

    def load_commands(self, folder: str) -> list[str]:
        """Load them into the server that the `PG*` variables name."""
        return postgres_commands.load_commands(folder)

    def _ordered(self, members: Sequence[Member]) -> list[Member]:
        """The databases, the one that the spec names first."""
        return sorted(members, key=lambda one: (one.origin != self.server.dbname, one.origin))
