"""Modules that only some commands need, imported when they are first used."""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec


def postpone(*names: str) -> None:
    """Import these modules of ours when an attribute of theirs is first asked for.

    That must not happen in two threads at once.
    """
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None or spec.loader is None:
            continue
        spec.loader = LazyLoader(spec.loader)
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        # Else `from package import module` would look into the module, to see whether it is ready.
        package, _, own = name.rpartition(".")
        setattr(sys.modules[package], own, module)


POSTPONED = (
    "runner.journeys",
    "runner.report.views",
    "runner.execute.guards",
    "runner.execute.runs",
    "runner.execute.settling",
)
postpone(*POSTPONED)
