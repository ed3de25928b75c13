"""What belongs to no database of a server: roles, their memberships and settings, tablespaces."""

from __future__ import annotations

from typing import Any

from runner.source.postgres_programs import Programs, run_client
from runner.source.postgres_session import Session, value
from runner.source.postgres_tables import printable

GLOBALS = "globals"  # the part of its artifact

_ROLES = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
_MEMBERS = """
SELECT DISTINCT pg_catalog.pg_get_userbyid(m.roleid), pg_catalog.pg_get_userbyid(m.member)
FROM pg_catalog.pg_auth_members m WHERE m.member >= 16384 ORDER BY 1, 2
"""
_TABLESPACES = """
SELECT spcname, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace
WHERE spcname !~ '^pg_' ORDER BY 1
"""
_MAY_READ_PASSWORDS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"


def globals_text(session: Session, programs: Programs) -> tuple[bytes, list[str]]:
    """What pg_dumpall writes, and notes on what is not in it."""
    arguments = ["--globals-only", "--no-password", "--quote-all-identifiers"]
    notes = []
    if value(session, _MAY_READ_PASSWORDS) != "t":
        arguments.append("--no-role-passwords")
        notes.append("globals: without passwords, the role may not read pg_authid")
    return run_client(session.server, programs, "pg_dumpall", *arguments).stdout, notes


def globals_fingerprint(session: Session) -> dict[str, Any]:
    """What there is, by name: roles, who is a member of what, where tablespaces are."""
    return {
        "roles": [printable(name or "") for (name,) in session.rows(_ROLES)],
        "members": [
            [printable(role or ""), printable(member or "")]
            for role, member in session.rows(_MEMBERS)
        ],
        "tablespaces": {
            printable(name or ""): printable(place or "")
            for name, place in session.rows(_TABLESPACES)
        },
    }
