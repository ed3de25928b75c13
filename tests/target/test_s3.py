"""A bucket as a target: what holds for every target, and what S3 servers add."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Locked, StepFailed, UsageError
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import KeyExists, lease, s3_bucket
from runner.target.s3 import S3Target, open_target
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, require_rclone, running
from tests.target.conformance import TargetConformance, broken, keys, read
from tests.target.object_store import (
    MIB,
    ObjectStoreFaults,
    dying,
    fails_in_words,
    refusal,
    secret,
    tools_path,
)
from tests.target.off_site import brings_everything_back
from tests.tools import Program, require_program
from tests.wire import Wire, free_port, wire_to

Opened = Callable[..., S3Target]


@pytest.fixture
def opened(s3_server: S3Server, tmp_path: Path) -> Opened:
    """Opens a target at a new bucket, with some options changed; None takes one away."""

    def open_one(**changes: Any) -> S3Target:
        options = s3_server.options(**changes)
        given = {name: value for name, value in options.items() if value is not None}
        return open_target(TargetSpec("offsite", "s3", given, tmp_path))

    return open_one


@pytest.fixture
def wire(s3_server: S3Server) -> Iterator[Wire]:
    """A wire to the server; `opened(endpoint=through(wire))` is a target behind it."""
    with wire_to(s3_server.port) as one:
        yield one


def through(wire: Wire) -> str:
    return f"http://127.0.0.1:{wire.port}"


class TestConformance(TargetConformance):
    large = 5 * 1024**3

    @pytest.fixture
    def spec(
        self, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> TargetSpec:
        # Without the aws program: the tests that go through this program take what there is.
        monkeypatch.setenv("PATH", f"{Path(require_rclone()).parent}:/usr/bin:/bin")
        return TargetSpec("bucket", "s3", s3_server.options(), tmp_path)


class TestErrors:
    """Each names the target and the bucket, and says what to do."""

    def expect(self, target: S3Target, reason: str, remedy: str) -> None:
        def put_large() -> None:
            target.put("shop/large", [b"x" * MIB] * 20)

        fails_in_words(target, reason, remedy, put_large, hidden=SECRET_KEY)

    def test_a_wrong_secret_key(self, opened: Opened, tmp_path: Path) -> None:
        self.expect(opened(secret_key=secret(tmp_path, "wrong")), "secret key", "secret_key")

    def test_an_unknown_access_key(self, opened: Opened, tmp_path: Path) -> None:
        self.expect(opened(access_key=secret(tmp_path, "wrong")), "access key", "access_key")

    def test_a_missing_bucket(self, opened: Opened) -> None:
        target = opened(bucket="no-such-bucket")
        self.expect(target, "no such bucket", "Create it")
        with pytest.raises(StepFailed, match="no such bucket"):
            list(target.get("a", offset=1))
        with pytest.raises(StepFailed, match="no such bucket"):
            target.put("a", [b"x"], exclusive=True)

    def test_nobody_listens(self, opened: Opened) -> None:
        target = opened(endpoint=f"http://127.0.0.1:{free_port()}", retry=0.2)
        self.expect(target, "refuses connections", "endpoint")
        with pytest.raises(StepFailed, match="refuses connections: its clock"):
            target.now()

    def test_an_unknown_host(self, opened: Opened) -> None:
        self.expect(opened(endpoint="http://no.such.host.invalid", retry=0.2), "name", "endpoint")

    def test_a_server_that_is_overwhelmed(self, opened: Opened, wire: Wire) -> None:
        wire.answer = lambda head: refusal("503 Slow Down")
        self.expect(opened(endpoint=through(wire), retry=0.2), "not available", "later")

    @pytest.mark.parametrize(
        ("code", "reason", "remedy"),
        [
            ("ExpiredToken", "credentials have expired", "new temporary credentials"),
            ("InvalidToken", "session token", "new temporary credentials"),
            ("RequestTimeTooSkewed", "the clocks differ too much", "Set the clock"),
            ("QuotaExceeded", "no room left", "prune"),
        ],
    )
    def test_what_a_server_says_in_its_own_words(
        self, opened: Opened, wire: Wire, code: str, reason: str, remedy: str
    ) -> None:
        wire.answer = lambda head: None if head.startswith("HEAD") else refusal("403 No", code)
        self.expect(opened(endpoint=through(wire), retry=0.2), reason, remedy)

    def test_a_clock_that_is_behind_is_no_lack_of_rights(self, opened: Opened, wire: Wire) -> None:
        said = "The difference between the request time and the server's time is too large."
        told = f"AccessDenied</Code><Message>{said}</Message><Code>"
        wire.answer = lambda head: refusal("400 No", told)
        self.expect(opened(endpoint=through(wire), retry=0.2), "the clocks differ", "Set the clock")

    def test_a_server_that_hangs(self, opened: Opened, wire: Wire) -> None:
        def hang(head: str) -> bytes | None:
            time.sleep(3)
            return None

        wire.answer = hang
        target = opened(endpoint=through(wire), timeout=0.2, retry=0.2)
        self.expect(target, "did not answer in time", "timeout")

    def test_the_library_is_not_installed(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "obstore", None)
        target = opened()
        self.expect(target, "library", "pip install 'holdfast[cloud]'")
        assert target.location("a").startswith("s3://")

    def test_a_secret_that_is_not_there(self, opened: Opened) -> None:
        with pytest.raises(UsageError, match="NO_SUCH_VARIABLE"):
            opened(secret_key=Secret("env:NO_SUCH_VARIABLE", environment={})).check()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"secret_key": None},
            {"access_key": None, "secret_key": None, "session_token": Secret("env:X")},
            {"endpoint": "s3.example.org"},
            {"endpoint": "https://s3.example.org/bucket", "bucket": "bucket"},
            {"endpoint": "https://s3.example.org?bucket=a"},
            {"endpoint": "https://s3.example.org:port"},
            {"endpoint": "http://::1:9000"},
            {"ca": __file__},
            {"part_size": MIB},
            {"ca": "no-such-file.pem"},
        ],
    )
    def test_options_that_cannot_be(self, opened: Opened, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="offsite"):
            opened(**wrong)


class TestWhereAndWho:
    def test_a_location_is_a_url(self, opened: Opened) -> None:
        assert opened(bucket="b", prefix="/a/b/").location("shop") == "s3://b/a/b/shop"
        assert opened(bucket="b", prefix=None).location("") == "s3://b"

    def test_without_a_prefix(self, opened: Opened) -> None:
        target = opened(prefix=None)
        target.put("shop/a", [b"x"])
        assert keys(target) == ["shop/a"]
        assert target.sweep("", 0.0) == []

    def test_the_keys_of_a_profile(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys_of = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        (tmp_path / "credentials").write_text(f"[default]\n[backup]\n{keys_of}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another's")
        opened(access_key=None, secret_key=None, profile="backup").check()
        with pytest.raises(UsageError, match="no keys for the profile `other`"):
            opened(access_key=None, secret_key=None, profile="other").check()

    def test_the_keys_of_the_environment_where_none_are_declared(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        opened(access_key=None, secret_key=None).check()

    def test_an_empty_variable_is_none(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys_of = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        (tmp_path / "credentials").write_text(f"[default]\n{keys_of}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.setenv(name, "")
        opened(access_key=None, secret_key=None).check()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY is not"):
            opened(access_key=None, secret_key=None).check()

    def test_the_environment_changes_nothing_that_is_declared(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION"):
            monkeypatch.setenv(f"AWS_{name}", "another's")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        target = opened()
        target.check()
        assert target.sweep("", 0.0) == []

    def test_a_session_token_is_sent(self, opened: Opened, wire: Wire, tmp_path: Path) -> None:
        target = opened(endpoint=through(wire), session_token=secret(tmp_path, "temporary"))
        target.put("a", [b"x"])
        target.sweep("", 0.0)
        (put,) = [head for head in wire.heads if head.startswith("PUT")]
        (swept,) = [head for head in wire.heads if "?prefix=" in head or "uploads" in head]
        assert "x-amz-security-token: temporary" in put.lower()
        assert "x-amz-security-token: temporary" in swept.lower()

    def test_how_objects_are_kept_is_sent(self, opened: Opened, wire: Wire) -> None:
        target = opened(
            endpoint=through(wire),
            storage_class="STANDARD_IA",
            server_side_encryption="aws:kms",
            kms_key="key-1",
            part_size=5 * MIB,
        )
        target.put("small", [b"x"])
        target.put("large", [b"x" * MIB] * 6)
        begun = [one for one in wire.heads if one.startswith("PUT") and "/small" in one]
        begun += [one for one in wire.heads if one.startswith("POST") and "uploads" in one]
        assert len(begun) == 2
        for head in begun:
            assert "x-amz-storage-class: STANDARD_IA" in head
            assert "x-amz-server-side-encryption: aws:kms" in head
            assert "x-amz-server-side-encryption-aws-kms-key-id: key-1" in head

    def test_the_bucket_may_be_part_of_the_host(self, opened: Opened) -> None:
        account = opened(style="virtual", endpoint="https://s3.example.org", bucket="b")
        assert account._bucket.requests.url == "https://b.s3.example.org"
        lines = account.download_commands("shop", "out")
        assert "force_path_style=false" in "\n".join(lines)

    def test_a_path_of_the_endpoint_is_signed_as_it_is_sent(
        self, opened: Opened, s3_server: S3Server
    ) -> None:
        # To a server that checks signatures the path's name is a bucket, and the bucket a folder.
        outer = s3_server.make_bucket()
        target = opened(endpoint=f"{s3_server.endpoint}/{outer}/", bucket="inner")
        target.put("small", [b"x"])
        target.put("large", [b"x" * MIB] * 20)
        assert read(target, "small") == b"x"
        assert keys(opened(bucket=outer, prefix="inner/some/where")) == ["large", "small"]

    def test_a_certificate_of_ones_own(self, opened: Opened, tmp_path: Path) -> None:
        authority, certificate, key = certify(tmp_path)
        with running("--cert", str(certificate), "--key", str(key), scheme="https") as server:
            bucket = server.make_bucket(authority.read_text())
            target = opened(endpoint=server.endpoint, bucket=bucket, ca=str(authority))
            target.check()
            assert target.sweep("", 0.0) == []
            target.put("shop/a", [b"x"])
            without_aws = f"{Path(require_rclone()).parent}:/usr/bin:/bin"
            for out, path in (("one", tools_path()), ("other", without_aws)):
                by_hand = "\n".join(target.download_commands("shop", out))
                place = {"PATH": path, "HOME": str(tmp_path)}
                subprocess.run(
                    ["bash", "-e"], input=by_hand, text=True, cwd=tmp_path, env=place, check=True
                )
                assert (tmp_path / out / "a").read_bytes() == b"x"
            stranger = opened(endpoint=server.endpoint, bucket=bucket, retry=0.2)
            for attempt in (stranger.check, stranger.now):
                with pytest.raises(StepFailed, match="certificate") as caught:
                    attempt()
                assert "ca" in caught.value.remedy
            plain = server.endpoint.replace("https:", "http:")
            with pytest.raises(StepFailed, match="speaks TLS alone"):
                opened(endpoint=plain, bucket=bucket).check()

    def test_a_bundle_has_comments_in_any_language(self, opened: Opened, tmp_path: Path) -> None:
        authority, _, _ = certify(tmp_path)
        (tmp_path / "bundle").write_bytes("# Fő\n".encode() + authority.read_bytes() + b"\xff\n")
        bundled = opened(ca=str(tmp_path / "bundle"), endpoint="https://localhost:1", retry=0.1)
        with pytest.raises(StepFailed, match="refuses connections"):
            bundled.check()

    def test_a_certificate_that_has_expired(self, opened: Opened, tmp_path: Path) -> None:
        authority, certificate, key = certify(tmp_path)
        expire(certificate, authority)
        with running("--cert", str(certificate), "--key", str(key), scheme="https") as server:
            target = opened(endpoint=server.endpoint, bucket="b", ca=str(authority), retry=0.2)
            with pytest.raises(StepFailed, match="has expired") as caught:
                target.check()
            assert "renewed" in caught.value.remedy

    def test_a_server_without_tls(self, opened: Opened, s3_server: S3Server) -> None:
        target = opened(endpoint=s3_server.endpoint.replace("http:", "https:"), retry=0.2)
        with pytest.raises(StepFailed, match="does not speak TLS"):
            target.check()


class TestParts:
    def test_nothing_is_visible_while_it_is_sent(self, opened: Opened) -> None:
        target = opened(part_size=5 * MIB)
        seen: list[list[str]] = []

        def chunks() -> Iterator[bytes]:
            for _ in range(24):
                yield b"x" * MIB
            seen.append(keys(target))

        target.put("large", chunks())
        assert seen == [[]]
        assert [entry.bytes for entry in target.entries("")] == [24 * MIB]

    def test_a_producer_that_raises_has_the_upload_aborted(
        self, opened: Opened, wire: Wire
    ) -> None:
        target = opened(part_size=5 * MIB, endpoint=through(wire))
        with pytest.raises(OSError, match="the source is gone"):
            target.put("large", broken(200))
        assert len(wire.lines("POST")) == 1
        assert len(wire.lines("DELETE")) == 1
        assert keys(target) == []
        assert target.sweep("", 0.0) == []

    def test_more_parts_than_there_may_be_are_refused(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_bucket.Bucket, "most_parts", 2)
        target = opened(part_size=5 * MIB)
        with pytest.raises(StepFailed, match="more than 2 parts") as caught:
            target.put("large", [b"x" * MIB] * 12)
        assert "part_size" in caught.value.remedy
        assert target.sweep("", 0.0) == []

    def test_are_larger_where_more_is_expected(
        self, opened: Opened, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_bucket.Bucket, "most_parts", 2)
        target = opened(part_size=5 * MIB, endpoint=through(wire))
        target.put("large", [b"x" * MIB] * 12, expected_bytes=7 * MIB)
        assert read(target, "large") == b"x" * 12 * MIB
        assert len([line for line in wire.lines("PUT") if "partNumber" in line]) == 2

    def test_what_a_killed_put_left_is_swept_when_it_is_old(
        self, opened: Opened, s3_server: S3Server
    ) -> None:
        target = opened(part_size=5 * MIB)
        bucket = target._bucket.account.bucket
        script = (
            "import sys, time; from pathlib import Path; from runner.secret import Secret\n"
            "from runner.spec.model import TargetSpec\n"
            "from runner.target.s3 import open_target\n"
            "endpoint, bucket, folder = sys.argv[1:]\n"
            "options = {'endpoint': endpoint, 'bucket': bucket, 'prefix': 'some/where',\n"
            "           'access_key': Secret(f'file:{folder}/access'),\n"
            "           'secret_key': Secret(f'file:{folder}/secret'), 'part_size': 5 << 20}\n"
            "def chunks():\n"
            "    for _ in range(12): yield b'x' * (1 << 20)\n"
            "    print('sent', flush=True); time.sleep(1000)\n"
            "target = open_target(TargetSpec('offsite', 's3', options, Path()))\n"
            "target.put('shop/large', chunks())\n"
        )
        arguments = [s3_server.endpoint, bucket, str(s3_server.folder)]
        with subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"sent\n"
            writer.kill()
        assert keys(target) == []
        assert target.sweep("", 3600.0) == []
        assert target.sweep("other", 0.0) == []
        assert target.sweep("shop", 0.0) == ["shop/large"]
        assert target.sweep("shop", 0.0) == []


class TestFaults(ObjectStoreFaults):
    def behind(self, wire: Wire) -> str:
        return through(wire)

    def test_the_connection_is_cut_at_every_tenth_part(self, opened: Opened, wire: Wire) -> None:
        data = os.urandom(50 * MIB)
        target = opened(endpoint=through(wire), part_size=5 * MIB, retry=60.0)
        broken_parts: set[str] = set()

        def cut(head: str) -> bytes | None:
            found = re.search(r"partNumber=(\d+)", head.partition("\r\n")[0])
            if found is None or found[1] in broken_parts:
                return None
            broken_parts.add(found[1])
            return b""

        wire.answer = cut
        target.put("a", (data[at : at + MIB] for at in range(0, len(data), MIB)))
        assert len(broken_parts) == 10
        wire.cuts = [5 * MIB] * 9
        assert read(target, "a") == data
        assert wire.cuts == []

    def test_an_upload_whose_last_answer_was_lost_is_whole(
        self, opened: Opened, wire: Wire
    ) -> None:
        target = opened(endpoint=through(wire), retry=30.0, part_size=5 * MIB)
        losses = ["uploadId="]
        wire.lose = lambda head: (
            head.startswith("POST ") and losses != [] and losses[0] in head and bool(losses.pop())
        )
        target.put("a", [b"x" * MIB] * 12)
        assert losses == []
        assert read(target, "a") == b"x" * 12 * MIB

    def test_a_slow_server_is_waited_for(self, opened: Opened, wire: Wire) -> None:
        target = opened(endpoint=through(wire), timeout=2.0, retry=0.2)
        target.put("a", [b"x" * 2 * MIB])
        wire.slowness = 0.1  # in all it takes longer than `timeout`
        assert read(target, "a") == b"x" * 2 * MIB

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            ("429 Too Many Requests", "SlowDown"),
            ("500 Internal Server Error", "InternalError"),
            ("502 Bad Gateway", ""),
            ("503 Slow Down", "SlowDown"),
            ("504 Gateway Timeout", ""),
        ],
    )
    def test_a_storm_of_refusals_is_sat_out(
        self, opened: Opened, wire: Wire, status: str, code: str
    ) -> None:
        failures = [refusal(status, code)] * 6
        wire.answer = lambda head: failures.pop() if failures else None
        target = opened(endpoint=through(wire), retry=60.0, part_size=5 * MIB)
        target.put("a", [b"x" * MIB] * 12)
        assert failures == []
        failures += [refusal(status, code)] * 3
        assert read(target, "a") == b"x" * 12 * MIB

    def test_a_server_that_is_back_after_five_seconds(self, opened: Opened) -> None:
        with running() as server:
            bucket = server.make_bucket()
            target = opened(endpoint=server.endpoint, bucket=bucket, retry=60.0)
            data = os.urandom(20 * MIB)
            target.put("kept", [data])
            reading = target.get("kept")
            began = next(reading)
            server.end(signal.SIGKILL)
            back = threading.Timer(5.0, server.start)
            back.start()
            try:
                assert began + b"".join(reading) == data
                target.put("small", [b"x"])
            finally:
                back.join()
            assert sorted(keys(target)) == ["kept", "small"]

    def test_ten_thousand_objects_are_listed(self, opened: Opened, s3_server: S3Server) -> None:
        target = opened()
        folder = s3_server.data / target._bucket.account.bucket / "some/where/shop/prod"
        for number in range(10_000):
            (folder / str(number)).mkdir(parents=True)
            (folder / str(number) / "manifest.json").write_bytes(b"{}")
        assert len(set(keys(target, "shop/prod"))) == 10_000
        assert len(target.folders("shop/prod")) == 10_000
        assert sum(1 for _ in target.find("shop/prod", "manifest.json")) == 10_000

    def test_unfinished_uploads_that_are_listed_for_ever(self, opened: Opened, wire: Wire) -> None:
        page = (
            "<Uploads><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
            "<NextUploadIdMarker>1</NextUploadIdMarker></Uploads>"
        )
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n"
        wire.answer = lambda asked: (head + page).encode() if "uploads" in asked else None
        with pytest.raises(StepFailed, match="the end of a list"):
            opened(endpoint=through(wire)).sweep("shop", 0.0)

    def test_a_server_that_dies_in_the_middle(self, opened: Opened) -> None:
        with running() as server:
            target = opened(
                endpoint=server.endpoint, bucket=server.make_bucket(), retry=0.5, part_size=5 * MIB
            )
            # More than what is on its way, in buffers, when the server dies.
            target.put("kept", [b"k" * 64 * MIB])
            with pytest.raises(StepFailed, match=r"refuses connections|broke the connection"):
                target.put("large", dying(lambda: server.end(signal.SIGKILL), before=24))
            server.start()
            assert keys(target) == ["kept"]
            reading = target.get("kept")
            next(reading)
            server.end(signal.SIGKILL)
            with pytest.raises(StepFailed, match=r"refuses connections|broke the connection"):
                list(reading)

    def test_the_interpreter_ends_while_the_server_hangs(self, s3_server: S3Server) -> None:
        def hang(head: str) -> bytes | None:
            time.sleep(1000)
            return None

        with wire_to(s3_server.port) as wire:
            wire.answer = hang
            script = (
                "import sys, threading; from pathlib import Path\n"
                "from runner.secret import Secret\n"
                "from runner.spec.model import TargetSpec\n"
                "from runner.target.s3 import open_target\n"
                "endpoint, folder = sys.argv[1:]\n"
                "options = {'endpoint': endpoint, 'bucket': 'any',\n"
                "           'access_key': Secret(f'file:{folder}/access'),\n"
                "           'secret_key': Secret(f'file:{folder}/secret')}\n"
                "target = open_target(TargetSpec('offsite', 's3', options, Path()))\n"
                "threading.Thread(target=target.check, daemon=True).start()\n"
                "sys.stdin.readline()\n"
            )
            s3_server.options(bucket="any")
            with subprocess.Popen(
                [sys.executable, "-c", script, through(wire), str(s3_server.folder)],
                stdin=subprocess.PIPE,
            ) as process:
                assert process.stdin is not None
                deadline = time.monotonic() + 60
                while not wire.heads:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                process.stdin.write(b"\n")
                process.stdin.close()
                assert process.wait(30) == 0


class TestPutIfAbsent:
    """Of the servers that know it, and of those that do not, as the one of these tests."""

    @pytest.fixture
    def strict(self, wire: Wire) -> Wire:
        taken: set[str] = set()

        def refuse(head: str) -> bytes | None:
            method, path, _ = head.split("\r\n", 1)[0].split(" ")
            if method == "PUT" and "if-none-match: *" in head.lower() and path in taken:
                return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
            if method == "PUT":
                taken.add(path)
            return None

        wire.answer = refuse
        return wire

    def test_the_server_decides(self, opened: Opened, strict: Wire) -> None:
        target = opened(endpoint=through(strict))
        target.put("a", [b"first"], exclusive=True)
        with pytest.raises(KeyExists):
            target.put("a", [b"second"], exclusive=True)
        assert read(target, "a") == b"first"
        assert not [line for line in strict.lines("PUT") if ".lock" in line]
        assert keys(target) == ["a"]

    def test_a_put_whose_answer_was_lost_is_no_conflict(self, opened: Opened, strict: Wire) -> None:
        target = opened(endpoint=through(strict), retry=30.0)
        losses = ["/a "]
        strict.lose = lambda head: (
            head.startswith("PUT ") and losses != [] and losses[0] in head and bool(losses.pop())
        )
        target.put("a", [b"mine"], exclusive=True)
        assert losses == []
        assert read(target, "a") == b"mine"

    def test_of_many_hosts_one_wins_where_the_server_does_not_know_it(self, opened: Opened) -> None:
        first = opened()
        bucket = first._bucket.account.bucket
        hosts = [first, *(opened(bucket=bucket) for _ in range(3))]
        won: list[bytes] = []

        def put(host: S3Target, text: bytes) -> None:
            try:
                host.put("race", [text], exclusive=True)
            except KeyExists:
                return
            won.append(text)

        threads = [
            threading.Thread(target=put, args=(host, b"%d" % number))
            for number, host in enumerate(hosts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [read(first, "race")] == won
        assert keys(first) == ["race"]
        large = [b"x" * MIB] * 20
        with pytest.raises(KeyExists):
            first.put("race", large, exclusive=True)
        first.put("large", large, exclusive=True)
        assert sorted(keys(first)) == ["large", "race"]


class TestLock:
    def claim(self, target: S3Target, note: bytes, **attributes: str) -> None:
        import obstore

        key = "shop/.prune.lock/.other.lock"
        obstore.put(target._bucket.writer, key, note, attributes={**attributes})

    def test_a_claim_of_another_host_is_believed_until_it_is_old(self, opened: Opened) -> None:
        target = opened()
        elsewhere = b'{"owner": "run 7 on quay2", "held": true, "process": {"pid": 1}}'
        self.claim(target, elsewhere)
        with pytest.raises(Locked, match="run 7 on quay2"), target.lock("shop/.prune", "me"):
            raise AssertionError
        assert keys(target) == []
        # This server takes an object's age from what a client says of it.
        self.claim(target, elsewhere, mtime=str(time.time() - lease.LEASE_SECONDS - 5))
        with target.lock("shop/.prune", "me"):
            pass

    def test_a_lock_that_was_lost_removes_nothing_more(self, opened: Opened) -> None:
        target = opened()
        target.put("a", [b"x"])
        with target.lock("shop/.prune", "me"):
            target._leases._valid_until = dict.fromkeys(target._leases._valid_until, 0.0)
            with pytest.raises(StepFailed, match="not renewed"):
                target.delete("a")
        assert keys(target) == ["a"]

    def test_a_lock_is_lost_while_the_machine_sleeps(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = opened()
        target.put("a", [b"x"])
        with target.lock("shop/.prune", "me"):
            awake = time.clock_gettime
            slept = {time.CLOCK_BOOTTIME: lease.LEASE_SECONDS}
            monkeypatch.setattr(time, "clock_gettime", lambda one: awake(one) + slept.get(one, 0.0))
            with pytest.raises(StepFailed, match="not renewed"):
                target.delete("a")
            monkeypatch.undo()

    def test_a_lock_is_lost_with_its_claim(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import obstore

        monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
        target = opened()
        with target.lock("shop/.prune", "me"):
            (claim,) = target._leases._valid_until
            obstore.delete(target._bucket.writer, claim)
            deadline = time.monotonic() + 60
            while target._leases._valid_until[claim] > 0.0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(StepFailed, match="not renewed"):
                target.delete("none")

    def test_a_lock_is_renewed(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
        target = opened()
        with target.lock("shop/.prune", "me"):
            (first,) = target._leases._valid_until.values()
            deadline = time.monotonic() + 60
            while [first] == list(target._leases._valid_until.values()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert target.folders("") == []


@pytest.mark.slow
def test_a_bucket_alone_brings_everything_back(s3_server: S3Server, tmp_path: Path) -> None:
    options = s3_server.options()
    brings_everything_back(
        tmp_path,
        f"{{type: s3, endpoint: '{options['endpoint']}', bucket: {options['bucket']}, "
        f"prefix: dr, access_key: {{secret: 'file:{s3_server.folder}/access'}}, "
        f"secret_key: {{secret: 'file:{s3_server.folder}/secret'}}, keep: {{last: 2}}}}",
        tools_path(),
    )


@pytest.mark.slow
def test_a_server_below_a_path_alone_brings_everything_back(tmp_path: Path) -> None:
    with running(signed=False, below="/storage/v1/s3") as server:
        options = server.options()
        brings_everything_back(
            tmp_path,
            f"{{type: s3, endpoint: '{options['endpoint']}', bucket: {options['bucket']}, "
            f"prefix: dr, access_key: {{secret: 'file:{server.folder}/access'}}, "
            f"secret_key: {{secret: 'file:{server.folder}/secret'}}, keep: {{last: 2}}}}",
            tools_path(),
        )


def test_an_account_is_declared_whole(holdfast: Callable[..., Program], tmp_path: Path) -> None:
    spec = (
        "version: 1\nproject: shop\nsources: {db: {type: sqlite, path: a.db}}\n"
        "targets: {offsite: {type: s3, bucket: backups, endpoint: '${NONE:-}', "
        "access_key: {secret: 'env:KEY'}}}\n"
    )
    (tmp_path / "backup.yaml").write_text(spec)
    answer = holdfast()("validate", status=3)
    assert "`access_key` needs `secret_key` beside it" in answer.stdout + answer.stderr
    (tmp_path / "backup.yaml").write_text(spec.replace("access_key: {secret: 'env:KEY'}", ""))
    holdfast()("validate", status=0)


def expire(certificate: Path, authority: Path) -> None:
    """Have the authority give the same certificate again, for a year that is over."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    old = x509.load_pem_x509_certificate(certificate.read_bytes())
    new = x509.CertificateBuilder(
        old.issuer,
        old.subject,
        old.public_key(),
        old.serial_number + 1,
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2021, 1, 1, tzinfo=UTC),
        list(old.extensions),
    )
    key = serialization.load_pem_private_key((authority.parent / "ca.key").read_bytes(), None)
    signed = new.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def certify(folder: Path) -> tuple[Path, Path, Path]:
    """An authority that nobody knows, a certificate that it gave this machine, and its key."""
    openssl = require_program("openssl", "openssl")
    authority, certificate, key = (folder / name for name in ("ca.pem", "server.pem", "key.pem"))
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    calls: list[list[str | Path]] = [
        [
            *new,
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            folder / "ca.key",
            "-out",
            authority,
        ],
        [
            *(*new, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", authority, "-CAkey", folder / "ca.key", "-keyout", key, "-out", certificate),
        ],
    ]
    for call in calls:
        subprocess.run(call, check=True, capture_output=True)
    return authority, certificate, key
