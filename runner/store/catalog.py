"""The catalog: the snapshots that the targets hold, and what the records say of them."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

from runner.errors import StepFailed, UsageError
from runner.store.listing import Holding, read_target
from runner.store.manifests import parse_manifest
from runner.store.pinned import pins
from runner.store.records import DrillResult, Pin, Proof, Records
from runner.store.snapshot import MANIFEST, MOST_BYTES, Manifest, folder_of
from runner.store.together import Unanswered, ask_each
from runner.store.view import Snapshot, SourceView, by_age
from runner.target import Target

__all__ = [
    "Catalog",
    "Snapshot",
    "SourceView",
    "next_sequence",
    "no_collection",
    "predecessor",
    "read_catalog",
    "read_manifest",
]

SUGGESTIONS = 5
SEARCHED = 2000  # among this many of the newest ids is the one looked for that was misspelt


@dataclass(frozen=True)
class Catalog:
    """All snapshots of one project and profile, at all targets that could be asked."""

    snapshots: tuple[Snapshot, ...] = ()  # newest first: by sequence, created_at, id
    unreachable: Mapping[str, str] = field(default_factory=dict)  # target: why
    silent: frozenset[str] = frozenset()  # those among them that did not answer in time
    damaged: tuple[tuple[str, str, str], ...] = ()  # target, id, what is wrong with its manifest
    incomplete: tuple[tuple[str, str], ...] = ()  # target, id: a folder without a manifest
    records: Mapping[str, Records] = field(default_factory=dict)  # by reachable target
    said: Records = field(default_factory=Records)  # on this machine: a target may have missed it

    @cached_property
    def by_id(self) -> Mapping[str, Snapshot]:
        """Every snapshot by its id."""
        return {one.id: one for one in self.snapshots}

    @cached_property
    def renewals(self) -> tuple[tuple[str, str], ...]:
        """The ids of what was encrypted anew, each with the one it stands for; newest first."""
        return tuple((one.id, one.rekeyed[0]) for one in self.snapshots if one.rekeyed is not None)

    @cached_property
    def _heirs(self) -> Mapping[str, Snapshot]:
        """By the id of one that may be gone: the newest that was encrypted anew for it."""
        return {old: self.by_id[new] for new, old in reversed(self.renewals)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored while reading records, and why."""
        return tuple(note for one in self.records.values() for note in one.notes)

    @property
    def drills(self) -> tuple[DrillResult, ...]:
        """Every drill's result, once, the newest first."""
        by_run = {one.run: one for records in self.records.values() for one in records.drills}
        return tuple(sorted(by_run.values(), key=lambda one: (one.place, one.run), reverse=True))

    def find(self, text: str) -> Snapshot:
        """The snapshot of that id, unique beginning of an id, or unique six last digits; the
        newest of all for `latest`; what was encrypted anew for one that is gone since.

        Raises UsageError, naming the nearest ids, when there is none or more than one, and
        StepFailed when its manifest is damaged wherever it lies, or when it may lie at a target
        that cannot be read.
        """
        if text == "latest" and self.snapshots:
            return self.snapshots[0]
        exact = self.by_id.get(text) or self._heirs.get(text)
        if exact is not None:
            return exact
        found = [
            one
            for one in self.snapshots
            if text and (one.id.startswith(text) or one.id.rpartition("-")[2] == text)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(one.id for one in found[:SUGGESTIONS])
            raise UsageError(
                f"{text!r} could be any of {len(found)} snapshots.",
                remedy=f"Write more of the id: {some}{', …' if len(found) > SUGGESTIONS else ''}.",
            )
        for target, damaged, reason in self.damaged:
            if damaged == text:
                raise StepFailed(
                    f"The manifest of {damaged} at {target} is damaged: {reason}.",
                    remedy="`list` shows the snapshots that are whole.",
                )
        if self.unreachable:
            raise StepFailed(
                f"There is no snapshot {text!r} where one could look. "
                f"Not reached: {', '.join(self.unreachable)}.",
                remedy=self._nearest(text),
            )
        raise UsageError(f"There is no snapshot {text!r}.", remedy=self._nearest(text))

    def _nearest(self, text: str) -> str:
        import difflib

        ids = [one.id for one in self.snapshots[:SEARCHED]]
        near = difflib.get_close_matches(text[:100], ids, SUGGESTIONS, 0.6) or ids[:SUGGESTIONS]
        if near:
            return f"The nearest: {', '.join(near)}."
        return "" if self.unreachable else "There are no snapshots yet: `backup` makes one."

    def newest(
        self,
        source: str,
        *,
        policy: str | None = None,
        target: str | None = None,
        at: datetime | None = None,
    ) -> Snapshot | None:
        """The snapshot that holds the newest content of `source`, not after `at` if given.

        Where the newest says `unchanged`, that is the older one that really has the content.
        """
        found = self._newest(source, policy, target, at)
        return None if found is None else found[0]

    def fresh_at(
        self,
        source: str,
        *,
        target: str | None = None,
        at: datetime | None = None,
    ) -> datetime | None:
        """The instant for which `newest` gives the content: later than when it was taken where
        it was found unchanged since. The RPO is judged by this.
        """
        found = self._newest(source, None, target, at)
        return None if found is None else found[1]

    def _newest(
        self, source: str, policy: str | None, target: str | None, at: datetime | None
    ) -> tuple[Snapshot, datetime] | None:
        for one in self.snapshots:
            if (policy is not None and one.policy != policy) or (
                target is not None and target not in one.targets
            ):
                continue
            holder = self.holder(one, source)
            if holder is None or (target is not None and target not in holder.targets):
                continue
            fresh = one.covers[source]
            if at is None or fresh <= at:
                return holder, fresh
        return None

    def holder(self, snapshot: Snapshot, source: str) -> Snapshot | None:
        """The snapshot that has the content of `source` that `snapshot` speaks for, if any."""
        while source not in snapshot.sources:
            name = snapshot.unchanged.get(source, "")
            older = self.by_id.get(name) or self._heirs.get(name)
            if older is None or older.sequence >= snapshot.sequence:
                return None
            snapshot = older
        return snapshot

    def at_target(self, target: str) -> list[Snapshot]:
        """The snapshots that a target holds, newest first."""
        return [one for one in self.snapshots if target in one.targets]


def next_sequence(catalog: Catalog) -> int:
    """The number of the next snapshot: one more than the highest there is."""
    return catalog.snapshots[0].sequence + 1 if catalog.snapshots else 1


def predecessor(catalog: Catalog) -> Mapping[str, str] | None:
    """The newest snapshot's id and manifest hash, as the next manifest names them."""
    if not catalog.snapshots:
        return None
    newest = catalog.snapshots[0]
    return {"id": newest.id, "sha256": newest.manifest_sha256}


def read_catalog(
    targets: Mapping[str, Target],
    project: str,
    profile: str,
    *,
    cache: Path | None,
    now: datetime,
    patience: float | None = None,
    glance: bool = False,
    said: Records | None = None,
) -> Catalog:
    """What the targets hold of a profile. `cache` is a folder that may be lost at any time; `said`
    counts as what lies at a target.

    With `glance`, older snapshots are as they were found within the last day, if their folders are
    still there: enough to show them.
    A target that cannot be read, or not within `patience` seconds, stands in `unreachable`, and is
    never answered from the cache.
    """
    holdings: dict[str, Holding] = {}
    unreachable: dict[str, str] = {}
    silent = []
    with no_collection():
        questions = {
            name: partial(read_target, target, project, profile, cache, now=now, glance=glance)
            for name, target in targets.items()
        }
        for name, result in ask_each(questions, patience).items():
            if isinstance(result, Holding):
                holdings[name] = result
                continue
            unreachable[name] = f"{result.message} {result.remedy}".strip()
            if isinstance(result, Unanswered):
                silent.append(name)
        said = said or Records()
        pinned = pins([said, *(held.records for held in holdings.values())], now)
        snapshots, differing = _merge(holdings, pinned)
    damaged = [(name, *one) for name, held in holdings.items() for one in held.damaged]
    return Catalog(
        snapshots=snapshots,
        unreachable=unreachable,
        silent=frozenset(silent),
        damaged=(*damaged, *differing),
        incomplete=tuple((name, one) for name, held in holdings.items() for one in held.incomplete),
        records={name: held.records for name, held in holdings.items()},
        said=said,
    )


def read_manifest(
    target: Target, project: str, profile: str, snapshot: str
) -> tuple[Manifest, bytes]:
    """A snapshot's manifest and its bytes.

    Raises StepFailed when it is damaged, UsageError when the target has no such snapshot.
    """
    key = f"{folder_of(project, profile, snapshot)}/{MANIFEST}"
    try:
        data = b"".join(target.get(key, length=MOST_BYTES + 2))
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no snapshot {snapshot} at {target.name}.",
            remedy="`list` shows which target holds which.",
        ) from error
    except StepFailed as error:
        error.local = True  # a target that cannot be read says nothing of what lies there
        raise
    try:
        return parse_manifest(data, project, profile, snapshot), data
    except ValueError as error:
        raise StepFailed(
            f"The manifest of {snapshot} at {target.name} is damaged: {error}.",
            remedy="Take the snapshot from another target, or another snapshot.",
        ) from error


