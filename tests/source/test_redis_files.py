"""Restoring a server of this machine by its file: stopped, exchanged, started, and taken back."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.source import Place
from runner.source.redis_address import parse
from runner.source.redis_commands import load_commands, place_commands
from runner.spec.model import SourceSpec
from tests.redis_server import RedisServer, running, valkey
from tests.source.conformance import place_in
from tests.source.put_back import SECOND, THIRD, place_of, put_back, restored
from tests.source.redis_sample import RedisSample, look
from tests.source.stack import Stack, bash, decode
from tests.tools import require_program

OTHER_NAMES = ("--dbfilename", "dump_6380.rdb", "--appenddirname", "the log",
               "--appendfilename", "a b")  # fmt: skip
STOP = "redis-cli -s redis.sock shutdown nosave"

pytestmark = pytest.mark.usefixtures("no_scratch_left")


class Owned(RedisSample):
    """A server whose files are ours."""

    def build(self, folder: Path) -> SourceSpec:
        spec = super().build(folder)
        more = {"data_dir": ".", "stop": STOP, "start": start_line(self.server)}
        return replace(spec, options={**spec.options, **more}, folder=self.server.folder)


def start_line(server: RedisServer) -> str:
    words = [server.program, "redis.conf", *server.configuration]
    return shlex.join([*words, "--daemonize", "yes", "--logfile", "log"])


@contextlib.contextmanager
def running_ours(*configuration: str) -> Iterator[RedisServer]:
    with running(*configuration, password="") as one:
        try:
            yield one
        finally:
            subprocess.run(["bash", "-c", STOP], cwd=one.folder, check=False, capture_output=True)


@pytest.fixture(params=["no", "yes"], ids=["rdb", "appendonly"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running_ours("--appendonly", request.param) as one:
        yield one


def stack_of(server: RedisServer, folder: Path) -> Stack:
    sample = Owned()
    sample.server = server
    return Stack(folder / "production", sample)


@pytest.fixture
def stack(server: RedisServer, tmp_path: Path) -> Stack:
    return stack_of(server, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return replace(place_in(tmp_path), existing="flush")


def observed(server: RedisServer) -> Any:
    with server.connect() as client:
        return look(client)


def test_a_file_replaces_all(stack: Stack, server: RedisServer, place: Place) -> None:
    original = stack.observe()
    artifacts = stack.capture()
    stack.change()
    changed = stack.observe()
    copies = stack.restore(artifacts, place)
    assert stack.observe() == original
    assert all(Path(copy).exists() for copy in copies)
    with server.connect() as client:
        client.set("written", "after the restore")
    restart(server)
    # With an append-only file, what was written is there; without one nothing was saved.
    assert stack.observe()["keys"].items() >= original["keys"].items()
    stack.source.unswap(place)
    if "yes" in server.configuration:
        back = stack.observe()
        for one in (back, changed):  # replayed commands tell a group's counters anew
            one["keys"].pop("0 events")
        assert back == changed


def test_a_server_that_is_gone_comes_back(stack: Stack, server: RedisServer, place: Place) -> None:
    original = stack.observe()
    artifacts = stack.capture()
    subprocess.run(["bash", "-c", STOP], cwd=server.folder, check=True)
    for name in ("dump.rdb", "appendonlydir"):
        subprocess.run(["rm", "-rf", server.folder / name], check=True)
    assert not stack.source.exists()
    stack.restore(artifacts, replace(place, existing="skip"))
    assert stack.observe() == original
    stack.source.discard(place)
    restart(server)
    assert stack.observe() == original
    assert not list(server.folder.glob(".holdfast-*"))


def test_the_old_files_are_put_back(stack: Stack, place: Place, tmp_path: Path) -> None:
    artifacts = stack.capture()
    stack.change()
    changed = stack.observe()
    kept = restored(stack, artifacts, place)
    after = stack.observe()
    assert stack.source.copies(kept)
    again = put_back(stack, kept, place_of(tmp_path, SECOND))
    # Also without an append-only file, where what was changed was in memory alone.
    assert stack.observe() == changed
    put_back(stack, again, place_of(tmp_path, THIRD))
    assert stack.observe() == after


def test_what_was_in_memory_alone_is_taken_back(stack: Stack, place: Place) -> None:
    artifacts = stack.capture()
    stack.change()
    changed = stack.observe()
    stack.restore(artifacts, place)
    stack.source.unswap(place)
    assert stack.observe()["keys"].keys() == changed["keys"].keys()


def test_keys_are_written_where_something_is_to_stay(
    stack: Stack, server: RedisServer, place: Place
) -> None:
    artifacts = stack.capture()
    with server.connect() as client:
        client.set("new", "stays")
        before = client.info("server")["run_id"]
    stack.restore(artifacts, replace(place, existing="skip"))
    with server.connect() as client:
        assert client.info("server")["run_id"] == before
        assert client.get("new") == b"stays"


def test_another_data_folder_is_told(
    stack: Stack, server: RedisServer, place: Place, tmp_path: Path
) -> None:
    artifacts = stack.capture()
    stack.spec = replace(stack.spec, options={**stack.spec.options, "data_dir": str(tmp_path)})
    stack.source.stage(artifacts, place)
    with pytest.raises(StepFailed, match="data_dir"):
        stack.source.swap(place)
    assert observed(server) == stack.observe()
    stack.source.unswap(place)
    stack.source.discard(place)


@pytest.mark.parametrize("appendonly", ["no", "yes"])
def test_a_server_that_is_gone_is_asked_for_the_names_of_its_files(
    appendonly: str, tmp_path: Path, place: Place
) -> None:
    with running_ours("--appendonly", appendonly, *OTHER_NAMES) as server:
        stack = stack_of(server, tmp_path)
        original = stack.observe()
        artifacts = stack.capture()
        subprocess.run(["bash", "-c", STOP], cwd=server.folder, check=True)
        for path in (server.folder / "dump_6380.rdb", server.folder / "the log"):
            subprocess.run(["rm", "-rf", path], check=True)
        stack.restore(artifacts, replace(place, existing="skip"))
        assert stack.observe() == original
        stack.source.discard(place)
        restart(server)
        assert stack.observe() == original
        assert not (server.folder / "dump.rdb").exists()


def test_keys_are_written_to_a_server_that_does_not_tell_its_files(
    tmp_path: Path, place: Place
) -> None:
    with running_ours("--appendonly", "yes", "--rename-command", "CONFIG", "") as server:
        stack = stack_of(server, tmp_path)
        original = stack.observe()
        artifacts = stack.capture()
        with server.connect() as client:
            client.flushall()
        stack.restore(artifacts, place)
        assert stack.observe() == original


def test_printed_commands_place_the_file(stack: Stack, server: RedisServer) -> None:
    original = stack.observe()
    artifacts = stack.capture()
    stack.change()
    folder = artifacts.capture.folder
    stored = artifacts.capture.stored
    bash(stack.source.restore_commands(stored, decode, "restored/game-cache"), folder)
    bash(stack.source.place_commands("restored/game-cache"), folder)
    assert wait_for(server) == original


def test_printed_commands_place_the_file_under_the_names_of_a_running_server(
    tmp_path: Path,
) -> None:
    with running_ours("--appendonly", "yes", *OTHER_NAMES) as server:
        stack = stack_of(server, tmp_path)
        original = stack.observe()
        capture = stack.capture().capture
        stack.change()
        bash(stack.source.restore_commands(capture.stored, decode, "restored/x"), capture.folder)
        bash(stack.source.place_commands("restored/x"), capture.folder)
        assert wait_for(server) == original


def test_printed_commands_want_to_know_which_part_of_a_cluster_a_folder_is(tmp_path: Path) -> None:
    data, part = tmp_path / "data", tmp_path / "restored" / "slot-0.dump.rdb"
    for path in (part, data / "dump.rdb"):
        path.parent.mkdir()
        path.write_text(path.parent.name)
    lines = [f"export REDIS_DATA_DIR={data}", *load_commands("restored")]
    refused = subprocess.run(["bash", "-e", "-c", "\n".join(lines)], cwd=tmp_path,
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert refused.returncode != 0
    assert "REDIS_RDB: must name the file of this primary" in refused.stderr
    assert (data / "dump.rdb").read_text() == "data"
    bash([f"export REDIS_RDB={part}", *lines], tmp_path)
    assert (data / "dump.rdb").read_text() == "restored"
    base = data / "appendonlydir" / "appendonly.aof.1.base.rdb"
    assert base.read_text() == "restored"


def test_printed_commands_make_a_file_of_keys_where_there_is_valkey_alone(tmp_path: Path) -> None:
    there = tmp_path / "bin"
    there.mkdir()
    for name in ("bash", "cat", "chown", "cp", "head", "mkdir", "mv", "sleep", "timeout"):
        (there / name).symlink_to(require_program(name))
    (there / "valkey-server").symlink_to(valkey())
    # The two clients differ by their names.
    (there / "valkey-cli").symlink_to(require_program("redis-cli"))
    keys = tmp_path / "restored" / "keys.resp"
    keys.parent.mkdir()
    keys.write_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n")
    subprocess.run(
        [there / "bash", "-e", "-c", "\n".join(load_commands("restored"))],
        cwd=tmp_path,
        env={"PATH": str(there), "REDIS_DATA_DIR": str(tmp_path / "data")},
        check=True,
    )
    assert (tmp_path / "data" / "dump.rdb").read_bytes()[:5] in (b"REDIS", b"VALKE")


def test_printed_commands_copy_no_empty_server_over_a_live_one(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.connect() as client:
        client.set("a", "1")
    (tmp_path / "restored").mkdir()
    lines = place_commands("restored", parse(redis_server.url))
    done = subprocess.run(["bash", "-e", "-c", "\n".join(lines)], cwd=tmp_path,
                          env=os.environ | {"REDISCLI_AUTH": redis_server.password},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "a cluster" in done.stderr
    with redis_server.connect() as client:
        assert client.get("a") == b"1"


@pytest.mark.parametrize(
    ("content", "password", "words"),
    [
        (b"REDIS0099\xff", None, "cannot load the file"),  # of a version that is to come
        (b"VALKEY099\xff", None, "this valkey-server cannot load the file"),
        (b"REDIS0011\xff", "wrong", "name its password in REDISCLI_AUTH"),
    ],
)
def test_printed_commands_end_at_once_where_they_cannot_go_on(
    redis_server: RedisServer, tmp_path: Path, content: bytes, password: str | None, words: str
) -> None:
    with redis_server.connect() as client:
        client.set("a", "1")
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "dump.rdb").write_bytes(content)
    lines = place_commands("restored", parse(redis_server.url))
    done = subprocess.run(["bash", "-e", "-c", "\n".join(lines)], cwd=tmp_path,
                          env=os.environ | {"REDISCLI_AUTH": password or redis_server.password},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert words in done.stderr
    with redis_server.connect() as client:
        assert client.get("a") == b"1"
        assert client.info("replication")["role"] == "master"


def test_printed_commands_copy_to_a_server_that_has_a_password_for_its_primary(
    tmp_path: Path,
) -> None:
    with running_ours("--masterauth", "a secret", "--masteruser", "sync") as server:
        sample = RedisSample()
        sample.server = server
        stack = Stack(tmp_path / "production", sample)
        original = stack.observe()
        capture = stack.capture().capture
        stack.change()
        bash(stack.source.restore_commands(capture.stored, decode, "restored/x"), capture.folder)
        bash(stack.source.place_commands("restored/x"), capture.folder)
        assert stack.observe() == original
        with server.connect() as client:
            assert client.info("replication")["role"] == "master"
            assert client.config_get("masteruser") == {"masteruser": "sync"}


def wait_for(server: RedisServer) -> Any:
    server.wait()
    return observed(server)


def restart(server: RedisServer) -> None:
    subprocess.run(["bash", "-c", STOP], cwd=server.folder, check=True)
    subprocess.run(["bash", "-c", start_line(server)], cwd=server.folder, check=True)
    wait_for(server)
