"""One snapshot, as its manifest and the records describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from runner.store.records import FAIL, PASS, Pin, Proof


class SourceView(NamedTuple):
    """What a snapshot holds of one source."""

    taken_at: datetime  # the consistent instant of its content
    type: str
    bytes: int  # as stored


@dataclass(frozen=True)
class Snapshot:
    """One snapshot, as its manifest and the records describe it."""

    id: str
    policy: str
    sequence: int  # not the clock decides which snapshot is newest
    created_at: datetime
    sources: Mapping[str, SourceView]  # those whose content lies in this snapshot
    missing: tuple[str, ...]  # sources that failed in its run
    unchanged: Mapping[str, str]  # source: the id of the snapshot that has its content
    bases: frozenset[str]  # ids of the snapshots that its increments need
    bytes: int  # of all artifacts and files, as stored
    encrypted: bool
    host: str
    spec_digest: str
    manifest_sha256: str
    predecessor: tuple[str, str] | None  # id and manifest's sha256 of the one before it
    recipients: tuple[str, ...] = ()  # that its manifest names: whose identities open it
    rekeyed: tuple[str, datetime] | None = None  # the id that it stands for, and since when
    targets: tuple[str, ...] = ()  # that hold it, with this manifest
    proofs: tuple[Proof, ...] = ()  # newest first
    pinned: bool = False
    pinned_until: datetime | None = None  # None while pinned: for ever

    @property
    def needs(self) -> set[str]:
        """The ids of the older snapshots that hold content of this one."""
        return {*self.bases, *self.unchanged.values()}

    @classmethod
    def expected(
        cls,
        *,
        id: str,  # noqa: A002 - the field's name
        policy: str,
        sequence: int,
        created_at: datetime,
        sources: Mapping[str, SourceView],
        target: str,
    ) -> Snapshot:
        """A snapshot that a plan will write to `target`, as retention has to count it."""
        return cls(
            id=id,
            policy=policy,
            sequence=sequence,
            created_at=created_at,
            sources=sources,
            missing=(),
            unchanged={},
            bases=frozenset(),
            bytes=0,
            encrypted=False,
            host="",
            spec_digest="",
            manifest_sha256="",
            predecessor=None,
            targets=(target,),
        )

    def told(
        self, targets: tuple[str, ...], proofs: tuple[Proof, ...], pin: Pin | None
    ) -> Snapshot:
        """The same, with what all targets and their records say of it."""
        if targets == self.targets and not proofs and pin is None:
            return self  # there may be thousands
        return replace(
            self,
            targets=targets,
            proofs=proofs,
            pinned=pin is not None,
            pinned_until=None if pin is None else pin.until,
        )

    @property
    def covers(self) -> Mapping[str, datetime]:
        """Each source whose content this snapshot speaks for, and of which instant."""
        own = {name: view.taken_at for name, view in self.sources.items()}
        return dict.fromkeys(self.unchanged, self.created_at) | own if self.unchanged else own

    def best_proof(self, source: str | None = None, *, target: str | None = None) -> Proof | None:
        """The deepest PASS that still holds, the newest of that depth; at `target` if given.

        A later FAIL of the same source at the same target ends what was proven before it at
        its depth and deeper. Without `source`, the weakest of what its sources have, and
        None unless each of them has a proof: a snapshot is proven as far as all of it is.
        """
        if not self.proofs:
            return None
        if source is None:
            each = [self.best_proof(name, target=target) for name in self.sources]
            proven = [one for one in each if one is not None]
            if not each or len(proven) < len(each):
                return None
            return min(proven, key=lambda one: (one.depth, one.place))
        about = [one for one in self.proofs if one.source in (source, "")]
        if target is not None:
            about = [one for one in about if one.target == target]
        fails = [one for one in about if one.verdict == FAIL]
        holding = [one for one in about if one.verdict == PASS and not _ended(one, fails)]
        return max(holding, key=lambda one: (one.depth, one.place), default=None)

    def last_word(self, target: str) -> dict[str, str]:
        """The place of what was said last of the copy at a target, as the parameter of a step that
        verifies it; empty where nothing was.
        """
        places = [one.place for one in self.proofs if one.target == target]
        return {"behind": max(places).isoformat()} if places else {}


def _ended(proof: Proof, fails: list[Proof]) -> bool:
    return any(
        fail.target == proof.target and fail.depth <= proof.depth and fail.place >= proof.place
        for fail in fails
    )


def by_age(snapshot: Snapshot) -> tuple[int, datetime, datetime, str]:
    """The key by which snapshots are sorted, the newest last: the sequence, then the clock. One
    that was encrypted anew comes right after the one that it stands for.
    """
    made = snapshot.created_at
    return (snapshot.sequence, made, snapshot.rekeyed[1] if snapshot.rekeyed else made, snapshot.id)