def is_published(target: Target, folder: str) -> bool:
    """Whether a snapshot's folder at a target has its manifest."""
    return any(one.key == f"{folder}/{MANIFEST}" for one in target.entries(folder))


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Hold the garbage collector: thousands of snapshots, none of them garbage, make it search
    the same objects over and over, which takes longer than all the rest. Nor are they searched
    afterwards.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _merge(
    holdings: Mapping[str, Holding], pinned: Mapping[str, Pin]
) -> tuple[tuple[Snapshot, ...], list[tuple[str, str, str]]]:
    """The snapshots of all targets, and those whose manifests differ from one to another."""
    proofs = _proofs(holdings)
    vouched = _vouched(holdings)
    copies: dict[str, dict[str, Snapshot]] = {}
    for name, held in holdings.items():
        for snapshot, known in held.manifests.items():
            copies.setdefault(snapshot, {})[name] = known
    snapshots: list[Snapshot] = []
    differing: list[tuple[str, str, str]] = []
    for snapshot, there in copies.items():
        first, true = next(iter(there.items()))
        targets = tuple(there)
        if any(known.manifest_sha256 != true.manifest_sha256 for known in there.values()):
            true, first = _true(snapshot, there, vouched)
            reason = f"its manifest differs from that at {first}"
            digest = true.manifest_sha256
            targets = tuple(name for name in there if there[name].manifest_sha256 == digest)
            differing += [(name, snapshot, reason) for name in there if name not in targets]
        pin = pinned.get(snapshot)
        snapshots.append(true.told(targets, proofs.get(snapshot, ()), pin))
    snapshots.sort(key=by_age, reverse=True)
    return tuple(snapshots), differing


