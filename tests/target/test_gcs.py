"""A bucket of Google's as a target.

Google gives nobody a server to try this against. What stands in for it is an S3 server without
signatures, since Google's XML interface is that of S3. That proves what is written, read, listed,
and repeated, and that parts come together; it does not prove the login, that `x-goog-*` headers
are understood, or the put-if-absent by a generation, which this server does not know: the target
finds that out by asking, and a lease decides instead.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed, UsageError
from runner.registry import open_target as open_by_type
from runner.spec.model import TargetSpec
from runner.target import KeyExists, NotAllowed, gcs_bucket
from runner.target.gcs import GcsTarget, open_target
from runner.target.gcs_account import account_of
from runner.target.gcs_download import download_commands
from tests.s3_server import S3Server, running
from tests.target.conformance import TargetConformance, broken, keys
from tests.target.object_store import MIB, ObjectStoreFaults, fails_in_words, refusal, secret
from tests.wire import Wire, free_port, wire_to

Opened = Callable[..., GcsTarget]

# A key whose server asks for no login.
OPEN = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}


@pytest.fixture(scope="module")
def open_server() -> Iterator[S3Server]:
    """A server that everybody may write to."""
    with running(signed=False) as server:
        yield server


@pytest.fixture
def opened(open_server: S3Server, tmp_path: Path) -> Opened:
    """Opens a target at a new bucket, with some options changed; None takes one away."""

    def open_one(**changes: Any) -> GcsTarget:
        options = declared(open_server, tmp_path) | changes
        given = {name: value for name, value in options.items() if value is not None}
        return open_target(TargetSpec("offsite", "gcs", given, tmp_path))

    return open_one


@pytest.fixture
def wire(open_server: S3Server) -> Iterator[Wire]:
    """A wire to the server; `opened(endpoint=through(wire))` is a target behind it."""
    with wire_to(open_server.port) as one:
        yield one


def declared(server: S3Server, folder: Path) -> dict[str, Any]:
    """The options of a target at a new bucket."""
    return {
        "endpoint": server.endpoint,
        "bucket": server.make_bucket(),
        "prefix": "some/where",
        "credentials": secret(folder, json.dumps(OPEN)),
        "retry": 2.0,
        "timeout": 60.0,
    }


def through(wire: Wire) -> str:
    return f"http://127.0.0.1:{wire.port}"


class TestConformance(TargetConformance):
    @pytest.fixture
    def spec(self, open_server: S3Server, tmp_path: Path) -> TargetSpec:
        return TargetSpec("bucket", "gcs", declared(open_server, tmp_path), tmp_path)

    def test_is_found_by_its_type(self, spec: TargetSpec) -> None:
        assert isinstance(open_by_type(spec), GcsTarget)

    def test_a_folder_is_downloaded_with_common_tools(
        self, spec: TargetSpec, tmp_path: Path
    ) -> None:
        # Both programs ask by another interface, which only Google has.
        text = "\n".join(open_by_type(spec).download_commands("shop/a b", "'out'"))
        subprocess.run(["bash", "-n", "-c", text], check=True)
        assert "rclone copy :gcs:'bucket-" in text
        assert "/some/where/shop/a b' 'out'" in text
        assert "gcloud storage cp --recursive 'gs://bucket-" in text
        assert f"RCLONE_GCS_SERVICE_ACCOUNT_FILE={spec.options['credentials'].file}" in text

    def test_both_programs_are_given_a_certificate_of_ones_own(self, spec: TargetSpec) -> None:
        account = replace(account_of(spec), ca_file=Path("my ca.pem"))
        text = "\n".join(download_commands(account, "gs://b/shop", "'out'"))
        subprocess.run(["bash", "-n", "-c", text], check=True)
        assert "rclone copy --ca-cert 'my ca.pem' :gcs:" in text
        assert "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE='my ca.pem' gcloud storage cp" in text


class TestErrors:
    """Each names the target and the bucket, and says what to do."""

    def expect(self, target: GcsTarget, reason: str, remedy: str) -> None:
        def put_large() -> None:
            target.put("shop/large", [b"x" * MIB] * 20)

        fails_in_words(target, reason, remedy, put_large, hidden="private_key")

    def test_a_missing_bucket(self, opened: Opened) -> None:
        self.expect(opened(bucket="no-such-bucket"), "no such bucket", "Create it")

    def test_nobody_listens(self, opened: Opened) -> None:
        target = opened(endpoint=f"http://127.0.0.1:{free_port()}", retry=0.2)
        self.expect(target, "refuses connections", "endpoint")

    def test_a_service_account_without_rights(self, opened: Opened, wire: Wire) -> None:
        wire.answer = lambda head: refusal("403 Forbidden", "AccessDenied")
        target = opened(endpoint=through(wire))
        self.expect(target, "not allow it", "Storage Object User")
        with pytest.raises(NotAllowed):
            target.delete("shop/a")

    @pytest.mark.parametrize("text", ["no JSON", "[]", '{"type": "authorized_user"}'])
    def test_credentials_that_are_none(self, opened: Opened, tmp_path: Path, text: str) -> None:
        with pytest.raises(UsageError, match="no key of a service account") as caught:
            opened(credentials=secret(tmp_path, text)).check()
        assert "gcloud iam service-accounts keys create" in caught.value.remedy

    def test_a_private_key_that_is_damaged_is_not_shown(
        self, opened: Opened, tmp_path: Path
    ) -> None:
        key = {"client_email": "a@b", "private_key_id": "1", "private_key": "damaged-key"}
        with pytest.raises(UsageError, match="not accepted as they are written") as caught:
            opened(credentials=secret(tmp_path, json.dumps(key))).check()
        assert "damaged-key" not in str(caught.value)

    @pytest.mark.parametrize(
        "wrong", [{"endpoint": "storage.example.org"}, {"part_size": MIB}, {"ca": "none.pem"}]
    )
    def test_options_that_cannot_be(self, opened: Opened, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="offsite"):
            opened(**wrong)


class TestWhereAndWho:
    def test_a_location_is_a_url(self, opened: Opened) -> None:
        assert opened(bucket="b12", prefix="/a/b/").location("shop") == "gs://b12/a/b/shop"

    def test_a_declared_key_is_never_mixed_with_the_environment(
        self, opened: Opened, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "another's")
        monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
        opened(endpoint=through(wire)).check()
        assert wire.lines("PUT")
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "another's")
        with pytest.raises(UsageError, match="GOOGLE_BEARER_TOKEN is set as well"):
            opened(endpoint=through(wire)).check()

    def test_what_is_sent(self, opened: Opened, wire: Wire) -> None:
        target = opened(endpoint=through(wire), storage_class="NEARLINE", part_size=5 * MIB)
        target.put("small", [b"x"], exclusive=True)
        target.put("large", [b"x" * MIB] * 6)
        begun = [one for one in wire.heads if "where%2Fsmall " in one]
        begun = [one for one in begun if one.startswith("PUT")]
        begun += [one for one in wire.heads if one.startswith("POST") and "uploads" in one]
        assert len(begun) == 2
        assert all("x-goog-storage-class: nearline" in head.lower() for head in begun)
        assert [one for one in wire.heads if "x-goog-if-generation-match: 0" in one.lower()]


class TestFaults(ObjectStoreFaults):
    def behind(self, wire: Wire) -> str:
        return through(wire)

    def test_a_producer_that_raises_has_the_upload_aborted(
        self, opened: Opened, wire: Wire
    ) -> None:
        target = opened(part_size=5 * MIB, endpoint=through(wire))
        with pytest.raises(OSError, match="the source is gone"):
            target.put("large", broken(200))
        assert len(wire.lines("POST")) == len(wire.lines("DELETE")) == 1
        assert keys(target) == []

    def test_a_server_that_refuses_to_replace_is_believed(self, opened: Opened, wire: Wire) -> None:
        taken: set[str] = set()

        def refuse(head: str) -> bytes | None:
            method, path, _ = head.split("\r\n", 1)[0].split(" ")
            new = "x-goog-if-generation-match: 0" in head.lower()
            if method == "PUT" and new and path in taken:
                return refusal("412 Precondition Failed")
            if method == "PUT":
                taken.add(path)
            return None

        wire.answer = refuse
        target = opened(endpoint=through(wire))
        target.put("a", [b"first"], exclusive=True)
        with pytest.raises(KeyExists):
            target.put("a", [b"second"], exclusive=True)
        assert not [line for line in wire.lines("PUT") if ".lock" in line]

    def test_more_parts_than_there_may_be_are_refused(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcs_bucket.Bucket, "most_parts", 2)
        with pytest.raises(StepFailed, match="more than 2 parts"):
            opened(part_size=5 * MIB).put("large", [b"x" * MIB] * 12)
