"""The tar reader: the same members as other readers see, whatever the blocks; or a refusal."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.source import tar_stream
from runner.source.tar_sparse import SparseHash
from runner.source.tar_stream import BLOCK, TRAILER, Member, TarRefused, TarStream
from tests.tools import require_program

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


class Reader:
    """Keeps every member with its content, and drops those with a given name."""

    def __init__(self, dropped: bytes = b"") -> None:
        self.dropped = dropped
        self.members: list[Member] = []
        self.contents: list[bytes] = []
        self.ended: list[bool] = []

    def begin(self, member: Member) -> int | None:
        self.members.append(member)
        self.contents.append(b"")
        self.ended.append(False)
        return None if member.name == self.dropped else 0

    def content(self, data: memoryview, last: bool) -> None:
        self.contents[-1] += bytes(data)
        self.ended[-1] = last


def read(archive: bytes, reader: Reader, step: int = 1 << 20) -> bytes:
    """Feed an archive in blocks of `step`; return what was passed on, with its end."""
    stream = TarStream(reader)
    passed = b""
    for start in range(0, len(archive), step):
        for _, piece in stream.feed(archive[start : start + step]):
            passed += bytes(piece)
    stream.finish()
    return passed + TRAILER


def archive_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive made by another program's code."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1_700_000_000.5 if form == tarfile.PAX_FORMAT else 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@given(
    files=st.dictionaries(NAMES, st.binary(max_size=3000), min_size=1, max_size=6),
    form=FORMATS,
    step=st.integers(1, 4000),
)
@settings(deadline=None, max_examples=30)
def test_any_blocks_give_the_same_members(files: dict[str, bytes], form: int, step: int) -> None:
    archive = archive_of(files, form)
    reader = Reader()
    passed = read(archive, reader, step)
    assert {m.name: c for m, c in zip(reader.members, reader.contents, strict=True)} == {
        name.encode(): content for name, content in files.items()
    }
    assert all(reader.ended)
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        assert tar.getnames() == [name.rstrip("/") for name in files]


@given(
    files=st.dictionaries(NAMES, st.binary(max_size=1500), min_size=2, max_size=5),
    step=st.integers(100, 3000),
    data=st.data(),
)
@settings(deadline=None, max_examples=20)
def test_a_dropped_member_is_not_passed_on(
    files: dict[str, bytes], step: int, data: st.DataObject
) -> None:
    dropped = data.draw(st.sampled_from(sorted(files)))
    passed = read(archive_of(files), Reader(dropped.encode()), step)
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        found = {one.name: tar.extractfile(one) for one in tar}
        contents = {name: file.read() for name, file in found.items() if file is not None}
    assert contents == {name: content for name, content in files.items() if name != dropped}


@given(damage=st.integers(0, 511), value=st.integers(1, 255))
@settings(deadline=None, max_examples=50)
def test_a_changed_header_is_refused(damage: int, value: int) -> None:
    archive = bytearray(archive_of({"a": b"content"}, tarfile.GNU_FORMAT))
    archive[damage] ^= value
    reader = Reader()
    try:
        read(bytes(archive), reader)
    except TarRefused:
        return
    # A digit of the checksum field may become a space or NUL and still mean the same.
    assert 148 <= damage < 156
    assert reader.members[0].name == b"a"


@pytest.mark.parametrize("value", [b"\0", b"1", b"x", b"\xff"])
def test_what_is_read_at_once_is_read_as_field_by_field(
    value: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever byte of a file's three blocks of headers is another."""
    require_program("tar")
    (tmp_path / "file").write_bytes(b"content")
    os.utime(tmp_path / "file", ns=(1, 1_500_000_001))
    command = ["tar", "--create", "--format=pax", "--pax-option=delete=atime,delete=ctime", "file"]
    archive = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    damaged = [archive[:at] + value + archive[at + 1 :] for at in range(3 * BLOCK)]

    def outcomes() -> list[Member | str]:
        return [outcome(one) for one in [archive, *damaged]]

    at_once = outcomes()
    assert isinstance(at_once[0], Member)
    monkeypatch.setattr(tar_stream, "_USUAL_FILE", re.compile(b"(?!)"))
    assert at_once == outcomes()


