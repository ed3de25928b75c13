"""Errors a person can act on, and the exit code each one means.

Every error that Holdfast expects is one of these: it says what is wrong, where, and what to
do about it. Anything else that reaches the top is a bug.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar


class HoldfastError(Exception):
    """What went wrong, where, and the remedy.

    `kind` is the stable name that `--json` prints, `exit_code` the process's exit status.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        step: str | None = None,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.step = step
        self.file = file
        self.line = line
        self.column = column

    def as_json(self) -> dict[str, Any]:
        """The `error` object of the JSON contract."""
        found = {"step": self.step, "file": self.file, "line": self.line, "column": self.column}
        between = "\n" if "\n" in self.message else " "
        text = f"{self.message}{between}{self.remedy}".strip()
        return {"kind": self.kind, "message": text} | {
            key: value for key, value in found.items() if value is not None
        }


class UsageError(HoldfastError):
    """A wrong flag, an unknown name: nothing was done."""

    kind = "usage"
    exit_code = 1


class SpecError(HoldfastError):
    """The spec is wrong. `problems` holds every error found, in the order of the file."""

    kind = "spec"
    exit_code = 3

    def __init__(self, message: str, *, problems: Sequence[Any] = (), **where: Any) -> None:
        super().__init__(message, **where)
        self.problems = tuple(problems)


class StepFailed(HoldfastError):
    """A step, a check or a verification failed. `outputs` is what it found out all the same.

    `local` says that something was lacking here: room, memory, a program, a right, a connection.
    """

    kind = "failed"
    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        outputs: Mapping[str, Any] | None = None,
        local: bool = False,
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.outputs = dict(outputs or {})
        self.local = local


def is_local(error: BaseException) -> bool:
    """Whether an error, or what caused it, says something of this machine and not of what was
    stored.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError | MemoryError) or getattr(cause, "local", False):
            return True
        cause = cause.__cause__
    return False


def lacking(error: BaseException) -> StepFailed | None:
    """What to tell of an error that says only that this machine, or what it lets this user have,
    is too small; None for any other.
    """
    unmapped = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if isinstance(error, MemoryError) or unmapped:
        return StepFailed(
            "There was not enough memory.",
            remedy="Let it have more (`ulimit -v`, the container's limit), or set `parallel: 1`.",
            local=True,
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return StepFailed(
            "The machine lets no further thread be started.",
            remedy="Let this user have more of them (`ulimit -u`, `pids` of the container) or more "
            "memory (`ulimit -v`), or set `parallel: 1`.",
            local=True,
        )
    return None


def refused(error: OSError) -> StepFailed:
    """What to tell of something that the system refused, and that nobody foresaw."""
    remedy = "See permissions and free space."
    owners = _owners_of(error.filename) if isinstance(error, PermissionError) else []
    if owners and owners[0] != os.geteuid():
        me, other = user_name(os.geteuid()), user_name(owners[0])
        remedy = f"It belongs to {other}, and this is {me}."
        if os.geteuid() in owners:  # so another one wrote into a folder of this user
            remedy = (
                f"{remedy[:-1]}: let one user alone run Holdfast here. To hand over what another "
                f"one left: sudo chown -R {me} on the state folder, and on the folders of local "
                "targets."
            )
    return StepFailed(f"The system refused: {error}.", remedy=remedy)


def _owners_of(path: object) -> list[int]:
    """To whom a file belongs and the folders above it, as far as they can be seen."""
    owners = []
    if isinstance(path, str) and path.startswith("/"):
        for one in (Path(path), *Path(path).parents):
            with suppress(OSError):
                owners.append(one.lstat().st_uid)
    return owners


def user_name(number: int) -> str:
    """A user's name; the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class ObjectiveMissed(HoldfastError):
    """An RTO or RPO is missed."""

    kind = "objective"
    exit_code = 5


class Locked(HoldfastError):
    """Another run holds what this one needs."""

    kind = "locked"
    exit_code = 6


class PersonNeeded(HoldfastError):
    """A person must decide: could not verify, a missing confirmation, a manual step."""

    kind = "person"
    exit_code = 7


class Interrupted(HoldfastError):
    """The run was told to stop (SIGINT, SIGTERM)."""

    kind = "interrupted"
    exit_code = 130
