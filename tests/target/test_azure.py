"""A container as a target: what holds for every target, and what Azure adds."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Locked, StepFailed, UsageError
from runner.registry import open_target as open_by_type
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import KeyExists, NotAllowed
from runner.target.azure import AzureTarget, open_target
from runner.target.azure_download import download_commands
from tests.azurite_server import ACCOUNT, KEY, AzuriteServer, running
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
from tests.tools import Program
from tests.wire import Wire, free_port, wire_to

Opened = Callable[..., AzureTarget]


@pytest.fixture
def opened(azurite_server: AzuriteServer, tmp_path: Path) -> Opened:
    """Opens a target at a new container, with some options changed; None takes one away."""

    def open_one(**changes: Any) -> AzureTarget:
        options = azurite_server.options(**changes)
        given = {name: value for name, value in options.items() if value is not None}
        return open_target(TargetSpec("offsite", "azure", given, tmp_path))

    return open_one


@pytest.fixture
def wire(azurite_server: AzuriteServer) -> Iterator[Wire]:
    """A wire to the server; `opened(endpoint=through(wire))` is a target behind it."""
    with wire_to(azurite_server.port) as one:
        yield one


def through(wire: Wire) -> str:
    return f"http://127.0.0.1:{wire.port}/{ACCOUNT}"


class TestConformance(TargetConformance):
    @pytest.fixture
    def spec(
        self, azurite_server: AzuriteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> TargetSpec:
        monkeypatch.setenv("PATH", tools_path())
        return TargetSpec("container", "azure", azurite_server.options(), tmp_path)

    def test_is_found_by_its_type(self, spec: TargetSpec) -> None:
        assert isinstance(open_by_type(spec), AzureTarget)


class TestErrors:
    """Each names the target and the container, and says what to do."""

    def expect(self, target: AzureTarget, reason: str, remedy: str) -> None:
        def put_large() -> None:
            target.put("shop/large", [b"x" * MIB] * 20)

        fails_in_words(target, reason, remedy, put_large, hidden=KEY)

    def test_a_wrong_key(self, opened: Opened, tmp_path: Path) -> None:
        self.expect(opened(key=secret(tmp_path, "d3Jvbmc=")), "not accept the credentials", "key")

    def test_a_key_that_is_none(self, opened: Opened, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="base64") as caught:
            opened(key=secret(tmp_path, "not a key!")).check()
        assert "not a key!" not in str(caught.value)

    def test_a_signature_that_has_expired(
        self, opened: Opened, azurite_server: AzuriteServer, tmp_path: Path
    ) -> None:
        container = azurite_server.make_container()
        old = secret(tmp_path, azurite_server.signature(container, hours=-1))
        target = opened(container=container, key=None, sas_token=old)
        self.expect(target, "not accept the credentials", "sas_token")

    def test_a_missing_container(self, opened: Opened) -> None:
        target = opened(container="no-such-container")
        self.expect(target, "no such container", "Create it")
        with pytest.raises(StepFailed, match="no such container"):
            list(target.get("a", offset=1))
        with pytest.raises(StepFailed, match="no such container"):
            target.put("a", [b"x"], exclusive=True)

    def test_nobody_listens(self, opened: Opened) -> None:
        target = opened(endpoint=f"http://127.0.0.1:{free_port()}/{ACCOUNT}", retry=0.2)
        self.expect(target, "refuses connections", "endpoint")
        with pytest.raises(StepFailed, match="refuses connections: its clock"):
            target.now()

    def test_a_server_that_is_overwhelmed(self, opened: Opened, wire: Wire) -> None:
        wire.answer = lambda head: refusal("503 Server Busy")
        self.expect(opened(endpoint=through(wire), retry=0.2), "fewer requests", "later")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"account": None},
            {"connection": Secret("env:X")},
            {"sas_token": Secret("env:X")},
            {"endpoint": "devstoreaccount1.blob.example.org"},
            {"ca": "no-such-file.pem"},
        ],
    )
    def test_options_that_cannot_be(self, opened: Opened, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="offsite"):
            opened(**wrong)

    @pytest.mark.parametrize("key", ["shop/a\\b", "shop/end."])
    def test_a_name_that_azure_would_change_is_refused(self, opened: Opened, key: str) -> None:
        with pytest.raises(UsageError, match="no key that Azure keeps"):
            opened().put(key, [b"x"])


class TestWhereAndWho:
    def test_a_location_is_a_url(self, opened: Opened) -> None:
        place = opened(container="dr-1", prefix="/a/b/", endpoint=None).location("shop")
        assert place == f"https://{ACCOUNT}.blob.core.windows.net/dr-1/a/b/shop"

    def test_without_a_prefix(self, opened: Opened) -> None:
        target = opened(prefix=None)
        target.put("shop/a", [b"x"])
        assert keys(target) == ["shop/a"]

    @pytest.mark.parametrize("text", ["nonsense", "https://a.example.org/b?sv=1&sig=2"])
    def test_a_signature_that_is_none(self, opened: Opened, tmp_path: Path, text: str) -> None:
        target = opened(key=None, sas_token=secret(tmp_path, text))
        with pytest.raises(UsageError, match="no shared access signature") as caught:
            target.check()
        assert text not in str(caught.value)

    def test_a_connection_string_says_it_all(
        self, opened: Opened, azurite_server: AzuriteServer, tmp_path: Path
    ) -> None:
        line = secret(tmp_path, azurite_server.connection)
        target = opened(account=None, key=None, endpoint=None, connection=line)
        target.check()
        assert self.downloaded(target, tmp_path) == b"x"
        wrong = opened(account=None, key=None, endpoint=None, connection=secret(tmp_path, "a;b"))
        with pytest.raises(UsageError, match="no connection string"):
            wrong.check()

    def test_a_shared_access_signature_of_the_container_is_enough(
        self, opened: Opened, azurite_server: AzuriteServer, tmp_path: Path
    ) -> None:
        container = azurite_server.make_container()
        token = secret(tmp_path, f"?{azurite_server.signature(container)}")
        target = opened(container=container, key=None, sas_token=token)
        target.check()
        target.put("large", [b"x" * MIB] * 20)
        target.put("once", [b"x"], exclusive=True)
        with target.lock("shop/.prune", "me"):
            target.delete("large")
        assert keys(target) == ["once"]
        assert self.downloaded(target, tmp_path) == b"x"

    def test_a_signature_that_may_not_remove_says_so_and_leaves_no_lock(
        self, opened: Opened, azurite_server: AzuriteServer, tmp_path: Path
    ) -> None:
        container = azurite_server.make_container()
        token = secret(tmp_path, azurite_server.signature(container, "racwl"))
        target = opened(container=container, key=None, sas_token=token)
        target.check()
        target.put("shop/a", [b"x"])
        for _ in range(2):
            with target.lock("shop/.prune", "me"), pytest.raises(NotAllowed, match="not allow"):
                target.delete("shop/a")
        with opened(container=container).lock("shop/.prune", "another"):
            pass

    def test_the_environment_changes_nothing_that_is_declared(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN", "TOKEN", "ENDPOINT"):
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", "YW5vdGhlcg==")
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
        opened().check()

    def test_the_tier_is_sent(self, opened: Opened, wire: Wire) -> None:
        target = opened(endpoint=through(wire), tier="Cool", part_size=5 * MIB)
        target.put("small", [b"x"])
        target.put("large", [b"x" * MIB] * 6)
        begun = [one for one in wire.heads if one.startswith("PUT") and "/small" in one]
        begun += [one for one in wire.heads if "comp=blocklist" in one.partition("\r\n")[0]]
        assert len(begun) == 2
        assert all("x-ms-access-tier: cool" in head.lower() for head in begun)

    def test_both_programs_are_given_a_certificate_of_ones_own(self, opened: Opened) -> None:
        account = replace(opened()._account, ca_file=Path("my ca.pem"))
        text = "\n".join(download_commands(account, "shop", "'out'"))
        subprocess.run(["bash", "-n", "-c", text], check=True)
        assert "rclone copy --ca-cert 'my ca.pem' :azureblob:" in text
        assert "REQUESTS_CA_BUNDLE='my ca.pem' az storage blob" in text

    def downloaded(self, target: AzureTarget, folder: Path) -> bytes:
        """What the runbook's lines fetch."""
        target.put("shop/file", [b"x"])
        lines = target.download_commands("shop", f"'{folder}/out'")
        environment = {**os.environ, "PATH": tools_path()}
        subprocess.run(["bash", "-e", "-c", "\n".join(lines)], check=True, env=environment)
        target.delete("shop/file")
        assert [one.name for one in (folder / "out").iterdir()] == ["file"]
        return (folder / "out/file").read_bytes()


