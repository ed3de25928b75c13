"""The databases of a server: which of them are wanted, and under which names they are stored."""

from __future__ import annotations

import hashlib
import re

from runner.errors import StepFailed
from runner.source.postgres_session import Session, value

_DATABASES = """
SELECT datname, datallowconn, datistemplate, datconnlimit = -2,
       pg_catalog.has_database_privilege(datname, 'CONNECT')
FROM pg_catalog.pg_database ORDER BY datname COLLATE "C"
"""

# The administration's own, where a provider runs the server; nobody else may look into them.
PROVIDERS = ("rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys", "alloydbadmin")

# What a restore of ours made and keeps: no data of its own.
_OURS = re.compile(r"holdfast_[a-z0-9]+_\d+|.+_before_\d{8}t\d{6}z[a-z0-9]*", re.DOTALL)

_PART = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_RESERVED = ("globals", "fingerprint")


def database_names(session: Session, wanted: str | tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The databases that a spec wants, and notes on those that are left out.

    `wanted` is `all`, names, or empty for that of the session. Raises StepFailed for a name that
    is none, and when nothing is left.
    """
    if not wanted:
        return [value(session, "SELECT pg_catalog.current_database()")], []
    rows = session.rows(_DATABASES)
    if wanted != "all":
        known = {name for name, *_ in rows}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise StepFailed(
                f"There is no database named {', '.join(missing)} where "
                f"{session.server.describe()} is.",
                remedy="Correct `databases`: `psql -l` lists them.",
            )
        return list(wanted), []
    names, notes = [], []
    for name, open_, template, broken, allowed in rows:
        if open_ == "f" or template == "t" or name in PROVIDERS:
            continue
        if broken == "t":
            notes.append(f"{name}: left out, a DROP DATABASE of it was interrupted")
        elif allowed == "f":
            notes.append(f"{name}: left out, the role may not connect to it")
        elif _OURS.fullmatch(str(name)):
            notes.append(f"{name}: left out, a restore made it")
        else:
            names.append(str(name))
    if not names:
        raise StepFailed(f"There is no database to back up where {session.server.describe()} is.")
    return names, notes


def part_of(name: str) -> str:
    """The name of a database's artifact: the same where that is safe, else alike and unique."""
    if _PART.fullmatch(name) and name not in _RESERVED:
        return name
    alike = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "database"
    return f"{alike}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
