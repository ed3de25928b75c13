"""Sealing and opening: what comes back is what went in, or somebody is told what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import PersonNeeded, StepFailed, UsageError, is_local
from runner.store.seal import (
    Damaged,
    Seal,
    Sealed,
    Sink,
    check_stored,
    decode_command,
    keygen,
    parse_identities,
    unseal,
)
from runner.store.streams import HEAD_BYTES, Headed
from runner.target.local import LocalTarget

IDENTITY, RECIPIENT = keygen()
FOLDER = "shop/prod/20261120T021500Z-nightly-7f3a9c"
MEBIBYTE = 1024 * 1024

# On both sides of the block within which no threads are used.
SIZES = [0, 1, 1000, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 5 * MEBIBYTE + 17]
COMPRESSIONS = ["zstd", "zstd:1", "zstd:12", "gzip", "gzip:1", "gzip:6", "none"]


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget("disk", tmp_path / "backups")


@pytest.fixture(params=["library", "program"])
def either_age(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the library, and as on a machine for which there is no wheel of it."""
    if request.param == "program":
        monkeypatch.setitem(sys.modules, "pyrage", None)
    return str(request.param)


def content(size: int) -> bytes:
    """Half text, half noise."""
    generator = random.Random(size)
    parts, length = [], 0
    while length < size:
        part = b"insert into players values (%d, 'ann');\n" % length * 50 + generator.randbytes(
            2000
        )
        parts.append(part)
        length += len(part)
    return b"".join(parts)[:size]


def writing(data: bytes, piece: int = 70_001) -> Callable[[Sink], None]:
    def produce(sink: Sink) -> None:
        for start in range(0, len(data), piece):
            sink.write(data[start : start + piece])

    return produce


def stored(target: LocalTarget, sealed: Sealed) -> Path:
    return Path(target.location(f"{FOLDER}/{sealed.key}"))


def opened(target: LocalTarget, sealed: Sealed, *identities: str) -> bytes:
    path = f"{FOLDER}/{sealed.key}"
    chunks = unseal(target, path, sha256=sealed.sha256, size=sealed.bytes, identities=identities)
    return b"".join(chunks)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert [one.name for one in threading.enumerate() if "stage" in one.name] == []


@pytest.mark.parametrize(
    ("compression", "recipients", "suffix"),
    [
        ("zstd", (), ".zst"),
        ("zstd:9", (RECIPIENT,), ".zst.age"),
        ("gzip", (), ".gz"),
        ("none", (), ""),
        ("none", (RECIPIENT,), ".age"),
    ],
)
def test_the_suffix_says_what_was_done(
    compression: str, recipients: tuple[str, ...], suffix: str
) -> None:
    assert Seal(compression, recipients).suffix == suffix


@pytest.mark.parametrize(
    "text", ["", "lz4", "zstd:", "zstd:23", "gzip:10", "zstd:-1", "none:1", "zstd:²"]
)
def test_an_unknown_compression_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is no compression"):
        _ = Seal(text).suffix


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
def test_what_went_in_comes_back(
    target: LocalTarget, size: int, compression: str, recipients: tuple[str, ...]
) -> None:
    data = content(size)
    sealed = Seal(compression, recipients).write(target, FOLDER, "db.sqlite", writing(data))
    on_disk = stored(target, sealed).read_bytes()
    assert sealed == Sealed(
        key="db.sqlite" + Seal(compression, recipients).suffix,
        bytes=len(on_disk),
        sha256=hashlib.sha256(on_disk).hexdigest(),
        content_bytes=size,
        content_sha256=hashlib.sha256(data).hexdigest(),
        head_sha256=hashlib.sha256(on_disk[:MEBIBYTE]).hexdigest()
        if recipients and len(on_disk) > MEBIBYTE
        else None,
    )
    assert opened(target, sealed, IDENTITY) == data
    assert check_stored(target, f"{FOLDER}/{sealed.key}", sealed.sha256, sealed.bytes) is None