class TestFaults(ObjectStoreFaults):
    page = (
        "<EnumerationResults><Blobs><Blob><Name>some/where/shop/a</Name><Properties>"
        "<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
        "<Content-Length>1</Content-Length><Content-Type>none</Content-Type><Etag>1</Etag>"
        "</Properties></Blob></Blobs><NextMarker>next</NextMarker></EnumerationResults>"
    )

    def behind(self, wire: Wire) -> str:
        return through(wire)

    def test_a_put_whose_answer_was_lost_is_no_conflict(self, opened: Opened, wire: Wire) -> None:
        target = opened(endpoint=through(wire), retry=30.0)
        losses = ["/a "]
        wire.lose = lambda head: (
            head.startswith("PUT ") and losses != [] and losses[0] in head and bool(losses.pop())
        )
        target.put("a", [b"mine"], exclusive=True)
        assert losses == []
        assert read(target, "a") == b"mine"

    def test_the_server_itself_refuses_to_replace(self, opened: Opened, wire: Wire) -> None:
        target = opened(endpoint=through(wire))
        target.put("a", [b"first"], exclusive=True)
        with pytest.raises(KeyExists):
            target.put("a", [b"second"], exclusive=True)
        assert not [line for line in wire.lines("PUT") if ".lock" in line]

    def test_a_server_that_dies_in_the_middle(self, opened: Opened) -> None:
        with running() as server:
            target = opened(
                endpoint=server.endpoint,
                container=server.make_container(),
                retry=0.5,
                part_size=5 * MIB,
            )
            target.put("kept", [b"k" * 8 * MIB])
            with pytest.raises(StepFailed, match=r"refuses connections|broke the connection"):
                target.put("large", dying(lambda: server.end(signal.SIGTERM), before=24))
            server.start()
            assert keys(target) == ["kept"]
            assert read(target, "kept") == b"k" * 8 * MIB

    def test_blocks_of_a_failed_put_are_not_visible_and_do_not_spoil_the_next(
        self, opened: Opened
    ) -> None:
        target = opened(part_size=5 * MIB)
        with pytest.raises(OSError, match="the source is gone"):
            target.put("large", broken(200))
        assert keys(target) == []
        target.put("large", [b"y" * MIB] * 12)
        assert read(target, "large") == b"y" * 12 * MIB


