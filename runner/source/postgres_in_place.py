"""A restore into the live database itself, for a role that may make no other.

What is live is dumped first, as a file that is kept: it is what brings the old content back if the
restore fails. Where this machine can run a scratch server, the snapshot is proven there before.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.durable import PRIVATE_FILE, make_folder, sync_folder, write_bytes
from runner.errors import StepFailed
from runner.source import Artifacts, postgres_toc
from runner.source.postgres_checks import object_owners
from runner.source.postgres_compare import compare
from runner.source.postgres_compute import compute
from runner.source.postgres_fingerprint import database_fingerprint
from runner.source.postgres_load import BLOCK, OutOfOrder, analyze, decode, load, write_list
from runner.source.postgres_objects import objects
from runner.source.postgres_place import Member, Note, Spot, document
from runner.source.postgres_programs import Programs, programs_for, reading_client
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, identifier, open_session, value, version_of
from runner.source.postgres_swap import end_clients
from runner.source.postgres_tables import Selection, choose

# What a role owns in a database. The schema `public` stays, since no dump makes it anew: what
# is in it goes one by one.
_OWNED = """
WITH owned(class, oid, owner) AS (
  SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE nspname <> 'public'
  UNION ALL SELECT 'pg_extension'::regclass, oid, extowner FROM pg_extension
  UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
  UNION ALL SELECT 'pg_type'::regclass, t.oid, typowner FROM pg_type t
    LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE typtype IN ('e', 'd', 'r') OR c.relkind = 'c'
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
  UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
  UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
  UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
  UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner FROM pg_publication
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
)
SELECT CASE i.type WHEN 'statistics object' THEN 'statistics' ELSE i.type END, i.identity
FROM owned o, pg_identify_object(o.class, o.oid, 0) i
WHERE o.oid >= 16384 AND pg_has_role(o.owner, 'USAGE') AND i.type <> 'toast table'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0
                    AND d.deptype IN ('e', 'i'))
