"""Types by name: a module's file name is its type's name; other packages add theirs.

A package adds a source type by an entry point in the group `holdfast.source` (or
`holdfast.target`) whose name is the type's and whose value is the class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.spec.model import SourceSpec, TargetSpec

if TYPE_CHECKING:
    from runner.source import Source
    from runner.target import Target


def open_source(spec: SourceSpec) -> Source:
    """The source that a spec declares. Each type's module defines `open_source(spec)`."""
    source: Source = _opener("source", spec.type)(spec)
    return source


def open_target(spec: TargetSpec) -> Target:
    """The target that a spec declares. Each type's module defines `open_target(spec)`; what every
    type has in common is added here.
    """
    target: Target = _opener("target", spec.type)(spec)
    bandwidth = spec.options.get("bandwidth")
    if bandwidth is None:
        return target
    limited: Target = importlib.import_module("runner.target.paced").paced(target, bandwidth)
    return limited


def _opener(family: str, type_name: str) -> Any:
    name = f"runner.{family}.{type_name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    else:
        return getattr(module, f"open_{family}")
    from importlib import metadata

    for entry in metadata.entry_points(group=f"holdfast.{family}", name=type_name):
        return entry.load()
    raise UsageError(f"There is no {family} type `{type_name}`.")
