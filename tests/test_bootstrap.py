"""A machine that has nothing but the program, the identity and the address of one target."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from tests import s3_server, sftp_server
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.test_signing import make_key
from tests.tools import Answer

TARGETS = """\
targets:
  disk: {type: local, path: backups}
  bucket:
    type: s3
    endpoint: %s
    bucket: %s
    access_key: {secret: "env:OLD_ACCESS"}
    secret_key: {secret: "env:OLD_SECRET"}
  server: {type: sftp, host: 127.0.0.1, port: %d, user: %s, path: %s, known_hosts: %s,
    key: {secret: "file:%s"}}
"""
KINDS = ("disk", "bucket", "server")


@dataclass
class Lost:
    """A service whose machine is lost, and what is left of it."""

    service: Service
    content: object  # as it was observed
    identity: Path
    signers: Path
    addresses: dict[str, str]  # by the target's name
    environment: dict[str, str]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    folder = tmp_path_factory.mktemp("lost")
    (folder / "safe").mkdir()
    identity = pyrage.x25519.Identity.generate()
    (folder / "safe" / "identity").write_text(f"{identity}\n")
    public = make_key(folder / "safe", "signer")
    (folder / "safe" / "signers").write_text(f"ops@example.org {public}")
    with s3_server.running() as s3, sftp_server.running() as sftp:
        bucket, ssh = s3.make_bucket(), sftp.options()
        places = (ssh["port"], ssh["user"], ssh["path"], sftp.known_hosts, sftp.key)
        targets = TARGETS % (s3.endpoint, bucket, *places)
        head, _, rest = SPEC.partition("targets:\n")
        spec = head + targets + rest[rest.index("policies:") :]
        spec += f"encryption: {{recipients: [{identity.to_public()}]}}\n"
        spec += f'signing: {{key: {{secret: "file:{folder}/safe/signer"}}}}\n'
        service = Service(folder / "service", spec).build()
        keys = {"OLD_ACCESS": s3_server.ACCESS_KEY, "OLD_SECRET": s3_server.SECRET_KEY}
        Inside(service.folder, keys)("backup", "--no-prune", status=0)
        yield Lost(
            service,
            service.observe(),
            folder / "safe" / "identity",
            folder / "safe" / "signers",
            {
                "disk": str(service.folder / "backups"),
                "bucket": f"s3://{bucket}?endpoint={s3.endpoint}",
                "server": f"sftp://{ssh['user']}@127.0.0.1:{ssh['port']}{ssh['path']}"
                f"?key=file:{sftp.key}&known_hosts={sftp.known_hosts}",
            },
            {
                "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY,
            },
        )


def recover(lost: Lost, folder: Path, kind: str, *more: str | Path) -> Answer:
    """Recover from one target alone into a folder."""
    holdfast = Inside(folder.parent, lost.environment)
    words = ("dr-restore", "--from", lost.addresses[kind], "--dir", folder)
    return holdfast(*words, "--identity", lost.identity, *more)


def come_back(folder: Path) -> Service:
    """What a recovery wrote, to be looked at."""
    found = Service.__new__(Service)
    found.folder = folder
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_any_one_target_alone_brings_everything_back(lost: Lost, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "new"
    signed = ("--allowed-signers", lost.signers, "--confirm", "quaybot", "--json")
    document = recover(lost, folder, kind, "--project", "quaybot", *signed).json
    assert {one["equal"] for one in document["proof"]} == {True}, document
    service = come_back(folder)
    assert service.observe() == lost.content
    assert service.log() == ["stop", "start", "deployed"]
    text = (folder / "backup.yaml").read_bytes()
    assert text == (lost.service.folder / "backup.yaml").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_target_holds_is_told_without_a_spec(lost: Lost, tmp_path: Path, kind: str) -> None:
    holdfast = Inside(tmp_path, lost.environment)
    (row,) = holdfast.json("list", "--from", lost.addresses[kind])["snapshots"]
    assert (row["project"], row["profile"]) == ("quaybot", "default")
    assert row["id"] in holdfast("list", "--from", lost.addresses[kind], status=0).stdout
    holdfast("list", "--from", lost.addresses[kind], "--project", "other", status=1)
    holdfast("list", "--from", lost.addresses[kind], "--policy", row["policy"], status=0)
    holdfast("list", "--from", lost.addresses[kind], "--source", "other", status=1)
    holdfast("list", "--from", lost.addresses[kind], "--target", "other", status=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_runbook_is_had_with_one_line(lost: Lost, tmp_path: Path, kind: str) -> None:
    holdfast = Inside(tmp_path, lost.environment)
    words = ("runbook", "--from", lost.addresses[kind])
    known = (*words, "--identity", lost.identity, "--allowed-signers", lost.signers)
    document = holdfast.json(*known)["document"]
    (snapshot,) = (lost.service.folder / "backups/quaybot/default").glob("2*")
    assert f"This runbook lies in the snapshot {snapshot.name}" in document
    assert "Put db in its place" in document
    holdfast(*known, "--snapshot", snapshot.name, "--out", "book.html", status=0)
    assert (tmp_path / "book.html").read_text().startswith("<!doctype html>")
    assert "--identity FILE" in holdfast(*words, status=7).stderr
    assert [one.name for one in tmp_path.iterdir()] == ["book.html"]


def test_commands_of_an_unsigned_spec_run_only_once_they_were_seen(
    lost: Lost, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    shown = recover(lost, folder, "disk", "--confirm", "quaybot")
    assert shown.status == 7
    assert "echo deployed >> service.log" in shown.stderr
    assert "services.bot.stop: echo stop" in shown.stderr
    assert sorted(one.name for one in folder.iterdir()) == ["backup.yaml"]
    digest = hashlib.sha256((folder / "backup.yaml").read_bytes()).hexdigest()
    assert f"--confirm-spec {digest}" in shown.stderr

    wrong = recover(lost, folder, "disk", "--confirm", "quaybot", "--confirm-spec", "0" * 64)
    assert wrong.status == 7
    assert not (folder / "service.log").exists()

    done = recover(lost, folder, "disk", "--confirm", "quaybot", "--confirm-spec", digest)
    assert done.status == 0, done
    assert come_back(folder).observe() == lost.content


def test_a_snapshot_that_nobody_known_signed_is_refused(lost: Lost, tmp_path: Path) -> None:
    public = make_key(tmp_path / "keys", "stranger")
    (tmp_path / "strangers").write_text(f"ops@example.org {public}")
    answer = recover(lost, tmp_path / "new", "disk", "--allowed-signers", tmp_path / "strangers")
    assert answer.status == 4
    assert "none of the signers" in answer.stderr
    assert not (tmp_path / "new").exists()


def test_another_spec_is_never_overwritten(lost: Lost, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "backup.yaml").write_text("version: 1\n")
    answer = recover(lost, folder, "disk", "--allowed-signers", lost.signers)
    assert answer.status == 1
    assert "Nothing was overwritten" in answer.stderr
    assert (folder / "backup.yaml").read_text() == "version: 1\n"


def test_without_the_identity_nothing_is_begun(lost: Lost, tmp_path: Path) -> None:
    holdfast = Inside(tmp_path)
    answer = holdfast("dr-restore", "--from", lost.addresses["disk"], "--dir", "new")
    assert answer.status == 7
    assert "--identity FILE" in answer.stderr
    assert not (tmp_path / "new").exists()


def test_everything_that_the_machine_lacks_is_told_at_once(tmp_path: Path) -> None:
    spec = SPEC.replace("env_file: [.env]\n", "")
    spec = spec.replace('run: "test', 'env: {TOKEN: "${SOME_TOKEN}"}, run: "test')
    service = Service(tmp_path / "old", spec).build()
    Inside(service.folder, {"SOME_TOKEN": "x"})("backup", "--no-prune", status=0)
    holdfast = Inside(tmp_path)
    words = ("dr-restore", "--from", service.folder / "backups", "--dir", "new")
    answer = holdfast(*words, "--confirm", "quaybot")
    assert answer.status == 1, answer
    assert "SOME_TOKEN" in answer.stderr
    assert "Nothing was begun" in answer.stderr
    assert sorted(one.name for one in (tmp_path / "new").iterdir()) == ["backup.yaml"]


def test_it_goes_on_by_the_line_that_it_prints(tmp_path: Path) -> None:
    spec = SPEC.replace(
        "  - {name: answers", '  - {manual: "Call the harbour."}\n  - {name: answers'
    )
    service = Service(tmp_path / "old", spec).build()
    Inside(service.folder)("backup", "--no-prune", status=0)
    before = service.observe()
    digest = hashlib.sha256(spec.encode()).hexdigest()
    holdfast = Inside(tmp_path)
    moved = tmp_path / "usb"
    shutil.move(service.folder / "backups", moved)
    shutil.rmtree(service.folder)
    flags = ("--dir", "new", "--confirm-spec", digest, "--confirm", "quaybot", "--json")
    stopped = json.loads(holdfast("dr-restore", "--from", moved, *flags, status=7).stdout)
    words = re.findall(r"[^ ]+", stopped["next"])[1:]
    bare = Inside(tmp_path / "new")("dr-restore", "--resume", stopped["run"], status=1)
    assert f"was begun with --from {moved}" in bare.stderr
    line = bare.stderr.strip().rpartition(": holdfast ")[2]
    asked = Inside(tmp_path / "new")(*line.split(), status=7)
    assert f"--confirm-spec {digest}" in asked.stderr
    told = Inside(tmp_path / "new")("status").stdout
    assert f"Next: holdfast dr-restore --resume {stopped['run']} --from {moved} --dir " in told
    holdfast(*words, status=0)
    assert come_back(tmp_path / "new").observe() == before


def test_a_mistyped_address_is_explained(tmp_path: Path) -> None:
    holdfast = Inside(tmp_path)
    for address, words in {
        "ftp://host/x": "no kind of address",
        "s3://bucket/x?regoin=a": "Did you mean `region`",
        "sftp://me:secret@host/x": "?password=env:NAME",
        "file://host/x": "names another machine",
        "./nothing": f"there is no folder {tmp_path}/nothing",
        "cloud:backups": "rclone://",
        ".": "no such snapshots",
    }.items():
        answer = holdfast("list", "--from", address, status=1)
        assert words in answer.stderr, answer


def test_the_profile_goes_along_and_a_lonely_one_needs_no_name(tmp_path: Path) -> None:
    spec = SPEC + "profiles: {prod: {sources: {config: {paths: [config]}}, services: null}}\n"
    service = Service(tmp_path / "old", spec).build()
    (service.folder / ".env").unlink()
    recovery = (service.folder / "backup.yaml").read_text().replace("test -s .env && ", "")
    (service.folder / "backup.yaml").write_text(recovery)
    Inside(service.folder)("backup", "--no-prune", "--profile", "prod", status=0)
    digest = hashlib.sha256(recovery.encode()).hexdigest()
    holdfast = Inside(tmp_path)
    words = ("dr-restore", "--from", "old/backups", "--dir", "new", "--confirm-spec", digest)
    holdfast(*words, "--confirm", "quaybot", "--steps", "restore-code", status=0)
    runs = list((tmp_path / "new" / ".holdfast" / "runs").iterdir())
    assert len(runs) == 1


def test_a_foreign_spec_writes_nowhere_before_it_is_confirmed(tmp_path: Path) -> None:
    away = tmp_path / "away"
    service = Service(tmp_path / "old", f"state: {away}\n{SPEC}").build()
    Inside(service.folder)("backup", "--no-prune", status=0)
    shutil.rmtree(away)
    answer = Inside(tmp_path)("dr-restore", "--from", "old/backups", "--dir", "new")
    assert answer.status == 7
    assert f"state: {away}" in answer.stderr
    assert not away.exists()


def test_a_folder_that_is_named_by_a_way_around_is_that_folder(tmp_path: Path) -> None:
    service = Service(tmp_path / "old").build()
    Inside(service.folder)("backup", "--no-prune", status=0)
    (tmp_path / "here").mkdir()
    words = ("dr-restore", "--from", "../old/backups", "--dir")
    around = Inside(tmp_path / "here")(*words, "../new")
    straight = Inside(tmp_path / "here")(*words, tmp_path / "new")
    assert around.status == straight.status == 7
    assert around.stderr == straight.stderr
