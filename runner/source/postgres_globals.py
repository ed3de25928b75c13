"""What belongs to no database of a server: roles, their memberships and settings, tablespaces."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from runner.source.postgres_programs import Programs, run_client
from runner.source.postgres_session import Session, value
from runner.source.postgres_tables import printable

GLOBALS = "globals"  # the part of its artifact

_ROLES = """
SELECT rolname, pg_catalog.concat_ws(' ',
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
         CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcanlogin THEN 'LOGIN' END,
         CASE WHEN NOT rolinherit THEN 'NOINHERIT' END,
         CASE WHEN rolreplication THEN 'REPLICATION' END,
         CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
         CASE WHEN rolconnlimit >= 0 THEN pg_catalog.concat('CONNECTION LIMIT ', rolconnlimit) END),
       pg_catalog.array_to_json(rolconfig)
FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY 1
"""
_MEMBERS = """
SELECT DISTINCT pg_catalog.pg_get_userbyid(m.roleid), pg_catalog.pg_get_userbyid(m.member)
FROM pg_catalog.pg_auth_members m WHERE m.member >= 16384 ORDER BY 1, 2
"""
_TABLESPACES = """
SELECT spcname, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace
WHERE spcname !~ '^pg_' ORDER BY 1
"""
_TIMEOUT = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"
_MAY_READ_PASSWORDS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"


def globals_text(session: Session, programs: Programs) -> tuple[bytes, list[str]]:
    """What pg_dumpall writes, and notes on what is not in it."""
    arguments = ["--globals-only", "--no-password", "--quote-all-identifiers"]
    notes = []
    if value(session, "SELECT pg_catalog.current_setting('client_encoding')") == "UTF8":
        arguments.append("--encoding=UTF8")
    if value(session, _MAY_READ_PASSWORDS) != "t":
        arguments.append("--no-role-passwords")
        notes.append("globals: without passwords, the role may not read pg_authid")
    server = session.server.having(without_limit(session))
    return run_client(server, programs, "pg_dumpall", *arguments).stdout, notes


def without_limit(session: Session) -> dict[str, str]:
    """What a program's sessions begin with where the role or the database limits a statement's
    time: pg_dumpall never lifts that, and pg_dump not before its first statement.
    """
    limited = value(session, _TIMEOUT) != "0"
    return {"statement_timeout": "0"} if limited else {}


def globals_fingerprint(session: Session) -> dict[str, Any]:
    """What there is, by name: roles, who is a member of what, where tablespaces are."""
    roles = session.rows(_ROLES)
    return {
        "roles": [printable(name or "") for name, _, _ in roles],
        "attributes": {printable(name or ""): attributes for name, attributes, _ in roles},
        "settings": {
            printable(name or ""): [printable(one) for one in json.loads(settings)]
            for name, _, settings in roles
            if settings is not None
        },
        "members": [
            [printable(role or ""), printable(member or "")]
            for role, member in session.rows(_MEMBERS)
        ],
        "tablespaces": {
            printable(name or ""): printable(place or "")
            for name, place in session.rows(_TABLESPACES)
        },
    }


def compare_globals(
    expected: Mapping[str, Any], found: Mapping[str, Any], made: Collection[str]
) -> Iterator[str]:
    """What the roles in `made`, which a restore has made, lack or have otherwise. All others were
    there before, and were left as they are.
    """
    for name in expected["roles"]:
        if name not in made:
            continue
        wanted, there = (one.get("attributes", {}).get(name) for one in (expected, found))
        if wanted is not None and there != wanted:
            yield f"role {name} is {there or 'without rights'} instead of {wanted or 'without'}"
        for setting in expected.get("settings", {}).get(name, ()):
            if setting not in found.get("settings", {}).get(name, ()):
                yield f"role {name} lacks its setting {setting.partition('=')[0]}"
    for pair in expected["members"]:
        if not set(made).isdisjoint(pair) and pair not in found["members"]:
            yield f"role {pair[1]} is no member of {pair[0]}"
