"""Records: what is learnt about a snapshot after it was written. Write-once, small, JSON.

Proofs, pins and drill results lie beside the snapshots, at every target, and are never changed:
an `unpin` takes a `pin` back, a later proof says more than an earlier one.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.errors import UsageError
from runner.spec.model import VERIFY_LEVELS
from runner.store.cache import Cache
from runner.store.look import look_at_records
from runner.store.read_ahead import ReadAhead, at_once, reading_ahead
from runner.store.snapshot import SnapshotId, folder_of, instant
from runner.target import Entry, KeyExists, Target

FOLDER = ".records"
MOST_BYTES = 4 * 1024 * 1024

PASS = "PASS"  # noqa: S105 - a verdict
FAIL = "FAIL"
SKIP = "SKIP"
COULD_NOT_VERIFY = "COULD-NOT-VERIFY"
_WORST_FIRST = (FAIL, COULD_NOT_VERIFY, PASS)

# What odd JSON raises while it is read.
ODD = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, UsageError,
)  # fmt: skip

# Behind a later instant there is none; only who forges records names one.
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)

_KEY = re.compile(r"[0-9]{8}T[0-9]{12}Z-(proofs|pin|unpin|drill)-[0-9a-f]{6}\.json")


@dataclass(frozen=True)
class Sample:
    """Which files of a source a verification read, where it was to read a part of them only."""

    share: float  # of the big files' bytes, at least
    draw: str  # what chose them: another draw chooses others
    read: tuple[str, ...]
    unread: tuple[str, ...]  # only there, and of the right size; with one the verdict is no PASS


@dataclass(frozen=True)
class Proof:
    """What one verification said of one source of one snapshot, as it lies at one target."""

    snapshot: str
    source: str  # empty: all sources of the snapshot
    target: str
    level: str  # one of VERIFY_LEVELS: each contains those before it
    verdict: str  # PASS | FAIL | SKIP | COULD-NOT-VERIFY
    at: datetime
    host: str
    basis: str  # source: compared with the source's instant | artifact | stored
    key: str = "none"  # declared | one-time | none: which identity opened it
    reason: str = ""
    sample: Sample | None = None  # None: everything that belongs to it was read
    behind: datetime | None = None  # the place of the last word before it, if no clock tells that

    @property
    def place(self) -> datetime:
        """Its place among the words on that copy: see `placed`."""
        return placed(self.at, self.behind)

    @property
    def depth(self) -> int:
        """How deep it went: the place of its level in VERIFY_LEVELS."""
        return VERIFY_LEVELS.index(self.level)


@dataclass(frozen=True)
class Pin:
    """A person's word that a snapshot stays."""

    snapshot: str
    at: datetime
    by: str
    until: datetime | None = None  # from then on it pins no more; None: for ever


@dataclass(frozen=True)
class Unpin:
    """A person's word that all earlier pins of a snapshot are over."""

    snapshot: str
    at: datetime
    by: str


@dataclass(frozen=True)
class DrillResult:
    """How a drill went."""

    run: str
    at: datetime
    ok: bool
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: rto, rpo, report's hash, …
    behind: datetime | None = None  # the place of the drill before it, if no clock tells that

    @property
    def place(self) -> datetime:
        """Its place among the drills: see `placed`."""
        return placed(self.at, self.behind)


@dataclass(frozen=True)
class Records:
    """All records at one target."""

    proofs: tuple[Proof, ...] = ()
    pins: tuple[Pin, ...] = ()
    unpins: tuple[Unpin, ...] = ()
    drills: tuple[DrillResult, ...] = ()  # in the order in which they ran
    speaks_of: Mapping[str, frozenset[str]] = field(default_factory=dict)  # key: snapshots
    notes: tuple[str, ...] = ()  # what was ignored, and why


def worst(verdicts: Iterable[str]) -> str:
    """The verdict over several: the worst one counts."""
    found = set(verdicts)
    return next((one for one in _WORST_FIRST if one in found), SKIP)


