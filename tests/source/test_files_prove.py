"""Reading a tree again: every file, the same whether one process reads it or two."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from runner.errors import StepFailed
from runner.process import started
from runner.source import files_hash
from runner.source.files_behind import Known
from runner.source.files_entry import Entry, ListWriter, read_entry
from runner.source.files_hash import UNREADABLE, Content, answered, question
from runner.source.files_helper import Batch, Helper
from runner.source.files_prove import write_list

MANY = 6000  # small files: enough for a second process


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that two processes share, with everything that a list tells."""
    folder = tmp_path_factory.mktemp("large") / "tree"
    chance = random.Random(1)
    for number in range(MANY):
        path = folder / f"{number // 100}" / f"{number}\n"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 5000])))
        if number % 97 == 0:
            os.setxattr(path, "user.number", b"%d" % number)
    (folder / "0" / "again").hardlink_to(folder / "0" / "1\n")
    (folder / "link").symlink_to("0")
    with (folder / "0" / "big").open("wb") as file:
        file.write(chance.randbytes(3_000_001))
    return folder


def listed(tree: Path, listing: Path) -> list[Entry]:
    with ListWriter(listing) as lines:
        write_list([(os.fsencode(tree), "tree")], lines, Known(None))
        lines.summary()
    return [read_entry(line) for line in listing.read_bytes().splitlines()]


def test_every_file_is_read(large: Path, tmp_path: Path) -> None:
    found = {entry.name: entry for entry in listed(large, tmp_path / "list")}
    assert len(found) == 1 + MANY // 100 + MANY + len(["again", "link", "big"])
    for path in large.rglob("*"):
        entry = found[f"tree/{path.relative_to(large)}"]
        assert bool(entry.xattrs) == (not path.is_symlink() and bool(os.listxattr(path)))
        if entry.kind == "file":
            assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["tree/0/again"].link == "tree/0/1\n"


def test_one_process_says_the_same(large: Path, tmp_path: Path) -> None:
    listed(large, tmp_path / "two")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        listed(large, tmp_path / "one")
    finally:
        os.sched_setaffinity(0, allowed)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_program_answers_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "a b\n").write_bytes(b"content")
    names = (b"a b\n", b"missing", b"a b\n")
    asked = [(os.fsencode(tmp_path) + b"/" + name, 7) for name in names]
    with started([sys.executable, files_hash.__file__], stdin=PIPE, stdout=PIPE) as process:
        told, _ = process.communicate(question(asked))
    inode = (tmp_path / "a b\n").stat().st_ino
    content = Content(hashlib.sha256(b"content").hexdigest(), attributed=False, inode=inode)
    size = len(UNREADABLE)
    answers = [answered(told[at : at + size]) for at in range(0, len(told), size)]
    assert answers == [content, None, content]


def test_a_program_that_ended_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    batch = Batch(files=[(os.fsencode(tmp_path / "file"), 7)])
    with started(["true"], stdin=PIPE, stdout=PIPE) as process:
        process.wait()
        with pytest.raises(StepFailed, match="ended early"):
            Helper(process).takes(batch)
