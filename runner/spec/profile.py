"""Profiles: named overrides. Maps merge, null removes, everything else replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIXED = ("version", "project", "profiles")  # the same in every profile


def merge(base: Any, override: Any) -> Any:
    """`base` with the overrides applied; neither is changed.

    A map whose `type` differs replaces the other whole: options of one type mean nothing to
    another.
    """
    if not isinstance(base, Mapping) or not isinstance(override, Mapping):
        return _without_nulls(override)
    if {"type"} <= base.keys() & override.keys() and base["type"] != override["type"]:
        return _without_nulls(override)
    merged = dict(base)
    for name, value in override.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: _without_nulls(one) for name, one in value.items() if one is not None}
