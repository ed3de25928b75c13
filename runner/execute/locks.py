"""Locks of the state folder: held by a living process, taken over from a dead one, aloud."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from runner.durable import PRIVATE_FILE, make_folder, naming
from runner.errors import Locked
from runner.owner import FORKING_SECONDS, Owner, alive, lock, this_process

# Held by who reads or replaces live sources; and by who reads (shared) or removes snapshots.
RUN_LOCK = "run"
SNAPSHOT_LOCK = "snapshots"
REKEY_LOCK = "rekey"  # held by who encrypts snapshots anew
SETTLE_LOCK = "settle"  # held by who takes back what a killed run left


@contextlib.contextmanager
def held(
    state: Path,
    name: str,
    run: str,
    *,
    shared: bool = False,
    wait: float = 0.0,
    say: Callable[[str], None] = lambda _message: None,
) -> Iterator[None]:
    """Hold the lock `name`, waiting for it at most `wait` seconds. Raises Locked.

    The kernel lets go of a dead owner's lock; its note is what tells that it was taken over.
    """
    folder = state / "locks"
    make_folder(folder)
    path = folder / f"{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        _acquire(descriptor, path, name, shared=shared, wait=wait)
        if not shared:
            earlier = _note(path)
            if earlier is not None and not alive(earlier[1]):
                say(f"Took over the lock `{name}` of run {earlier[0]}, whose process died.")
            with naming(path):
                _write(descriptor, {"run": run, "owner": this_process().to_json()})
        try:
            yield
        finally:
            if not shared:
                _write(descriptor, None)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, name: str, *, shared: bool, wait: float) -> None:
    if not lock(descriptor, shared=shared, wait=max(wait, FORKING_SECONDS)):
        raise Locked(_busy(path, name), remedy="Wait for it, or give --wait 10m.")


def _busy(path: Path, name: str) -> str:
    note = _note(path)
    holder = f"run {note[0]} ({note[1].describe()})" if note else "another run"
    return f"The lock `{name}` is held by {holder}."


def _note(path: Path) -> tuple[str, Owner] | None:
    try:
        document = json.loads(path.read_text())
        return document["run"], Owner.from_json(document["owner"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(descriptor: int, document: object) -> None:
    os.ftruncate(descriptor, 0)
    if document is not None:
        os.pwrite(descriptor, json.dumps(document).encode(), 0)
