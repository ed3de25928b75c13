"""The list of contents of a dump, and which entries of it some tables alone need."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import process
from runner.source import postgres_behind
from runner.source.postgres_programs import Programs, client, explained
from runner.source.postgres_server import Server

_ENTRY = re.compile(r"(\d+); \d+ \d+ (.+)")
_DUMPED_BY = re.compile(r"^;\s+Dumped by pg_dump version: (\d+)", re.MULTILINE)
_NEEDS = ";\tdepends on: "

# How a restore speaks, whatever it restores.
_ALWAYS = ("ENCODING ", "STDSTRINGS ", "SEARCHPATH ")

# A dump of chosen schemas makes it, and a new database has it already; a dump of everything has it
# where another owns it than usually.
PUBLIC = "SCHEMA - public "
PUBLIC_COMMENT = ("COMMENT - SCHEMA public ", 'COMMENT - SCHEMA "public" ')

# Their rows, which are in no dump.
COMPUTED = "MATERIALIZED VIEW DATA"

# They fire at what is made after them: they would forbid it, or write it down as done by somebody.
_EVENT_TRIGGER = re.compile(r"(?:[A-Z ]+ - )?EVENT TRIGGER ")

# What is a part of a table: it comes with the table, and what it needs comes with it.
_OF_TABLE = (
    "TABLE DATA",
    "TABLE ATTACH",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "STATISTICS",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "COMMENT",
    "ACL",
    "SECURITY LABEL",
)
Name = tuple[str, str]  # a schema, and a table in it

_ATTACH, _FOREIGN, _TABLE = "TABLE ATTACH ", "FK CONSTRAINT ", "TABLE "


@dataclass(frozen=True)
class Entry:
    """One line of the list."""

    number: int
    line: str  # as pg_restore takes it back
    text: str  # kind, schema, name and owner, divided by blanks, which names may hold too
    needs: frozenset[int]


@dataclass(frozen=True)
class Contents:
    """What a dump says of itself."""

    entries: list[Entry]  # in the order in which they are restored
    dumped_by: int  # the major of pg_dump; 0: it does not say


def read(server: Server, programs: Programs, dump: Path, encoding: str = "UTF8") -> Contents:
    """What is in a dump. `encoding`, in PostgreSQL's words, is that of the dumped database."""
    arguments = ["--list", "--verbose"]
    if server.exec and dump.is_dir():
        found = postgres_behind.contents(server, programs, dump, arguments)
        return _contents(as_text(found, encoding))
    if not server.exec:
        arguments.append(str(dump))
    with (
        client(server, programs, "pg_restore", *arguments, connect=False) as one,
        explained(server, "pg_restore"),
        contextlib.ExitStack() as stack,
    ):
        # A program elsewhere reads the dump as it comes.
        opened = stack.enter_context(dump.open("rb")) if server.exec else None
        with process.reading(
            one.arguments,
            stdin=subprocess.DEVNULL if opened is None else opened,
            environment=one.environment,
            folder=one.folder,
        ) as output:
            found = output.read()
    return _contents(as_text(found, encoding))


def _contents(text: str) -> Contents:
    made = _DUMPED_BY.search(text)
    return Contents(parse(text), int(made[1]) if made else 0)


def as_text(said: bytes, encoding: str) -> str:
    """What a dump says, which is in UTF-8 where it was asked for something by a name."""
    try:
        return said.decode()
    except UnicodeDecodeError:
        codec = encoding.replace("WIN", "cp").replace("KOI8", "koi8-")
        with contextlib.suppress(LookupError):
            return said.decode(codec, errors="surrogateescape")
        return said.decode(errors="surrogateescape")


def parse(text: str) -> list[Entry]:
    """The entries of what `pg_restore --list --verbose` prints."""
    found: list[Entry] = []
    for line in text.splitlines():
        if entry := _ENTRY.fullmatch(line):
            found.append(Entry(int(entry[1]), line, entry[2], frozenset()))
        elif line.startswith(_NEEDS) and found:
            last = found[-1]
            numbers = frozenset(int(one) for one in line.removeprefix(_NEEDS).split())
            found[-1] = Entry(last.number, last.line, last.text, numbers)
    return found


