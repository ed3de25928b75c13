"""Invoke's program, imported in half the time.

Invoke imports `unittest.mock`, and asyncio with it, for tests of its own users, and all that
reads packages' metadata for the number of its own version. Neither is of use to a program, and
together they are a fifth of the time in which a command starts.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

__all__ = ["Config", "ParseError", "Program"]


@contextlib.contextmanager
def _standing_in(name: str, **content: object) -> Iterator[None]:
    """Let an import of that module find `content`, unless the real one is there already."""
    if name in sys.modules:
        yield
        return
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(content)
    try:
        yield
    finally:
        del sys.modules[name]


with (
    _standing_in("unittest.mock", Mock=object),
    _standing_in("importlib.metadata", version=lambda _: ""),
):
    from invoke.config import Config
    from invoke.exceptions import ParseError
    from invoke.program import Program
