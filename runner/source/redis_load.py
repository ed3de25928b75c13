"""Keys brought into a running Redis server, one by one: RESTORE in batches, one in flight.

Each key has one outcome, a letter, in the order in which the keys were given. So what was brought
in is known without keeping any key, also after a kill.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runner.errors import StepFailed
from runner.source.redis_connect import RawConnection, Rejected, argument, pack
from runner.source.redis_file import Batch, Summary
from runner.source.redis_rdb import Entry, payloads

RESTORED = b"r"
SKIPPED = b"s"  # it exists there, and stays
EXPIRED = b"e"  # its time is over
FAILED = b"f"  # the server cannot read it
LEFT_OUT = b"-"  # not asked for

# The newest kind of value that each version of the RDB knows; the newest version first.
NEWEST_KINDS = {12: 25, 11: 21, 10: 19, 9: 15}
PROBE = b"holdfast:probe"

_RESTORE = b"*%d\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n%b$%d\r\n%b\r\n$6\r\nABSTTL\r\n%b"
_NEVER = b"$1\r\n0\r\n"
_REPLACE = b"$7\r\nREPLACE\r\n"
_WELL = b"+OK"
# What a server says of one value that it cannot read. Anything else concerns all of them.
_UNREADABLE = ("bad data format", "payload version or checksum")


@dataclass(frozen=True)
class Counts:
    """How many keys had each outcome."""

    restored: int = 0
    skipped: int = 0
    expired: int = 0
    failed: int = 0

    @classmethod
    def of(cls, outcomes: Counter[int]) -> Counts:
        """From the number of each letter."""
        return cls(*(outcomes[one[0]] for one in (RESTORED, SKIPPED, EXPIRED, FAILED)))

    def describe(self) -> str:
        """For a person: `12 restored, 3 skipped, 0 expired, 0 failed`."""
        return ", ".join(f"{number:,} {name}" for name, number in vars(self).items())


class Loader:
    """Brings entries into one server; each batch is packed while the one before is in flight."""

    def __init__(
        self,
        connection: RawConnection,
        *,
        replace: bool,
        wanted: Callable[[bytes], bool] | None = None,
        done: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        """Entries for which `wanted` is false are left out; `done` is given the outcomes of each
        batch once the server has answered all of it.
        """
        self._connection = connection
        self._end = _REPLACE if replace else b""
        self._words = 6 if replace else 5
        self._wanted = wanted
        self._done = done
        self._totals: Counter[int] = Counter()

    def load(self, batches: Iterable[Batch]) -> Counts:
        """Bring all in. Raises StepFailed when the server cannot go on: no memory, no right."""
        flying: tuple[bytearray, list[int]] | None = None
        for batch in batches:
            packed, outcomes, awaited = self._packed(batch)
            self._connection.send(packed)
            if flying is not None:
                self._land(*flying)
            flying = outcomes, awaited
        if flying is not None:
            self._land(*flying)
        return Counts.of(self._totals)

    def _packed(self, batch: Batch) -> tuple[bytes, bytearray, list[int]]:
        """Commands, what is known of the outcomes, and which key each command brings in; -1 for
        one that selects a database.
        """
        parts: list[bytes] = []
        outcomes, awaited = bytearray(RESTORED * len(batch)), []
        wanted, end, words, now = self._wanted, self._end, self._words, int(time.time() * 1000)
        for number, (entry, payload) in enumerate(batch):
            database, key, expires, _, idle, frequency = entry
            if wanted is not None and not wanted(key):
                outcomes[number] = LEFT_OUT[0]
                continue
            if expires is not None and expires <= now:
                outcomes[number] = EXPIRED[0]
                continue
            if database != self._connection.database:
                parts.append(pack([[b"SELECT", b"%d" % database]]))
                awaited.append(-1)
                self._connection.database = database
            more, tail = (0, end) if idle is frequency else _eviction(entry, end)
            at = argument(b"%d" % expires) if expires else _NEVER
            parts.append(_RESTORE % (words + more, len(key), key, at, len(payload), payload, tail))
            awaited.append(number)
        return b"".join(parts), outcomes, awaited

    def _land(self, outcomes: bytearray, awaited: Sequence[int]) -> None:
        replies = self._connection.read_lines(len(awaited))
        refused = () if replies.count(_WELL) == len(replies) else zip(awaited, replies, strict=True)
        for number, reply in refused:
            if reply == _WELL:
                continue
            refusal = Rejected(self._connection.where, reply[1:].decode(errors="replace"))
            if refusal.code == "BUSYKEY":
                outcomes[number] = SKIPPED[0]
            elif number >= 0 and any(words in refusal.text.lower() for words in _UNREADABLE):
                outcomes[number] = FAILED[0]
            else:
                raise _refused(refusal, selecting=number < 0)
        self._totals.update(outcomes)
        self._done(bytes(outcomes))


def load_functions(connection: RawConnection, libraries: Sequence[bytes], *, replace: bool) -> int:
    """Load libraries of functions from their code; return how many were not there before.

    Raises StepFailed when the server knows no functions, or cannot load one.
    """
    loaded = 0
    for code in libraries:
        try:
            connection.call("FUNCTION", "LOAD", *(["REPLACE"] if replace else []), code)
            loaded += 1
        except Rejected as error:
            if "already exists" not in error.text:
                raise
    return loaded


def payload_version(connection: RawConnection, summary: Summary, probe: bytes = PROBE) -> int:
    """The version that payloads must bear so that the server takes them all: their own, or an
    older one that knows all their kinds of values.

    Raises StepFailed when the server is too old for them. Nothing is changed: the key `probe`,
    whose time was over long ago, is read and not kept.
    """
    if not summary.keys or _accepts(connection, probe, summary.version):
        return summary.version
    newest = max(summary.kinds)
    for version, kind in NEWEST_KINDS.items():
        if version < summary.version and newest <= kind and _accepts(connection, probe, version):
            return version
    raise StepFailed(
        f"The Redis server at {connection.where} is too old: it cannot read values of RDB version "
        f"{summary.version}.",
        remedy="Restore to a server that is not older than the captured one.",
    )


def _accepts(connection: RawConnection, probe: bytes, version: int) -> bool:
    (payload,) = payloads([b"\x00\x01x"], version)
    try:
        connection.call("RESTORE", probe, 1, payload, "ABSTTL")
    except Rejected as error:
        if "payload version" in error.text:
            return False
        if error.code != "BUSYKEY":
            raise
    return True


def _eviction(entry: Entry, end: bytes) -> tuple[int, bytes]:
    """What RESTORE is told of how a key was used: the number of words, and these, after `end`."""
    name, value = (
        (b"IDLETIME", entry.idle) if entry.idle is not None else (b"FREQ", entry.frequency)
    )
    number = b"%d" % (value or 0)
    return 2, end + b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(number), number)


def _refused(reply: Rejected, *, selecting: bool) -> StepFailed:
    if selecting and "out of range" in reply.text:
        return StepFailed(
            f"{reply.message} The snapshot has keys in more databases than this server.",
            remedy="Raise `databases` in its configuration, and start it anew.",
        )
    if "bulk length" in reply.text:
        return StepFailed(
            f"{reply.message} A value is larger than this server takes.",
            remedy="Raise its proto-max-bulk-len: CONFIG SET proto-max-bulk-len 4gb.",
        )
    return reply