def test_what_is_told_by_its_head_is_read_as_well_and_no_damage_is_missed(
    target: LocalTarget,
) -> None:
    data = content(3 * MEBIBYTE)
    sealed = Seal("none", (RECIPIENT,)).write(target, FOLDER, "db.sqlite", writing(data))
    path = stored(target, sealed)
    whole = path.read_bytes()

    def read() -> bytes:
        return b"".join(
            unseal(
                target,
                f"{FOLDER}/{sealed.key}",
                sha256="0" * 64,
                size=sealed.bytes,
                identities=[IDENTITY],
                head_sha256=sealed.head_sha256,
            )
        )

    assert read() == data
    body = whole.index(b"\n---") + 100
    for position in (0, 30, body - 60, body, MEBIBYTE - 1, MEBIBYTE, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(Damaged):
            read()
    for changed in (whole[:-1], whole[: -MEBIBYTE // 2], whole + b"x"):
        path.write_bytes(changed)
        with pytest.raises(Damaged):
            read()
    forged = Seal("none", (RECIPIENT,)).write(target, FOLDER, "other", writing(data))
    while forged.bytes != sealed.bytes:  # the library adds a line of random length to the head
        stored(target, forged).unlink()
        forged = Seal("none", (RECIPIENT,)).write(target, FOLDER, "other", writing(data))
    path.write_bytes(stored(target, forged).read_bytes())
    with pytest.raises(Damaged, match="its sha256 is not that of what was written"):
        read()


@given(st.lists(st.integers(0, HEAD_BYTES), max_size=6))
def test_the_head_is_hashed_whatever_the_chunks(sizes: list[int]) -> None:
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    headed = Headed(chunks)
    assert list(headed) == chunks
    data = b"".join(chunks)
    assert headed.bytes == len(data)
    assert headed.sha256 == hashlib.sha256(data[:HEAD_BYTES]).hexdigest()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pieces=st.lists(st.integers(0, 3 * MEBIBYTE), max_size=5),
    view=st.booleans(),
    compression=st.sampled_from(COMPRESSIONS),
    encrypted=st.booleans(),
)
def test_pieces_of_any_size(
    target: LocalTarget, pieces: list[int], view: bool, compression: str, encrypted: bool
) -> None:
    data = content(sum(pieces))

    def produce(sink: Sink) -> None:
        reader, buffer = io.BytesIO(data), bytearray(3 * MEBIBYTE)
        for size in pieces:
            # The producer uses its buffer again: what was written must have been taken.
            count = reader.readinto(memoryview(buffer)[:size])
            piece = memoryview(buffer)[:count]
            assert sink.write(piece if view else bytes(piece)) == count

    seal = Seal(compression, (RECIPIENT,) if encrypted else ())
    sealed = seal.write(target, FOLDER, "x.tar", produce)
    assert opened(target, sealed, IDENTITY) == data


@pytest.mark.parametrize("size", [0, 1000, 5 * MEBIBYTE])
@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
def test_ordinary_tools_decode_it(
    target: LocalTarget, tmp_path: Path, size: int, compression: str, recipients: tuple[str, ...]
) -> None:
    data = content(size)
    sealed = Seal(compression, recipients).write(target, FOLDER, "-x y.tar", writing(data))
    (tmp_path / "a key").write_text(IDENTITY)
    done = subprocess.run(
        [
            "bash",
            "-eu",
            "-o",
            "pipefail",
            "-c",
            decode_command(sealed.key, shlex.quote(sealed.key)),
        ],
        cwd=stored(target, sealed).parent,
        env={"PATH": os.environ["PATH"], "AGE_IDENTITY": str(tmp_path / "a key")},
        capture_output=True,
        check=True,
    )
    assert done.stdout == data


@pytest.mark.parametrize("size", [0, 1000, 5 * MEBIBYTE])
def test_the_age_program_does_the_same(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    data = content(size)
    by_library = Seal("zstd", (RECIPIENT,)).write(target, FOLDER, "a", writing(data))
    monkeypatch.setitem(sys.modules, "pyrage", None)
    text, recipient = keygen()
    by_program = Seal("zstd", (recipient, RECIPIENT)).write(target, FOLDER, "b", writing(data))
    assert opened(target, by_library, text, IDENTITY) == data
    assert opened(target, by_program, text) == data
    monkeypatch.undo()
    assert opened(target, by_program, IDENTITY) == data


def test_an_age_program_that_is_killed_says_nothing_of_the_file(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = Seal("zstd", (RECIPIENT,)).write(target, FOLDER, "a", writing(content(1000)))
    monkeypatch.setitem(sys.modules, "pyrage", None)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "age").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "bin" / "age").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(StepFailed, match="age was ended by signal 9") as caught:
        opened(target, sealed, IDENTITY)
    assert not isinstance(caught.value, Damaged)
    assert is_local(caught.value)


DECODE_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from runner.errors import StepFailed, is_local
from runner.store.compression import _zstd, decoded
zstd = _zstd()
options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
compressor = zstd.ZstdCompressor(options=options)
data = compressor.compress(bytes(1 << 20)) + compressor.flush()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20),) * 2)
try:
    list(decoded(".zst", [data]))
