"""A question in SQL, asked of a database so that it can change nothing there."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from runner.source import Refused
from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_server import Server
from runner.source.postgres_session import Session, open_session

# What a wrong or incomplete content answers: no such database, table, column, schema, function;
# damage. Other errors say something of the question, of the role or of the moment.
_SAYS_NO = ("3D000", "42P01", "42703", "3F000", "42883", "XX001", "XX002")
_NO_SUBQUERY = ("42601", "42P10")  # SHOW, EXPLAIN: only by themselves


def ask(server: Server, question: str, timeout: float) -> Any:
    """The first column of the first row that `question` answers; None where there is none.

    A number is a number and true is True. Raises Refused when the content itself says no,
    StepFailed when it could not be asked or took longer than `timeout` seconds.
    """
    try:
        with open_session(server) as session:
            # What the database declares counts again, as for the application.
            session.execute("RESET ALL")
            session.execute("SET client_encoding = 'UTF8'")
            session.execute("SET default_transaction_read_only = on")
            session.execute(f"SET statement_timeout = {max(1, round(timeout * 1000))}")
            return _answer(session, question.strip().rstrip(";"))
    except ServerSaid as error:
        if error.state in _SAYS_NO:
            raise Refused(error.message, remedy=error.remedy) from error
        raise


def _answer(session: Session, question: str) -> Any:
    session.execute("BEGIN READ ONLY")
    try:
        # As JSON a value keeps its type; the line break ends a comment in the question.
        rows = session.rows(
            f"SELECT pg_catalog.row_to_json(q) FROM ({question}\n) q LIMIT 1"  # noqa: S608
        )
    except ServerSaid as error:
        session.execute("ROLLBACK")
        if error.state not in _NO_SUBQUERY:
            raise
        session.execute("BEGIN READ ONLY")
        plain = session.rows(question)
        return plain[0][0] if plain and plain[0] else None
    if not rows:
        return None
    pairs = json.loads(rows[0][0] or "{}", object_pairs_hook=list, parse_float=_number)
    return pairs[0][1] if pairs else None


def _number(text: str) -> float | str:
    """A number, unless a float cannot tell it from its neighbour: then its text."""
    return float(text) if Decimal(repr(float(text))) == Decimal(text) else text
