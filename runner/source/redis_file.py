"""A snapshot's file, an RDB or RESP text, as keys that a server takes one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from runner.errors import StepFailed
from runner.source.redis_choose import Chosen
from runner.source.redis_rdb import TYPES, Entry, Rdb, payloads
from runner.source.redis_resp import commands, is_number

BLOCK = 1024 * 1024
AT_ONCE = 500  # entries read, and sent, together; other clients of the server wait for so many
AT_ONCE_BYTES = 16 * 1024 * 1024
TAIL = 10  # bytes of a payload behind its value: version and checksum


# Entries, each with what RESTORE takes for its value.
Batch = Sequence[tuple[Entry, bytes]]


class Reading(Protocol):
    """A file that is being read. What it tells is whole once `batches` were read to its end."""

    functions: list[bytes]  # the code of each library
    version: int  # of the payloads

    @property
    def memory(self) -> int:
        """Bytes that the captured server took for it; 0: not known."""

    def entries(self) -> Iterator[Entry]:
        """Every key, one by one and without what RESTORE takes."""

    def batches(self) -> Iterator[Batch]:
        """All entries, in the file's order, at most `AT_ONCE` together."""


@dataclass
class Summary:
    """What a file holds, in numbers."""

    version: int = 0
    keys: Counter[int] = field(default_factory=Counter)  # by database
    kinds: Counter[int] = field(default_factory=Counter)  # by the first byte of a value
    functions: int = 0
    memory: int = 0  # bytes that the captured server took for it; 0: not known
    wanted: Counter[int] = field(default_factory=Counter)  # what a restore of a part takes

    def to_json(self) -> dict[str, Any]:
        """The form that is noted."""
        counted = {
            name: {str(one): number for one, number in sorted(found.items())}
            for name, found in vars(self).items()
            if isinstance(found, Counter)
        }
        return {**vars(self), **counted}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Summary:
        """Read the note."""
        counted = {
            name: Counter({int(one): number for one, number in found.items()})
            for name, found in document.items()
            if isinstance(found, dict)
        }
        return cls(**(document | counted))

    @property
    def databases(self) -> int:
        """How many logical databases a server must have to hold it."""
        return max(self.keys, default=-1) + 1

    @property
    def types(self) -> dict[str, int]:
        """Keys by what TYPE calls them."""
        found: Counter[str] = Counter()
        for kind, number in self.kinds.items():
            found[TYPES.get(kind, f"kind {kind}")] += number
        return dict(found)


class _RdbReading:
    def __init__(self, content: Iterable[bytes], version: int) -> None:
        self.rdb = Rdb(content)
        self.functions = self.rdb.functions
        self.version = version or self.rdb.version

    def entries(self) -> Iterator[Entry]:
        """Every key, one by one and without what RESTORE takes."""
        return self.rdb.entries()

    @property
    def memory(self) -> int:
        """Bytes that the captured server took for it; 0: not known."""
        found = self.rdb.auxiliary.get("used-mem", "0")
        return int(found) if found.isdigit() else 0

    def batches(self) -> Iterator[Batch]:
        for batch in lists(self.entries()):
            found = payloads([entry.value for entry in batch], self.version)
            yield list(zip(batch, found, strict=True))
        if self.rdb.beside:
            raise StepFailed(
                "What was stored holds data that modules keep beside the keys: no server takes "
                "it key by key.",
                remedy="Restore the file itself: declare `data_dir`, `stop` and `start`.",
            )


class _RespReading:
    memory = 0

    def __init__(self, content: Iterable[bytes], version: int) -> None:
        self.functions: list[bytes] = []
        self.version = 0
        self._asked = version
        self._content = content

    def batches(self) -> Iterator[Batch]:
        for batch in lists(self.entries()):
            version = self._asked or self.version
            found = payloads([entry.value for entry in batch], version)
            yield list(zip(batch, found, strict=True))

    def entries(self) -> Iterator[Entry]:
        """The same, one by one and without what RESTORE takes."""
        database = 0
        for command in commands(self._content):
            match command:
                case [b"RESTORE", name, expires, payload, *_] if len(payload) > TAIL and is_number(
                    expires
                ):
                    self.version = int.from_bytes(payload[-TAIL:-8], "little")
                    yield Entry(database, name, int(expires) or None, payload[:-TAIL])
                case [b"SELECT", number] if is_number(number):
                    database = int(number)
                case [b"FUNCTION", b"LOAD", *_, code]:
                    self.functions.append(code)
                case _:
                    raise StepFailed(
                        f"What was stored has an unknown command: {b' '.join(command)[:20]!r}."
                    )


def form_of(beginning: bytes) -> str:
    """The form of a file that begins so."""
    return "rdb" if beginning.startswith((b"REDIS", b"VALKEY")) else "resp"


def read(path: Path, form: str, version: int = 0) -> Reading:
    """A file that was staged; `version` is what its payloads are to say, if not their own."""
    return reading(chunks(path), form, version)


def reading(content: Iterable[bytes], form: str, version: int = 0) -> Reading:
    """The content of a file of this form: `rdb` or `resp`."""
    return _RdbReading(content, version) if form == "rdb" else _RespReading(content, version)


def summarize(
    content: Iterable[bytes], form: str, summary: Summary, chosen: Chosen = None
) -> Iterator[Sequence[Entry]]:
    """All entries of a file that are in chosen databases, in lists. What it holds of them is added
    to `summary`: the version with the first, all else once all were read.
    """
    file = reading(content, form)
    entries = file.entries()
    if chosen is not None:
        entries = (entry for entry in entries if entry.database in chosen)
    for batch in lists(entries):
        summary.version = file.version
        summary.keys.update(entry.database for entry in batch)
        summary.kinds.update(entry.value[0] for entry in batch)
        yield batch
    summary.version = file.version
    if chosen is None:
        summary.functions += len(file.functions)
        summary.memory += file.memory


def lists(entries: Iterator[Entry]) -> Iterator[Sequence[Entry]]:
    """All entries, as many together as can be held in memory twice."""
    while batch := _some(entries):
        yield batch


def _some(entries: Iterator[Entry]) -> list[Entry]:
    found: list[Entry] = []
    size = 0
    for entry in islice(entries, AT_ONCE):
        found.append(entry)
        size += len(entry.value)
        if size >= AT_ONCE_BYTES:
            break
    return found


def chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes."""
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            yield chunk
