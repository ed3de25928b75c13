"""Writes that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.durable import (
    FLUSHED_AT_ONCE,
    make_folder,
    sweep_partials,
    sync_folder,
    write_bytes,
    write_chunks,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def broken() -> Iterator[bytes]:
    yield b"half"
    raise OSError(errno.ENOENT, "the source is gone")


def test_chunks_are_written_and_counted(tmp_path: Path) -> None:
    assert write_chunks(tmp_path / "a", [b"one", b"", b"two"]) == 6
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert names(tmp_path) == ["a"]


def test_a_write_replaces(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old and longer")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    for name in ("a", "b"):
        with pytest.raises(OSError, match="the source is gone"):
            write_chunks(tmp_path / name, broken())
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("hard_links", [True, False], ids=["with links", "without links"])
def test_an_exclusive_write_never_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "this file system has no hard links")

        monkeypatch.setattr(os, "link", refuse)
    write_bytes(tmp_path / "a", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "a", b"second", exclusive=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127, "日" * 85):
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_a_killed_write_is_invisible(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from runner.durable import write_chunks\n"
        "def chunks():\n"
        "    while True:\n"
        "        yield b'x' * 100000\n"
        "        print('more', flush=True)\n"
        "write_chunks(Path(sys.argv[1]), chunks())\n"
    )
    target = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", script, target], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    (left,) = names(tmp_path)
    assert left.endswith(".partial")
    sweep_partials(tmp_path, 3600.0)
    assert names(tmp_path) == [left]
    os.utime(tmp_path / left, (time.time() - 7200,) * 2)
    sweep_partials(tmp_path, 3600.0)
    assert names(tmp_path) == []


def test_folders_are_made_private(tmp_path: Path) -> None:
    make_folder(tmp_path / "a/b/c")
    make_folder(tmp_path / "a/b/c")
    for name in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
    sync_folder(tmp_path / "a")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "a" / below)


def test_a_large_file_is_written_whole(tmp_path: Path) -> None:
    """The disk begins with its parts while the rest is still written."""
    chunk = os.urandom(1 << 20)
    count = 2 * FLUSHED_AT_ONCE // len(chunk) + 1
    assert write_chunks(tmp_path / "file", [chunk] * count) == count * len(chunk)
    assert (tmp_path / "file").read_bytes() == chunk * count
