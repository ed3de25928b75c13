"""An empty database made like the one that was captured, and one dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import StepFailed
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_server import Server
from runner.source.postgres_session import (
    Session,
    identifier,
    literal,
    open_session,
    version_of,
)

# Those that a database must be told of, by the catalog's letter, with the clause of their locale.
PROVIDERS = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}

CLOSED_SINCE = 15  # the major since which a new schema `public` lets nobody else create in it

# It is no right of anybody to name the default one, in which every database is made.
_TABLESPACES = (
    "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname <> 'pg_default' "
    "AND pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
)
_TEMPLATES = "SELECT datname FROM pg_catalog.pg_database WHERE datistemplate"
_PUBLIC = (
    "SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace "
    "WHERE nspname = 'public'"
)
_OWNED = (
    "SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace "
    "WHERE nspname = 'public'"
)
_SUBSCRIPTIONS = (
    "SELECT s.subname FROM pg_catalog.pg_subscription s "
    "JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
)


def create_database(
    session: Session, name: str, described: Mapping[str, Any], *, scratch: bool
) -> bool:
    """Create an empty database as another was; return whether its locale is the same.

    Only a scratch server makes do with another.
    """
    words = f"CREATE DATABASE {identifier(name)} TEMPLATE template0"
    owner = described.get("database", {}).get("owner")
    if owner:
        words += f" OWNER {identifier(owner)}"
    words += f" ENCODING {literal(described.get('encoding') or 'UTF8')}"
    tablespace = described.get("database", {}).get("tablespace")
    if (tablespace,) in session.rows(_TABLESPACES):
        words += f" TABLESPACE {identifier(tablespace)}"
    try:
        session.execute(words + locale_words(described.get("locale") or {}))
    except ServerSaid as error:
        if not scratch:
            raise StepFailed(
                f"A database like {name} cannot be made: {error.message}",
                remedy=error.remedy
                or (
                    "Make the locale where the server is (locale-gen), and restart the server."
                    if "locale" in error.message
                    else ""
                ),
            ) from error
        session.execute(f"{words} LC_COLLATE 'C' LC_CTYPE 'C'")
        return False
    return True


def locale_words(locale: Mapping[str, Any]) -> str:
    """The clauses of CREATE DATABASE that give it a locale."""
    clauses = {"LC_COLLATE": locale.get("collate"), "LC_CTYPE": locale.get("ctype")}
    provider = PROVIDERS.get(str(locale.get("provider")))
    if provider is not None:
        name, clause = provider
        clauses |= {"LOCALE_PROVIDER": name, clause: locale.get("locale")}
        clauses["ICU_RULES"] = locale.get("rules")
    return "".join(f" {name} {literal(text)}" for name, text in clauses.items() if text)


def describe(
    session: Session, database: str, described: Mapping[str, Any], *, scratch: bool
) -> None:
    """Give a new database the rights and the comment that the captured one had."""
    was, name = described.get("database", {}), identifier(database)
    if was.get("comment"):
        session.execute(f"COMMENT ON DATABASE {name} IS {literal(was['comment'])}")
    if was.get("template"):
        session.execute(f"ALTER DATABASE {name} IS_TEMPLATE true")
    if was.get("grants") is None:
        return
    session.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    for role, privilege, grantable in was["grants"]:
        option = " WITH GRANT OPTION" if grantable else ""
        whom = identifier(role) if role else "PUBLIC"
        # A role that could not be made in a scratch server gets nothing there.
        with contextlib.suppress(*([ServerSaid] if scratch else [])):
            session.execute(f"GRANT {privilege} ON DATABASE {name} TO {whom}{option}")


def make_schemas(server: Server, names: Sequence[str], described: Mapping[str, Any]) -> None:
    """Make schemas in a new database, for its owner."""
    if not names:
        return
    owner = described.get("database", {}).get("owner")
    whose = f" AUTHORIZATION {identifier(owner)}" if owner else ""
    with open_session(server) as session:
        for name in names:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(name)}{whose}")


def expect_public(server: Server, dumped_by: int) -> None:
    """Give the schema `public` of a new database the rights that pg_dump of that major takes for
    those of every new one, and therefore leaves out: since 15 not everybody may create there.
    """
    with open_session(server) as session:
        new = version_of(session) // 10_000 >= CLOSED_SINCE
        if not dumped_by or new == (dumped_by >= CLOSED_SINCE) or not session.rows(_PUBLIC):
            return
        verb, whom = ("GRANT", "TO") if new else ("REVOKE", "FROM")
        session.execute(f"{verb} CREATE ON SCHEMA public {whom} PUBLIC")


def own_public(server: Server, described: Mapping[str, Any]) -> None:
    """Give the schema `public` of a new database the owner that it had."""
    owner = described.get("rights", {}).get("schema public", ("", ""))[0]
    with open_session(server) as session:
        if owner and session.rows(_PUBLIC) not in ([], [(owner,)]):
            session.execute(f"ALTER SCHEMA public OWNER TO {identifier(owner)}")


def owns_public(server: Server) -> bool:
    """Whether the role has all rights of the owner of the schema `public`."""
    with open_session(server) as session:
        return session.rows(_OWNED) == [("t",)]


def uncomment_public(server: Server) -> None:
    """Take away the comment that the schema `public` of a new database has, where the role may:
    that there was none, pg_dump does not write down where it quotes all names.
    """
    with contextlib.suppress(ServerSaid), open_session(server) as session:
        session.execute("COMMENT ON SCHEMA public IS NULL")


def open_renamed(server: Server, described: Mapping[str, Any]) -> None:
    """Give everybody again what everybody might do in a schema: of one that was `public` once,
    pg_dump leaves out the rights that it had at first. What may not be given is told by the proof.
    """
    for name, (_, rights) in described.get("rights", {}).items():
        if not name.startswith("schema ") or name == "schema public":
            continue
        schema = identifier(name.removeprefix("schema "))
        for right in {"PUBLIC=USAGE", "PUBLIC=CREATE"} & set(rights.split(",")):
            with contextlib.suppress(ServerSaid), open_session(server) as session:
                session.execute(
                    f"GRANT {right.removeprefix('PUBLIC=')} ON SCHEMA {schema} TO PUBLIC"
                )


def make_extensions(server: Server, schemas: Mapping[str, str]) -> None:
    """Make extensions in a new database, where the role may. A part may do without them."""
    for name, schema in schemas.items():
        with contextlib.suppress(ServerSaid), open_session(server) as session:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
            session.execute(f"CREATE EXTENSION {identifier(name)} SCHEMA {identifier(schema)}")


def drop_database(session: Session, name: str) -> None:
    """Drop a database that a restore made, whoever is connected to it."""
    _forget_subscriptions(session, name)
    session.rows(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "  # noqa: S608
        f"WHERE datname = {literal(name)} AND pid <> pg_catalog.pg_backend_pid()"
    )
    if session.rows(f"{_TEMPLATES} AND datname = {literal(name)}"):
        session.execute(f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false")
    session.execute(f"DROP DATABASE IF EXISTS {identifier(name)}")


def _forget_subscriptions(session: Session, database: str) -> None:
    """Drop the subscriptions of a database: with one, it cannot be dropped itself.

    The slots at the other server are those of the database that was captured, and stay.
    """
    names = session.rows(f"{_SUBSCRIPTIONS} WHERE d.datname = {literal(database)}")
    if not names:
        return
    with open_session(session.server, database) as inside:
        for (name,) in names:
            quoted = identifier(str(name))
            inside.execute(f"ALTER SUBSCRIPTION {quoted} DISABLE")
            inside.execute(f"ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)")
            inside.execute(f"DROP SUBSCRIPTION {quoted}")