def placed(at: datetime, behind: datetime | None) -> datetime:
    """By what a record is sorted: when it was written, or right behind the one before it where a
    wrong clock dated that one later.
    """
    return at if behind is None else max(at, min(behind, _LAST) + timedelta(microseconds=1))


def proofs_body(proofs: Sequence[Proof]) -> dict[str, Any]:
    """The body of a `proofs` record: all proofs of one verification."""
    bodies = [_plain(one) for one in proofs]
    return {
        "proofs": [{key: one for key, one in body.items() if one is not None} for body in bodies]
    }


def body_of(record: Pin | Unpin | DrillResult) -> dict[str, Any]:
    """The body of a `pin`, `unpin` or `drill` record."""
    return _plain(record)


def write_record(
    target: Target, project: str, profile: str, kind: str, body: Mapping[str, Any], at: datetime
) -> str:
    """Store a record of `kind` (proofs, pin, unpin, drill); return its key."""
    document = {"format": 1, "kind": kind, "at": _stamp(at), "body": body}
    data = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    when = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    while True:
        name = f"{when}-{kind}-{secrets.token_hex(3)}.json"
        key = f"{folder_of(project, profile)}/{FOLDER}/{name}"
        try:
            target.put(key, [data], exclusive=True)
        except KeyExists:
            continue
        return key


def read_records(
    target: Target, project: str, profile: str, cache: Cache | None = None, *, glance: bool = False
) -> Records:
    """All records of a profile at a target, in the order in which they were written. A glance looks
    at the newest and at new ones.

    Those of unknown kinds and broken ones are ignored, with a note.
    """
    found = _Found()
    known = cache or Cache(None, "")
    folder = f"{folder_of(project, profile)}/{FOLDER}"
    believed, entries = look_at_records(target, folder, known, glance=glance)
    _believe(found, believed, known)
    unread = [one for one in entries if not known.recall(one) and _readable(one)]

    def read(entry: Entry) -> bytes:
        return b"".join(target.get(entry.key))

    with reading_ahead(read, unread, at_once(target)) as ahead:
        for entry in entries:
            kind = _kind(entry.key)
            if kind is None:
                found.notes.append(f"{target.name}: {entry.key} is not a record that is known here")
                continue
            try:
                _take(found, entry, kind, known, ahead)
            except FileNotFoundError:
                continue  # removed since it was listed
            except ODD as error:
                found.notes.append(f"{target.name}: {entry.key} is damaged and ignored: {error}")
    return found.records()


def _believe(found: _Found, keys: Iterable[str], cache: Cache) -> None:
    for key in keys:
        kind = _kind(key)
        # What cannot be read of it is read at the next whole look.
        with contextlib.suppress(*ODD):
            if kind is not None:
                _PARSERS[kind](found, key, cache.trust(key))


def obsolete(records: Records, ids: Collection[str]) -> list[str]:
    """The keys of records that speak only of snapshots that are not among `ids`.

    `ids` must be all snapshots of the profile, at whatever target. A drill's result stays.
    """
    there = frozenset(ids)
    return [key for key, about in records.speaks_of.items() if about and not about & there]


