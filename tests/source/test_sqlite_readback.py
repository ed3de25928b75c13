"""What is read back is what the file holds, not what was handed to its writer."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runner.durable import write_chunks
from runner.source.sqlite_readback import BLOCK, ReadBack


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 1])
def test_the_hash_is_that_of_the_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    with ReadBack() as read_back:
        write_chunks(tmp_path / "file", [content[:BLOCK], content[BLOCK:]], behind=read_back)
        assert read_back.sha256() == hashlib.sha256(content).hexdigest()


def test_a_byte_that_did_not_arrive_is_found(tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK)
    with ReadBack() as read_back:

        def flip_and_tell(descriptor: int, written: int) -> None:
            os.pwrite(descriptor, bytes([content[written - 1] ^ 1]), written - 1)
            read_back(descriptor, written)

        write_chunks(tmp_path / "file", [content], behind=flip_and_tell)
        found = read_back.sha256()
    assert found != hashlib.sha256(content).hexdigest()
    assert found == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_a_file_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    with ReadBack() as read_back, (tmp_path / "file").open("wb+") as file:
        read_back(file.fileno(), 1)
        with pytest.raises(OSError, match="shorter"):
            read_back.sha256()


def test_a_writer_that_fails_leaves_no_reader(tmp_path: Path) -> None:
    def chunks() -> list[bytes]:
        raise RuntimeError

    with pytest.raises(RuntimeError), ReadBack() as read_back:
        write_chunks(tmp_path / "file", (one for _ in "a" for one in chunks()), behind=read_back)
    assert list(tmp_path.iterdir()) == []