except StepFailed as error:
    print(is_local(error), error.message)
"""


def test_too_little_memory_is_no_damage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECODE_IN_LITTLE_MEMORY], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True There is not enough memory to decompress what is stored.\n"


def test_any_view_is_written_as_it_reads(target: LocalTarget) -> None:
    data = content(3 * MEBIBYTE)
    view = memoryview(data)
    views = [view, view[::-1], view[1:], view.cast("I"), view.cast("B", (3, MEBIBYTE))]

    def produce(sink: Sink) -> None:
        for one in views:
            sink.write(one)

    sealed = Seal("zstd").write(target, FOLDER, "a", produce)
    assert opened(target, sealed) == b"".join(bytes(one) for one in views)


def test_any_of_several_recipients_opens_it(target: LocalTarget, tmp_path: Path) -> None:
    recipients, identities = [RECIPIENT], [IDENTITY]
    for kind in ("ed25519", "rsa"):
        key = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
        recipients.append(key.with_suffix(".pub").read_text().strip())
        identities.append(key.read_text())
    data = content(3 * MEBIBYTE)
    sealed = Seal("zstd", tuple(recipients)).write(target, FOLDER, "a", writing(data))
    stranger, _ = keygen()
    for identity in identities:
        assert opened(target, sealed, identity) == data
        assert opened(target, sealed, stranger, identity) == data


# What goes wrong while it is written


class SourceVanished(OSError):
    """An error of the operating system that is the producer's, not the target's."""


@pytest.mark.parametrize("size", [0, 1000, 12 * MEBIBYTE])
@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("error", [SourceVanished("gone"), StopIteration(), KeyError("k")])
def test_a_producer_that_raises_leaves_nothing(
    target: LocalTarget,
    size: int,
    compression: str,
    recipients: tuple[str, ...],
    error: Exception,
    either_age: str,
) -> None:
    def produce(sink: Sink) -> None:
        writing(content(size))(sink)
        raise error

    with pytest.raises((SourceVanished, RuntimeError, KeyError)) as caught:
        Seal(compression, recipients).write(target, FOLDER, "a", produce)
    assert error in (caught.value, caught.value.__cause__)
    assert list(target.entries("")) == []
    assert target.sweep("", 0.0) == []


class Failing(LocalTarget):
    """A target that fails after some bytes."""

    def __init__(self, root: Path, after: int, error: BaseException) -> None:
        super().__init__("failing", root)
        self._after = after
        self._error = error

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        exclusive: bool = False,
        expected_bytes: int = 0,
    ) -> int:
        def cut() -> Iterator[bytes]:
            seen = 0
            for chunk in chunks:
                seen += len(chunk)
                if seen > self._after:
                    raise self._error
                yield chunk

        return super().put(key, cut(), exclusive=exclusive, expected_bytes=expected_bytes)


@pytest.mark.parametrize("after", [0, 3 * MEBIBYTE])
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("error", [StepFailed("full"), KeyboardInterrupt()])
def test_a_target_that_raises_stops_the_producer(
    tmp_path: Path, after: int, recipients: tuple[str, ...], error: BaseException, either_age: str
) -> None:
    target = Failing(tmp_path / "backups", after, error)
    ended = threading.Event()

    def endless(sink: Sink) -> None:
        try:
            while True:
                sink.write(os.urandom(100_000))
        finally:
            ended.set()

    with pytest.raises(type(error)) as caught:
        Seal("zstd", recipients).write(target, FOLDER, "a", endless)
    assert caught.value is error
    assert ended.is_set()
    assert list(target.entries("")) == []
    assert target.sweep("", 0.0) == []


def test_a_bad_recipient_is_told(target: LocalTarget) -> None:
    for size in (10, 5 * MEBIBYTE):
        with pytest.raises(UsageError, match="'age1nonsense' is no recipient"):
            Seal("zstd", ("age1nonsense",)).write(target, FOLDER, "a", writing(content(size)))
    assert list(target.entries("")) == []


def test_progress_counts_the_content(target: LocalTarget) -> None:
    counted: list[int] = []
    data = content(5 * MEBIBYTE + 17)
    Seal("zstd").write(target, FOLDER, "a", writing(data, 1000), progress=counted.append)
    assert sum(counted) == len(data)
    assert 2 <= len(counted) <= 10


def test_progress_may_stop_it(target: LocalTarget) -> None:
    def stop(_: int) -> None:
        raise InterruptedError("asked to stop")

    with pytest.raises(InterruptedError):
        Seal("none").write(target, FOLDER, "a", writing(content(9 * MEBIBYTE)), progress=stop)
    assert list(target.entries("")) == []


# What goes wrong while it is read


@pytest.mark.parametrize("size", [1000, 3 * MEBIBYTE])
@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
def test_damage_anywhere_is_told_as_such(
    target: LocalTarget, size: int, compression: str, recipients: tuple[str, ...], either_age: str
) -> None:
    sealed = Seal(compression, recipients).write(target, FOLDER, "a", writing(content(size)))
    path = stored(target, sealed)
    whole = path.read_bytes()
    places = [*range(0, 300, 37), len(whole) // 2, len(whole) - 17, len(whole) - 1]
    spoilt = [_flipped(whole, place) for place in places if place < len(whole)]
    spoilt += [whole[:0], whole[:1], whole[: len(whole) // 2], whole[:-1]]
    spoilt += [whole + b"\0", whole + whole, whole + b"x" * 2 * MEBIBYTE]
    for data in spoilt:
        path.write_bytes(data)
        with pytest.raises(StepFailed, match="is damaged") as caught:
            opened(target, sealed, IDENTITY)
        assert sealed.key in caught.value.message
        assert "disk" in caught.value.message
        assert "another target" in caught.value.remedy
        reason = check_stored(target, f"{FOLDER}/{sealed.key}", sealed.sha256, sealed.bytes)
        assert reason is not None


def _flipped(data: bytes, place: int) -> bytes:
    spoilt = bytearray(data)
    spoilt[place] ^= 0x10
    return bytes(spoilt)


def test_a_missing_file_is_told(target: LocalTarget) -> None:
    sealed = Seal("zstd").write(target, FOLDER, "a", writing(b"x"))
    target.delete(f"{FOLDER}/{sealed.key}")
    with pytest.raises(Damaged, match="it is missing"):
        opened(target, sealed)
    path = f"{FOLDER}/{sealed.key}"
    assert check_stored(target, path, sealed.sha256, sealed.bytes) == "it is missing"


@pytest.mark.parametrize("size", [1000, 5 * MEBIBYTE])
def test_a_wrong_identity_is_not_taken_for_damage(
    target: LocalTarget, size: int, either_age: str
) -> None:
    sealed = Seal("zstd", (RECIPIENT,)).write(target, FOLDER, "a", writing(content(size)))
    stranger, _ = keygen()
    with pytest.raises(PersonNeeded, match=r"No given identity opens .*a\.zst\.age") as caught:
        opened(target, sealed, stranger)
    assert caught.value.remedy
    with pytest.raises(PersonNeeded, match="no identity is given") as caught:
        opened(target, sealed)
    assert "--identity" in caught.value.remedy


def test_leaving_early_ends_the_threads(target: LocalTarget, either_age: str) -> None:
    data = content(20 * MEBIBYTE)
    sealed = Seal("zstd", (RECIPIENT,)).write(target, FOLDER, "a", writing(data))
    path = f"{FOLDER}/{sealed.key}"
    chunks = unseal(target, path, sha256=sealed.sha256, size=sealed.bytes, identities=[IDENTITY])
    assert data.startswith(next(chunks))
    chunks.close()  # type: ignore[attr-defined]


# Keys


def test_a_new_key_reads_as_an_identity_file() -> None:
    text, recipient = keygen()
    created, public, secret = text.splitlines()
    assert created.startswith("# created: 2")
    assert public == f"# public key: {recipient}"
    assert parse_identities(text) == (secret,)
    derived = subprocess.run(
        ["age-keygen", "-y"], input=text, capture_output=True, text=True, check=True
    )
    assert derived.stdout.strip() == recipient


def test_several_identities_stand_in_one_file(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    ssh = (tmp_path / "k").read_text()
    one, other = keygen()[0], keygen()[0]
    found = parse_identities(f"# two\n\n{one}\r\n  \n{ssh}{other}")
    assert sorted(found) == sorted([one.splitlines()[-1], other.splitlines()[-1], ssh])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no identity"),
        ("# only a comment\n", "holds no identity"),
        ("marker-of-a-secret\n", "Line 1 "),
        ("# x\nAGE-SECRET-KEY-marker\n", "Line 2 "),
        ("age-encryption.org/v1\n-> scrypt\n", "itself encrypted"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\nmarker\n", "itself encrypted"),
    ],
)
def test_what_is_no_identity_is_told_without_quoting_it(text: str, words: str) -> None:
    with pytest.raises(PersonNeeded, match=words) as caught:
        parse_identities(text)
    assert "marker" not in caught.value.message + caught.value.remedy


def test_an_identity_that_cannot_be_used_is_told(target: LocalTarget, tmp_path: Path) -> None:
    sealed = Seal("zstd", (RECIPIENT,)).write(target, FOLDER, "a", writing(b"x"))
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "pass", "-f", tmp_path / "k"], check=True
    )
    for text in ((tmp_path / "k").read_text(), IDENTITY.strip()[:-3] + "QQQ"):
        with pytest.raises(PersonNeeded, match="cannot be used") as caught:
            opened(target, sealed, text)
        assert "ssh-keygen -p" in caught.value.remedy
        assert "AGE-SECRET" not in str(caught.value)


def test_identities_are_not_seen_in_the_process_list(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    data = content(20 * MEBIBYTE)
    sealed = Seal("none", (RECIPIENT,)).write(target, FOLDER, "a", writing(data))
    chunks = unseal(
        target,
        f"{FOLDER}/{sealed.key}",
        sha256=sealed.sha256,
        size=sealed.bytes,
        identities=[IDENTITY],
    )
    next(chunks)
    seen = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            seen += path.read_bytes()
    assert b"age\0-d\0-i\0/proc/" in seen
    assert b"AGE-SECRET-KEY" not in seen
    chunks.close()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)], ids=["plain", "encrypted"])
def test_any_size_takes_the_same_memory(tmp_path: Path, recipients: tuple[str, ...]) -> None:
    script = """
import os, sys
from pathlib import Path
from runner.store.seal import Seal, unseal
from runner.target.local import LocalTarget
target = LocalTarget("disk", Path(sys.argv[1]))
noise = os.urandom(500_000)
def produce(sink):
    for number in range(600):
        sink.write(noise + b"%06d" % number * 80_000)
sealed = Seal("zstd", tuple(sys.argv[2:])).write(target, "s", "a", produce)
identities = [sys.stdin.read()]
path = "s/" + sealed.key
chunks = unseal(target, path, sha256=sealed.sha256, size=sealed.bytes, identities=identities)
assert sum(map(len, chunks)) == sealed.content_bytes > 580_000_000
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "backups", *recipients],
        input=IDENTITY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 150_000, "KiB"