def outcome(archive: bytes) -> Member | str:
    """The only member, or why the archive was refused."""
    reader = Reader()
    try:
        read(archive, reader)
    except TarRefused as error:
        return str(error)
    return reader.members[0] if reader.members else "empty"


@given(st.binary(max_size=4096))
@settings(deadline=None, max_examples=50)
def test_noise_is_refused_or_ends(noise: bytes) -> None:
    reader = Reader()
    try:
        read(noise, reader)
    except TarRefused:
        return
    assert noise[:512] == bytes(512)


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024])
def test_an_archive_that_ends_early_is_refused(cut: int) -> None:
    with pytest.raises(TarRefused, match="too early"):
        read(archive_of({"a": b"x" * 900}, tarfile.GNU_FORMAT)[:cut], Reader())


@pytest.mark.parametrize(
    "records",
    [
        b"11 path=a\n",
        b"5 a=\n",
        b"99 path=abc\n",
        b"17 GNU.dumpdir=Y\n",
        b"0 path=x\n",
        b"xx path=x\n",
        b"12 size=1_0\n",
    ],
)
def test_odd_pax_headers_are_refused(records: bytes) -> None:
    with pytest.raises(TarRefused):
        read(with_records(records), Reader())


def test_two_headers_for_one_member_are_refused() -> None:
    archive = with_records(b"9 path=a\n")
    with pytest.raises(TarRefused, match="contradicting"):
        read(archive[:1024] + archive, Reader())


def test_data_where_there_can_be_none_is_refused() -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "target", 512
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(TarRefused, match="none"):
        read(header + bytes(512) + TRAILER, Reader())


def test_large_and_negative_numbers() -> None:
    info = tarfile.TarInfo("old")
    info.mtime, info.uid = -5, 3_000_000
    reader = Reader()
    read(info.tobuf(tarfile.GNU_FORMAT) + TRAILER, reader)
    assert (reader.members[0].mtime, reader.members[0].uid) == (-5 * 10**9, 3_000_000)
    reader = Reader()
    read(with_records(b"14 mtime=-1.5\n"), reader)
    assert reader.members[0].mtime == -1_500_000_000


def test_gnu_tar_s_sparse_files(tmp_path: Path) -> None:
    require_program("tar")
    content = hashlib.sha256()
    with (tmp_path / "sparse").open("wb") as file:
        for part in range(40):
            file.seek(part * 100_000)
            file.write(os.urandom(5000))
        file.truncate(5_000_000)
    content.update((tmp_path / "sparse").read_bytes())
    archive = subprocess.run(
        ["tar", "--create", "--format=pax", "--sparse", "--file=-", "sparse"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    for step in (512, 999, 1 << 20):
        reader = Reader()
        read(archive, reader, step)
        member = reader.members[0]
        assert (member.name, member.size, member.sparse) == (b"sparse", 5_000_000, True)
        found = SparseHash(member.size)
        for start in range(0, len(reader.contents[0]), step):
            found.update(memoryview(reader.contents[0][start : start + step]))
        assert found.hexdigest() == content.hexdigest()


@pytest.mark.parametrize(
    "stored", [b"x\n", b"1\n5\n", b"1\n9\n9\n", b"2\n4\n2\n0\n2\n", b"1\n0\n4\n", b"9" * 30 + b"\n"]
)
def test_damaged_sparse_maps_are_refused(stored: bytes) -> None:
    with pytest.raises(TarRefused):
        sparse_hash(8, stored.ljust(512, b"\0") + b"abcd"[: len(stored) % 4 + 1])


def sparse_hash(size: int, stored: bytes) -> str:
    """The hash of a sparse file's content, from its stored data."""
    found = SparseHash(size)
    found.update(memoryview(stored))
    return found.hexdigest()


def with_records(records: bytes) -> bytes:
    """An archive of one empty file with these pax records."""
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, len(records)
    file = tarfile.TarInfo("file").tobuf(tarfile.USTAR_FORMAT)
    return pax.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + file + TRAILER
