"""What every type of target must do. A target's test module gives a spec and inherits the rest:

class TestLocal(TargetConformance):
    @pytest.fixture
    def spec(self, tmp_path): ...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Locked, UsageError
from runner.registry import open_target
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import KeyExists, Target

ODD_NAMES = [
    "with space",
    "-leading-dash",
    "quote'double\"dollar$(true)`back`",
    "ünïcödé-日本",
    "percent%20+plus&amp;hash#question?",
    "star*[bracket]{brace}|pipe;semi<less>",
    ".hidden",
    "x" * 200,
]

HOLDER = """
import json, sys
from pathlib import Path
from runner.registry import open_target
from runner.secret import Secret
from runner.spec.model import TargetSpec
said = json.loads(sys.argv[1])
options = {k: Secret(v["secret"]) if isinstance(v, dict) and "secret" in v else v
           for k, v in said["options"].items()}
target = open_target(TargetSpec(said["name"], said["type"], options, Path(said["folder"])))
with target.lock("shop/prod/.prune", "the other run, process 4711"):
    print("held", flush=True)
    sys.stdin.read()
"""


class SourceVanished(OSError):
    """What a producer may raise: an error of the operating system that is not the target's."""


def read(target: Target, key: str) -> bytes:
    return b"".join(target.get(key))


def keys(target: Target, prefix: str = "") -> list[str]:
    return [entry.key for entry in target.entries(prefix)]


def broken(whole: int) -> Iterator[bytes]:
    for _ in range(whole):
        yield b"x" * 100_000
    raise SourceVanished("the source is gone")


def memory(field: str) -> int:
    """What this process holds in memory, in KiB: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> int:
    """From here on the most is counted anew; returns what is held now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")  # as proc(5) says
    return memory("VmRSS")