@dataclass
class _Found:
    proofs: list[Proof] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    unpins: list[Unpin] = field(default_factory=list)
    drills: list[DrillResult] = field(default_factory=list)
    speaks_of: dict[str, frozenset[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def records(self) -> Records:
        return Records(
            tuple(self.proofs),
            tuple(self.pins),
            tuple(self.unpins),
            tuple(self.drills),
            self.speaks_of,
            tuple(self.notes),
        )


def _kind(key: str) -> str | None:
    known = _KEY.fullmatch(key.rpartition("/")[2])
    return None if known is None else known[1]


def _readable(entry: Entry) -> bool:
    return _kind(entry.key) is not None and entry.bytes <= MOST_BYTES


def _take(
    found: _Found, entry: Entry, kind: str, cache: Cache, ahead: ReadAhead[Entry, bytes]
) -> None:
    remembered = cache.recall(entry)
    if remembered:
        try:
            _PARSERS[kind](found, entry.key, remembered)
        except ODD:
            pass  # an odd cache: what the target has decides
        else:
            return
    body = _body(entry, kind, ahead)
    if kind == "proofs":
        body = _rows(body)
    _PARSERS[kind](found, entry.key, body)
    cache.remember(entry, body)


def _body(entry: Entry, kind: str, ahead: ReadAhead[Entry, bytes]) -> Any:
    if entry.bytes > MOST_BYTES:
        raise ValueError(f"it has {entry.bytes} bytes")
    document = json.loads(ahead.read(entry))
    if not isinstance(document, dict) or (document["format"], document["kind"]) != (1, kind):
        raise ValueError("it is of another format or kind than its name says")
    return document["body"]


def _rows(body: Any) -> list[list[Any]]:
    """The proofs of a body without their field names: there are many of them."""
    return [
        [one[name] for name in _PROOF_FIELDS]
        + [one.get("key", "none"), one.get("reason", ""), one.get("sample"), one.get("behind")]
        for one in body["proofs"]
    ]


def _take_proofs(found: _Found, key: str, rows: list[list[Any]]) -> None:
    proofs = [_proof(*row) for row in rows]
    found.proofs.extend(proofs)
    found.speaks_of[key] = frozenset(one.snapshot for one in proofs)


def _proof(
    snapshot: str, source: str, target: str, level: str, verdict: str, at: str, *rest: Any
) -> Proof:
    if level not in VERIFY_LEVELS:
        raise ValueError(f"{level!r} is not a level of verification")
    host, basis, key, reason, sample, behind = rest
    drawn = _sample(sample) if sample else None
    about, said = (snapshot, source, target, level, verdict), (host, basis, key, reason)
    return Proof(*about, instant(at), *said, drawn, _behind(behind))


def _behind(text: str | None) -> datetime | None:
    return None if text is None else instant(text)


def _sample(body: Mapping[str, Any]) -> Sample:
    read, unread = (tuple(str(one) for one in body[name]) for name in ("read", "unread"))
    return Sample(float(body["share"]), str(body["draw"]), read, unread)


def _take_pin(found: _Found, key: str, body: Mapping[str, Any]) -> None:
    until = body.get("until")
    end = None if until is None else instant(until)
    found.pins.append(Pin(_id(body), instant(body["at"]), str(body["by"]), end))
    found.speaks_of[key] = frozenset([body["snapshot"]])


def _take_unpin(found: _Found, key: str, body: Mapping[str, Any]) -> None:
    found.unpins.append(Unpin(_id(body), instant(body["at"]), str(body["by"])))
    found.speaks_of[key] = frozenset([body["snapshot"]])


def _take_drill(found: _Found, key: str, body: Mapping[str, Any]) -> None:
    details = dict(body.get("details", {}))
    for one in dict(details.get("rto", {})).values():
        if not isinstance(one["measured"], int | float | None) or one["met"] not in _MET:
            raise ValueError("its recovery times are none")
    at, behind = instant(body["at"]), _behind(body.get("behind"))
    found.drills.append(DrillResult(str(body["run"]), at, body["ok"] is True, details, behind))
    found.speaks_of[key] = frozenset()


def _id(body: Mapping[str, Any]) -> str:
    return str(SnapshotId.parse(body["snapshot"]))


_MET = (True, False, None)
_PROOF_FIELDS = ("snapshot", "source", "target", "level", "verdict", "at", "host", "basis")
_PARSERS: Mapping[str, Callable[[_Found, str, Any], None]] = {
    "proofs": _take_proofs,
    "pin": _take_pin,
    "unpin": _take_unpin,
    "drill": _take_drill,
}


def _plain(record: Proof | Pin | Unpin | DrillResult) -> dict[str, Any]:
    return {
        key: _stamp(value) if isinstance(value, datetime) else value
        for key, value in asdict(record).items()
    }


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
