"""A real server for tests that speaks the protocol of Azure Blob Storage: Microsoft's Azurite.

`AZURITE_INSTALL` puts it beside the code, where it is kept from one run to the next.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import itertools
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from runner.secret import Secret
from tests.port_server import PortServer, running_in_a_folder
from tests.tools import ROOT, cannot_run

FOLDER = ROOT / ".cache/azurite"
AZURITE_INSTALL = "npm install --prefix .cache/azurite azurite@3.35.0"

# Those that Azurite has for everybody.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-12-02"  # of the protocol

_numbers = itertools.count()


def require_azurite() -> list[str | Path]:
    """How the server is started."""
    main = FOLDER / "node_modules/azurite/dist/src/blob/main.js"
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        cannot_run("node is missing: apt-get install nodejs npm")
    if not main.exists():
        cannot_run(f"Azurite is missing: {AZURITE_INSTALL}")
    return [node, main]


class AzuriteServer(PortServer):
    """One server."""

    @property
    def endpoint(self) -> str:
        """The address of the account's blobs."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection(self) -> str:
        """The connection string."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.endpoint};"
        )

    def make_container(self) -> str:
        """The name of a new, empty container."""
        name = f"container-{next(_numbers)}"
        headers = {
            "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "x-ms-version": VERSION,
        }
        # https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        lines = ["PUT", *[""] * 11, *(f"{one}:{headers[one]}" for one in sorted(headers))]
        lines += [f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"]
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{_signed(lines)}"
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container", method="PUT", headers=headers
        )
        with urllib.request.urlopen(request):
            return name

    def signature(self, container: str, rights: str = "racwdl", hours: int = 1) -> str:
        """A shared access signature of one container."""
        end = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        # https://learn.microsoft.com/rest/api/storageservices/create-service-sas
        lines = [rights, "", end, f"/blob/{ACCOUNT}/{container}", "", "", "", VERSION, "c"]
        given = {"sp": rights, "se": end, "sv": VERSION, "sr": "c"}
        return urlencode({**given, "sig": _signed([*lines, *[""] * 7])})

    def options(self, **changes: Any) -> dict[str, Any]:
        """The options of an `azure` target at a new container of it."""
        (self.folder / "key").write_text(KEY)
        return {
            "endpoint": self.endpoint,
            "account": ACCOUNT,
            "container": changes.get("container") or self.make_container(),
            "prefix": "some/where",
            "key": Secret(f"file:{self.folder / 'key'}"),
            "retry": 2.0,
            "timeout": 60.0,
        } | changes

    def command(self) -> list[str | Path]:
        """How it is started on its port."""
        arguments = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        arguments += ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        return [*require_azurite(), *arguments, "--location", self.data]


def _signed(lines: list[str]) -> str:
    digest = hmac.digest(base64.b64decode(KEY), "\n".join(lines).encode(), "sha256")
    return base64.b64encode(digest).decode()


def running() -> contextlib.AbstractContextManager[AzuriteServer]:
    """A server of its own, empty, until the block ends."""
    require_azurite()
    return running_in_a_folder(AzuriteServer)


@pytest.fixture(scope="session")
def azurite_server() -> Iterator[AzuriteServer]:
    """The worker's server; each test makes a container of its own."""
    with running() as server:
        yield server
