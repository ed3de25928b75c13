"""What is looked at before a restore touches anything: versions, rights, roles, extensions, room.

On a scratch server what is missing says nothing of the backup: PersonNeeded, so that it counts as
not verified. On a real one it is StepFailed with the remedy.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import HoldfastError, PersonNeeded, StepFailed
from runner.source.postgres_powers import Powers
from runner.source.postgres_roles import TABLESPACES, missing_roles
from runner.source.postgres_session import Session, identifier, literal, value, version_of

SPARE = 64 * 1024 * 1024  # bytes left free beside a restored database

_EXTENSIONS = "SELECT name FROM pg_catalog.pg_available_extensions"
_RIGHTS = (
    "SELECT rolsuper, rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
)
# Only some may ask for it; the others find no such row.
_DATA = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'"


@dataclass(frozen=True)
class Looked:
    """What a server is and what the role may do there."""

    version: int  # 150018
    superuser: bool
    creates: bool  # databases

    @property
    def major(self) -> int:
        """The major version."""
        return self.version // 10000


def look(session: Session) -> Looked:
    """What there is to know of a server."""
    superuser, creates = session.rows(_RIGHTS)[0]
    return Looked(version_of(session), superuser == "t", creates == "t")


def major_of(version: Any) -> int:
    """15 of `15.18`; 0 of nothing."""
    digits = str(version or "").partition(".")[0].strip()
    return int(digits) if digits.isdigit() else 0


def require(
    session: Session,
    looked: Looked,
    databases: Mapping[str, Mapping[str, Any]],
    *,
    version: Any,
    coming: Collection[str] = (),
    scratch: bool = False,
    beside: bool = True,
) -> None:
    """Raise unless the server can take these databases, which a fingerprint describes.

    `version` is that of the server they are from, `coming` the roles that are to be made;
    `beside` the live ones, or in their place.
    """
    refuse: type[HoldfastError] = PersonNeeded if scratch else StepFailed
    older = looked.major < major_of(version)
    if older:
        raise refuse(
            f"The snapshot is of PostgreSQL {version}, and the server is older: {looked.major}.",
            remedy=f"Restore to a server of PostgreSQL {major_of(version)} or later.",
        )
    extensions = {name for one in databases.values() for name in one.get("extensions") or {}}
    missing = sorted(extensions - {str(name) for (name,) in session.rows(_EXTENSIONS)})
    if missing:
        raise refuse(
            f"The server lacks what the database needs: the extension {', '.join(missing)}.",
            remedy="Install its package where the server is, and try again.",
        )
    if scratch:
        return
    roles = roles_of(databases)
    absent = [one for one in missing_roles(session, roles) if one not in coming]
    if absent:
        raise StepFailed(
            f"The server has no role {', '.join(absent)}, which owns or may use what is restored.",
            remedy=f"Make it: CREATE ROLE {identifier(absent[0])}. With `globals: true` a "
            "snapshot holds the roles too.",
        )
    if not beside:
        return
    if not looked.superuser:
        owners = owners_of(databases).union(*map(object_owners, databases.values()))
        _require_membership(session, owners, coming)
    require_room(session, databases)


def roles_of(databases: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Every role that the databases need."""
    used = owners_of(databases)
    for one in databases.values():
        used |= set(one.get("owners") or ()) | set(one.get("settings") or ())
        used |= {role for role, *_ in one.get("database", {}).get("grants") or ()}
    return used - {""}  # all roles


def powers_of(databases: Mapping[str, Mapping[str, Any]]) -> Powers:
    """What the roles that the databases need might do; nothing in a snapshot of before."""
    return {
        role: might for one in databases.values() for role, might in one.get("powers", {}).items()
    }


def owners_of(databases: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The owners of the databases themselves."""
    owners = (one.get("database", {}).get("owner") for one in databases.values())
    return {str(owner) for owner in owners if owner}


def object_owners(described: Mapping[str, Any]) -> set[str]:
    """Whose the objects of a database are, but for what comes with the database."""
    return {
        owner
        for name, (owner, _) in described.get("rights", {}).items()
        if owner and not owner.startswith("pg_") and name != "schema public"
        if not name.startswith("extension ")
    }


def needs_default_tablespace(session: Session, databases: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a tablespace is missing, so that its tables must go to the default one."""
    wanted = {str(name) for one in databases.values() for name in one.get("tablespaces") or ()}
    return not wanted <= {str(name) for (name,) in session.rows(TABLESPACES)}


def require_room(
    session: Session, databases: Mapping[str, Mapping[str, Any]], data: Path | None = None
) -> None:
    """Raise StepFailed where the server's disk can be seen from here and is too small."""
    needed = sum(int(one.get("bytes") or 0) for one in databases.values())
    if data is None:
        folder = next((str(one) for (one,) in session.rows(_DATA)), "")
        host = session.server.keywords().get("host", "")
        if not folder or session.server.exec or host[:1] not in ("", "/"):
            return
        data = Path(folder)
    try:
        free = shutil.disk_usage(data).free
    except OSError:
        return
    if free < needed + SPARE:
        raise StepFailed(
            f"The server's disk at {data} has {free:,} bytes free, and {needed + SPARE:,} are "
            "needed beside what is there.",
            remedy="Free some room there, or restore to another server with --to.",
        )


def _require_membership(session: Session, owners: Collection[str], coming: Collection[str]) -> None:
    foreign = []
    for name in sorted(set(owners) - set(coming)):
        asked = f"SELECT pg_catalog.pg_has_role({literal(name)}, 'MEMBER')"
        if value(session, asked) != "t":
            foreign.append(name)
    if foreign:
        raise StepFailed(
            f"The role may not act as {', '.join(foreign)}, to whom what is restored belongs.",
            remedy=f"GRANT {identifier(foreign[0])} TO it, or restore as a superuser.",
        )
