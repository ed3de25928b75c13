"""What a fingerprint says of one file: a line of JSON, the same from an archive and from a tree.

The lines stand in the order of a walk that goes into each folder where it meets it, names sorted
byte by byte: the order in which `tar --sort=name` writes. So two lists of any length are compared
side by side, in constant memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from json import dumps, loads
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, NamedTuple

from runner.source.tar_stream import FILE, HARDLINK

MOST_DIFFERENCES = 20
_LINES_AT_ONCE = 1000
# Labels of SELinux belong to the host's policy; a restore takes those of its place.
UNCOMPARED_XATTR = b"security.selinux"


class Entry(NamedTuple):
    """One name of a tree. Undecodable bytes of names and links are kept as surrogates."""

    name: str  # relative to the restored folder; "." is that folder
    kind: str  # file | folder | link | hardlink | fifo
    mode: int  # permission bits
    uid: int
    gid: int
    bytes: int
    mtime: int  # nanoseconds since 1970
    sha256: str  # of a file's content
    link: str  # where a link points; the name that a hard link shares its file with
    xattrs: Mapping[str, str]  # name: the start of its value's sha256


def entry_line(
    name: str, kind: str, numbers: tuple[int, ...], sha256: str, link: bytes, xattrs: str
) -> str:
    """The line of one entry. `numbers` are mode, uid, gid, bytes and mtime."""
    before, after = entry_ends(name, kind, numbers, link, xattrs)
    return before + sha256 + after


def entry_ends(
    name: str, kind: str, numbers: tuple[int, ...], link: bytes, xattrs: str
) -> tuple[str, str]:
    """What stands before and after the hash in the line of one entry."""
    if kind == HARDLINK:
        # Everything but its name is told with the name that it links to.
        numbers, xattrs = (0, 0, 0, 0, 0), "{}"
    mode, uid, gid, size, mtime = numbers
    target = quoted(text(link)) if link else '""'
    return (
        f'[{quoted(name)},"{kind}",{mode},{uid},{gid},{size},{mtime},"',
        f'",{target},{xattrs}]\n',
    )


def xattrs_text(xattrs: Iterable[tuple[bytes, bytes]]) -> str:
    """The last field of a line: each attribute with a hash of its value."""
    hashes = {
        text(name): hashlib.sha256(value).hexdigest()[:16]
        for name, value in sorted(xattrs)
        if name != UNCOMPARED_XATTR
    }
    return dumps(hashes, separators=(",", ":"))


def text(name: bytes) -> str:
    """A name as text, reversibly."""
    return name.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """The bytes of a name that `text` made."""
    return name.encode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """A name as a person may see it on a terminal: nothing unprintable in it."""
    plain = raw(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def read_entry(line: bytes | str) -> Entry:
    """One line read. Raises ValueError when it is none."""
    return Entry(*loads(line))


def order(name: str) -> list[bytes]:
    """The key that sorts names as a walk meets them."""
    return [] if name == "." else raw(name).split(b"/")


@dataclass(frozen=True)
class Comparison:
    """What of two lists is compared."""

    wanted: Callable[[str], bool]  # by name
    owners: bool  # whether uid, gid and privileged attributes count

    def differences(self, expected: Path, found: Path) -> list[str]:
        """How the list `found` differs from `expected`, in readable lines; 20 and a count."""
        lines: list[str] = []
        more = 0
        for line in self._all(expected, found):
            if len(lines) < MOST_DIFFERENCES:
                lines.append(line)
            else:
                more += 1
        return [*lines, f"and {more} more differences"] if more else lines

    def _all(self, expected: Path, found: Path) -> Iterator[str]:
        with expected.open("rb") as left, found.open("rb") as right:
            ours, theirs = self._next(left), self._next(right)
            while ours or theirs:
                if ours == theirs:
                    ours, theirs = self._next(left), self._next(right)
                    continue
                one, other = ours and read_entry(ours), theirs and read_entry(theirs)
                if not other or (one and order(one.name) < order(other.name)):
                    assert one
                    yield f"{shown(one.name)}: missing"
                    ours = self._next(left)
                elif not one or order(other.name) < order(one.name):
                    yield f"{shown(other.name)}: not in the snapshot"
                    theirs = self._next(right)
                else:
                    yield from self._between(one, other)
                    ours, theirs = self._next(left), self._next(right)

    def _next(self, lines: Iterable[bytes]) -> bytes:
        for line in lines:
            if self.wanted(read_entry(line).name):
                return line
        return b""

    def _between(self, one: Entry, other: Entry) -> Iterator[str]:
        name = shown(one.name)
        if one.kind != other.kind:
            yield f"{name}: a {other.kind} instead of a {one.kind}"
            return
        if one.kind == FILE and one.bytes != other.bytes:
            yield f"{name}: {other.bytes} bytes instead of {one.bytes}"
        elif one.sha256 != other.sha256:
            yield f"{name}: content differs"
        if one.link != other.link:
            yield f"{name}: links to {shown(other.link)} instead of {shown(one.link)}"
        if one.mode != other.mode:
            yield f"{name}: mode {other.mode:04o} instead of {one.mode:04o}"
        if one.mtime != other.mtime:
            yield f"{name}: modification time differs"
        if self.owners and (one.uid, one.gid) != (other.uid, other.gid):
            yield f"{name}: owner {other.uid}:{other.gid} instead of {one.uid}:{one.gid}"
        for key in sorted(one.xattrs.keys() | other.xattrs.keys()):
            differs = one.xattrs.get(key) != other.xattrs.get(key)
            if differs and (self.owners or key.startswith(("user.", "system.posix_acl"))):
                yield f"{name}: attribute {shown(key)} differs"


class ListWriter:
    """Writes a list of entries, counting and hashing on the way. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lines: list[str] = []
        self._hash = hashlib.sha256()
        self._entries = 0
        self._bytes = 0

    def add(self, line: str, size: int) -> None:
        """Add the line of an entry whose content has `size` bytes."""
        self._lines.append(line)
        self._bytes += size
        if len(self._lines) >= _LINES_AT_ONCE:
            self._flush()

    def summary(self) -> dict[str, Any]:
        """How many entries were added, their bytes, and the hash of the list."""
        self._flush()
        digest = self._hash.hexdigest()
        return {"entries": self._entries, "bytes": self._bytes, "sha256": digest}

    def __enter__(self) -> ListWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _flush(self) -> None:
        data = "".join(self._lines).encode("ascii")
        self._entries += len(self._lines)
        self._hash.update(data)
        self._file.write(data)
        self._file.flush()
        self._lines.clear()
