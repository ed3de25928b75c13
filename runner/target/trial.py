"""Whether a target keeps what is written to it, tried with a small object that does not stay."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable

from runner.errors import StepFailed

# One name for all: where nobody may delete, it is the only thing that is left behind.
PROBE = ".check.partial"
CONTENT = b"whole"

ATTEMPTS = 8
LONGEST_PAUSE_SECONDS = 0.5


def try_out(
    name: str,
    *,
    write: Callable[[str, bytes], object],
    read: Callable[[str], Iterable[bytes]],
    remove: Callable[[str], object],
) -> None:
    """Write, read and remove. Raises StepFailed where something else comes back, and what these
    raise, but nothing where one may not remove: a safe choice for backups.

    Who tries the same at the same moment takes away what was just written: then it is tried again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        write(PROBE, CONTENT)
        try:
            found = b"".join(read(PROBE))
        except FileNotFoundError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))  # noqa: S311
            continue
        if found != CONTENT:
            raise StepFailed(f"Target {name} does not keep what is written to it.")
        break
    with contextlib.suppress(StepFailed):
        remove(PROBE)
