"""An empty database made like the one that was captured, and one dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from runner.errors import StepFailed
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_session import Session, identifier, literal


def create_database(
    session: Session, name: str, described: Mapping[str, Any], *, scratch: bool
) -> bool:
    """Create an empty database as another was; return whether its locale is the same.

    Only a scratch server makes do with another.
    """
    words = f"CREATE DATABASE {identifier(name)} TEMPLATE template0"
    owner = described.get("owner")
    if owner:
        words += f" OWNER {identifier(owner)}"
    words += f" ENCODING {literal(described.get('encoding') or 'UTF8')}"
    try:
        session.execute(words + locale_words(described.get("locale") or {}))
    except ServerSaid as error:
        if not scratch:
            raise StepFailed(
                f"A database like {name} cannot be made: {error.message}",
                remedy=error.remedy
                or "Make the locale where the server is (locale-gen), and restart the server.",
            ) from error
        session.execute(f"{words} LC_COLLATE 'C' LC_CTYPE 'C'")
        return False
    return True


def locale_words(locale: Mapping[str, Any]) -> str:
    """The clauses of CREATE DATABASE that give it a locale."""
    clauses = {"LC_COLLATE": locale.get("collate"), "LC_CTYPE": locale.get("ctype")}
    provider = locale.get("provider") or "libc"
    if provider != "libc":
        clauses["LOCALE_PROVIDER"] = provider
        clauses["ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"] = locale.get("locale")
        clauses["ICU_RULES"] = locale.get("rules")
    return "".join(f" {name} {literal(text)}" for name, text in clauses.items() if text)


def describe(
    session: Session, database: str, described: Mapping[str, Any], *, scratch: bool
) -> None:
    """Give a new database the rights and the comment that the captured one had."""
    name = identifier(database)
    comment = described.get("comment")
    if comment:
        session.execute(f"COMMENT ON DATABASE {name} IS {literal(comment)}")
    if not described.get("acl"):
        return
    session.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    asked = (
        "SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' "  # noqa: S608
        "ELSE pg_catalog.quote_ident(r.rolname) END, a.privilege_type, a.is_grantable "
        f"FROM pg_catalog.aclexplode({literal(described['acl'])}::pg_catalog.aclitem[]) a "
        "LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee"
    )
    with contextlib.ExitStack() as stack:
        if scratch:
            stack.enter_context(contextlib.suppress(ServerSaid))
        for grantee, privilege, grantable in session.rows(asked):
            option = " WITH GRANT OPTION" if grantable == "t" else ""
            session.execute(f"GRANT {privilege} ON DATABASE {name} TO {grantee}{option}")


def drop_database(session: Session, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    session.rows(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "  # noqa: S608
        f"WHERE datname = {literal(name)} AND pid <> pg_catalog.pg_backend_pid()"
    )
    session.execute(f"DROP DATABASE IF EXISTS {identifier(name)}")