class TargetConformance:
    """Inherit, and define the fixture `spec`: a target that is empty and reachable."""

    many = 100  # how many objects a listing is tried with
    large = 300_000_000  # bytes that are streamed there and back

    @pytest.fixture
    def spec(self, tmp_path: Path) -> TargetSpec:
        raise NotImplementedError

    @pytest.fixture
    def target(self, spec: TargetSpec) -> Target:
        return open_target(spec)

    def test_check_passes_on_an_empty_target(self, target: Target) -> None:
        target.check()
        assert keys(target) == []

    def test_what_is_put_is_got(self, target: Target) -> None:
        assert target.put("shop/prod/a.bin", [b"one", b"", b"two"]) == 6
        assert read(target, "shop/prod/a.bin") == b"onetwo"

    def test_zero_bytes_are_an_object(self, target: Target) -> None:
        assert target.put("empty", []) == 0
        assert read(target, "empty") == b""
        assert [(entry.key, entry.bytes) for entry in target.entries("")] == [("empty", 0)]

    def test_put_replaces_and_the_tag_tells(self, target: Target) -> None:
        target.put("a", [b"old"])
        (before,) = target.entries("")
        target.put("a", [b"newer"])
        (after,) = target.entries("")
        assert read(target, "a") == b"newer"
        assert before.tag != after.tag

    def test_an_exclusive_put_leaves_what_is_there(self, target: Target) -> None:
        target.put("a", [b"first"], exclusive=True)
        with pytest.raises(KeyExists):
            target.put("a", [b"second"], exclusive=True)
        assert read(target, "a") == b"first"
        assert target.sweep("", 0.0) == []

    def test_one_of_many_exclusive_puts_wins(self, target: Target) -> None:
        won: list[bytes] = []

        def put(text: bytes) -> None:
            try:
                target.put("race", [text], exclusive=True)
            except KeyExists:
                return
            won.append(text)

        threads = [threading.Thread(target=put, args=(b"%d" % n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert read(target, "race") == won[0]

    @pytest.mark.parametrize(
        ("offset", "length"), [(0, None), (0, 10), (3, 4), (95, 10), (100, 5), (50, None), (0, 0)]
    )
    def test_a_range_is_got(self, target: Target, offset: int, length: int | None) -> None:
        data = bytes(range(100))
        target.put("a", [data])
        end = None if length is None else offset + length
        assert b"".join(target.get("a", offset=offset, length=length)) == data[offset:end]

    def test_a_missing_key_is_told(self, target: Target) -> None:
        target.put("there/file", [b"x"])
        for key in ("missing", "there", "there/other", "no/such/folder"):
            with pytest.raises(FileNotFoundError):
                read(target, key)

    def test_entries_of_many(self, target: Target) -> None:
        wanted = {f"shop/prod/{n:05}/manifest.json": n for n in range(self.many)}
        for key, size in wanted.items():
            target.put(key, [b"m" * size])
        target.put("shop/other/file", [b"x"])
        target.put("shop/prod-2/file", [b"x"])
        found = list(target.entries("shop/prod"))
        assert {entry.key: entry.bytes for entry in found} == wanted
        assert len(found) == len(wanted)
        assert keys(target, "shop/none") == []

    def test_one_file_is_found_in_every_folder(self, target: Target) -> None:
        for n in range(3):
            target.put(f"shop/prod/{n}/manifest.json", [b"m"])
            target.put(f"shop/prod/{n}/db.sqlite", [b"d"])
        target.put("shop/prod/3/db.sqlite", [b"d"])
        target.put("shop/prod/2/deeper/manifest.json", [b"m"])
        found = sorted(entry.key for entry in target.find("shop/prod", "manifest.json"))
        assert found == [f"shop/prod/{n}/manifest.json" for n in range(3)]
        assert list(target.find("shop/none", "manifest.json")) == []

    def test_entries_are_dated_by_the_targets_clock(self, target: Target) -> None:
        before = target.now()
        target.put("a", [b"x"])
        (entry,) = target.entries("")
        tolerance = timedelta(seconds=2)
        assert before - tolerance <= entry.modified <= target.now() + tolerance
        assert before.utcoffset() == timedelta(0)

    def test_folders_are_those_right_below(self, target: Target) -> None:
        for key in ("shop/prod/b/x", "shop/prod/a/x", "shop/prod/a/deep/x", "shop/prod/file"):
            target.put(key, [b"x"])
        target.put("shop/prod/.records/proof", [b"x"])
        assert target.folders("shop/prod") == [".records", "a", "b"]
        assert target.folders("") == ["shop"]
        assert target.folders("shop/none") == []

    def test_delete_takes_the_object_and_the_folders_it_leaves_empty(self, target: Target) -> None:
        target.put("shop/prod/a/one", [b"1"])
        target.put("shop/prod/b/two", [b"2"])
        target.delete("shop/prod/a/one")
        assert keys(target) == ["shop/prod/b/two"]
        assert target.folders("shop/prod") == ["b"]
        target.delete("shop/prod/b/two")
        assert target.folders("") == []
        target.put("shop/prod/a/one", [b"again"])
        assert read(target, "shop/prod/a/one") == b"again"

    def test_delete_of_a_missing_key_is_no_error(self, target: Target) -> None:
        target.delete("missing")
        target.delete("no/such/folder")

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names(self, target: Target, name: str) -> None:
        key = f"folder {name}"[:200] + f"/{name}"
        target.put(key, [name.encode()])
        assert read(target, key) == name.encode()
        assert keys(target) == [key]
        target.delete(key)
        assert keys(target) == []

    @pytest.mark.parametrize("key", ["", "/etc/x", "a//b", "a/../b", "..", "a/.", "a/", "nul\0"])
    def test_a_key_that_is_none_is_refused(self, target: Target, key: str) -> None:
        with pytest.raises(UsageError):
            target.put(key, [b"x"])
        with pytest.raises(UsageError):
            list(target.get(key))

    @pytest.mark.parametrize("whole", [0, 1, 200])
    def test_a_producer_that_raises_leaves_nothing(self, target: Target, whole: int) -> None:
        with pytest.raises(SourceVanished, match="the source is gone"):
            target.put("shop/prod/a", broken(whole))
        assert keys(target) == []
        with pytest.raises(FileNotFoundError):
            read(target, "shop/prod/a")
        assert target.sweep("", 0.0) == []

    def test_a_producer_that_raises_leaves_what_was_there(self, target: Target) -> None:
        target.put("a", [b"old"])
        with pytest.raises(SourceVanished):
            target.put("a", broken(3))
        assert read(target, "a") == b"old"

    @pytest.mark.slow
    def test_a_large_stream_takes_constant_memory(self, target: Target) -> None:
        block = os.urandom(16 * 1024 * 1024)
        blocks = -(-self.large // len(block))
        before = forget_peak()
        assert target.put("large", (block for _ in range(blocks))) == blocks * len(block)
        twice, position = memoryview(block * 2), 0
        for chunk in target.get("large"):
            start = position % len(block)
            assert twice[start : start + len(chunk)] == chunk, f"differs behind byte {position}"
            position += len(chunk)
        grown = memory("VmHWM") - before
        assert position == blocks * len(block)
        assert grown < 150_000, "KiB more than before"

    def test_the_lock_is_held_once(self, target: Target) -> None:
        with target.lock("shop/prod/.prune", "this run"):
            with (
                pytest.raises(Locked, match="this run"),
                target.lock("shop/prod/.prune", "a second run"),
            ):
                raise AssertionError
            with target.lock("shop/test/.prune", "a run of another profile"):
                pass
        with target.lock("shop/prod/.prune", "a later run"):
            pass
        assert keys(target) == []
        assert target.folders("") == []

    def test_a_lock_of_another_process_is_named_and_dies_with_it(self, spec: TargetSpec) -> None:
        target = open_target(spec)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, json.dumps(_told(spec))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with (
                pytest.raises(Locked, match="the other run, process 4711"),
                target.lock("shop/prod/.prune", "this run"),
            ):
                raise AssertionError
            holder.kill()
        with target.lock("shop/prod/.prune", "this run"):
            pass

    def test_the_free_space_is_known_or_said_to_be_unknown(self, target: Target) -> None:
        free = target.free()
        assert free is None or free > 0

    def test_a_folder_is_downloaded_with_common_tools(
        self, spec: TargetSpec, tmp_path: Path
    ) -> None:
        target = open_target(replace(spec, name="disk"))
        target.put("shop/prod/a b/file one", [b"1"])
        target.put("shop/prod/a b/deep/two", [b"2"])
        folder = tmp_path / "fetched"
        lines = target.download_commands("shop/prod/a b", f"'{folder}'")
        subprocess.run(["bash", "-e", "-c", "\n".join(lines)], check=True)
        assert (folder / "file one").read_bytes() == b"1"
        assert (folder / "deep/two").read_bytes() == b"2"

    def test_a_location_is_for_a_person(self, target: Target) -> None:
        assert target.location("shop/prod").endswith("shop/prod")


def _told(spec: TargetSpec) -> dict[str, Any]:
    options = {
        name: {"secret": value.reference} if isinstance(value, Secret) else value
        for name, value in spec.options.items()
    }
    return {
        "name": spec.name,
        "type": spec.type,
        "options": options,
        "folder": str(spec.folder.absolute()),
    }
