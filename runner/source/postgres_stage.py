"""Databases restored beside the live ones, under names of their own, or in a scratch server."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.durable import make_folder, write_bytes
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import (
    Artifacts,
    Fingerprint,
    postgres_checks,
    postgres_in_place,
    postgres_roles,
    postgres_scratch,
    postgres_swap,
    postgres_toc,
)
from runner.source.postgres_choose import (
    chosen_databases,
    missing_schemas,
    require_tables,
    wanted_entries,
)
from runner.source.postgres_compute import compute
from runner.source.postgres_create import (
    create_database,
    describe,
    drop_database,
    expect_public,
    make_extensions,
    make_schemas,
    open_renamed,
    own_public,
    owns_public,
    uncomment_public,
)
from runner.source.postgres_load import (
    REFUSED,
    OutOfOrder,
    analyze,
    decode,
    load,
    mostly_one_table,
    unpacking,
    write_list,
)
from runner.source.postgres_needs import missing_extensions
from runner.source.postgres_place import (
    Member,
    Note,
    Spot,
    created,
    maintenance,
    oids,
    plan_members,
    scratch_server,
)
from runner.source.postgres_programs import Programs, available, programs_for
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, open_session
from runner.source.postgres_toc import PUBLIC, PUBLIC_COMMENT
from runner.swap import remove_tree

GLOBALS = "globals"
_ENCODING = re.compile(rb"^SET client_encoding = '(\w+)';$", re.MULTILINE)
# What a scratch server says when it is this machine that lacks something.
NOT_ITS_FAULT = (
    *("No space left on device", "out of memory", "server closed the connection"),
    "is not supported in this build",
)


@dataclass(frozen=True)
class Restoring:
    """What one stage works with."""

    spot: Spot
    artifacts: Artifacts
    server: Server
    databases: Mapping[str, Mapping[str, Any]]  # what the fingerprint says of each
    programs: Programs
    newer: int  # the server's major where it is above the snapshot's; else 0
    no_tablespaces: bool
    include: Sequence[str] = ()  # patterns of tables; none: everything

    @property
    def scratch(self) -> bool:
        """Whether it goes to a scratch server."""
        return self.spot.home is not None


def stage(spot: Spot, artifacts: Artifacts, include: Sequence[str] = ()) -> None:
    """Restore every database of a snapshot, or those tables that `include` names.

    Raises before anything is made if it cannot be.
    """
    databases = chosen_databases(artifacts.fingerprint, include)
    require_tables(databases)
    start_scratch(spot, artifacts.fingerprint, databases)
    members = plan_members(spot, databases)
    server = spot.server
    text = _globals(artifacts)
    with maintenance(server) as session:
        looked = postgres_checks.look(session)
        postgres_checks.require(
            session,
            looked,
            databases,
            version=artifacts.fingerprint.get("server"),
            coming=postgres_roles.names_in(text),
            scratch=spot.home is not None,
            beside=looked.creates,
        )
        if not looked.creates:
            _stage_in_place(spot, artifacts, session, members, include)
            return
        programs = programs_for(server, looked.major, "pg_restore")
        spot.write(Note(members))
        write_bytes(spot.expected_file, json.dumps(artifacts.fingerprint).encode())
        wanted = postgres_checks.roles_of(databases)
        roles = postgres_roles.make_missing(
            session,
            text,
            wanted,
            powers=postgres_checks.powers_of(databases),
            scratch=spot.home is not None,
        )
        spot.write(Note(members, roles=tuple(roles)))
        lost = postgres_checks.needs_default_tablespace(session, databases)
        major = postgres_checks.major_of(artifacts.fingerprint.get("server"))
        newer = looked.major if looked.major > major else 0
        restoring = Restoring(spot, artifacts, server, databases, programs, newer, lost, include)
        for member in members:
            _restore(restoring, session, member)
    spot.write(replace(spot.noted(), whole=True))


def _stage_in_place(
    spot: Spot,
    artifacts: Artifacts,
    session: Session,
    members: Sequence[Member],
    include: Sequence[str],
) -> None:
    """For a role that makes no databases: unpack, and prove in a scratch server if there is one."""
    if include:
        raise UsageError(
            "Some tables alone are restored into a database of their own, and the role may not "
            "make one.",
            remedy="ALTER ROLE … CREATEDB, or restore with --to a server where it may.",
        )
    live = oids(session, [one.live for one in members])
    postgres_in_place.stage(spot, artifacts, members, list(live))
    try:
        stage(proof_spot(spot), artifacts)
    except PersonNeeded:
        discard(proof_spot(spot))


def proof_spot(spot: Spot) -> Spot:
    """Where a snapshot is proven that is restored into what is live."""
    home, notes = spot.workspace / "proof", spot.workspace / "proof-notes"
    return Spot(spot.source, str(home), spot.token, notes)


def standing(spot: Spot) -> Spot:
    """Where what was staged can be looked at. Raises PersonNeeded where it cannot be yet."""
    if not spot.noted().in_place or postgres_in_place.progress(spot) == "done":
        return spot
    proof = proof_spot(spot)
    if proof.note() is None:
        raise PersonNeeded(
            "The role makes no databases, and this machine runs no scratch server: the snapshot "
            "can be proven only once it is in its place.",
            remedy="ALTER ROLE … CREATEDB, or install the server's programs: `holdfast doctor` "
            "says how.",
        )
    return proof


def start_scratch(
    spot: Spot, fingerprint: Fingerprint, databases: Mapping[str, Mapping[str, Any]]
) -> None:
    """Start the scratch server, where a restore goes to one."""
    if spot.home is None:
        return
    major = postgres_checks.major_of(fingerprint.get("server"))
    programs = scratch_programs(spot.source, major)
    cluster = postgres_scratch.start(spot.home, Path(programs.folder), _encoding_of(databases))
    with open_session(scratch_server(spot.home)) as session:
        postgres_checks.require_room(session, databases, cluster.data)


def _encoding_of(databases: Mapping[str, Mapping[str, Any]]) -> str:
    """That in which a scratch server should have the names of roles: the bytes of one are the same
    in all databases, whatever their encodings.
    """
    found = {str(one.get("encoding") or "UTF8") for one in databases.values()}
    # A database is connected to by its name in UTF-8.
    return found.pop() if len(found) == 1 and "".join(databases).isascii() else "UTF8"


def scratch_programs(source: Server, major: int) -> Programs:
    """The programs of a server of that major, or of the next one.

    Raises PersonNeeded when this machine has none.
    """
    where = Server(bin="" if source.exec else source.bin, folder=source.folder)
    found = {one.folder: one for one in available(where, "initdb") if one.major >= major}
    if where.bin and not found:
        found = {one.folder: one for one in available(Server(), "initdb") if one.major >= major}
    if not found:
        raise PersonNeeded(
            f"This machine has no server of PostgreSQL {major} to try the restore in.",
            remedy=f"apt-get install postgresql-{major} (from apt.postgresql.org where the system "
            "has none); it need not run.",
        )
    return min(found.values(), key=lambda one: one.major)


def discard(spot: Spot) -> None:
    """Remove what was staged and not swapped in."""
    note = spot.note()
    if note is not None and note.in_place:
        discard(proof_spot(spot))
    elif note is not None and spot.home is None:
        _drop_staged(spot, note)
    elif spot.home is not None and postgres_swap.progress(spot) == "absent":
        postgres_scratch.stop(spot.home)
    # First, or what is gone would look as if it had never been exchanged.
    postgres_swap.forget(spot)
    remove_tree(spot.workspace)


def _drop_staged(spot: Spot, note: Note) -> None:
    with maintenance(spot.server) as session:
        for name in oids(session, [one.staged for one in note.members]):
            drop_database(session, name)
        standing = oids(session, [one.live for one in note.members]).values()
        if not {one.oid for one in note.members} & set(standing):
            postgres_roles.drop_made(session, note.roles)


def _globals(artifacts: Artifacts) -> str:
    if GLOBALS not in artifacts.parts:
        return ""
    text = b"".join(artifacts.read(GLOBALS))
    encoding = _ENCODING.search(text)
    return postgres_toc.as_text(text, encoding[1].decode() if encoding else "UTF8")


def _restore(restoring: Restoring, session: Session, member: Member) -> None:
    spot = restoring.spot
    described = restoring.databases[member.origin]
    remove_tree(spot.files)
    make_folder(spot.files)
    try:
        dump, unpacked = _unpacking(restoring, member)
        try:
            _fill(restoring, session, member, dump, unpacked)
        except OutOfOrder:
            drop_database(session, member.staged)
            _fill(restoring, session, member, dump, None, one_by_one=True)
    except OSError as error:
        raise StepFailed(
            f"{member.origin} cannot be unpacked: {error.strerror or error}.",
            remedy="Free some room on the disk of the state folder.",
        ) from error
    finally:
        remove_tree(spot.files)
    with open_session(restoring.server.database(member.staged)) as inside:
        analyze(inside)
    settings = described.get("settings") or {}
    postgres_roles.apply_settings(session, member.staged, settings, lenient=restoring.scratch)


def _fill(
    restoring: Restoring,
    session: Session,
    member: Member,
    dump: Path,
    unpacked: Iterator[bytes] | None,
    *,
    one_by_one: bool = False,
) -> None:
    """Make the database, and load the dump into it."""
    spot, described = restoring.spot, restoring.databases[member.origin]
    into = restoring.server.database(member.staged)
    exact = create_database(session, member.staged, described, scratch=restoring.scratch)
    found = oids(session, [member.staged])[member.staged]
    spot.write(created(spot.noted(), member.staged, found))
    describe(session, member.staged, described, scratch=restoring.scratch)
    try:
        encoding = str(described.get("encoding") or "UTF8")
        contents = postgres_toc.read(restoring.server, restoring.programs, dump, encoding)
        entries = contents.entries
        expect_public(into, contents.dumped_by)
        if not restoring.include and any(one.text.startswith(PUBLIC) for one in entries):
            own_public(into, described)
        if not (described["partial"] or any(e.text.startswith(PUBLIC_COMMENT) for e in entries)):
            uncomment_public(into)
        make_extensions(into, missing_extensions(entries, described))
        make_schemas(into, missing_schemas(entries, described), described)
        _load_in_turns(restoring, member, dump, entries, unpacked, one_by_one=one_by_one)
    except OutOfOrder:
        raise
    except StepFailed as error:
        for _ in unpacked or ():
            pass  # what was stored is judged at its end, and may be why
        if restoring.scratch:
            _excuse(member, error, exact, restoring.newer)
        raise


def _load_in_turns(
    restoring: Restoring,
    member: Member,
    dump: Path,
    entries: Sequence[postgres_toc.Entry],
    unpacked: Iterator[bytes] | None,
    *,
    one_by_one: bool,
) -> None:
    spot, described = restoring.spot, restoring.databases[member.origin]
    into = restoring.server.database(member.staged)
    money = bool(described.get("money"))
    load_some = functools.partial(load, into, restoring.programs, dump, money=money)
    wanted = wanted_entries(entries, described, restoring.include, owns_public=owns_public(into))
    turns = postgres_toc.turns(entries, wanted)
    load_some(
        listed=None if turns.first is None else write_list(spot.files, turns.first),
        no_tablespaces=restoring.no_tablespaces,
        unpacked=unpacked,
        one_by_one=one_by_one,
    )
    if not restoring.include:
        open_renamed(into, described)
    failed = compute(load_some, spot.files, turns.computed)
    note = spot.noted()
    spot.write(replace(note, uncomputed=(*note.uncomputed, *failed)))
    if turns.last:
        load_some(listed=write_list(spot.files, turns.last), one_by_one=True)


def _unpacking(restoring: Restoring, member: Member) -> tuple[Path, Iterator[bytes] | None]:
    """The dump in a file; and its bytes, where it is restored while it is being written there."""
    chunks = restoring.artifacts.read(member.part)
    described = restoring.databases[member.origin]
    part = restoring.include or described["partial"] or restoring.server.exec
    if part or not mostly_one_table(described):
        return decode(chunks, restoring.spot.files), None
    return unpacking(chunks, restoring.spot.files)


def _excuse(member: Member, error: StepFailed, exact: bool, newer: int) -> None:
    """Raise PersonNeeded where a scratch server failed for a reason that is this machine's."""
    if not exact:
        raise PersonNeeded(
            f"The scratch server lacks the locale of {member.origin}, and may have failed for "
            f"that: {error.message}",
            remedy="Make the locale on this machine (locale-gen), and try again.",
        ) from error
    if newer and REFUSED in error.message:
        raise PersonNeeded(
            f"The scratch server is PostgreSQL {newer}, newer than that of {member.origin}, and "
            f"may have failed for that: {error.message}",
            remedy="Install the server of the snapshot's version on this machine: "
            "`holdfast doctor` says how.",
        ) from error
    if any(words in error.message for words in NOT_ITS_FAULT):
        raise PersonNeeded(
            f"The scratch server could not take {member.origin}: {error.message}",
            remedy=error.remedy,
        ) from error
