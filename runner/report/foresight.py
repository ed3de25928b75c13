"""What `validate` says of the future: from what this machine saw last, without asking a target."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.durable import make_folder, write_bytes
from runner.report.outcome import stamp
from runner.spec.marks import Place, Problem
from runner.spec.model import Spec
from runner.store.records import ODD

if TYPE_CHECKING:
    from runner.report.outlook import Seen
    from runner.store.catalog import Catalog

MOST_SIZES = 500  # a trend needs no more


def remember(spec: Spec, known: Seen, at: datetime) -> None:
    """Keep what was seen, in the cache. That it cannot be kept harms nobody."""
    sizes = {
        name: [[one.at.isoformat(), one.bytes] for one in found[-MOST_SIZES:]]
        for name, found in known.sizes.items()
    }
    drills = {name: [asdict(one) for one in found] for name, found in known.drills.items()}
    document = {
        "at": stamp(at),
        "drills": drills,
        "sizes": sizes,
        "unopened": known.unopened,
        "keys": _keys(spec),
    }
    file = _file(spec)
    with suppress(OSError):
        make_folder(file.parent)
        write_bytes(file, json.dumps(document).encode())


def remember_keys(spec: Spec, before: Catalog, at: datetime, *, opened: bool) -> None:
    """Keep whether anybody ever opened what a backup has just written and perhaps `opened` itself.
    `before` is what there was then, so that no target is asked again.
    """
    if before.unreachable:
        return
    from runner.report.opened import UNOPENED, was_opened
    from runner.report.outlook import seen

    unopened = None if opened or was_opened(spec, before) else UNOPENED
    remember(spec, replace(seen(spec, before), unopened=unopened), at)


def forget(spec: Spec) -> None:
    """What was seen holds no longer: there is a new drill, or a new proof."""
    with suppress(OSError):
        _file(spec).unlink(missing_ok=True)


def foreseen(spec: Spec) -> tuple[Problem, ...]:
    """Objectives that this machine expects to be missed, and keys that nobody ever tried."""
    try:
        at, known = _recall(spec)
    except (OSError, *ODD):
        return ()
    return tuple(
        spec.marks.problem(place, f"As this machine saw it at {at}: {text}")
        for place, text in _doubts(spec, known)
    )


def _doubts(spec: Spec, known: Seen) -> Iterator[tuple[Place, str]]:
    from runner.report.outlook import outlook, warnings

    for row in outlook(spec, known):
        yield from ((("objectives", row["of"], "rto"), text) for text in warnings([row]))
    if known.unopened:
        yield ("encryption", "recipients"), known.unopened


def _recall(spec: Spec) -> tuple[str, Seen]:
    document: dict[str, Any] = json.loads(_file(spec).read_bytes())
    from runner.report.forecast import Drilled, Sized
    from runner.report.outlook import Seen

    restored = [name for step in spec.recovery for name in step.restore]
    names = [name for name in ("system", *restored) if name in document["drills"]]
    known = Seen(
        drills={name: [Drilled(**one) for one in document["drills"][name]] for name in names},
        sizes={
            name: [
                Sized(datetime.fromisoformat(at), int(size)) for at, size in document["sizes"][name]
            ]
            for name in names
        },
        unopened=document["unopened"] if document["keys"] == _keys(spec) else None,
    )
    return str(document["at"]), known


def _keys(spec: Spec) -> str:
    """Tells whether the keys are still those that it was said of."""
    recipients = sorted(spec.encryption.recipients) if spec.encryption else []
    return hashlib.sha256("\n".join(recipients).encode()).hexdigest()


def _file(spec: Spec) -> Path:
    return spec.state / "cache" / f"outlook-{spec.profile}.json"
