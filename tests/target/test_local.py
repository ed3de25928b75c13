"""A folder as a target: what holds for every target, and what a file system adds."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import StepFailed, UsageError
from runner.spec.model import TargetSpec
from runner.target.local import LocalTarget, open_target
from tests.target.conformance import TargetConformance
from tests.tools import cannot_run

NOBODY = 65534


def local(folder: Path, **options: object) -> LocalTarget:
    return open_target(TargetSpec("disk", "local", {"path": "backups", **options}, folder))


class TestConformance(TargetConformance):
    @pytest.fixture
    def spec(self, tmp_path: Path) -> TargetSpec:
        return TargetSpec("disk", "local", {"path": "backups"}, tmp_path)


def test_the_path_is_relative_to_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert local(tmp_path).root == tmp_path / "backups"
    assert local(tmp_path, path="../other").root == tmp_path.parent / "other"
    assert local(tmp_path, path="~/b").root == tmp_path / "home/b"
    assert local(tmp_path).location("shop/prod") == f"{tmp_path}/backups/shop/prod"


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    local(tmp_path).put("shop/prod/a", [b"x"])
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
    }
    assert modes == {
        "backups": 0o700,
        "backups/shop": 0o700,
        "backups/shop/prod": 0o700,
        "backups/shop/prod/a": 0o600,
    }


def test_nothing_is_visible_while_it_is_written(tmp_path: Path) -> None:
    target = local(tmp_path)
    seen: list[tuple[list[str], list[str]]] = []

    def chunks() -> Iterator[bytes]:
        yield b"half"
        names = [entry.key for entry in target.entries("")]
        seen.append((names, [one.name for one in (tmp_path / "backups").iterdir()]))
        yield b"whole"

    target.put("a", chunks())
    ((listed, on_disk),) = seen
    assert listed == []
    assert [name.endswith(".partial") for name in on_disk] == [True]


def test_a_killed_put_is_invisible_and_swept_when_it_is_old(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from runner.target.local import LocalTarget\n"
        "def chunks():\n"
        "    yield b'x' * 100000\n"
        "    print('written', flush=True); time.sleep(1000)\n"
        "LocalTarget('disk', Path(sys.argv[1])).put('shop/prod/a', chunks())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "backups"], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    target = local(tmp_path)
    assert list(target.entries("")) == []
    assert target.sweep("", 3600.0) == []
    (left,) = (tmp_path / "backups").rglob(".*.partial")
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    assert target.sweep("shop", 3600.0) == [f"shop/prod/{left.name}"]
    assert target.folders("") == []


def test_own_names_are_no_keys(tmp_path: Path) -> None:
    for key in ("shop/.x.partial", ".prune.lock"):
        with pytest.raises(UsageError):
            local(tmp_path).put(key, [b"x"])


def test_put_and_delete_may_meet_in_a_folder(tmp_path: Path) -> None:
    target = local(tmp_path)
    failures: list[Exception] = []

    def work(own: str) -> None:
        try:
            for _ in range(100):
                target.put(f"shop/prod/{own}", [b"x"])
                target.delete(f"shop/prod/{own}")
        except Exception as error:  # noqa: BLE001 - compared below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(target.entries("")) == []


def test_a_reserve_is_kept(tmp_path: Path) -> None:
    everything = shutil.disk_usage(tmp_path).total * 2
    target = local(tmp_path, min_free=everything)
    assert target.free() == 0
    with pytest.raises(StepFailed, match="min_free") as caught:
        target.put("a", [b"x"])
    assert "disk" in caught.value.message
    with pytest.raises(StepFailed, match="min_free"):
        target.check()
    assert list(target.entries("")) == []
    plenty = local(tmp_path).free()
    reserved = local(tmp_path, min_free=1024**2).free()
    assert plenty is not None
    assert reserved is not None
    assert reserved < plenty


def test_a_missing_parent_is_told_and_not_made(tmp_path: Path) -> None:
    target = local(tmp_path, path="stick/backups")
    with pytest.raises(StepFailed, match="stick is missing") as caught:
        target.check()
    assert "Mount" in caught.value.remedy
    with pytest.raises(StepFailed, match="stick is missing"):
        target.put("a", [b"x"])
    assert not (tmp_path / "stick").exists()
    assert list(target.entries("")) == []
    assert target.folders("") == []


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("a file")
    target = local(tmp_path)
    for attempt in (target.check, lambda: target.put("a/b", [b"x"])):
        with pytest.raises(StepFailed, match="file where a folder belongs"):
            attempt()
    assert (tmp_path / "backups").read_text() == "a file"


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without the right to write where the owner forbids it, also for an administrator."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_permission_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        target = local(folder)
        target.put("kept", [b"x"])
        (folder / "backups").chmod(0o555)
        with as_somebody_else():
            for attempt in (target.check, lambda: target.put("a", [b"x"])):
                with pytest.raises(StepFailed, match="refuses this user") as caught:
                    attempt()
                assert str(folder / "backups") in caught.value.message
                assert "permission" in caught.value.remedy
            with pytest.raises(StepFailed, match="kept was not removed"):
                target.delete("kept")
            assert target.now().utcoffset() is not None
        (folder / "backups").chmod(0o700)
        assert [one.name for one in (folder / "backups").iterdir()] == ["kept"]


FULL_AND_READ_ONLY = """
import subprocess, sys
from pathlib import Path
from runner.errors import StepFailed
from runner.target.local import LocalTarget
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", root], check=True)
target = LocalTarget("stick", root / "backups")
target.put("kept", [b"k" * 1000])
def attempt(act):
    try:
        act()
    except StepFailed as error:
        print(error.message, "|", error.remedy)
attempt(lambda: target.put("shop/large", (b"x" * 65536 for _ in range(100))))
print(sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()))
(root / "filler").write_bytes(b"")
with (root / "filler").open("wb", buffering=0) as file:
    while True:
        try:
            file.write(b"f" * 4096)
        except OSError:
            break
attempt(target.check)
(root / "filler").unlink()
subprocess.run(["mount", "-o", "remount,ro", root], check=True)
attempt(target.check)
attempt(lambda: target.put("shop/small", [b"x"]))
attempt(lambda: target.delete("kept"))
print(b"".join(target.get("kept")) == b"k" * 1000)
"""


def test_a_full_and_a_read_only_disk_are_told(tmp_path: Path) -> None:
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], check=False, capture_output=True).returncode != 0:
        cannot_run("mounts of one's own are not allowed here")
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", FULL_AND_READ_ONLY, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    full, left, no_room, *read_only, kept = done.stdout.splitlines()
    assert "stick" in full
    assert "is full: shop/large was not written" in full
    assert "prune" in full
    assert left == "['backups/kept']"
    assert "has nothing free" in no_room
    assert len(read_only) == 3
    assert all("is read-only" in line for line in read_only)
    assert kept == "True"
