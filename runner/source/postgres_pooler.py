"""Poolers: programs between a client and a server, which hand the server's connections on.

Where that happens after every transaction, what a dump sets stays for the application's next query
(pg_dump empties the search path, and the application no longer finds its tables), and what the
application sets is there for a dump. https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

from runner.errors import StepFailed
from runner.source.postgres_session import Session, value

# Its connections are handed to whoever comes first: one look may show nothing on a busy pooler.
LOOKS = 5
_MARK = "holdfast.mark"  # a setting of nobody's


def require_own_connection(
    session: Session, another: Callable[[], contextlib.AbstractContextManager[Session]]
) -> None:
    """Raise StepFailed where a pooler gives `session` another connection of the server for each
    transaction, or the same as `another` session beside it.
    """
    mark = secrets.token_hex(8)
    with another() as beside:
        session.execute(f"SET {_MARK} = '{mark}'")
        for _ in range(LOOKS):
            if _marked(session) != mark or _marked(beside) == mark:
                raise StepFailed(
                    f"{session.server.describe()} is reached through a pooler that hands its "
                    "connections on after every transaction: what a dump sets would stay there "
                    "for the application's next query.",
                    remedy="Declare the server itself, or where the pooler keeps a connection for "
                    "a whole session.",
                )


def _marked(session: Session) -> str:
    return value(session, f"SELECT pg_catalog.current_setting('{_MARK}', true)")
