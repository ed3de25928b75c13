"""What `doctor` says of a PostgreSQL source: the server, the programs, the role's rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import HoldfastError
from runner.source import Examined, postgres_checks
from runner.source.postgres_place import maintenance
from runner.source.postgres_programs import programs_for
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, value
from runner.source.postgres_stage import scratch_programs

_READS_ALL = (
    "SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pg_read_all_data') "
    "THEN pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') ELSE false END"
)
_SEES_ALL = "SELECT rolbypassrls OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"


def examine(server: Server, options: Mapping[str, Any]) -> Iterator[Examined]:
    """Look at the server, and at what this machine has to work with it."""
    try:
        with maintenance(server) as session:
            looked = postgres_checks.look(session)
            version = value(session, "SELECT pg_catalog.current_setting('server_version')")
            yield Examined("server", "ok", f"PostgreSQL {version}: {server.describe()}")
            yield from _rights(session, looked, options)
    except HoldfastError as error:
        yield Examined("server", "FAIL", f"{error.message} {error.remedy}".strip())
        return
    for needed in ("pg_dump", "pg_restore"):
        yield _programs(server, looked.major, needed)
    yield _scratch(server, looked.major)


def _rights(
    session: Session, looked: postgres_checks.Looked, options: Mapping[str, Any]
) -> Iterator[Examined]:
    if looked.superuser:
        yield Examined("role", "ok", "is a superuser")
        return
    reads = value(session, _READS_ALL) == "t"
    yield Examined(
        "role",
        "ok",
        "may read everything (pg_read_all_data)" if reads else "reads what it owns or was granted",
    )
    if value(session, _SEES_ALL) != "t":
        yield Examined(
            "row security", "ok", "a table with policies for the role cannot be dumped: BYPASSRLS"
        )
    if not looked.creates:
        yield Examined(
            "restore",
            "warn",
            "the role may not create databases: a restore writes into the live one, after a "
            "safety dump. ALTER ROLE … CREATEDB lets it restore beside, prove and exchange",
        )
    if options.get("globals"):
        yield Examined("globals", "warn", "the role may not read passwords: they are not captured")


def _programs(server: Server, major: int, needed: str) -> Examined:
    try:
        found = programs_for(server, major, needed)
    except HoldfastError as error:
        return Examined(needed, "FAIL", f"{error.message} {error.remedy}".strip())
    return Examined(needed, "ok", f"{found.version}: {found.path(needed)}")


def _scratch(server: Server, major: int) -> Examined:
    """Without a server's programs a backup can be made, and not proven by restoring it."""
    try:
        found = scratch_programs(server, major)
    except HoldfastError as error:
        return Examined("scratch server", "warn", f"{error.message} {error.remedy}".strip())
    return Examined("scratch server", "ok", f"{found.version}: {found.path('initdb')}")
