"""A new machine that is given the address of a container, a bucket of Google's or a remote."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import s3_server
from tests.azurite_server import ACCOUNT, KEY, AzuriteServer
from tests.inside import Inside
from tests.rclone_server import DavServer
from tests.service import SPEC, Service
from tests.target.test_gcs import OPEN
from tests.test_bootstrap import come_back

# Every call of a remote starts a program.
KINDS = ("container", "bucket", pytest.param("remote", marks=pytest.mark.slow))


@dataclass
class Far:
    """One target: as a spec declares it, and as it is given where there is no spec."""

    declared: str
    address: str
    environment: dict[str, str] = field(default_factory=dict)  # what both need


def container(server: AzuriteServer) -> Far:
    options = server.options()
    place = f"endpoint: '{options['endpoint']}', container: {options['container']}"
    return Far(
        f"{{type: azure, {place}, prefix: dr/a b, account: {ACCOUNT}, "
        "key: {secret: 'env:AZURE_KEY'}}",
        f"az://{options['container']}/dr/a%20b?endpoint={options['endpoint']}&account={ACCOUNT}"
        "&key=env:AZURE_KEY",
        {"AZURE_KEY": KEY},
    )


def remote(server: DavServer, folder: Path) -> Far:
    file, name = folder / "rclone.conf", os.urandom(6).hex()
    file.write_text(server.configuration())
    return Far(
        f"{{type: rclone, remote: 'dav:{name}/dr', config: {{secret: 'file:{file}'}}}}",
        f"rclone://dav:{name}/dr?config=file:{file}",
    )


@pytest.fixture
def bucket() -> Iterator[Far]:
    """At a server that stands in for Google's, see tests/target/test_gcs.py."""
    with s3_server.running(signed=False) as server:
        name = server.make_bucket()
        yield Far(
            f"{{type: gcs, endpoint: '{server.endpoint}', bucket: {name}, prefix: dr, "
            "credentials: {secret: 'env:GOOGLE_KEY'}}",
            f"gs://{name}/dr?endpoint={server.endpoint}&credentials=env:GOOGLE_KEY",
            {"GOOGLE_KEY": json.dumps(OPEN)},
        )


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Far:
    """The target of the kind that the test asks for."""
    if request.param == "container":
        return container(request.getfixturevalue("azurite_server"))
    if request.param == "remote":
        return remote(request.getfixturevalue("dav_server"), tmp_path)
    found: Far = request.getfixturevalue("bucket")
    return found


@pytest.mark.parametrize("far", KINDS, indirect=True)
def test_an_address_alone_brings_everything_back(far: Far, tmp_path: Path) -> None:
    head, _, rest = SPEC.partition("targets:\n")
    spec = f"{head}targets:\n  far: {far.declared}\n{rest[rest.index('policies:') :]}"
    service = Service(tmp_path / "old", spec).build()
    (snapshot,) = Inside(service.folder, far.environment).json("backup")["snapshots"]
    content = service.observe()

    holdfast = Inside(tmp_path, far.environment)
    (row,) = holdfast.json("list", "--from", far.address)["snapshots"]
    assert (row["project"], row["id"]) == ("quaybot", snapshot["id"])
    digest = hashlib.sha256(spec.encode()).hexdigest()
    yes = ("--confirm", "quaybot", "--confirm-spec", digest)
    document = holdfast.json("dr-restore", "--from", far.address, "--dir", "new", *yes)
    assert {one["equal"] for one in document["proof"]} == {True}
    assert come_back(tmp_path / "new").observe() == content
    gone = far.address.replace("/dr", "/nothing")
    assert "no such snapshots" in holdfast("list", "--from", gone).stderr