def _true(
    snapshot: str, copies: Mapping[str, Snapshot], vouched: set[tuple[str, str]]
) -> tuple[Snapshot, str]:
    """The manifest to believe where copies differ, and a target that has it: the one that a
    successor names, else the one at most targets, else the first target's.
    """
    votes = Counter(known.manifest_sha256 for known in copies.values())

    def weight(name: str) -> tuple[bool, int]:
        sha256 = copies[name].manifest_sha256
        return (snapshot, sha256) in vouched, votes[sha256]

    first = max(copies, key=weight)
    return copies[first], first


def _vouched(holdings: Mapping[str, Holding]) -> set[tuple[str, str]]:
    if len(holdings) < 2:
        return set()
    return {
        known.predecessor
        for held in holdings.values()
        for known in held.manifests.values()
        if known.predecessor is not None
    }


def _proofs(holdings: Mapping[str, Holding]) -> dict[str, tuple[Proof, ...]]:
    """All proofs by snapshot, each once however many targets keep it, newest first."""
    grouped: dict[str, dict[Proof, None]] = {}
    for held in holdings.values():
        for proof in held.records.proofs:
            grouped.setdefault(proof.snapshot, {})[proof] = None
    return {
        snapshot: tuple(sorted(proofs, key=lambda one: one.place, reverse=True))
        for snapshot, proofs in grouped.items()
    }
