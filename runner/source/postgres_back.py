"""What restores of PostgreSQL databases replaced: noted, found again, put back, let go.

Databases are known by their oids, which renames do not change: one that somebody dropped and made
anew under the same name is never taken for a safety copy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes
from runner.errors import StepFailed
from runner.source import Copy, Kept, postgres_in_place, postgres_swap
from runner.source.postgres_create import drop_database
from runner.source.postgres_place import (
    Member,
    Note,
    Spot,
    document,
    maintenance,
    names_of,
    oids,
    reach,
    safety_name,
)
from runner.source.postgres_server import Server
from runner.source.postgres_swap import Exchange

_SIZE = "SELECT pg_catalog.pg_database_size({oid}::oid)"


def note_of(spot: Spot) -> dict[str, Any]:
    """What it takes to put back what a swap replaced."""
    note = spot.note()
    if note is not None and note.in_place:
        members = [asdict(one) for one in note.members]
        dumps = postgres_in_place.kept(spot)
        return {"members": members, "dumps": dumps, "expected": document(spot.expected_file)}
    exchanges = [asdict(one) for one in postgres_swap.recorded(spot)]
    return {"exchanges": exchanges, "destination": spot.destination}


def put_back(spot: Spot, kept: Kept, safety: Path | None) -> list[str]:
    """Exchange what is live with what an earlier swap replaced; return the safety copies."""
    if "dumps" in kept:
        if spot.note() is None:
            _stage_dumps(spot, kept)
        return postgres_in_place.write(spot, safety)
    if not postgres_swap.recorded(spot):
        postgres_swap.record(spot, _back(spot, kept))
    return postgres_swap.carry_on(spot)


def live_names(kept: Kept) -> list[str]:
    """The databases that putting it back would replace."""
    if "dumps" in kept:
        return [one["live"] for one in kept["members"]]
    exchanges = [Exchange(**one) for one in kept["exchanges"]]
    return [one.staged if one.live == one.safety else one.live for one in exchanges]


def copies(server: Server, kept: Kept) -> list[Copy]:
    """The databases, or the dumps, that there are."""
    if "dumps" in kept:
        paths = [Path(one) for one in kept["dumps"]]
        return [Copy(str(one), one.stat().st_size) for one in paths if one.exists()]
    with maintenance(reach(server, kept["destination"])) as session:
        return [
            Copy(name, int(session.rows(_SIZE.format(oid=oid))[0][0] or 0))
            for oid, name in _standing(session, kept)
        ]


def drop(server: Server, kept: Kept) -> None:
    """Drop them."""
    for path in kept.get("dumps", ()):
        Path(path).unlink(missing_ok=True)
    if "exchanges" in kept:
        with maintenance(reach(server, kept["destination"])) as session:
            for _, name in _standing(session, kept):
                drop_database(session, name)


def _standing(session: Any, kept: Kept) -> list[tuple[int, str]]:
    """The safety copies of an exchange that still bear the name it gave them."""
    wanted = {}
    for one in (Exchange(**row) for row in kept["exchanges"]):
        oid = one.staged_oid if one.live == one.safety else one.live_oid
        wanted[oid] = one.safety
    names = names_of(session, [oid for oid in wanted if oid])
    return [(oid, name) for oid, name in names.items() if name == wanted[oid]]


def _back(spot: Spot, kept: Kept) -> list[Exchange]:
    exchanges = [Exchange(**one) for one in kept["exchanges"]]
    with maintenance(spot.server) as session:
        there = dict(_standing(session, kept))
        live = oids(session, live_names(kept))
    found: list[Exchange] = []
    for one in exchanges:
        away = one.live == one.safety
        name = one.staged if away else one.live
        old = one.staged_oid if away else one.live_oid
        safety = safety_name(name, spot.token, [other.safety for other in found])
        if old and old not in there:
            raise StepFailed(
                f"The safety copy {one.safety} is gone, so what was there cannot be put back.",
                remedy="Restore a snapshot: `list` shows what there is.",
            )
        if old:
            found.append(Exchange(name, one.safety, safety, old, live.get(name, 0)))
        elif name in live:
            # Nothing of that name stood there: what does now is only renamed.
            found.append(Exchange(safety, name, safety, live[name], 0))
    return found


def _stage_dumps(spot: Spot, kept: Kept) -> None:
    """Let the kept dumps be what is restored into the live databases."""
    members: Sequence[Member] = [
        replace(one, safety=safety_name(one.live, spot.token, ()))
        for one in (Member(**row) for row in kept["members"])
    ]
    make_folder(spot.workspace)
    # Sums of money are in these as this server writes them.
    databases = {
        name: {**one, "money": False} for name, one in kept["expected"]["databases"].items()
    }
    expected = {**kept["expected"], "databases": databases}
    write_bytes(spot.expected_file, json.dumps(expected).encode())
    for number, dump in enumerate(map(Path, kept["dumps"])):
        if not dump.exists():
            raise StepFailed(f"The safety copy {dump} is gone.", remedy="Restore a snapshot.")
        folder = postgres_in_place.folder_of(spot, number)
        make_folder(folder)
        if not (folder / dump.name).exists():
            os.symlink(dump, folder / dump.name)  # noqa: PTH211 - the dump itself stays
    spot.write(Note(tuple(members), in_place=True, whole=True))
