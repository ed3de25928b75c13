"""Reading age files: all that the format's own test vectors ask for, and nothing that they refuse.

The vectors are of https://github.com/C2SP/CCTV.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.store.age_reader import opened
from runner.store.compression import Undecodable
from runner.store.seal import keygen, parse_identities

VECTORS = sorted(Path(__file__).with_name("age_vectors").glob("[!R]*"))
# They have a passphrase, or end before what could be read.
LEFT_TO_OTHERS = ("scrypt", "stream_no_nonce", "stream_short_nonce")
CHUNK = 64 * 1024
IDENTITIES = [parse_identities(keygen()[0])[0] for _ in range(3)]
SEALED = CHUNK + 16
# On both sides of each end of a chunk.
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK, 3 * CHUNK + 1]


@dataclass(frozen=True)
class Vector:
    """A file, and what reading it should give."""

    expect: str
    payload: str  # the hash of what may be handed on; empty: nothing may
    identities: tuple[str, ...]
    file: bytes

    @classmethod
    def read(cls, path: Path) -> Vector:
        """One of the files in `age_vectors`."""
        head, _, file = path.read_bytes().partition(b"\n\n")
        lines = [line.partition(": ") for line in head.decode().splitlines()]
        said = {key: value for key, _, value in lines}
        identities = tuple(value for key, _, value in lines if key == "identity")
        if said.get("compressed") == "zlib":
            file = zlib.decompress(file)
        return cls(said["expect"], said.get("payload", ""), identities, file)


@pytest.mark.parametrize("piece", [1 << 20, 1000], ids=["whole", "pieces"])
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name)
def test_it_reads_what_the_format_says_and_nothing_else(path: Path, piece: int) -> None:
    vector = Vector.read(path)
    head, rest = vector.file[:4096], vector.file[4096:]
    content = opened(head, pieces(rest, piece), vector.identities)
    passed, error = drained(content)
    if path.name not in LEFT_TO_OTHERS:
        assert (content is not None) == (vector.expect in ("success", "payload failure"))
    if content is not None:
        assert (error is None) == (vector.expect == "success")
    if content is not None and error is None:
        assert hashlib.sha256(passed).hexdigest() == vector.payload
    assert error is None or len(passed) % CHUNK == 0


@pytest.mark.parametrize("size", SIZES)
def test_it_reads_what_the_library_and_the_program_write(size: int, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "data").write_bytes(data)
    recipient = str(identity(1).to_public())
    by_program = subprocess.run(
        ["age", "-r", recipient, tmp_path / "data"], capture_output=True, check=True
    ).stdout
    for file in (
        pyrage.encrypt(data, [identity(0).to_public(), identity(1).to_public()]),
        by_program,
    ):
        assert read(file, 70_001, IDENTITIES[2], IDENTITIES[1]) == data


@settings(deadline=None)
@given(
    size=st.integers(0, 3 * CHUNK), head=st.integers(2000, 5000), piece=st.integers(500, 200_000)
)
def test_pieces_of_any_size_make_no_difference(size: int, head: int, piece: int) -> None:
    data = bytes(size)
    file = pyrage.encrypt(data, [identity(0).to_public()])
    content = opened(file[:head], pieces(file[head:], piece), IDENTITIES)
    assert drained(content) == (data, None)


@settings(deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7), cut=st.booleans())
def test_no_damage_passes(place: int, bit: int, *, cut: bool) -> None:
    file = pyrage.encrypt(bytes(2 * CHUNK + 100), [identity(0).to_public()])
    place %= len(file)
    damaged = file[:place] if cut else _flipped(file, place, bit)
    content = opened(damaged[:5000], pieces(damaged[5000:], 50_000), IDENTITIES)
    passed, error = drained(content)
    assert bytes(2 * CHUNK + 100).startswith(passed)
    assert content is None or error is not None


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_blocks_may_end_where_a_chunk_ends(beyond: int) -> None:
    data = random.Random(beyond).randbytes(4 * CHUNK)
    file = pyrage.encrypt(data, [identity(0).to_public()])
    first = len(file) - 4 * SEALED
    ends = [first, *(first + number * SEALED + beyond for number in (1, 2, 4)), len(file)]
    blocks = [file[start:end] for start, end in pairwise(ends)]
    assert drained(opened(file[:first], iter(blocks), IDENTITIES)) == (data, None)


def test_chunks_in_another_order_are_refused() -> None:
    file = pyrage.encrypt(random.Random(1).randbytes(3 * CHUNK), [identity(0).to_public()])
    head, sealed = file[: -3 * SEALED], list(pieces(file[-3 * SEALED :], SEALED))
    for order in ([1, 0, 2], [0, 2, 1], [0, 0, 1, 2], [0, 2], [0, 1, 2, 2], [2]):
        content = opened(head, [sealed[number] for number in order], IDENTITIES)
        assert drained(content)[1] is not None, order


def test_other_readers_are_left_what_is_not_for_this_one(tmp_path: Path) -> None:
    path = tmp_path / "ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    key = path.read_text()
    public = pyrage.ssh.Recipient.from_str(path.with_suffix(".pub").read_text())
    assert opened(pyrage.encrypt(b"x", [public]), (), [key]) is None
    assert opened(pyrage.encrypt(b"x", [identity(0).to_public()]), (), [IDENTITIES[1]]) is None
    assert opened(b"", (), IDENTITIES) is None
    assert opened(b"no age file\n---" + bytes(100), (), IDENTITIES) is None


def identity(number: int) -> pyrage.x25519.Identity:
    """One of the identities, as the library has it."""
    return pyrage.x25519.Identity.from_str(IDENTITIES[number])


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data, cut."""
    return (data[start : start + size] for start in range(0, len(data), size))


def read(file: bytes, size: int, *identities: str) -> bytes:
    """What is in a file."""
    content, error = drained(opened(file[:size], pieces(file[size:], size), identities))
    assert error is None
    return content


def drained(content: Iterator[bytes] | None) -> tuple[bytes, str | None]:
    """All that is handed on, and the error at its end."""
    passed = bytearray()
    try:
        for block in content or ():
            passed += block
    except Undecodable as error:
        return bytes(passed), str(error)
    return bytes(passed), None


def _flipped(data: bytes, place: int, bit: int) -> bytes:
    spoilt = bytearray(data)
    spoilt[place] ^= 1 << bit
    return bytes(spoilt)
