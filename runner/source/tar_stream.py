"""Read a tar stream member by member while it passes through: nothing is buffered but headers.

It reads what GNU tar writes in the pax format (ustar headers, pax records, sparse 1.0, GNU long
names, base-256 numbers) and refuses everything else: what this reader does not understand, the
program behind it might understand differently.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol
from zlib import adler32

from runner.errors import StepFailed

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
READ_BYTES = 1 << 20
PIPE_BYTES = 1 << 20  # the most that Linux gives to everybody

_JOINT = 16 << 10  # bytes of a block that are enough to end most groups of headers

# A header of a header describes one member: xattrs of 64 KiB each are the largest it may hold.
MOST_HEADER_BYTES = 16 << 20

FILE, FOLDER, LINK, HARDLINK, FIFO, OTHER = "file", "folder", "link", "hardlink", "fifo", "other"
_KINDS = {ord("0"): FILE, 0: FILE, ord("1"): HARDLINK, ord("2"): LINK, ord("5"): FOLDER}
_KINDS |= {ord("6"): FIFO, ord("3"): OTHER, ord("4"): OTHER}

_PAX = b"x"
_MOMENT = b" mtime in nanoseconds"  # unlike any key that is let in
_EXTENSIONS = {ord("x"): _PAX, ord("L"): b"path", ord("K"): b"linkpath"}
_ZERO_BLOCK = bytes(BLOCK)
_FIELDS = struct.Struct("8s8s8s12s12s8s")
# What nearly all headers look like; the others are read field by field.
_OCTAL = re.compile(rb"((?:[0-7]{7}\0){3})([0-7]{11})\0([0-7]{11})\0([0-7]{6}\0 )")
_ONLY_MTIME = re.compile(rb"([1-9]\d) mtime=(\d{1,12})\.?(\d{0,9})\n")
# All three blocks of nearly all files: a pax header, that time in it, and a header without prefix.
_USUAL_FILE = re.compile(
    rb".{100}(?:[0-7]{7}\0){3}([0-7]{11})\0[0-7]{11}\0([0-7]{6}\0 )x.{355}"
    rb"(?=(" + _ONLY_MTIME.pattern + rb")).{512}"
    rb"(?=([^\0]{1,100})).{100}((?:[0-7]{7}\0){3})([0-7]{11})\0[0-7]{11}\0([0-7]{6}\0 )0"
    rb".{100}ustar\0.{82}\0",
    re.DOTALL,
)
_KNOWN_RECORDS = frozenset(
    b"path linkpath size mtime atime ctime uid gid uname gname "
    b"GNU.sparse.major GNU.sparse.minor GNU.sparse.name GNU.sparse.realsize".split()
)
_XATTR = b"SCHILY.xattr."
_ACL = b"SCHILY.acl."


_Numbers = tuple[tuple[int, int, int], int, int]  # mode, uid and gid; size; mtime


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
        passed: list[tuple[int, memoryview]] = []
        start = 0
        if self._rest:
            # A joined copy of all of the block would cost as much as everything else here.
            joined = self._rest + block[:_JOINT]
            left = len(joined) - self._cut(joined, 0, passed)
            start = min(_JOINT, len(block)) - left
            if start < 0:
                block, start = joined[-left:] + block[_JOINT:], 0
        position = self._cut(block, start, passed)
        self._rest = block[position:]
        return passed

    def _cut(self, data: bytes, start: int, passed: list[tuple[int, memoryview]]) -> int:
        """Go over `data` from `start` on; the position of the headers that are not whole yet."""
        view = memoryview(data)
        end = len(data)
        position = self._skip(view, start)
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
                return end
            position = following + stored + -stored % BLOCK
            if position > end:
                self._data, self._padding = stored, -stored % BLOCK
                position = self._skip(view, following)
            elif route is not None:
                self._visitor.content(view[following : following + stored], True)
        self._pass(passed, view[start:position])
        return end if self._ended else position

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
    usual = _usual_file(data, position) if position + 3 * BLOCK <= end else None
    if usual is not None:
        return usual
    records: dict[bytes, bytes] = {}
    while position + BLOCK <= end:
        letter = data[position + 156]
        if letter == 0 and data[position : position + BLOCK] == _ZERO_BLOCK:
            return None, 0, position
        numbers = _numbers(data, position)
        size = numbers[1]
        position += BLOCK
        if letter not in _EXTENSIONS:
            member = _member(data, position - BLOCK, numbers, records)
            return (
                (*_with_records(member, records), position) if records else (member, size, position)
            )
        if size > MOST_HEADER_BYTES:
            raise TarRefused("The archive has a header of an impossible size.")
        following = position + size + -size % BLOCK
        if following > end:
            return None
        _extend(records, _EXTENSIONS[letter], data[position : position + size])
        position = following
    return None


def _usual_file(data: bytes, position: int) -> tuple[Member, int, int] | None:
    """The same for a file of which its pax header tells only the precise time; None for others."""
    found = _USUAL_FILE.match(data, position)
    if found is None:
        return None
    pax, pax_sum, record, digits, whole, fraction, name, rights, size, checksum = found.groups()
    if not int(pax, 8) == len(record) == int(digits):
        return None
    _check_sum(data, position, _expected(pax_sum))
    _check_sum(data, position + 2 * BLOCK, _expected(checksum))
    mode, uid, gid = _rights(rights)
    stored = int(size, 8)
    moment = int(whole + fraction.ljust(9, b"0"))
    fields = (name, FILE, mode & 0o7777, uid, gid, stored, moment, b"", (), False)
    return Member._make(fields), stored, position + 3 * BLOCK


def _extend(records: dict[bytes, bytes], key: bytes, content: bytes) -> None:
    """Take in a header that says more about the member after it."""
    precise = _ONLY_MTIME.fullmatch(content)
    if key in records or (key == _PAX and records) or _PAX in records:
        # What several of them mean together is for each reader to guess.
        raise TarRefused("The archive has a member with contradicting headers.")
    if key != _PAX:
        records[key] = content.rstrip(b"\0")
        return
    records[_PAX] = b""
    if precise is not None and int(precise[1]) == len(content):
        # Digits alone: nanoseconds, which is what `_nanoseconds` would make of them.
        records[_MOMENT] = precise[2] + precise[3].ljust(9, b"0")
    else:
        records.update(_pax_records(content))


def _member(data: bytes, position: int, numbers: _Numbers, records: dict[bytes, bytes]) -> Member:
    """The member of the header at `position`. Takes the precise time out of the records."""
    kind = _KINDS.get(data[position + 156])
    magic = data[position + 257 : position + 263]
    if kind is None or magic[:5] != b"ustar":
        raise TarRefused(f"The archive has a member of an unknown type: {data[position + 156]}.")
    name = data[position : position + 100].partition(b"\0")[0]
    if magic == b"ustar\0" and data[position + 345]:
        prefix = data[position + 345 : position + 500].partition(b"\0")[0]
        name = prefix + b"/" + name
    link = b""
    if kind in (LINK, HARDLINK):
        link = data[position + 157 : position + 257].partition(b"\0")[0]
    (mode, uid, gid), size, mtime = numbers
    if size and kind != FILE:
        raise TarRefused("The archive has data where there can be none.")
    records.pop(_PAX, None)
    moment = mtime * 10**9
    if _MOMENT in records:
        moment = int(records.pop(_MOMENT))
    elif b"mtime" in records:
        moment = _nanoseconds(records.pop(b"mtime"))
    return Member(name, kind, mode & 0o7777, uid, gid, size, moment, link, (), False)


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


def _numbers(data: bytes, position: int) -> _Numbers:
    """Mode, uid and gid together, size and mtime of the header at `position`, which must hold."""
    found = _OCTAL.match(data, position + 100)
    if found is not None:
        rights, size, mtime, checksum = found.groups()
        numbers = _rights(rights), int(size, 8), int(mtime, 8)
        expected = _expected(checksum)
    else:
        mode, uid, gid, *rest = map(_number, _FIELDS.unpack_from(data, position + 100))
        numbers = (mode, uid, gid), rest[0], rest[1]
        expected = _without_itself(rest[2], data[position + 148 : position + 156])
    _check_sum(data, position, expected)
    return numbers


def _check_sum(data: bytes, position: int, expected: int) -> None:
    header = data[position : position + BLOCK]
    # Adler's low half is 1 + the sum of the bytes, in C and exact as long as that is below 65521.
    if header.isascii():
        total = adler32(header) & 0xFFFF
    else:
        half = BLOCK // 2
        total = (adler32(header[:half]) & 0xFFFF) + (adler32(header[half:]) & 0xFFFF) - 1
    if total != expected:
        raise TarRefused("The archive has a damaged header.")


@lru_cache(1024)
def _rights(field: bytes) -> tuple[int, int, int]:
    """Mode, uid and gid: whole trees have the same few."""
    mode, uid, gid, _ = field.split(b"\0")
    return int(mode, 8), int(uid, 8), int(gid, 8)


@lru_cache(4096)
def _expected(checksum: bytes) -> int:
    return _without_itself(int(checksum[:6], 8), checksum)


def _without_itself(checksum: int, field: bytes) -> int:
    """1 + the sum of a header's bytes: it was made with spaces in place of its own field."""
    return checksum + sum(field) - len(field) * 32 + 1


def _number(field: bytes) -> int:
    """An octal number, or a base-256 one as GNU tar writes what does not fit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        sign = 1 << (8 * len(field) - 2)
        return value - (sign << 1) if value & sign else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits.translate(None, b"01234567"):
        return int(digits or b"0", 8)
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
