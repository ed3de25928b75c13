"""A prune at a target that others use too: it takes what backups wrote, and one host at a time."""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.registry import open_target
from runner.spec.load import load_spec
from runner.target import Target
from tests.inside import Inside
from tests.s3_server import S3Server
from tests.service import SPEC, Service
from tests.sftp_server import SftpServer
from tests.tools import clean_environment

SECOND = "offsite: {type: local, path: elsewhere}"
PARENT = "quaybot/default"

HOLDING = """
import sys
from pathlib import Path
from runner.registry import open_target
from runner.spec.load import load_spec
spec = load_spec(Path(sys.argv[1]))
with open_target(spec.targets["offsite"]).lock("quaybot/default/.prune", "run 7 of another host"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["s3", "sftp"])
def declared(request: pytest.FixtureRequest) -> str:
    """A remote target, as a spec declares it."""
    if request.param == "s3":
        bucket: S3Server = request.getfixturevalue("s3_server")
        given = bucket.options()
        return (
            f"offsite: {{type: s3, endpoint: '{bucket.endpoint}', bucket: {given['bucket']}, "
            f"access_key: {{secret: 'file:{bucket.folder}/access'}}, "
            f"secret_key: {{secret: 'file:{bucket.folder}/secret'}}, retry: 5s}}"
        )
    server: SftpServer = request.getfixturevalue("sftp_server")
    return (
        f"offsite: {{type: sftp, host: 127.0.0.1, port: {server.port}, "
        f"user: {getpass.getuser()}, path: '{server.options()['path']}', "
        f"key: {{secret: 'file:{server.key}'}}, known_hosts: {server.known_hosts}, retry: 5s}}"
    )


@pytest.fixture
def service(declared: str, tmp_path: Path) -> Service:
    """A service with two snapshots, of which its targets are to keep one."""
    spec = SPEC.replace(SECOND, declared).replace("keep: {last: 3}", "keep: {last: 1}")
    made = Service(tmp_path / "service", spec).build()
    for _ in range(2):
        Inside(made.folder)("backup", "--no-prune", status=0)
    return made


def opened(service: Service) -> Target:
    return open_target(load_spec(service.folder / "backup.yaml").targets["offsite"])


@pytest.fixture
def held(service: Service) -> Iterator[Callable[[], None]]:
    """Another process prunes at the same target, until what this gives is called."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, service.folder / "backup.yaml"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(service.folder),
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        def end() -> None:
            other.communicate(b"\n")

        yield end
        other.kill()


def test_what_no_backup_wrote_stays_and_is_told(service: Service) -> None:
    holdfast, target = Inside(service.folder), opened(service)
    new, old = (one["id"] for one in holdfast.json("list")["snapshots"])
    foreign = [
        f"{PARENT}/{old}/db.sqlite",
        f"{PARENT}/{old}/holiday.jpg",
        f"{PARENT}/photos/cat.jpg",
        f"{PARENT}/readme.txt",
    ]
    for key in foreign:
        target.put(key, [b"precious"])
    document = holdfast.json("prune", "--confirm", "quaybot")
    assert {"id": old, "target": "offsite"} in document["removed"]
    assert document["foreign"] == [{"key": key, "target": "offsite"} for key in foreign]
    left = {one.key for one in target.entries(PARENT) if not one.key.startswith(f"{PARENT}/{new}/")}
    assert {key for key in left if "/.records/" not in key} == set(foreign)
    answer = holdfast("prune", status=0)
    assert f"left     {PARENT}/readme.txt at offsite: no backup wrote it" in answer.stdout


def test_two_hosts_do_not_prune_at_once(service: Service, held: Callable[[], None]) -> None:
    holdfast = Inside(service.folder)
    answer = holdfast("prune", "--target", "offsite", "--confirm", "quaybot", status=6)
    assert "run 7 of another host" in answer.stderr
    assert len(holdfast.json("list", "--target", "offsite")["snapshots"]) == 2
    answer = holdfast("backup", status=0)
    assert "another run is at the snapshots" in answer.stdout + answer.stderr
    held()
    document = holdfast.json("prune", "--target", "offsite", "--confirm", "quaybot")
    assert len(document["removed"]) == 2
