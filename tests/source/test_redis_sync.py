"""A consistent RDB from a running server, whatever the server allows."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.source.redis_address import address_of
from runner.source.redis_connect import Rejected, Unreachable, connect
from runner.source.redis_delay import DELAY, without_delay
from runner.source.redis_rdb import Rdb
from runner.source.redis_sync import begin
from runner.source.redis_tls import Unspoken
from tests.redis_server import RedisServer, free_port, running
from tests.source.redis_reading import address, broken_pairs, moving, rdb_of, user
from tests.tools import require_program


def names(data: bytes) -> set[bytes]:
    return {entry.key for entry in Rdb([data]).entries()}


def test_sends_what_there_is_as_one_instant(redis_server: RedisServer, tmp_path: Path) -> None:
    with moving(redis_server):
        data = rdb_of(redis_server)
    (tmp_path / "dump.rdb").write_bytes(data)
    with running(content=tmp_path / "dump.rdb") as other, other.connect() as client:
        assert broken_pairs(client.get) == []


def test_sets_the_delay_to_nothing_and_puts_it_back(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.config_set(DELAY, 5)
        try:
            with begin(address(redis_server)) as snapshot:
                assert list(snapshot.chunks())
                assert "put back" in snapshot.notes[0]
            with connect(address(redis_server)) as connection:
                assert connection.call("CONFIG", "GET", DELAY)[1] == b"5"
        finally:
            client.config_set(DELAY, 0)


def test_puts_the_delay_back_that_a_killed_run_left(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    note = tmp_path / "delay"
    with redis_server.connect() as client:
        client.config_set(DELAY, 5)
        try:
            child = os.fork()
            if child == 0:
                with without_delay(address(redis_server), note):
                    os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            assert client.config_get(DELAY) == {DELAY: "0"}
            with begin(address(redis_server), note) as snapshot:
                assert list(snapshot.chunks())
            assert client.config_get(DELAY) == {DELAY: "5"}
            assert not note.exists()
        finally:
            client.config_set(DELAY, 0)


def test_two_rights_are_enough(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.set("a", 1)
    least = user(redis_server, "backup", "+sync", "+replconf")
    with begin(address(redis_server, **least)) as snapshot:
        assert names(b"".join(snapshot.chunks())) == {b"a"}


def test_says_which_right_is_missing(redis_server: RedisServer) -> None:
    poor = user(redis_server, "poor", "+replconf", "+get", "~*")
    with pytest.raises(Rejected, match=r"NOPERM.*sync") as told:
        begin(address(redis_server, **poor))
    assert "ACL SETUSER" in told.value.remedy


def test_reads_an_rdb_that_is_announced_with_its_length(redis_server: RedisServer) -> None:
    with redis_server.connect() as client:
        client.set("a", "x" * 1000)
        client.config_set("repl-diskless-sync", "no")
        try:
            assert names(rdb_of(redis_server)) == {b"a"}
        finally:
            client.config_set("repl-diskless-sync", "yes")


@pytest.mark.parametrize("options", [("--appendonly", "yes"), ("--maxmemory", "100mb")])
def test_how_the_server_saves_does_not_matter(options: tuple[str, ...]) -> None:
    with running(*options) as server:
        with server.connect() as client:
            client.set("a", 1)
        assert names(rdb_of(server)) == {b"a"}


def test_a_server_that_is_killed_in_the_middle_is_told() -> None:
    with running("--rdb-key-save-delay", "2000") as server:
        with server.connect() as client:
            client.mset({f"key {n}": os.urandom(10_000) for n in range(3000)})
        with begin(address(server)) as snapshot:
            chunks = snapshot.chunks()
            next(chunks)
            assert server.process is not None
            server.process.send_signal(signal.SIGKILL)
            with pytest.raises(Unreachable, match="ended the connection"):
                for _ in chunks:
                    pass


def test_a_wrong_password_and_no_server_are_told(redis_server: RedisServer) -> None:
    (redis_server.folder / "wrong").write_text("no")
    wrong: dict[str, Any] = redis_server.options
    with pytest.raises(Rejected, match="WRONGPASS") as told:
        begin(address_of({"url": redis_server.url, "user": "eve"}, redis_server.folder))
    assert "password" in told.value.remedy
    with pytest.raises(Rejected, match="NOAUTH"):
        begin(address_of({"url": redis_server.url}, redis_server.folder))
    with pytest.raises(Unreachable, match="cannot be reached"):
        begin(address_of({**wrong, "url": "redis://127.0.0.1:1/0"}, redis_server.folder))


def test_a_unix_socket_is_an_address_too(redis_server: RedisServer) -> None:
    path = {"socket": str(redis_server.socket), "password": redis_server.options["password"]}
    with connect(address_of(path, redis_server.folder)) as connection:
        assert connection.call("PING") == b"PONG"
    by_url = {**path, "socket": "", "url": f"unix://{redis_server.socket}?db=3"}
    found = address_of(by_url, redis_server.folder)
    assert (found.database, found.where) == (3, str(redis_server.socket))


def test_a_password_is_never_repeated(redis_server: RedisServer) -> None:
    with running("--rename-command", "AUTH", "", password="") as server:  # noqa: SIM117
        with pytest.raises(StepFailed, match="unknown command") as told:
            connect(address_of({**server.options, "user": "u", "password": "hunter2"}, Path("/")))
    assert "hunter2" not in told.value.message


def certificates(folder: Path) -> None:
    openssl = require_program("openssl")
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([openssl, *request, *name, *files], check=True, capture_output=True)


def test_tls_is_checked_against_the_declared_authority(tmp_path: Path) -> None:
    certificates(tmp_path)
    files = {"ca-cert": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
    options = [word for name, file in files.items()
               for word in (f"--tls-{name}-file", str(tmp_path / file))]  # fmt: skip
    with running() as free:  # its port is free once it has ended
        port = free.port
    with running("--tls-port", str(port), "--tls-auth-clients", "optional", *options) as server:
        with server.connect() as client:
            client.set("a", 1)
        spec = {**server.options, "url": f"rediss://127.0.0.1:{port}/0"}
        with begin(address_of({**spec, "tls": {"ca": "cert.pem"}}, tmp_path)) as snapshot:
            assert names(b"".join(snapshot.chunks())) == {b"a"}
        with pytest.raises(Unspoken, match="is not trusted") as told:
            begin(address_of(spec, tmp_path))
        assert "tls: {ca:" in told.value.remedy
        with connect(address_of({**spec, "tls": {"verify": False}}, tmp_path)) as connection:
            assert connection.call("GET", "a") == b"1"


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"ca": "cert.pem"}, "client's certificate"),
        ({"ca": "none.pem"}, "none.pem: No such file"),
        ({"ca": "cert.pem", "certificate": "cert.pem", "key": "locked.pem"}, "passphrase"),
        ({"ca": "cert.pem", "certificate": "key.pem", "key": "key.pem"}, "PEM files"),
        (None, "speaks TLS alone"),
    ],
)
def test_what_is_wrong_with_tls_is_told(
    tmp_path: Path, tls: dict[str, Any] | None, words: str
) -> None:
    certificates(tmp_path)
    locked = ["pkey", "-in", "key.pem", "-out", "locked.pem", "-aes128", "-passout", "pass:secret"]
    subprocess.run([require_program("openssl"), *locked], cwd=tmp_path, check=True)
    files = {"ca-cert": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
    options = [word for name, file in files.items()
               for word in (f"--tls-{name}-file", str(tmp_path / file))]  # fmt: skip
    port = free_port()
    with running("--tls-port", str(port), *options, password=""):
        scheme = "redis" if tls is None else "rediss"
        spec: dict[str, Any] = {"type": "redis", "url": f"{scheme}://127.0.0.1:{port}/0"}
        at = address_of(spec if tls is None else {**spec, "tls": tls}, tmp_path)
        with pytest.raises(StepFailed) as told, connect(at) as connection:
            connection.call("PING")
    assert words in f"{told.value.message} {told.value.remedy}"
    assert "bug" not in told.value.message


def test_a_server_without_tls_is_told(redis_server: RedisServer, tmp_path: Path) -> None:
    spec = {**redis_server.options, "url": f"rediss://127.0.0.1:{redis_server.port}/0"}
    with pytest.raises(Unspoken, match="does not answer"):
        connect(address_of(spec, tmp_path), silence=1)
