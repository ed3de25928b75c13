"""Read a tar stream member by member while it passes through: nothing is buffered but headers.

It reads what GNU tar writes in the pax format (ustar headers, pax records, sparse 1.0, GNU long
names, base-256 numbers) and refuses everything else: what this reader does not understand, the
program behind it might understand differently.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol
from zlib import adler32

from runner.errors import StepFailed

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
READ_BYTES = 1 << 20

# A header of a header describes one member: xattrs of 64 KiB each are the largest it may hold.
MOST_HEADER_BYTES = 16 << 20

FILE, FOLDER, LINK, HARDLINK, FIFO, OTHER = "file", "folder", "link", "hardlink", "fifo", "other"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"1": HARDLINK, b"2": LINK, b"5": FOLDER}
_KINDS |= {b"6": FIFO, b"3": OTHER, b"4": OTHER}

_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s74x8x155s12x")
_KNOWN_RECORDS = frozenset(
    b"path linkpath size mtime atime ctime uid gid uname gname "
    b"GNU.sparse.major GNU.sparse.minor GNU.sparse.name GNU.sparse.realsize".split()
)
_XATTR = b"SCHILY.xattr."
_ACL = b"SCHILY.acl."


class TarRefused(StepFailed):
    """The stream is no tar stream that this reader accepts."""


class Member(NamedTuple):
    """One member, as its headers say."""

    name: bytes  # as stored, not checked in any way
    kind: str  # file | folder | link | hardlink | fifo | other (a device)
    mode: int  # permission bits only
    uid: int
    gid: int
    size: int  # of the content once it is expanded
    mtime: int  # nanoseconds since 1970
    link: bytes  # what a link points to; empty for others
    xattrs: tuple[tuple[bytes, bytes], ...]
    sparse: bool  # the data starts with a map of the content's parts


class Visitor(Protocol):
    """What happens to the members of a stream."""

    def begin(self, member: Member) -> int | None:
        """The number of where the member goes; None drops it.

        Called before any byte of the member is passed on.
        """

    def content(self, data: memoryview, last: bool) -> None:
        """A piece of the stored data of the member that began last, unless it was dropped.

        Called at least once for every member, if only with an empty last piece.
        """


class TarStream:
    """Cuts a stream into what goes where. Feed it blocks of any size, then `finish` it."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._rest = b""  # an unfinished group of headers
        self._data = 0  # bytes of the current member's data that are still to come
        self._padding = 0  # and of the zeros that follow it
        self._route: int | None = None
        self._ended = False

    def feed(self, block: bytes) -> list[tuple[int, memoryview]]:
        """What of the stream so far can be passed on, and to where, in order.

        The trailer is not among it: whoever passes members on ends them with `TRAILER`.
        Raises TarRefused.
        """
        if self._ended:
            return []
        data = self._rest + block if self._rest else block
        view = memoryview(data)
        end = len(data)
        passed: list[tuple[int, memoryview]] = []
        start, position = 0, self._skip(view, 0)
        while position < end and not self._ended:
            group = _read_group(data, position, end)
            if group is None:
                break
            member, stored, following = group
            route = None if member is None else self._visitor.begin(member)
            if route is not self._route:
                self._pass(passed, view[start:position])
                self._route, start = route, position
            if member is None:
                self._ended = True
                break
            self._data, self._padding = stored, -stored % BLOCK
            position = following
            if stored == 0 and route is not None:
                self._visitor.content(view[:0], True)
            position = self._skip(view, position)
        self._pass(passed, view[start:position])
        self._rest = data[position:]
        return passed

    def finish(self) -> None:
        """Raise TarRefused unless the stream's end was seen."""
        if not self._ended:
            raise TarRefused("The archive ends too early.")

    def _pass(self, passed: list[tuple[int, memoryview]], piece: memoryview) -> None:
        if piece and self._route is not None:
            passed.append((self._route, piece))

    def _skip(self, view: memoryview, position: int) -> int:
        """Go over the data of the current member that is in `view`; where it ends in there."""
        if self._data:
            piece = view[position : position + self._data]
            self._data -= len(piece)
            position += len(piece)
            if self._route is not None:
                self._visitor.content(piece, self._data == 0)
        if self._padding and not self._data:
            step = min(self._padding, len(view) - position)
            self._padding -= step
            position += step
        return position


