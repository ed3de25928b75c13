"""Remotes of rclone for tests: a folder, and what rclone itself serves of one by WebDAV."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.s3_server import require_rclone
from tests.wire import free_port

USER = "backup"
PASSWORD = "odd,password=with+characters"
PATIENCE_SECONDS = 60.0


@dataclass
class DavServer:
    """A WebDAV server, which keeps files as they are."""

    folder: Path  # private
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """What it keeps."""
        return self.folder / "data"

    def configuration(self, password: str = PASSWORD, url: str = "") -> str:
        """A configuration of rclone with the remote `dav`."""
        arguments = [require_rclone(), "obscure", password]
        obscured = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        lines = ["[dav]", "type = webdav", "vendor = other", f"url = {url or self.url}"]
        return "\n".join([*lines, f"user = {USER}", f"pass = {obscured}"])

    def start(self) -> None:
        """Start it on what its folder holds, and wait until it answers."""
        self.port = self.port or free_port()
        self.data.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    require_rclone(),
                    *("serve", "webdav", self.data, "--addr", f"127.0.0.1:{self.port}"),
                    *("--config", "/dev/null", "--user", USER, "--pass", PASSWORD),
                    *("--dir-cache-time", "10ms"),  # with 0 the server never rests
                ],
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in good order, or as a power cut would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running() -> Iterator[DavServer]:
    """A server of its own, empty, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="dav-"))
    server = DavServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.end(signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def dav_server() -> Iterator[DavServer]:
    """The worker's server; each test makes a folder of its own."""
    with running() as server:
        yield server
