"""What this host remembers to have written last at each target: a removed snapshot shows by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.errors import StepFailed
from runner.spec.model import Spec
from runner.store.catalog import Catalog
from runner.store.chain import Gap, Guard, Link, chain_gaps, guard
from runner.store.records import FAIL, Records, read_records
from runner.store.snapshot import folder_of
from runner.target import Target
from runner.target.local import LocalTarget

_lock = threading.Lock()


def remember(spec: Spec, target: str, link: Link) -> None:
    """Note the newest snapshot at a target; an older one that is copied there later is none."""
    with _lock:
        known = recall(spec)
        if target not in known or known[target].sequence <= link.sequence:
            _write(spec, {**known, target: link})


def forget(spec: Spec, target: str, snapshot: str) -> None:
    """Drop the note of a snapshot that a person removed."""
    with _lock:
        known = recall(spec)
        if target in known and known[target].id == snapshot:
            _write(spec, {name: link for name, link in known.items() if name != target})


def recall(spec: Spec) -> dict[str, Link]:
    """What is remembered, by target; a note that cannot be read is no memory."""
    try:
        document = json.loads(_path(spec).read_bytes())
        return {name: Link(**link) for name, link in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def words_here(state: Path) -> LocalTarget:
    """Where pins and unpins that were said on this machine are kept, as at a target: one that could
    not be reached then has to be told.
    """
    return LocalTarget("this machine", state / "said")


def said_here(spec: Spec, profile: str) -> Records:
    """What was said on this machine of a profile's snapshots; what cannot be read was not."""
    try:
        return read_records(words_here(spec.state), spec.project, profile)
    except StepFailed:
        return Records()


def require_familiar(spec: Spec, target: Target) -> None:
    """Raise StepFailed when a target that held snapshots holds none: a disk is not mounted, say.

    A backup that goes to the folder beneath a missing disk is green, and lost.
    """
    link = recall(spec).get(target.name)
    if link is None or target.folders(folder_of(spec.project, spec.profile)):
        return
    raise StepFailed(
        f"The target {target.name} held {link.id} and holds nothing now "
        f"({target.location(folder_of(spec.project, spec.profile))}).",
        remedy=f"Is its disk mounted? If it was emptied on purpose, remove {_path(spec)}.",
    )


def missing_links(spec: Spec, catalog: Catalog) -> list[Gap]:
    """Where a target no longer holds what it held: snapshots replaced, or taken away."""
    known = recall(spec)
    found = {
        (gap.target, gap.snapshot): gap
        for target in spec.targets
        if target in catalog.records
        for gap in chain_gaps(catalog, target, remembered=known.get(target))
        if gap.verdict == FAIL
    }
    return list(found.values())


def fading_links(spec: Spec, catalog: Catalog) -> list[Gap]:
    """Those of them that only this host's memory shows: the next snapshot takes its place there."""
    known = recall(spec)
    gaps = missing_links(spec, catalog)
    return [one for one in gaps if one.target in known and known[one.target].id == one.snapshot]


def made_elsewhere(spec: Spec, catalog: Catalog) -> str | None:
    """A sentence where the newest snapshot is not from here, although earlier ones are: two
    projects of one name would be restored in each other's place.
    """
    own = max((link.sequence for link in recall(spec).values()), default=None)
    newest = next((one for one in catalog.snapshots if one.rekeyed is None), None)
    if own is None or newest is None or newest.sequence <= own:
        return None
    return (
        f"{newest.id}, made on {newest.host}, is newer than what was written from {spec.folder}: "
        f"another folder or machine backs up as {spec.project} ({spec.profile}) too. If it is "
        "another project, give it a name of its own: a recovery takes the newest snapshot."
    )


def guards(spec: Spec, catalog: Catalog) -> list[Guard]:
    """What protects each target that could be read against being set back."""
    known = recall(spec)
    return [
        guard(catalog, target, remembered=known.get(target))
        for target in spec.targets
        if target in catalog.records
    ]


def _write(spec: Spec, links: Mapping[str, Link]) -> None:
    path = _path(spec)
    make_folder(path.parent)
    document = {name: asdict(link) for name, link in links.items()}
    write_bytes(path, json.dumps(document, indent=1, sort_keys=True).encode())


def _path(spec: Spec) -> Path:
    return spec.state / "newest" / f"{spec.project}.{spec.profile}.json"