def _read_group(data: bytes, position: int, end: int) -> tuple[Member | None, int, int] | None:
    """The member whose headers start at `position`, its stored bytes and where they start.

    None when not all of its headers are there yet; a member of None is the end of the archive.
    """
    records: dict[bytes, bytes] = {}
    while position + BLOCK <= end:
        fields = _HEADER.unpack_from(data, position)
        kind = fields[7]
        if kind in b"xLK":
            _check_sum(data, position, fields[6])
            size = _number(fields[4])
            if size > MOST_HEADER_BYTES:
                raise TarRefused("The archive has a header of an impossible size.")
            position += BLOCK
            if position + size > end:
                return None
            content = data[position : position + size]
            if kind == b"x":
                records.update(_pax_records(content))
            else:
                records[b"path" if kind == b"L" else b"linkpath"] = content.rstrip(b"\0")
            position += size + -size % BLOCK
            continue
        if kind == b"\0" and not any(data[position : position + BLOCK]):
            return None, 0, position
        _check_sum(data, position, fields[6])
        member, stored = _member(fields, records)
        return member, stored, position + BLOCK
    return None


def _member(fields: tuple[bytes, ...], records: dict[bytes, bytes]) -> tuple[Member, int]:
    name, mode, uid, gid, size, mtime, _, letter, link, magic, prefix = fields
    kind = _KINDS.get(letter)
    if kind is None or magic[:5] != b"ustar":
        raise TarRefused(f"The archive has a member of an unknown type: {letter!r}.")
    name = name.partition(b"\0")[0]
    if magic == b"ustar\0" and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    stored = _number(size) if kind == FILE else 0
    precise = records.pop(b"mtime", None)
    member = Member(
        name,
        kind,
        _number(mode) & 0o7777,
        _number(uid),
        _number(gid),
        stored,
        _number(mtime) * 10**9 if precise is None else _nanoseconds(precise),
        link.partition(b"\0")[0] if kind in (LINK, HARDLINK) else b"",
        (),
        False,
    )
    # Most members have a precise time and nothing else: they are done here.
    return _with_records(member, records) if records else (member, stored)


def _with_records(member: Member, records: Mapping[bytes, bytes]) -> tuple[Member, int]:
    """The member and its stored bytes, once the pax records have had their say."""
    stored = member.size
    if b"size" in records and member.kind == FILE:
        stored = _decimal(records[b"size"])
    sparse = b"GNU.sparse.major" in records
    if sparse and (
        (records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")) != (b"1", b"0")
        or member.kind != FILE
        or not {b"GNU.sparse.name", b"GNU.sparse.realsize"} <= records.keys()
    ):
        raise TarRefused("The archive has a sparse file of an unknown form.")
    name = records.get(b"GNU.sparse.name") if sparse else records.get(b"path")
    changed = member._replace(
        name=member.name if name is None else name,
        uid=_decimal(records[b"uid"]) if b"uid" in records else member.uid,
        gid=_decimal(records[b"gid"]) if b"gid" in records else member.gid,
        size=_decimal(records[b"GNU.sparse.realsize"]) if sparse else stored,
        link=records.get(b"linkpath", member.link) if member.link else b"",
        xattrs=_xattrs(records),
        sparse=sparse,
    )
    return changed, stored


def _xattrs(records: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = (
        (key[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%"), value)
        for key, value in records.items()
        if key.startswith(_XATTR)
    )
    return tuple(sorted(found))


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records `length key=value newline` of a pax header."""
    position, end = 0, len(content)
    while position < end:
        space = content.find(b" ", position, position + 20)
        digits = content[position:space]
        if space < 0 or not digits.isdigit() or int(digits) <= space - position + 1:
            raise TarRefused("The archive has a damaged pax header.")
        following = position + int(digits)
        key, equals, value = content[space + 1 : following - 1].partition(b"=")
        if following > end or content[following - 1] != 10 or not equals:
            raise TarRefused("The archive has a damaged pax header.")
        if key not in _KNOWN_RECORDS and not key.startswith((_XATTR, _ACL)):
            raise TarRefused(f"The archive has a pax record of an unknown kind: {key!r}.")
        yield key, value
        position = following


def _check_sum(data: bytes, position: int, field: bytes) -> None:
    # Adler's low half is 1 + the sum of the bytes, exact for as few as 256: all of it in C.
    total = (adler32(data[position : position + 256]) & 0xFFFF) + (
        adler32(data[position + 256 : position + BLOCK]) & 0xFFFF
    )
    if total - 2 - sum(field) + 8 * 32 != _number(field):
        raise TarRefused("The archive has a damaged header.")


def _number(field: bytes) -> int:
    """An octal number, or a base-256 one as GNU tar writes what does not fit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        sign = 1 << (8 * len(field) - 2)
        return value - (sign << 1) if value & sign else value
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise TarRefused(f"The archive has a damaged number: {field!r}.")


def _decimal(value: bytes) -> int:
    if value.isdigit() and len(value) <= 20:
        return int(value)
    raise TarRefused(f"The archive has a damaged number: {value[:40]!r}.")


def _nanoseconds(value: bytes) -> int:
    whole, _, fraction = value.partition(b".")
    negative = whole[:1] == b"-"
    moment = _decimal(whole[negative:]) * 10**9
    if fraction:
        moment += _decimal((fraction + b"000000000")[:9])
    return -moment if negative else moment
