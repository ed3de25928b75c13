"""Invoke's program, imported in half the time.

Invoke imports `unittest.mock`, and asyncio with it, for tests of its own users; all that reads
packages' metadata, for the number of its own version; and a YAML reader of its own beside ours.
Together they are a quarter of the time in which a command starts.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import yaml

__all__ = ["Argument", "Collection", "Config", "Executor", "Exit", "ParseError", "Program", "Task"]

# Modules make many objects and hardly any garbage: looking for that is a twelfth of the start.
gc.set_threshold(20_000)


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
    _standing_in("invoke.vendor.yaml", safe_load=yaml.safe_load),
):
    from invoke.collection import Collection
    from invoke.config import Config
    from invoke.exceptions import Exit, ParseError
    from invoke.executor import Executor
    from invoke.parser.argument import Argument
    from invoke.program import Program
    from invoke.tasks import Task
