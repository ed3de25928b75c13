"""What only some targets can: hold objects against everybody who would remove them.

Asked of any target; one that cannot do it holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from runner.errors import StepFailed
from runner.target import Target


class Protecting(Protocol):
    """A target of which a spec may ask that."""

    lock_seconds: float | None  # how long the spec wants objects to be held; None: not at all

    def hold(self, keys: Iterable[str]) -> None:
        """Hold objects for `lock_seconds` from now, by the target's clock. Raises StepFailed."""

    def held_until(self, key: str) -> datetime | None:
        """When an object can be removed again; None: now."""


class Held(StepFailed):
    """An object cannot be removed yet."""

    def __init__(self, target: str, key: str, until: datetime) -> None:
        super().__init__(
            f"Target {target}: {key} is {words(until)} and stays until then.",
            remedy="Nothing was removed. Try again after that time.",
        )


def protecting(target: Target) -> Protecting | None:
    """The target as one that is to hold objects; None where the spec does not ask for it."""
    if getattr(target, "lock_seconds", None) is None:
        return None
    return target  # type: ignore[return-value] # what has that field has the methods


def protect(target: Target, keys: Iterable[str]) -> None:
    """Hold objects, where the spec asks for it. Raises StepFailed when that fails."""
    able = protecting(target)
    if able is not None:
        able.hold(keys)


def held_until(target: Target, key: str) -> datetime | None:
    """When an object can be removed again; None: now, or nobody asked for more."""
    able = protecting(target)
    return None if able is None else able.held_until(key)


def words(until: datetime) -> str:
    """Locked until then, for a person."""
    return f"locked until {until:%Y-%m-%d %H:%M} UTC"