def test_a_claim_of_another_host_is_believed(opened: Opened) -> None:
    import obstore

    target = opened()
    note = b'{"owner": "run 7 on quay2", "held": true, "process": {"pid": 1}}'
    obstore.put(target._objects.writer, "shop/.prune.lock/.other.lock", note)
    with pytest.raises(Locked, match="run 7 on quay2"), target.lock("shop/.prune", "me"):
        raise AssertionError
    assert keys(target) == []


@pytest.mark.slow
def test_a_container_alone_brings_everything_back(
    azurite_server: AzuriteServer, tmp_path: Path
) -> None:
    options = azurite_server.options()
    brings_everything_back(
        tmp_path,
        f"{{type: azure, endpoint: '{options['endpoint']}', container: {options['container']}, "
        f"prefix: dr, account: {ACCOUNT}, key: {{secret: 'file:{azurite_server.folder}/key'}}, "
        "keep: {last: 2}}",
        tools_path(),
    )


def test_a_secret_needs_its_account(holdfast: Callable[..., Program], tmp_path: Path) -> None:
    spec = (
        "version: 1\nproject: shop\nsources: {db: {type: sqlite, path: a.db}}\n"
        "targets: {offsite: {type: azure, container: backups, key: {secret: 'env:KEY'}}}\n"
    )
    (tmp_path / "backup.yaml").write_text(spec)
    answer = holdfast()("validate", status=3)
    assert "`key` needs `account` beside it" in answer.stdout + answer.stderr
    (tmp_path / "backup.yaml").write_text(spec.replace("key: {", "account: quay, key: {"))
    holdfast()("validate", status=0)
