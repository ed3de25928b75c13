"""Some databases out of an RDB, in the portable form: commands that make each key again.

An RDB is of a whole server, and who restores one by hand replaces all that a server holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from runner.source.redis_connect import argument, pack
from runner.source.redis_file import lists
from runner.source.redis_rdb import Entry, Rdb, payloads
from runner.source.redis_resp import restore


class Portable:
    """Turns keys into commands."""

    def __init__(self) -> None:
        self._database: int | None = None

    def commands(self, entries: Sequence[Entry], version: int) -> bytes:
        """As RESP text; `version` is that of the RDB that the values come from."""
        parts = []
        found = payloads([entry.value for entry in entries], version)
        for entry, payload in zip(entries, found, strict=True):
            if entry.database != self._database:
                self._database = entry.database
                parts.append(pack([(b"SELECT", b"%d" % entry.database)]))
            parts.append(restore(argument(entry.key), entry.expires or 0, payload))
        return b"".join(parts)


class SomeDatabases:
    """An RDB that is read for some databases. What it tells is whole once `chunks` was read to its
    end.
    """

    def __init__(self, rdb: Iterable[bytes], chosen: frozenset[int]) -> None:
        """Raises StepFailed if this is no RDB."""
        self.rdb = Rdb(rdb)
        # Keys by database and by the first byte of their values.
        self.kinds: dict[int, Counter[int]] = defaultdict(Counter)
        self._chosen = chosen

    def chunks(self) -> Iterator[bytes]:
        """The commands. Raises StepFailed where the RDB is damaged or short."""
        portable = Portable()
        entries = (one for one in self.rdb.entries() if one.database in self._chosen)
        for some in lists(entries):
            for entry in some:
                self.kinds[entry.database][entry.value[0]] += 1
            yield portable.commands(some, self.rdb.version)
