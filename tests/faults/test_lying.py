"""A target that lies: other content of the same length, a cut, a swap, an older state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.registry import open_target
from runner.spec.load import load_spec
from runner.target import Target
from tests import s3_server, sftp_server
from tests.inside import Inside
from tests.service import SPEC, Service

PROFILE = "quaybot/default"
TWO = "  disk: {type: local, path: backups}\n  offsite: {type: local, path: elsewhere}\n"
LOCAL = "type: local, path: backups"


@dataclass
class Liar:
    """A service with two snapshots at its only target, and a hand on what lies there."""

    service: Service
    holdfast: Inside
    target: Target

    @property
    def snapshots(self) -> list[str]:
        """The snapshots' folders, oldest first."""
        names = [name for name in self.target.folders(PROFILE) if not name.startswith(".")]
        return [f"{PROFILE}/{name}" for name in names]

    def key(self, start: str, folder: int = -1) -> str:
        """The key of the file whose name starts so, in the newest snapshot or another one."""
        (found,) = (
            one.key
            for one in self.target.entries(self.snapshots[folder])
            if one.key.rpartition("/")[2].startswith(start)
        )
        return found

    def read(self, key: str) -> bytes:
        return b"".join(self.target.get(key))

    def write(self, key: str, data: bytes) -> None:
        self.target.delete(key)
        self.target.put(key, [data])


@pytest.fixture(scope="module", params=["local", "s3", "sftp"])
def liar(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Liar]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        yield made(folder, LOCAL)
    elif request.param == "s3":
        with s3_server.running() as server:
            keys = [f'{one}_key: {{secret: "env:{one.upper()}"}}' for one in ("access", "secret")]
            place = f"endpoint: {server.endpoint}, bucket: {server.make_bucket()}"
            yield made(folder, f"type: s3, {place}, {', '.join(keys)}")
    else:
        with sftp_server.running() as ssh:
            given = ssh.options()
            words = ("host", "port", "user", "path", "known_hosts")
            place = ", ".join(f"{name}: {given[name]}" for name in words)
            yield made(folder, f'type: sftp, {place}, key: {{secret: "file:{ssh.key}"}}')


def made(folder: Path, target: str) -> Liar:
    spec = SPEC.replace(TWO, f"  disk: {{{target}}}\n")
    environment = {"ACCESS": s3_server.ACCESS_KEY, "SECRET": s3_server.SECRET_KEY}
    service = Service(folder / "service", spec).build()
    holdfast = Inside(service.folder, environment)
    holdfast("backup", "--no-prune", status=0)
    service.change()
    time.sleep(1 - time.time() % 1)  # ids begin with a time in whole seconds
    holdfast("backup", "--no-prune", status=0)
    loaded = load_spec(service.folder / "backup.yaml", environment=environment)
    return Liar(service, holdfast, open_target(loaded.target("disk")))


def other_content(liar: Liar) -> dict[str, bytes]:
    key = liar.key("db.sqlite")
    return {key: bytes(255 - byte for byte in liar.read(key))}


def cut(liar: Liar) -> dict[str, bytes]:
    key = liar.key("db.sqlite")
    return {key: liar.read(key)[:-1]}


def swapped(liar: Liar) -> dict[str, bytes]:
    one, other = liar.key("db.sqlite"), liar.key("db.fingerprint")
    return {one: liar.read(other), other: liar.read(one)}


def older_manifest(liar: Liar) -> dict[str, bytes]:
    return {liar.key("manifest.json"): liar.read(liar.key("manifest.json", 0))}


def older_snapshot(liar: Liar) -> dict[str, bytes]:
    """All of the older snapshot's files under the newest one's id."""
    old, new = liar.snapshots
    return {one.key.replace(old, new): liar.read(one.key) for one in list(liar.target.entries(old))}


@pytest.mark.parametrize("lie", [other_content, cut, swapped, older_manifest, older_snapshot])
def test_a_lie_is_found_by_verify_and_by_restore(
    liar: Liar, lie: Callable[[Liar], dict[str, bytes]]
) -> None:
    told = lie(liar)
    true = {key: liar.read(key) for key in told}
    try:
        for key, data in told.items():
            liar.write(key, data)
        newest = liar.snapshots[-1].rpartition("/")[2]
        document = liar.holdfast.json("verify", "--snapshot", newest, status=4)
        assert "FAIL" in {one["verdict"] for one in document["results"]}
        answer = liar.holdfast("restore", "--source", "db", "--to", "found/db.sqlite")
        assert answer.status == 4, answer
        assert not (liar.service.folder / "found" / "db.sqlite").exists()
    finally:
        for key, data in true.items():
            liar.write(key, data)
    liar.holdfast("verify", status=0)


def test_a_newest_snapshot_that_was_taken_away_is_missed(liar: Liar) -> None:
    newest = liar.snapshots[-1]
    true = {one.key: liar.read(one.key) for one in list(liar.target.entries(newest))}
    told = liar.holdfast.json("verify", status=0)["rollback"]
    assert [(one["target"], one["verdict"]) for one in told] == [("disk", "PASS")]
    assert "this host remembers" in told[0]["reason"]
    state, aside = liar.service.folder / ".holdfast" / "newest", liar.service.folder / "aside"
    try:
        for key in true:
            liar.target.delete(key)
        document = liar.holdfast.json("verify", status=4)
        assert document["rollback"][0]["verdict"] == "FAIL"
        assert "is gone" in document["rollback"][0]["reason"]
        answer = liar.holdfast("restore", "--source", "db")
        assert answer.status == 7
        assert "it was the newest here, and is gone" in answer.stderr

        state.rename(aside)
        told = liar.holdfast.json("verify", status=0)["rollback"]
        assert told[0]["verdict"] == "COULD-NOT-VERIFY"
        assert "COULD-NOT-VERIFY, " in liar.holdfast("verify", status=0).stdout
    finally:
        shutil.rmtree(state, ignore_errors=True)
        aside.rename(state)
        for key, data in true.items():
            liar.write(key, data)