def of_tables(entries: Sequence[Entry], wanted: Iterable[Name], known: Iterable[Name]) -> list[str]:
    """The lines that bring back the wanted tables, with all that they need.

    A table that one of them only refers to is left out, and so is the reference; one that they
    inherit from or that a rule of theirs reads comes without its rows. `known` are all tables.
    """
    graph = _Graph(entries)
    tables = graph.tables({_said(one) for one in wanted}, {_said(one) for one in known})
    chosen = graph.needed_by(tables)
    defined = chosen & graph.defined
    while True:
        more = {
            entry.number
            for entry in entries
            if entry.number not in chosen
            and _is(entry, _OF_TABLE)
            and entry.needs & (tables | graph.parts(chosen, tables))
            and not (_is(entry, (_FOREIGN.strip(),)) and not entry.needs & graph.defined <= defined)
        }
        if not more:
            break
        chosen |= graph.needed_by(more)
    return [
        entry.line for entry in entries if entry.number in chosen or entry.text.startswith(_ALWAYS)
    ]


@dataclass(frozen=True)
class Turns:
    """The lines of a dump's list, in the turns in which they are restored."""

    first: list[str] | None  # None: all of them
    computed: list[str]  # materialized views, which may fail
    last: list[str]  # event triggers


def turns(entries: Sequence[Entry], lines: list[str] | None) -> Turns:
    """What is restored when. `lines` are those that are wanted; None: all of them."""
    late = {one.line: one.text.startswith(COMPUTED) for one in entries if _is_late(one)}
    if not late:
        return Turns(lines, [], [])
    wanted = [one.line for one in entries] if lines is None else lines
    found = [one for one in wanted if one in late]
    return Turns(
        [one for one in wanted if one not in late],
        [one for one in found if late[one]],
        [one for one in found if not late[one]],
    )


def _is_late(entry: Entry) -> bool:
    return entry.text.startswith(f"{COMPUTED} ") or _EVENT_TRIGGER.match(entry.text) is not None


class _Graph:
    """What needs what."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = {entry.number: entry for entry in entries}
        self.defined = {one.number for one in entries if _is_table(one)}

    def tables(self, wanted: set[str], known: set[str]) -> set[int]:
        """The definitions of tables, and of their partitions."""
        found = {one for one in self.defined if _longest(self._entries[one], known) in wanted}
        while True:
            more = {
                one
                for entry in self._entries.values()
                if entry.text.startswith(_ATTACH) and entry.needs & found
                # It needs the partition, and what that is a partition of.
                for one in (entry.needs & self.defined) - found
                if self._entries[one].needs & found
            }
            if not more:
                return found
            found |= more

    def needed_by(self, numbers: Iterable[int]) -> set[int]:
        """These, and all that they need."""
        found: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            if number not in found and number in self._entries:
                found.add(number)
                waiting += self._entries[number].needs
        return found

    def parts(self, chosen: set[int], wanted: set[int]) -> set[int]:
        """The sequences and indexes of the wanted tables: more belongs to those."""
        found = set()
        for number in chosen:
            entry = self._entries[number]
            if _is(entry, ("SEQUENCE", "INDEX", "CONSTRAINT")) and entry.needs & wanted:
                found.add(number)
        return found


def _said(name: Name) -> str:
    """As the list shows it: a line break in a name is a blank there."""
    return re.sub(r"[\r\n]", " ", f"{_TABLE}{name[0]} {name[1]} ")


def _longest(entry: Entry, known: set[str]) -> str:
    """Which of the known tables an entry defines: a name may be the beginning of another."""
    return max((one for one in known if entry.text.startswith(one)), key=len, default="")


def _is_table(entry: Entry) -> bool:
    kinds = ("TABLE DATA ", _ATTACH)
    return entry.text.startswith(_TABLE) and not entry.text.startswith(kinds)


def _is(entry: Entry, kinds: Sequence[str]) -> bool:
    return any(entry.text.startswith(f"{kind} ") for kind in kinds)
