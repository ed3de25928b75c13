"""What the roles of a snapshot may do beyond what they own, for a scratch server that has none.

Only a superuser owns an event trigger, and a materialized view is computed with all that its owner
may read, be it as a member of another role. A snapshot with `globals` holds the roles themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_session import Session, identifier
from runner.source.postgres_tables import printable

Powers = Mapping[str, Mapping[str, Any]]  # by role; those that have none are not in it

_ATTRIBUTES = (
    "SELECT rolname, rolsuper, rolbypassrls FROM pg_catalog.pg_roles WHERE rolsuper OR rolbypassrls"
)
_MEMBERS = (
    "SELECT pg_catalog.pg_get_userbyid(member), pg_catalog.pg_get_userbyid(roleid) "
    "FROM pg_catalog.pg_auth_members"
)


def powers(session: Session, roles: Collection[str]) -> dict[str, dict[str, Any]]:
    """What these roles may do, and those of which they are members, at any depth."""
    above: dict[str, list[str]] = {}
    for member, role in session.rows(_MEMBERS):
        above.setdefault(printable(member or ""), []).append(printable(role or ""))
    attributes = {
        printable(role or ""): {"superuser": mighty == "t", "bypassrls": bypasses == "t"}
        for role, mighty, bypasses in session.rows(_ATTRIBUTES)
    }
    found: dict[str, dict[str, Any]] = {}
    seen, waiting = set(roles), sorted(roles)
    while waiting:
        role = waiting.pop()
        groups = sorted(above.get(role, ()))
        if groups or role in attributes:
            found[role] = {**attributes.get(role, {}), "member_of": groups}
        waiting += set(groups) - seen
        seen.update(groups)
    return dict(sorted(found.items()))


def invent(
    session: Session, wanted: Collection[str], existing: Collection[str], given: Powers
) -> list[str]:
    """Make the wanted roles in a scratch server, and those of which they are members, as mighty as
    they were; return those that were made.
    """
    groups = {group for one in given.values() for group in one["member_of"]}
    missing = sorted(({*wanted, *given} | groups) - set(existing))
    made = [name for name in missing if _made(session, name, given.get(name, {}))]
    for name in made:
        for group in given.get(name, {}).get("member_of", ()):
            with contextlib.suppress(ServerSaid):
                session.execute(f"GRANT {identifier(group)} TO {identifier(name)}")
    return made


def _made(session: Session, name: str, might: Mapping[str, Any]) -> bool:
    """Whether it could be made: `pg_…` are the server's own, and a newer one may lack some."""
    words = f"CREATE ROLE {identifier(name)}"
    for attribute in ("superuser", "bypassrls"):
        words += f" {attribute.upper()}" if might.get(attribute) else ""
    if not name.startswith("pg_"):
        session.execute(words)
        return True
    return False
