"""Reading large files while they are unpacked: the proof has less to do, and believes no less."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from runner.errors import StepFailed
from runner.process import started
from runner.source import Place, files_hash
from runner.source.files import FilesSource
from runner.source.files_behind import LARGE, Known
from runner.source.files_hash import ANSWER_BYTES, BEHIND, Content, answered, question
from runner.source.files_walk import walk
from tests.source.stack import TOKEN, FolderArtifacts
from tests.source.tree import Snapshots, restore, source_of
from tests.tools import require_program

require_program("tar")

MANY = 10  # large files: enough for a second process
HERE = Place(TOKEN)
pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one processor: nothing is read behind"
)

Taken = tuple[FilesSource, FolderArtifacts]


@pytest.fixture
def many(tmp_path: Path, snapshots: Snapshots) -> Taken:
    """A snapshot of large files among small ones."""
    tree = tmp_path / "app" / "tree"
    tree.mkdir(parents=True)
    chance = random.Random(1)
    for number in range(MANY):
        (tree / f"{number:02}").write_bytes(chance.randbytes(LARGE + number))
        (tree / f"{number:02} small").write_bytes(chance.randbytes(100))
    source = source_of(tmp_path / "app", "tree")
    return source, snapshots.take(source)


@pytest.fixture
def large(tmp_path: Path, snapshots: Snapshots) -> Taken:
    """A snapshot of one file that is read while it grows, and of one behind it."""
    tree = tmp_path / "app" / "tree"
    tree.mkdir(parents=True)
    (tree / "large").write_bytes(random.Random(1).randbytes(65 << 20))
    (tree / "small").write_text("behind the large one")
    source = source_of(tmp_path / "app", "tree")
    return source, snapshots.take(source)


def staged(taken: Taken) -> Path:
    """Stage it; the folder that it is staged in."""
    source, artifacts = taken
    source.stage(artifacts, HERE)
    folder = source.staged(HERE)
    assert folder is not None
    return folder


def differences(taken: Taken) -> list[str]:
    source, artifacts = taken
    found = source.fingerprint(HERE)
    return list(source.differences(artifacts.fingerprint, found, HERE))


def known(folder: Path) -> dict[str, Content]:
    """What the proof of what is staged in `folder` need not read, by name."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    with (folder.parent / "behind").open("rb") as record:
        assert record.read(len(boot)) == boot
        read = Known(record)
        found = walk(os.fsencode(folder / "tree"), "tree")
        contents = ((os.fsdecode(one.name), read.content(one)) for one in found)
        return {name: content for name, content in contents if content is not None}


def test_some_is_read_before_all_of_it_is_unpacked(many: Taken) -> None:
    folder = staged(many)
    read = known(folder)
    assert read  # how much depends on how busy the machine is
    assert not [name for name in read if name.endswith("small")]
    for name, content in read.items():
        assert content.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert differences(many) == []


def test_a_large_file_is_read_while_it_grows(large: Taken) -> None:
    folder = staged(large)
    path = folder / "tree" / "large"
    assert known(folder)["tree/large"].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert differences(large) == []


def test_so_is_one_with_holes(tmp_path: Path, snapshots: Snapshots) -> None:
    tree = tmp_path / "app" / "tree"
    tree.mkdir(parents=True)
    with (tree / "disk").open("wb") as file:
        file.write(random.Random(1).randbytes(40 << 20))
        file.seek(20 << 20, os.SEEK_CUR)
        file.write(random.Random(2).randbytes(30 << 20))
        file.truncate(95 << 20)
    source = source_of(tmp_path / "app", "tree")
    taken = (source, snapshots.take(source))
    folder = staged(taken)
    path = folder / "tree" / "disk"
    assert path.stat().st_blocks * 512 < 80 << 20
    assert known(folder)["tree/disk"].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert differences(taken) == []


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))


def flip_with_its_times(path: Path) -> None:
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.chmod(status.st_mode & 0o7777)
    other.replace(path)
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("harm", [flip, flip_with_its_times, exchange])
@pytest.mark.parametrize("taken", ["many", "large"])
def test_what_is_touched_afterwards_is_read(
    taken: str, harm: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    snapshot = request.getfixturevalue(taken)
    folder = staged(snapshot)
    name = min(known(folder))
    harm(folder / name)
    assert any(name in line for line in differences(snapshot))


def test_nothing_is_believed_once_the_machine_was_started_anew(large: Taken) -> None:
    record = staged(large).parent / "behind"
    data = record.read_bytes()
    digest = data.index(b"\n") + 1
    record.write_bytes(data[:digest] + b"0" * 64 + data[digest + 64 :])
    assert any("tree/large" in line for line in differences(large))  # it would be believed
    record.write_bytes(b"another" + record.read_bytes()[7:])
    assert differences(large) == []


def test_what_grows_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "grows"
    program = [sys.executable, "-I", "-S", files_hash.__file__, BEHIND]
    with started(program, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(question([(os.fsencode(path), 10)]))
        process.stdin.flush()
        with path.open("wb", buffering=0) as file:
            file.write(b"01234")
            file.write(b"56789")
        content = answered(process.stdout.read(ANSWER_BYTES))
    assert content is not None
    assert content.sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert content.inode == path.stat().st_ino


def test_nobody_waits_for_what_is_no_longer_written(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"01234")
    asked = question([(os.fsencode(path), 10), (os.fsencode(tmp_path / "never"), 10)])
    with started([sys.executable, files_hash.__file__, BEHIND], stdin=PIPE, stdout=PIPE) as process:
        told, _ = process.communicate(asked)
    content = answered(told[:ANSWER_BYTES])
    assert content is not None
    assert content.sha256 == hashlib.sha256(b"01234").hexdigest()
    assert answered(told[ANSWER_BYTES:]) is None


@pytest.mark.parametrize("taken", ["many", "large"])
def test_an_unpacking_that_fails_leaves_no_reader(
    taken: str, request: pytest.FixtureRequest
) -> None:
    source, artifacts = request.getfixturevalue(taken)
    archive = artifacts.key()
    os.truncate(archive, archive.stat().st_size * 9 // 10)
    with pytest.raises(StepFailed, match="damaged"):
        source.stage(artifacts, HERE)
    tasks = Path("/proc/self/task").glob("*/children")
    running = [Path("/proc", pid, "cmdline") for one in tasks for pid in one.read_text().split()]
    assert not [one for one in running if b"files_hash" in one.read_bytes()]


def test_a_restore_leaves_none_of_it(many: Taken, tmp_path: Path) -> None:
    source, artifacts = many
    restore(source, artifacts, HERE)
    source.discard(HERE)
    assert not list(tmp_path.rglob("behind"))
