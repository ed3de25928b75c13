"""Who made a snapshot: signed where a key is declared, and refused where nobody known signed it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.store.snapshot import Manifest, sums
from tests.inside import Inside
from tests.tools import require_program, run

SPEC = """\
version: 1
project: quaybot
sources:
  config: {type: files, paths: [config]}
targets:
  disk: {type: local, path: backups}
  offsite: {type: local, path: elsewhere}
policies:
  nightly: {verify: stored}
"""
SIGNED = SPEC + 'signing: {key: {secret: "file:keys/signer"}, allowed_signers: keys/allowed}\n'


def make_key(folder: Path, name: str) -> str:
    """A new key in that folder; return its public half."""
    require_program("ssh-keygen")
    folder.mkdir(exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name, folder=folder)
    return (folder / f"{name}.pub").read_text()


@pytest.fixture
def signed(tmp_path: Path) -> Inside:
    """A service whose only snapshot is signed."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "app.yml").write_text("port: 8080\n")
    public = make_key(tmp_path / "keys", "signer")
    (tmp_path / "keys" / "allowed").write_text(f"ops@example.org {public}")
    (tmp_path / "backup.yaml").write_text(SIGNED)
    holdfast = Inside(tmp_path)
    holdfast("backup", status=0)
    return holdfast


def snapshot(folder: Path, target: str = "backups") -> Path:
    (found,) = (folder / target / "quaybot" / "default").glob("2*")
    return found


def test_every_copy_carries_a_signature_that_ordinary_tools_check(signed: Inside) -> None:
    for target in ("backups", "elsewhere"):
        folder = snapshot(signed.folder, target)
        allowed = str(signed.folder / "keys" / "allowed")
        run(
            *("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "ops@example.org"),
            *("-n", "holdfast", "-s", "SHA256SUMS.sig"),
            folder=folder,
            stdin=(folder / "SHA256SUMS").read_text(),
        )
        assert "ssh-keygen -Y verify" in (folder / "RESTORE.md").read_text()


def test_the_private_key_is_never_backed_up_and_never_shown(signed: Inside) -> None:
    spec = SIGNED.replace("paths: [config]", "paths: [config, keys]")
    (signed.folder / "backup.yaml").write_text(spec)
    signed("backup", status=0)
    names = [one["name"] for one in signed.json("ls", "--source", "config")["contents"]]
    assert "keys/allowed" in names
    assert "keys/signer" not in names


@pytest.mark.parametrize(
    "ill", ["kill -9 $$", "echo 'Could not open allowed: Permission denied' >&2; exit 255"]
)
def test_a_program_that_cannot_look_says_nothing_of_the_signature(signed: Inside, ill: str) -> None:
    programs = signed.folder / "bin"
    programs.mkdir()
    (programs / "ssh-keygen").write_text(f"#!/bin/sh\n{ill}\n")
    (programs / "ssh-keygen").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    results = Inside(signed.folder, {"PATH": path}).json("verify", status=7)["results"]
    assert {one["verdict"] for one in results} == {"COULD-NOT-VERIFY"}
    assert {one["verdict"] for one in signed.json("verify")["results"]} == {"PASS"}


def test_a_snapshot_without_its_signature_is_refused(signed: Inside) -> None:
    for target in ("backups", "elsewhere"):
        (snapshot(signed.folder, target) / "SHA256SUMS.sig").unlink()
    assert "nobody knows who made" in verify_fails(signed)
    answer = signed("restore", "--source", "config", "--to", "found")
    assert answer.status != 0
    assert "SHA256SUMS.sig: it is missing" in answer.stderr
    assert not (signed.folder / "found").exists()


def test_a_snapshot_that_somebody_else_signed_is_refused(signed: Inside) -> None:
    make_key(signed.folder / "keys", "stranger")
    for target in ("backups", "elsewhere"):
        folder = snapshot(signed.folder, target)
        key = str(signed.folder / "keys" / "stranger")
        (folder / "SHA256SUMS.sig").unlink()
        run("ssh-keygen", "-Y", "sign", "-n", "holdfast", "-f", key, "SHA256SUMS", folder=folder)
    assert "none of the signers" in verify_fails(signed)


def test_signers_are_taken_as_they_are_written(signed: Inside) -> None:
    allowed = signed.folder / "keys" / "allowed"
    public = (signed.folder / "keys" / "signer.pub").read_text()
    for names in ('"the host in the harbour"', "ops@example.org,dev@example.org", "*@example.org"):
        allowed.write_text(f"{names} {public}")
        assert {one["verdict"] for one in signed.json("verify")["results"]} == {"PASS"}
    allowed.write_text(public)
    assert "line 1 lacks a name before the key" in verify_fails(signed)


def test_a_forged_snapshot_with_an_honest_signature_of_another_is_refused(signed: Inside) -> None:
    for target in ("backups", "elsewhere"):
        folder = snapshot(signed.folder, target)
        file = folder / "manifest.json"
        data = file.read_bytes().replace(b'"consistency": "exact"', b'"consistency": "fuzzy"')
        file.write_bytes(data)
        (folder / "SHA256SUMS").write_bytes(sums(Manifest.from_bytes(data), data))
    assert "ops@example.org's signature of this SHA256SUMS" in verify_fails(signed)


def test_without_the_list_of_signers_nothing_is_proven(signed: Inside) -> None:
    (signed.folder / "keys" / "allowed").unlink()
    results = signed("verify", "--json").json["results"]
    assert {one["verdict"] for one in results} == {"COULD-NOT-VERIFY"}
    assert "--allowed-signers" in signed("restore", "--source", "config", "--to", "found").stderr


def test_a_key_that_cannot_sign_makes_no_green_backup(signed: Inside) -> None:
    (signed.folder / "keys" / "signer").write_text("no key at all\n")
    answer = signed("backup")
    assert answer.status != 0
    assert "cannot be signed" in answer.stderr
    assert "no key at all" not in answer.stdout + answer.stderr


def verify_fails(holdfast: Inside) -> str:
    """The reason that `verify` gives for its FAIL."""
    document = holdfast.json("verify", status=4)
    assert {one["verdict"] for one in document["results"]} == {"FAIL"}
    return str(document["results"][0]["reason"])


def test_the_doctor_tries_the_key_against_those_who_may_sign(signed: Inside) -> None:
    assert said_of_signing(signed) == "ok"
    make_key(signed.folder / "keys", "stranger")
    (signed.folder / "keys" / "stranger").rename(signed.folder / "keys" / "signer")
    assert said_of_signing(signed) == "FAIL"


def test_what_is_fetched_can_be_checked_as_well(signed: Inside) -> None:
    signed("fetch", "--to", "fetched", status=0)
    fetched = {one.name for one in (signed.folder / "fetched").iterdir()}
    assert fetched == {one.name for one in snapshot(signed.folder).iterdir()}


def said_of_signing(holdfast: Inside) -> str:
    """The doctor's verdict of it."""
    examined = holdfast("doctor", "--json").json["examined"]
    (found,) = [one["verdict"] for one in examined if one["what"] == "signing"]
    return str(found)
