"""Work on sessions that goes on beside something else, and ends with it."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from runner.source.postgres_errors import ServerSaid
from runner.source.postgres_session import Session

CANCELLED = "57014"

Found = TypeVar("Found")


class Beside(Generic[Found]):
    """Work on sessions in a thread, while something else goes on.

    When the block is left by an error, what the sessions do is cancelled.
    """

    def __init__(self, work: Callable[[], Found], sessions: Sequence[Session]) -> None:
        self._work = work
        self._sessions = sessions
        self._found: list[Found] = []
        self._error: BaseException | None = None
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,))

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised by `check` and `result`
            self._error = error

    def check(self) -> None:
        """Raise what the work has failed with, if it has."""
        if self._error is not None:
            raise self._error

    def result(self) -> Found:
        """What the work came to, once it has ended."""
        self._thread.join()
        self.check()
        return self._found[0]

    def __enter__(self) -> Beside[Found]:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        while kind is not None and self._thread.is_alive():
            for session in self._sessions:
                session.cancel()
            # Again and again: the next query may just have begun.
            self._thread.join(1.0)
        self._thread.join()
        cancelled = isinstance(self._error, ServerSaid) and self._error.state == CANCELLED
        if not cancelled:
            # What else fails then follows from it: a dump whose snapshot is gone.
            self.check()
