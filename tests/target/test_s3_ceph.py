"""Buckets of a true server: versions, object lock, bucket policies, and a store without room."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import KeyExists, NotAllowed
from runner.target.protection import Held
from runner.target.s3 import S3Target, open_target
from runner.target.s3_request import Refused, plain
from tests.ceph_server import CephServer
from tests.inside import Inside
from tests.s3_server import require_rclone
from tests.service import SPEC, Service
from tests.target.conformance import TargetConformance, keys, read
from tests.target.off_site import SECOND
from tests.wire import wire_to

pytestmark = pytest.mark.xdist_group("ceph")

MIB = 1024 * 1024
DAY = 86400.0
Opened = Callable[..., S3Target]


@pytest.fixture
def opened(ceph_server: CephServer, tmp_path: Path) -> Opened:
    """Opens a target at a bucket, with some options changed."""

    def open_one(bucket: str, **changes: Any) -> S3Target:
        options = ceph_server.options(bucket, **changes)
        return open_target(TargetSpec("offsite", "s3", options, tmp_path))

    return open_one


def declared(options: Mapping[str, Any], **more: str) -> str:
    """The same target as a spec declares it."""
    said = {
        name: f"{{secret: '{value.reference}'}}" if isinstance(value, Secret) else str(value)
        for name, value in options.items()
    }
    said |= {"retry": "10s", "timeout": "60s", **more}
    return f"{{type: s3, {', '.join(f'{name}: {value}' for name, value in said.items())}}}"


def versions(server: CephServer, bucket: str, kind: str = "Version") -> list[tuple[str, str]]:
    """Key and id of every version of every object; or of every marker of a removal."""
    tree = plain(server.ask("GET", bucket, "", {"versions": ""}))
    return [(one.findtext("Key", ""), one.findtext("VersionId", "")) for one in tree.iter(kind)]


class TestConformance(TargetConformance):
    @pytest.fixture
    def spec(
        self, ceph_server: CephServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> TargetSpec:
        monkeypatch.setenv("PATH", f"{Path(require_rclone()).parent}:/usr/bin:/bin")
        options = ceph_server.options(ceph_server.make_bucket())
        return TargetSpec("bucket", "s3", options, tmp_path)


class TestVersions:
    def test_the_server_itself_refuses_what_is_there(
        self, ceph_server: CephServer, opened: Opened
    ) -> None:
        target = opened(ceph_server.make_bucket())
        assert target._knows_put_if_absent
        target.put("a", [b"first"], exclusive=True)
        with pytest.raises(KeyExists):
            target.put("a", [b"second"], exclusive=True)
        assert read(target, "a") == b"first"

    def test_a_bucket_with_versions_is_like_any_other(
        self, ceph_server: CephServer, opened: Opened
    ) -> None:
        target = opened(bucket := ceph_server.make_bucket(locking=True))
        target.put("shop/a", [b"old"])
        target.put("shop/a", [b"new"])
        assert read(target, "shop/a") == b"new"
        assert keys(target) == ["shop/a"]
        target.delete("shop/a")
        assert keys(target) == []
        assert target.folders("") == []
        with pytest.raises(FileNotFoundError):
            read(target, "shop/a")
        with target.lock("shop/.prune", "me"):
            pass
        kept = [key for key, _ in versions(ceph_server, bucket) if key.endswith("shop/a")]
        assert len(kept) == 2


@pytest.mark.parametrize("mode", ["governance", "compliance"])
class TestObjectLock:
    def test_what_is_held_stays_until_then(
        self, ceph_server: CephServer, opened: Opened, mode: str
    ) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        target = opened(bucket, lock=30 * DAY, lock_mode=mode, part_size=5 * MIB)
        target.put("shop/small", [b"x"])
        target.put("shop/large", [b"x" * MIB] * 12)
        target.put("shop/free", [b"x"])
        target.hold(["shop/small", "shop/large"])
        until = target.held_until("shop/large")
        assert until is not None
        assert abs(until - target.now() - timedelta(days=30)) < timedelta(minutes=10)
        with pytest.raises(Held, match=f"locked until {until:%Y-%m-%d}") as caught:
            target.delete("shop/small")
        assert "Nothing was removed" in caught.value.remedy
        assert target.held_until("shop/free") is None
        target.delete("shop/free")
        assert sorted(keys(target)) == ["shop/large", "shop/small"]

    def test_what_is_sent_has_a_checksum(
        self, ceph_server: CephServer, opened: Opened, mode: str
    ) -> None:
        # Amazon's servers demand it in buckets that lock by themselves.
        bucket = ceph_server.make_bucket(locking=True)
        with wire_to(ceph_server.port) as wire:
            endpoint = f"http://127.0.0.1:{wire.port}"
            target = opened(bucket, endpoint=endpoint, lock=DAY, lock_mode=mode, part_size=5 * MIB)
            target.put("small", [b"x"])
            target.put("large", [b"x" * MIB] * 12)
            sent = [one.lower() for one in wire.heads if one.startswith("PUT ")]
            assert len(sent) == 4
            assert all("x-amz-checksum-sha256: " in one for one in sent)
            assert read(target, "large") == b"x" * 12 * MIB

    def test_the_server_refuses_whoever_holds_the_keys(
        self, ceph_server: CephServer, opened: Opened, mode: str
    ) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        target = opened(bucket, lock=DAY, lock_mode=mode)
        target.put("a", [b"x"])
        target.hold(["a"])
        ((key, version),) = versions(ceph_server, bucket)
        with pytest.raises(Refused, match="403"):
            ceph_server.ask("DELETE", bucket, f"/{key}", {"versionId": version})
        bypass = {"x-amz-bypass-governance-retention": "true"}
        if mode == "compliance":
            with pytest.raises(Refused, match="403"):
                ceph_server.ask("DELETE", bucket, f"/{key}", {"versionId": version}, headers=bypass)
        else:
            ceph_server.ask("DELETE", bucket, f"/{key}", {"versionId": version}, headers=bypass)
            assert versions(ceph_server, bucket) == []

    def test_a_lock_ends_by_the_servers_clock(
        self, ceph_server: CephServer, opened: Opened, mode: str
    ) -> None:
        target = opened(ceph_server.make_bucket(locking=True), lock=2.0, lock_mode=mode)
        target.put("a", [b"x"])
        target.hold(["a"])
        deadline = time.monotonic() + 60
        while target.held_until("a") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        target.delete("a")
        assert keys(target) == []


class TestLockThatCannotBe:
    def test_without_keys_of_its_own_nothing_is_written(
        self,
        ceph_server: CephServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        options = ceph_server.options(ceph_server.make_bucket(locking=True), lock=DAY)
        kept = {name: one for name, one in options.items() if not name.endswith("_key")}
        target = open_target(TargetSpec("offsite", "s3", kept, tmp_path))
        with pytest.raises(StepFailed, match="the machine's own role") as caught:
            target.put("a", [b"x"])
        assert "access_key" in caught.value.remedy

    def test_a_bucket_without_object_lock_takes_nothing(
        self, ceph_server: CephServer, opened: Opened
    ) -> None:
        bucket = ceph_server.make_bucket()
        target = opened(bucket, lock=DAY)
        for attempt in (lambda: target.put("a", [b"x"]), target.check):
            with pytest.raises(StepFailed, match="has no object lock") as caught:
                attempt()
            assert "Make a bucket with object lock" in caught.value.remedy
        assert keys(opened(bucket)) == []


class TestFaults:
    @pytest.mark.slow
    def test_a_full_store_that_hangs_is_given_up(
        self, ceph_server: CephServer, opened: Opened
    ) -> None:
        bucket = ceph_server.make_bucket()
        opened(bucket).put("before", [b"x"])
        target = opened(bucket, timeout=2.0, retry=2.0)
        with ceph_server.full():
            for chunks in ([b"x"], [b"x" * MIB] * 20):
                with pytest.raises(StepFailed, match="did not answer in time") as caught:
                    target.put("shop/a", chunks)
                assert "timeout" in caught.value.remedy
            assert read(target, "before") == b"x"
        opened(bucket).put("after", [b"x"])

    def test_an_upload_goes_on_when_a_killed_server_is_back_after_five_seconds(
        self, ceph_server: CephServer, opened: Opened
    ) -> None:
        target = opened(ceph_server.make_bucket(), part_size=5 * MIB, retry=60.0)
        back = threading.Timer(5.0, ceph_server.start, ("radosgw", "client.rgw"))

        def chunks() -> Iterator[bytes]:
            for number in range(30):
                if number == 20:
                    ceph_server.kill("client.rgw")
                    back.start()
                yield bytes([number]) * MIB

        try:
            target.put("large", chunks())
        finally:
            back.join()
            ceph_server.await_gateway()
        assert read(target, "large") == b"".join(bytes([n]) * MIB for n in range(30))


class TestErrors:
    def expect(self, target: S3Target, reason: str, remedy: str) -> None:
        attempts: list[Callable[[], object]] = [
            target.check,
            lambda: target.put("shop/a", [b"x"]),
            lambda: target.put("shop/a", [b"x"], exclusive=True),
            lambda: target.put("shop/large", [b"x" * MIB] * 20),
            lambda: list(target.entries("")),
            lambda: read(target, "shop/a"),
        ]
        for attempt in attempts:
            with pytest.raises(StepFailed, match=reason) as caught:
                attempt()
            assert "offsite" in caught.value.message
            assert remedy in caught.value.remedy

    def test_a_wrong_secret_key(
        self, ceph_server: CephServer, opened: Opened, tmp_path: Path
    ) -> None:
        (tmp_path / "wrong").write_text("wrong")
        wrong = Secret(f"file:{tmp_path / 'wrong'}")
        bucket = ceph_server.make_bucket()
        self.expect(opened(bucket, secret_key=wrong), "secret key", "secret_key")
        self.expect(opened(bucket, access_key=wrong), "access key", "access_key")

    def test_a_missing_bucket(self, opened: Opened) -> None:
        self.expect(opened("no-such-bucket"), "no such bucket", "Create it")

    def test_the_bucket_of_somebody_else(self, ceph_server: CephServer, opened: Opened) -> None:
        if "stranger" not in ceph_server.keys:
            ceph_server.keys["stranger"] = ceph_server.make_user("stranger")
        target = opened(ceph_server.make_bucket(), user="stranger")
        self.expect(target, "does not allow it", "the right to")


def append_only(server: CephServer, bucket: str) -> str:
    """A user who may put, get and list in a bucket, as docs/how-to/s3-immutable.md has it."""
    if "writer" not in server.keys:
        server.keys["writer"] = server.make_user("writer")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam:::user/writer"]},
                "Action": ["s3:ListBucket", "s3:GetBucketObjectLockConfiguration"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam:::user/writer"]},
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:GetObjectRetention",
                    "s3:PutObjectRetention",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/some/where/*"],
            },
            # Here each user is an account of its own, so that even the bucket's owner has to be
            # let read what another wrote.
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam:::user/tests"]},
                "Action": ["s3:*"],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
        ],
    }
    server.ask("PUT", bucket, "", {"policy": ""}, body=json.dumps(policy).encode())
    return "writer"


class TestAppendOnly:
    def test_it_may_write_and_not_remove(self, ceph_server: CephServer, opened: Opened) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        target = opened(bucket, user=append_only(ceph_server, bucket), lock=DAY)
        target.check()
        target.put("shop/a", [b"x"], exclusive=True)
        target.put("shop/large", [b"x" * MIB] * 20)
        assert read(target, "shop/a") == b"x"
        with pytest.raises(NotAllowed, match="does not allow it with these credentials"):
            target.delete("shop/a")
        target.hold(["shop/a"])
        with pytest.raises(Held):
            target.delete("shop/a")
        for _ in range(2):
            with target.lock("shop/.prune", "me"):
                pass
        with opened(bucket).lock("shop/.prune", "one who may remove"):
            pass
        assert sorted(keys(target)) == ["shop/a", "shop/large"]

    def test_backups_are_well_and_another_host_prunes(
        self, ceph_server: CephServer, tmp_path: Path
    ) -> None:
        bucket = ceph_server.make_bucket()
        user = append_only(ceph_server, bucket)
        writing = declared(ceph_server.options(bucket, user), keep="{last: 1}")
        service = Service(tmp_path / "service", SPEC.replace(SECOND, f"offsite: {writing}")).build()
        holdfast = Inside(service.folder)
        ids = [holdfast.json("backup")["snapshots"][0]["id"] for _ in range(2)]
        refused = holdfast("prune", "--target", "offsite", "--confirm", "quaybot", status=4)
        assert "does not allow it with these credentials" in refused.stdout + refused.stderr
        assert "Prune from a host whose credentials may remove" in refused.stdout + refused.stderr
        assert len(holdfast.json("list", "--target", "offsite")["snapshots"]) == 2

        pruning = declared(ceph_server.options(bucket), keep="{last: 1}")
        (service.folder / "backup.yaml").write_text(SPEC.replace(SECOND, f"offsite: {pruning}"))
        document = holdfast.json("prune", "--target", "offsite", "--confirm", "quaybot")
        assert [one["id"] for one in document["removed"]] == [ids[0]]


class TestLockedSnapshots:
    def test_they_are_kept_by_prune_and_come_back_when_all_was_removed(
        self, ceph_server: CephServer, tmp_path: Path
    ) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        target = declared(ceph_server.options(bucket), lock="30d", keep="{daily: 1}")
        service = Service(tmp_path / "service", SPEC.replace(SECOND, f"offsite: {target}")).build()
        holdfast = Inside(service.folder)
        said = holdfast("validate", status=0)
        assert "locked for 30d" in said.stdout + said.stderr
        before = service.observe()
        first, second = (holdfast.json("backup")["snapshots"][0]["id"] for _ in range(2))

        document = holdfast.json("prune", "--target", "offsite", "--confirm", "quaybot")
        assert document["removed"] == []
        kept = {one["id"]: one["reasons"] for one in document["kept"]}
        assert kept[first][0].startswith("locked until ")
        refused = holdfast("delete", "--snapshot", first, "--confirm", first, status=4)
        assert "locked until" in refused.stdout + refused.stderr
        holdfast.json("verify", "--target", "offsite")

        moment = datetime.now(UTC)
        while datetime.now(UTC) < moment + timedelta(seconds=1):
            time.sleep(0.1)  # versions are dated to the second
        remove_all(ceph_server, bucket)
        brought = bring_back(ceph_server, bucket, moment, tmp_path / "brought")
        assert (brought / "quaybot" / "default" / second / "manifest.json").exists()
        spec = SPEC.replace(SECOND, f"offsite: {{type: local, path: {brought}}}")
        (service.folder / "backup.yaml").write_text(spec)
        service.destroy()
        holdfast("dr-restore", "--from", "offsite", "--confirm", "quaybot", status=0)
        assert service.observe() == before

    def test_verify_says_where_a_lock_is_missing(
        self, ceph_server: CephServer, tmp_path: Path
    ) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        target = declared(ceph_server.options(bucket), lock="30d")
        service = Service(tmp_path / "service", SPEC.replace(SECOND, f"offsite: {target}")).build()
        holdfast = Inside(service.folder)
        (snapshot,) = holdfast.json("backup")["snapshots"]
        assert holdfast.json("verify", "--target", "offsite")["ok"]
        ((manifest, version),) = [
            one
            for one in versions(ceph_server, bucket)
            if one[0].endswith(f"{snapshot['id']}/manifest.json")
        ]
        bypass = {"x-amz-bypass-governance-retention": "true"}
        data = ceph_server.ask("GET", bucket, f"/{manifest}")
        ceph_server.ask("DELETE", bucket, f"/{manifest}", {"versionId": version}, headers=bypass)
        ceph_server.ask("PUT", bucket, f"/{manifest}", body=data)
        answer = holdfast("verify", "--target", "offsite", status=4)
        assert "manifest.json is not locked" in answer.stdout + answer.stderr

    def test_a_clock_that_is_off_is_told(self, ceph_server: CephServer, tmp_path: Path) -> None:
        bucket = ceph_server.make_bucket(locking=True)
        with wire_to(ceph_server.port) as wire:
            wire.answer = lambda head: dated(head, bucket, timedelta(minutes=5))
            options = ceph_server.options(bucket, endpoint=f"http://127.0.0.1:{wire.port}")
            target = declared(options, lock="30d")
            spec = SPEC.replace(SECOND, f"offsite: {target}")
            holdfast = Inside(Service(tmp_path / "service", spec).build().folder)
            answer = holdfast("backup", status=0)
            said = answer.stdout + answer.stderr
            assert "The clock of offsite is 5m" in said.replace("4m59s", "5m")
            assert "ahead of this machine's" in said
            answer = holdfast("doctor")
            assert "its clock differs by" in answer.stdout + answer.stderr


def dated(head: str, bucket: str, ahead: timedelta) -> bytes | None:
    """The answer to who asks what time it is, by a clock that is ahead."""
    if not head.startswith(f"HEAD /{bucket} "):
        return None
    at = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    return f"HTTP/1.1 200 OK\r\nDate: {at}\r\nContent-Length: 0\r\n\r\n".encode()


def remove_all(server: CephServer, bucket: str) -> None:
    """What whoever took over the host does: remove every object, in all ways."""
    for key, version in versions(server, bucket):
        server.ask("DELETE", bucket, f"/{key}")
        with contextlib.suppress(Refused):
            server.ask("DELETE", bucket, f"/{key}", {"versionId": version})


def bring_back(server: CephServer, bucket: str, moment: datetime, folder: Path) -> Path:
    """What docs/how-to/s3-immutable.md has for that day: the bucket as it was at a moment."""
    key = server.keys["tests"]
    subprocess.run(
        [
            *(require_rclone(), "copy", "--config", "/dev/null"),
            *("--s3-version-at", f"{moment:%Y-%m-%dT%H:%M:%SZ}"),
            f':s3,provider=Other,env_auth=true,endpoint="{server.endpoint}":{bucket}/some/where',
            folder,
        ],
        check=True,
        env={
            **os.environ,
            "TZ": "Asia/Tokyo",
            "AWS_ACCESS_KEY_ID": key.access_key,
            "AWS_SECRET_ACCESS_KEY": key.secret_key,
        },
    )
    return folder