ORDER BY i.type <> 'schema', i.type <> 'extension', i.type, i.identity
"""
_LARGE_OBJECTS = (
    "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE pg_has_role(lomowner, 'USAGE')"
)
_LEFT_OBJECTS = "SELECT count(*) FROM pg_largeobject_metadata"
_EXTENSIONS = "SELECT extname FROM pg_extension"
_PUBLIC = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'"


def stage(spot: Spot, artifacts: Artifacts, members: Sequence[Member], live: Sequence[str]) -> None:
    """Unpack the dumps to where they can be restored from. Raises StepFailed where it cannot be.

    `live` are the databases that there are.
    """
    missing = [one.live for one in members if one.live not in live]
    if missing:
        raise StepFailed(
            f"There is no database {missing[0]}, and the role may not make one.",
            remedy="Make it as a superuser (CREATE DATABASE … OWNER …), or ALTER ROLE … CREATEDB.",
        )
    make_folder(spot.workspace)
    spot.write(Note(tuple(members), in_place=True))
    write_bytes(spot.expected_file, json.dumps(artifacts.fingerprint).encode())
    for number, one in enumerate(members):
        folder = folder_of(spot, number)
        make_folder(folder)
        decode(artifacts.read(one.part), folder)
    spot.write(Note(tuple(members), in_place=True, whole=True))


def write(spot: Spot, safety: Path | None) -> list[str]:
    """Keep what is live as dumps in `safety`, and replace it; return the dumps.

    Goes on where it stopped: what was kept is kept, what was written is written again.
    """
    members, record = spot.noted().members, document(_record(spot))
    if record is None:
        if safety is None:
            raise StepFailed("There is no folder to keep what is replaced.")
        make_folder(safety)
        kept = [str(_keep(spot, one, safety)) for one in members]
        record = {"state": "writing", "kept": kept, "cleared": []}
        write_bytes(_record(spot), json.dumps(record).encode())
    if record["state"] != "done":
        for number, one in enumerate(members):
            described = document(spot.expected_file)["databases"][one.origin]
            dump = next(folder_of(spot, number).iterdir())
            _replace(spot, one, dump, record, money=bool(described.get("money")))
        write_bytes(_record(spot), json.dumps({**record, "state": "done"}).encode())
    return list(record["kept"])


def progress(spot: Spot) -> str:
    """How far it got: absent | partial | done."""
    record = document(_record(spot))
    if record is None:
        return "absent"
    return "done" if record["state"] == "done" else "partial"


def kept(spot: Spot) -> list[str]:
    """The dumps of what was replaced."""
    return list((document(_record(spot)) or {"kept": ()})["kept"])


def confirm(spot: Spot) -> None:
    """Raise StepFailed unless the live databases hold what the snapshot does."""
    if progress(spot) != "done":
        raise StepFailed(f"What was restored is not in {spot.server.describe()} yet.")
    expected = document(spot.expected_file)
    for one in spot.noted().members:
        wanted = expected["databases"][one.origin]
        found = database_fingerprint(spot.server.database(one.live), wanted, expected["level"])
        differences = compare(
            {"databases": {one.origin: wanted}},
            {"databases": {one.origin: found}},
            rights=False,
        )
        if differences:
            raise StepFailed(f"The restored {one.live} differs: {differences[0]}.")


def take_back(spot: Spot) -> None:
    """Bring back what was live from the dumps that were kept."""
    record = document(_record(spot))
    if record is None:
        return
    for one, kept in zip(spot.noted().members, record["kept"], strict=True):
        if one.live in record.get("cleared", [one.live]):
            try:
                _replace(spot, one, Path(kept), record)
            except StepFailed as error:
                error.remedy = f"{error.remedy} What was in {one.live} is in {kept}.".strip()
                raise
    _record(spot).unlink()
    sync_folder(spot.workspace)
    for kept in record["kept"]:
        Path(kept).unlink(missing_ok=True)


def _keep(spot: Spot, member: Member, safety: Path) -> Path:
    """Dump what is live into a file."""
    server = spot.server.database(member.live)
    with open_session(server) as session:
        programs = programs_for(server, version_of(session) // 10000)
    path = safety / f"{_safe(member.safety)}.pgdump"
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    arguments = ("--format=custom", "--compress=1", "--no-password")
    with (
        os.fdopen(descriptor, "wb") as file,
        reading_client(server, programs, "pg_dump", *arguments) as output,
    ):
        while block := output.read(BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(safety)
    return path


def _replace(
    spot: Spot, member: Member, dump: Path, record: dict[str, Any], *, money: bool = False
) -> None:
    def about_to_clear() -> None:
        record["cleared"] = sorted({*record.get("cleared", ()), member.live})
        write_bytes(_record(spot), json.dumps(record).encode())

    server = spot.server.database(member.live)
    with open_session(server) as session:
        session.execute("SET search_path = pg_catalog")
        end_clients(session, [member.live])
        _clear(session, about_to_clear)
        programs = programs_for(server, version_of(session) // 10000, "pg_restore")
        turns = postgres_toc.turns(*_entries(session, server, programs, dump))
        more = ["--no-owner"] if _foreign(spot, session, member) else []
        load_some = functools.partial(
            load, server, programs, dump, no_tablespaces=True, more=more, money=money
        )
        try:
            load_some(listed=write_list(spot.workspace, turns.first or []))
        except OutOfOrder:
            _clear(session, about_to_clear)
            load_some(listed=write_list(spot.workspace, turns.first or []), one_by_one=True)
        compute(load_some, spot.workspace, turns.computed)
        if turns.last:
            load_some(listed=write_list(spot.workspace, turns.last), one_by_one=True)
        analyze(session)


def _clear(session: Session, about_to: Callable[[], object]) -> None:
    """Drop all that the role owns in the database, in one transaction; `about_to` is called at its
    end. Raises StepFailed, and nothing is dropped, where that is not all that a dump would make.
    """
    session.execute("BEGIN")
    for kind, identity in session.rows(_OWNED):
        session.execute(f"DROP {kind} IF EXISTS {identity} CASCADE")
    session.rows(_LARGE_OBJECTS)
    _require_cleared(session)
    about_to()
    session.execute("COMMIT")


def _require_cleared(session: Session) -> None:
    left = [
        f"{one.kind} {one.name}"
        for one in objects(session, choose(session, Selection()))
        if one.kind != "default privileges" and (one.kind, one.name) != ("schema", "public")
    ]
    if value(session, _LEFT_OBJECTS) != "0":
        left.append("large objects")
    if left:
        raise StepFailed(
            f"In {session.server.describe()} the role does not own {', '.join(left[:5])}: what it "
            "may not drop it cannot replace, so nothing was dropped.",
            remedy="Restore as their owner or a superuser, or into another database (--to).",
        )


def _entries(
    session: Session, server: Server, programs: Programs, dump: Path
) -> tuple[list[postgres_toc.Entry], list[str]]:
    """All that a dump lists, and the lines that are to be restored: without what is still there
    since it is somebody else's, extensions and the public schema.
    """
    extensions = [str(name) for (name,) in session.rows(_EXTENSIONS)]
    texts = {f"EXTENSION - {name} " for name in extensions}
    texts |= {f"COMMENT - EXTENSION {one} " for name in extensions for one in _spelt(name)}
    if session.rows(_PUBLIC) != [("t",)]:
        texts |= {"SCHEMA - public "} | {
            f"{kind} - SCHEMA {one} " for kind in ("COMMENT", "ACL") for one in _spelt("public")
        }
    entries = postgres_toc.read(server, programs, dump).entries
    if not session.rows(_PUBLIC) and any(" public " in one.text for one in entries):
        session.execute("CREATE SCHEMA public")
    return entries, [one.line for one in entries if not one.text.startswith(tuple(texts))]


def _spelt(name: str) -> tuple[str, str]:
    """How a dump's list may name it: as it is, or quoted."""
    return name, identifier(name)


def _foreign(spot: Spot, session: Session, member: Member) -> bool:
    """Whether something belonged to a role that this one may not act as."""
    described = document(spot.expected_file)["databases"][member.origin]
    owners = object_owners(described)
    query = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')"
    return not owners <= {str(name) for (name,) in session.rows(query)}


def _record(spot: Spot) -> Path:
    return spot.workspace / "postgres-in-place.json"


def folder_of(spot: Spot, number: int) -> Path:
    """Where one database is restored from."""
    return spot.workspace / f"dump-{number}"


def _safe(name: str) -> str:
    """A name as a file's."""
    return name.replace("/", "_").replace("\0", "_")
