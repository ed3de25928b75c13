"""What every command is called with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.execute.journal import Listener
    from runner.spec.model import TargetSpec


@dataclass(frozen=True)
class Call:
    """What every command is called with."""

    file: Path
    profile: str | None = None
    identity: Path | None = None  # overrides the spec's
    wait: float = 0.0  # seconds to wait for a lock
    confirm: str | None = None  # the name that was typed to approve
    origin: TargetSpec | None = None  # a target given by its address: the only one that is read
    signers: Path | None = None  # overrides the spec's `signing.allowed_signers`
    unsigned: bool = False  # the spec was confirmed by its digest, so no signature is asked for
    again: str = ""  # the flags that the next line to type needs, too
    listeners: tuple[Listener, ...] = ()
