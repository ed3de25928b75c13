"""Roles and tablespaces of a snapshot, made where they are missing; what exists is left as it is.

What `pg_dumpall --globals-only` wrote is executed statement by statement, by a session and not by
`psql`: only statements that are known here run, and no meta-command can.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_powers import Powers, invent
from runner.source.postgres_session import Session, identifier, literal

ROLES = "SELECT rolname FROM pg_catalog.pg_roles"
TABLESPACES = "SELECT spcname FROM pg_catalog.pg_tablespace"

_THERE_ALREADY = ("42710", "23505")  # the second, where both were made at once

_PIECE = re.compile(
    r"""[eE]'(?:\\.|[^'\\]|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | ;
    | [^'"\-;eE]+ | .""",
    re.DOTALL | re.VERBOSE,
)
_RESTRICT = re.compile(r"^\\(?:un)?restrict [A-Za-z0-9]+$", re.MULTILINE)

_NAME = r'(?P<{}>"(?:[^"]|"")*"|[^\s;"(),]+)'
_ROLE = re.compile(r"(CREATE|ALTER|COMMENT ON) ROLE " + _NAME.format("role"))
_MEMBER = re.compile(r"GRANT {} TO {}".format(_NAME.format("role"), _NAME.format("member")))
_TABLESPACE = re.compile(r"(CREATE|ALTER|COMMENT ON) TABLESPACE " + _NAME.format("space"))
_ON_TABLESPACE = re.compile(r"(GRANT|REVOKE) [A-Z ,]+ ON TABLESPACE " + _NAME.format("space"))
_ON_PARAMETER = re.compile(r"GRANT [A-Z ,]+ ON PARAMETER (?P<rest>.+) TO " + _NAME.format("role"))


@dataclass(frozen=True)
class Statement:
    """One statement of a globals' dump that may run, and whom it concerns."""

    text: str
    creates: str = ""  # the role or tablespace that it makes
    concerns: tuple[str, ...] = ()  # it runs when one of these was made
    tablespace: bool = False


def statements(text: str) -> Iterator[Statement]:
    """The statements of a globals' dump that are known; all others are left out."""
    for one in _split(_RESTRICT.sub("", text)):
        known = _known(one)
        if known is not None:
            yield known


def names_in(text: str) -> set[str]:
    """The roles that a globals' dump makes."""
    return {one.creates for one in statements(text) if one.creates and not one.tablespace}


def make_missing(
    session: Session,
    text: str,
    wanted: Collection[str],
    *,
    powers: Powers = MappingProxyType({}),
    scratch: bool = False,
) -> list[str]:
    """Make the roles and tablespaces of a globals' dump that are missing; return those roles.

    In a scratch server the roles in `wanted` that the dump does not hold are made too, with their
    `powers`, and no tablespace: its folder may be in use by a real server. What fails there is left
    out.
    """
    made: list[str] = []
    spaces = _names(session, TABLESPACES)
    existing = _names(session, ROLES)
    fresh: set[str] = set()
    for one in statements(text):
        if one.tablespace:
            if not scratch:
                _make_tablespace(session, one, spaces, fresh)
        elif one.creates:
            if one.creates not in existing and _make_role(session, one):
                made.append(one.creates)
        elif set(one.concerns) & set(made):
            _execute(session, one.text, lenient=scratch)
    if scratch:
        made += invent(session, wanted, existing | set(made), powers)
    return made


def missing_roles(session: Session, wanted: Collection[str]) -> list[str]:
    """Those of the wanted roles that the server has not."""
    return sorted(set(wanted) - _names(session, ROLES))


def drop_made(session: Session, made: Collection[str]) -> None:
    """Drop roles that were made for a restore that came to nothing; one in use stays."""
    for name in reversed(list(made)):
        _execute(session, f"DROP ROLE IF EXISTS {identifier(name)}", lenient=True)


def apply_settings(
    session: Session,
    database: str,
    settings: Mapping[str, Sequence[str]],
    *,
    lenient: bool = False,
) -> None:
    """Give a database its settings, each as `name=value`, by role; the empty one is everybody."""
    for role, setting in ((role, one) for role, many in settings.items() for one in many):
        name, _, stored = setting.partition("=")
        whom = f"ROLE {identifier(role)} IN " if role else ""
        text = f"ALTER {whom}DATABASE {identifier(database)} SET {_dotted(name)} TO "
        _execute(session, text + _setting(name, stored), lenient=lenient)


# Their value is a list of names, each quoted on its own.
_LISTS = ("search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries")
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|$)')


def _setting(name: str, stored: str) -> str:
    if name.lower() not in _LISTS:
        return literal(stored)
    found = [
        quoted.replace('""', '"') if quoted else plain
        for quoted, plain in _ELEMENT.findall(stored)
        if quoted or plain
    ]
    return ", ".join(map(literal, found)) or "''"


def _dotted(name: str) -> str:
    return ".".join(identifier(piece) for piece in name.split("."))


def _make_role(session: Session, one: Statement) -> bool:
    """Whether it was missing; another source of the same server may have been quicker."""
    try:
        session.execute(one.text)
    except ServerSaid as error:
        if error.state not in _THERE_ALREADY:
            raise
        return False
    return True


def _make_tablespace(session: Session, one: Statement, existing: set[str], fresh: set[str]) -> None:
    """Make a tablespace if its folder is there; what lay in a missing one goes to the default."""
    if one.creates:
        if one.creates not in existing and _execute(session, one.text, lenient=True):
            fresh.add(one.creates)
    elif set(one.concerns) & fresh:
        _execute(session, one.text, lenient=True)


def _execute(session: Session, text: str, *, lenient: bool) -> bool:
    try:
        session.execute(text)
    except ServerSaid:
        if not lenient:
            raise
        return False
    return True


def _names(session: Session, query: str) -> set[str]:
    return {str(name) for (name,) in session.rows(query)}


def _split(text: str) -> Iterator[str]:
    """Statements, without comments; names and strings are kept whole."""
    pieces: list[str] = []
    for piece in _PIECE.findall(text):
        if piece == ";":
            yield "".join(pieces).strip()
            pieces = []
        elif not piece.startswith("--"):
            pieces.append(piece)


def _known(text: str) -> Statement | None:
    if found := _ROLE.match(text):
        role = _plain(found["role"])
        if text.startswith("CREATE"):
            return Statement(text, creates=role)
        return Statement(text, concerns=(role,))
    if found := _TABLESPACE.match(text):
        space = _plain(found["space"])
        if text.startswith("CREATE"):
            return Statement(text, creates=space, tablespace=True)
        return Statement(text, concerns=(space,), tablespace=True)
    if found := _ON_TABLESPACE.match(text):
        return Statement(text, concerns=(_plain(found["space"]),), tablespace=True)
    if found := _ON_PARAMETER.match(text):
        return Statement(text, concerns=(_plain(found["role"]),))
    if found := _MEMBER.match(text):
        # Who granted it once need not be allowed to here.
        text = re.sub(r" GRANTED BY .*", "", text, flags=re.DOTALL)
        return Statement(text, concerns=(_plain(found["role"]), _plain(found["member"])))
    return None


def _plain(name: str) -> str:
    """A name as the catalog has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
