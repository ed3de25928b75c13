"""A lock for targets that have none: claims beside each other, and a lease that must be renewed.

Whoever wants the lock `a/.prune` writes a claim of its own into `a/.prune.lock/`, and then lists
that folder. Who sees no other living claim has the lock: whoever comes later sees its claim. Of
two who see each other one withdraws and tries again. That asks of a target only that a listing
shows what was written before, which every store that is used today keeps.

A claim is dead when its process is gone, where that can be seen from here, or when it was not
renewed for LEASE_SECONDS by the target's own clock.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from runner.errors import HoldfastError, Locked, StepFailed
from runner.owner import Owner, alive, this_process
from runner.target import Entry, NotAllowed

LEASE_SECONDS = 600.0
RENEW_SECONDS = 60.0

# Its holder must stop this long before others may take the lock over.
MARGIN_SECONDS = 120.0

PATIENCE_SECONDS = 60.0  # of an exclusive put that waits for another one

# How often two who saw each other try again before one gives up, and how long they wait at most.
ATTEMPTS = 12
SHORT_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Shelf(Protocol):
    """What a lease needs of a target. The keys are a target's own, and not listed elsewhere."""

    @property
    def name(self) -> str:
        """The target's name."""

    def write_claim(self, key: str, data: bytes) -> None:
        """Write or replace a small object, whole."""

    def read_claim(self, key: str) -> bytes:
        """The object's bytes. Raises FileNotFoundError."""

    def claims(self, folder: str) -> list[Entry]:
        """Every object right below `folder`, as it is now."""

    def remove_claim(self, key: str) -> None:
        """Remove an object; a missing one is no error."""

    def now(self) -> datetime:
        """The target's own clock."""


@dataclass(frozen=True)
class _Claim:
    """What another has written down."""

    key: str
    owner: str  # for a person
    held: bool  # False: it is still looking whether others were first


class Leases:
    """The locks of one target that this process holds."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._valid_until: dict[str, float] = {}  # by claim; of `_since_boot`

    def require(self) -> None:
        """Raise StepFailed if a lock that is held here may be another's by now."""
        if any(until < _since_boot() for until in self._valid_until.values()):
            raise StepFailed(
                f"The lock at {self._shelf.name} was not renewed in time: another may hold it.",
                remedy="Nothing more was removed. Look at the connection, and try again.",
            )

    @contextlib.contextmanager
    def hold(self, key: str, owner: str, *, patience: float = 0.0) -> Iterator[None]:
        """Hold the lock `key`. Raises Locked, naming the owner, when another holds it, at once or
        after `patience` seconds.
        """
        claim = self._acquire(key, owner, time.monotonic() + patience)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(claim, owner, ended), daemon=True)
        try:
            renewing.start()
            yield
        finally:
            ended.set()
            if renewing.ident is not None:  # else no thread could be started
                renewing.join()
            self._valid_until.pop(claim, None)
            self._withdraw(claim)

    def hold_to_put(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of an exclusive put, where the server itself knows none."""
        return self.hold(key, f"a put of {key}", patience=PATIENCE_SECONDS)

    def _acquire(self, key: str, owner: str, deadline: float) -> str:
        parent, slash, name = key.rpartition("/")
        folder = f"{parent}{slash}{name if name.startswith('.') else f'.{name}'}.lock"
        claim = f"{folder}/.{secrets.token_hex(8)}.lock"
        try:
            for attempt in itertools.count(1):
                began = _since_boot()
                self._shelf.write_claim(claim, _note(owner, held=False))
                others = self._living(folder, claim)
                while others and not _gives_way(claim, others) and time.monotonic() < deadline:
                    time.sleep(SHORT_PAUSE_SECONDS)
                    others = self._living(folder, claim)
                if not others:
                    self._shelf.write_claim(claim, _note(owner, held=True))
                    self._valid_until[claim] = began + LEASE_SECONDS - MARGIN_SECONDS
                    return claim
                held = [one for one in others if one.held]
                if time.monotonic() >= deadline and (held or attempt >= ATTEMPTS):
                    raise Locked(
                        f"{key} at {self._shelf.name} is locked by {(held or others)[0].owner}.",
                        remedy="Wait until that run has ended. A lock whose holder died is free "
                        f"after {LEASE_SECONDS / 60:g} minutes.",
                    )
                self._withdraw(claim)
                longest = min(LONGEST_PAUSE_SECONDS, SHORT_PAUSE_SECONDS * 2**attempt)
                time.sleep(random.uniform(0.0, longest))  # noqa: S311
        except BaseException:
            self._withdraw(claim)
            raise
        raise AssertionError

    def _withdraw(self, claim: str) -> None:
        # One that cannot be taken away is dead soon; what was done under it is done.
        with contextlib.suppress(HoldfastError):
            if not self._clear(claim):
                self._shelf.write_claim(claim, json.dumps({"released": True}).encode())

    def _clear(self, claim: str) -> bool:
        """Take a claim away; False where these credentials may not."""
        try:
            self._shelf.remove_claim(claim)
        except NotAllowed:
            return False
        return True

    def _living(self, folder: str, own: str) -> list[_Claim]:
        """The claims of others; dead ones are removed."""
        found = [entry for entry in self._shelf.claims(folder) if entry.key != own]
        if not found:
            return []
        now = self._shelf.now()
        living = []
        for entry in found:
            if (now - entry.modified).total_seconds() > LEASE_SECONDS:
                self._clear(entry.key)
                continue
            try:
                note = _parse(self._shelf.read_claim(entry.key))
            except FileNotFoundError:
                continue
            if note.get("released") or _gone(note):
                self._clear(entry.key)
                continue
            owner = str(note.get("owner", "another run"))
            living.append(_Claim(entry.key, owner, bool(note.get("held"))))
        return living

    def _renew(self, claim: str, owner: str, ended: threading.Event) -> None:
        while not ended.wait(RENEW_SECONDS):
            began = _since_boot()
            if began > self._valid_until[claim]:
                return
            # Without an answer the lease runs out, and `require` says so.
            with contextlib.suppress(HoldfastError):
                try:
                    self._shelf.read_claim(claim)
                except FileNotFoundError:
                    # Whoever took it away holds the lock now.
                    self._valid_until[claim] = 0.0
                    return
                self._shelf.write_claim(claim, _note(owner, held=True))
                # What was written too late may stand beside the claim of a new holder.
                if _since_boot() < self._valid_until[claim]:
                    self._valid_until[claim] = began + LEASE_SECONDS - MARGIN_SECONDS


def _since_boot() -> float:
    """Seconds, also those in which this machine slept: the target's clock went on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _gives_way(claim: str, others: list[_Claim]) -> bool:
    """Whether to withdraw: of several that only want the lock, the first by name may wait."""
    return any(one.held or one.key < claim for one in others)


def _note(owner: str, *, held: bool) -> bytes:
    process = {"process": this_process().to_json(), "namespace": _namespace()}
    return json.dumps({"owner": owner, "held": held, **process}).encode()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _gone(note: dict[str, Any]) -> bool:
    """Whether the process that wrote it is known to have ended.

    Host names repeat, so that is known of processes of this very boot and process namespace alone.
    """
    try:
        owner = Owner.from_json(note.get("process"))
    except ValueError:
        return False
    here = this_process()
    if (owner.boot, note.get("namespace")) != (here.boot, _namespace()):
        return False
    return owner.host == here.host and not alive(owner)


def _namespace() -> str:
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return str(os.getuid())
