"""Facts: the only code that looks at the world before a plan is compiled, and only reads."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.errors import HoldfastError, PersonNeeded
from runner.registry import open_source
from runner.spec.model import Spec
from runner.store.chain import Link
from runner.store.snapshot import Manifest

if TYPE_CHECKING:
    from runner.target import Target


@dataclass(frozen=True)
class Facts:
    """What the compilers may branch on. `now` is the only clock they have."""

    now: datetime  # UTC, whole seconds
    token: str  # six random hex digits: of the run, and of the snapshots it makes
    host: str
    # source: what stands where it is restored to, as `Source.identity` tells; None: not known
    identities: Mapping[str, str | None] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)  # source: its `changed_mark` now
    manifests: Mapping[str, Manifest] = field(default_factory=dict)  # of snapshots that are read
    # target: the newest snapshot that this host wrote there, which counts if it is out of reach
    remembered: Mapping[str, Link] = field(default_factory=dict)

    def run_id(self, kind: str) -> str:
        """The id of the run that these facts are for."""
        return f"{self.now:%Y%m%dT%H%M%SZ}-{kind}-{self.token}"


def look() -> Facts:
    """The facts that need no spec: the time, the host, fresh randomness."""
    return Facts(datetime.now(UTC).replace(microsecond=0), secrets.token_hex(3), host_name())


def host_name() -> str:
    """This machine's name, as it stands in manifests and records."""
    return socket.gethostname()


def existing(spec: Spec, names: Iterable[str]) -> dict[str, bool]:
    """Whether each source has live content now."""
    return {name: open_source(spec.source(name)).exists() for name in names}


def identities(spec: Spec, names: Iterable[str], destination: str = "") -> dict[str, str | None]:
    """What stands at the place of each source, or at `destination`: differs when it was
    exchanged. None where it cannot be asked, as on a machine that has no server yet.

    Raises PersonNeeded, with what to add to the spec, for a source that has no place.
    """
    return {name: _identity(spec, name, destination) for name in names}


def _identity(spec: Spec, name: str, destination: str) -> str | None:
    from runner.source import Place

    try:
        return open_source(spec.source(name)).identity(Place("look", destination))
    except PersonNeeded:
        raise
    except (HoldfastError, OSError):
        return None


def changed_marks(spec: Spec, names: Iterable[str]) -> dict[str, str]:
    """The change marks of the sources that have one."""
    excluded = spec.left_out()
    marks: dict[str, str | None] = {}
    for name in names:
        # What cannot be looked at is captured, which fails for this source alone and says why.
        with contextlib.suppress(HoldfastError, OSError):
            marks[name] = open_source(spec.source(name)).changed_mark(excluded)
    return {name: mark for name, mark in marks.items() if mark is not None}


def manifests(
    spec: Spec,
    targets: Mapping[str, Target],
    wanted: Iterable[tuple[str, str]],
    profile: str | None = None,
) -> dict[str, Manifest]:
    """The manifests of (snapshot, target) pairs, by snapshot."""
    from runner.store.catalog import read_manifest

    return {
        snapshot: read_manifest(targets[target], spec.project, profile or spec.profile, snapshot)[0]
        for snapshot, target in dict(wanted).items()
    }
