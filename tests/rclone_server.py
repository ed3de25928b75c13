"""Remotes of rclone for tests: a folder, and what rclone itself serves of one by WebDAV."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.port_server import PortServer, running_in_a_folder
from tests.s3_server import require_rclone

USER = "backup"
PASSWORD = "odd,password=with+characters"


class DavServer(PortServer):
    """A WebDAV server, which keeps files as they are."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def configuration(self, password: str = PASSWORD, url: str = "") -> str:
        """A configuration of rclone with the remote `dav`."""
        arguments = [require_rclone(), "obscure", password]
        obscured = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        lines = ["[dav]", "type = webdav", "vendor = other", f"url = {url or self.url}"]
        return "\n".join([*lines, f"user = {USER}", f"pass = {obscured}"])

    def command(self) -> list[str | Path]:
        """How it is started on its port."""
        return [
            require_rclone(),
            *("serve", "webdav", self.data, "--addr", f"127.0.0.1:{self.port}"),
            *("--config", "/dev/null", "--user", USER, "--pass", PASSWORD),
            *("--dir-cache-time", "10ms"),  # with 0 the server never rests
        ]


def running() -> contextlib.AbstractContextManager[DavServer]:
    """A server of its own, empty, until the block ends."""
    return running_in_a_folder(DavServer)


@pytest.fixture(scope="session")
def dav_server() -> Iterator[DavServer]:
    """The worker's server; each test makes a folder of its own."""
    with running() as server:
        yield server
