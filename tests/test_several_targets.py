"""Three targets of three kinds: one capture, what each is said to hold, and each alone enough."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from runner.report import status, targets
from runner.target import s3_bucket
from tests.inside import Inside
from tests.s3_server import S3Server
from tests.service import SPEC, Service
from tests.sftp_server import SftpServer
from tests.sftp_server import running as running_sftp
from tests.target.off_site import lose_all

SECOND = "  offsite: {type: local, path: elsewhere}\n"


def nas(server: SftpServer) -> str:
    """A target at that server, as a spec declares it."""
    return (
        f"  nas: {{type: sftp, host: 127.0.0.1, port: {server.port}, user: {getpass.getuser()}, "
        f"path: '{server.options()['path']}', key: {{secret: 'file:{server.key}'}}, "
        f"known_hosts: {server.known_hosts}, retry: 5s}}\n"
    )


def bucket(server: S3Server) -> str:
    return (
        f"  bucket: {{type: s3, endpoint: '{server.endpoint}', "
        f"bucket: {server.options()['bucket']}, "
        f"access_key: {{secret: 'file:{server.folder}/access'}}, "
        f"secret_key: {{secret: 'file:{server.folder}/secret'}}, retry: 5s}}\n"
    )


@pytest.mark.parametrize("disk", ["", "  disk: {type: local, path: backups}\n"])
def test_what_is_sent_in_parts_may_grow(
    disk: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_bucket.Bucket, "most_parts", 2)
    there = bucket(s3_server).replace("retry", "part_size: 5MiB, retry")
    sources = "sources: {data: {type: files, paths: [data]}}\n"
    (tmp_path / "backup.yaml").write_text(
        f"version: 1\nproject: quaybot\n{sources}targets:\n{disk}{there}"
    )
    (tmp_path / "data").mkdir()
    holdfast = Inside(tmp_path)
    for size in (8, 14, 22):
        (tmp_path / "data" / "random").write_bytes(os.urandom(size * 1024 * 1024))
        (snapshot,) = holdfast.json("backup")["snapshots"]
        assert snapshot["missing"] == []


def by_name(document: Any) -> dict[str, Any]:
    return {one["target"]: one for one in document["targets"]}


@pytest.fixture
def local(tmp_path: Path) -> tuple[Service, Inside]:
    """A service with a snapshot at two folders, `disk` and `offsite`."""
    service = Service(tmp_path / "service").build()
    Inside(service.folder)("backup", status=0)
    return service, Inside(service.folder)


def test_each_alone_brings_back_what_was_dumped_once(
    s3_server: S3Server, sftp_server: SftpServer, tmp_path: Path
) -> None:
    text = SPEC.replace(SECOND, bucket(s3_server) + nas(sftp_server))
    service = Service(tmp_path / "service", text).build()
    holdfast = Inside(service.folder)
    before = service.observe()
    document = holdfast.json("backup")
    (snapshot,) = document["snapshots"]
    assert snapshot["targets"] == ["disk", "bucket", "nas"]
    steps = holdfast.json("show", "--run", document["run"])["steps"]
    assert len([one for one in steps if one["id"].endswith(".capture")]) == 3, "one a source"

    examined = by_name(holdfast.json("doctor"))
    for one in examined.values():
        assert one["reachable"] is True
        assert (one["snapshots"], one["newest"]) == (1, snapshot["id"])
        assert one["throughput"]["upload"] > 0
    shown = by_name(holdfast.json("status"))
    for name, one in shown.items():
        assert one["throughput"] == examined[name]["throughput"]
        assert one["if_lost"] == {"snapshots": [], "sources": [], "set_back": {}, "unknown": []}

    lines = text.splitlines(keepends=True)
    for name in snapshot["targets"]:
        others = [f"  {other}: {{" for other in snapshot["targets"] if other != name]
        alone = [line for line in lines if not line.startswith(tuple(others))]
        (service.folder / "backup.yaml").write_text("".join(alone))
        service.destroy()
        shutil.rmtree(service.folder / ".holdfast")
        if name != "disk" and (service.folder / "backups").exists():
            lose_all(service)
        document = holdfast.json("dr-restore", "--confirm", "quaybot")
        assert {one["equal"] for one in document["proof"]} == {True}
        assert service.observe() == before, name


class TestWhatWouldBeLost:
    def test_with_the_only_copies(self, local: tuple[Service, Inside]) -> None:
        service, holdfast = local
        (service.folder / "elsewhere").rename(service.folder / "away")
        (service.folder / "elsewhere").write_text("no folder\n")
        new = holdfast.json("backup", status=4)["snapshots"][0]["id"]
        (service.folder / "elsewhere").unlink()
        disk = by_name(holdfast.json("status", status=4))["disk"]
        assert disk["if_lost"]["sources"] == ["db", "config", "code"]
        assert len(disk["if_lost"]["snapshots"]) == 2
        (service.folder / "away").rename(service.folder / "elsewhere")
        shown = by_name(holdfast.json("status", status=4))
        lost = shown["disk"]["if_lost"]
        assert (lost["snapshots"], lost["sources"]) == ([new], [])
        assert set(lost["set_back"]) == {"db", "config", "code"}
        assert shown["offsite"]["if_lost"]["snapshots"] == []
        answer = holdfast("status")
        assert "If disk burned, 1 snapshot that is only there would be lost" in answer.stdout
        assert "If offsite burned, nothing would be lost." in answer.stdout

    def test_a_damaged_copy_is_none(self, local: tuple[Service, Inside]) -> None:
        service, holdfast = local
        (stored,) = (service.folder / "elsewhere").rglob("db.sqlite.zst")
        stored.write_bytes(b"damaged")
        holdfast("verify", status=4)
        shown = by_name(holdfast("status", "--json").json)
        assert len(shown["disk"]["if_lost"]["snapshots"]) == 1
        assert shown["offsite"]["if_lost"]["snapshots"] == []


class TestTargetThatIsNotAsked:
    @pytest.mark.parametrize("command", ["list", "verify", "prune"])
    def test_needs_no_variable(self, local: tuple[Service, Inside], command: str) -> None:
        service, holdfast = local
        text = SPEC.replace("path: elsewhere", 'path: "${NO_SUCH_PLACE}"')
        (service.folder / "backup.yaml").write_text(text)
        holdfast(command, "--target", "disk", status=0)
        assert "${NO_SUCH_PLACE} has no value" in holdfast(command, status=3).stderr


class TestTargetThatIsGone:
    def test_leaves_a_verification_undone(self, local: tuple[Service, Inside]) -> None:
        service, holdfast = local
        shutil.rmtree(service.folder / "elsewhere")
        (service.folder / "elsewhere").write_text("no folder\n")
        document = holdfast.json("verify", status=7)
        assert {one["verdict"] for one in document["results"]} == {"PASS"}
        assert [one["target"] for one in document["unread"]] == ["offsite"]
        assert "COULD-NOT-VERIFY" in holdfast("verify", status=7).stdout
        assert "elsewhere" in holdfast("verify", "--target", "offsite", status=4).stderr
        holdfast("verify", "--target", "disk", status=0)

    def test_that_is_silent_holds_up_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "STATUS_SECONDS", 3.0)
        monkeypatch.setattr(targets, "STATUS_SECONDS", 3.0)
        monkeypatch.setattr(targets, "DOCTOR_SECONDS", 3.0)
        with running_sftp() as server:
            service = Service(tmp_path / "service", SPEC.replace(SECOND, nas(server))).build()
            holdfast = Inside(service.folder)
            holdfast("backup", status=0)
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                document = holdfast("status", "--json").json
                doctor = holdfast("doctor", "--json", status=4).json
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
        shown = by_name(document)
        assert (shown["disk"]["reachable"], shown["nas"]["reachable"]) == (True, None)
        assert shown["disk"]["if_lost"]["unknown"] == ["nas"]
        assert "did not answer within 3s" in document["error"]["message"]
        assert by_name(doctor)["nas"]["reachable"] is None
        assert by_name(doctor)["disk"]["throughput"] is not None
