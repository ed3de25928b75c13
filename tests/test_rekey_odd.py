"""Rekey where snapshots are not all alike: never encrypted, or without content of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.execute import rekeying
from runner.execute.context import Context
from runner.target import Target
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.test_rekey import (
    RECOVER,
    REKEY,
    declare,
    folders,
    follow_instructions,
    ids,
    make_key,
)
from tests.tools import require_program


def test_what_was_never_encrypted_is_encrypted(tmp_path: Path) -> None:
    for name in ("age", "zstd", "sqlite3"):
        require_program(name)
    service = Service(tmp_path / "plain").build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    declare(service, make_key(service.folder, "new"))
    asked = holdfast.json("rekey", status=7)["error"]["message"]
    assert "1 of them is not encrypted by now" in asked
    holdfast("rekey", "--confirm", "quaybot", status=0)
    (snapshot,) = ids(holdfast)
    manifest = holdfast.json("show", "--snapshot", snapshot)
    assert all(one["key"].endswith(".age") for one in manifest["artifacts"])
    assert {one["content_sha256"] for one in manifest["artifacts"]} == {None}
    assert "quay" not in (folders(service)[snapshot] / "spec.yaml.zst.age").read_text("latin-1")
    words = ("verify", "--level", "restored", "--identity", "keys/new")
    assert {one["verdict"] for one in holdfast.json(*words)["results"]} == {"PASS"}
    follow_instructions(service, folders(service)[snapshot])


def test_what_was_never_encrypted_stays_where_its_source_is_unknown(tmp_path: Path) -> None:
    service = Service(tmp_path / "plain").build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    before = ids(holdfast)
    fewer = SPEC.replace("  code: {type: git, path: code}\n", "").replace(
        "{restore: code}", "{restore: db}"
    )
    declare(
        service, make_key(service.folder, "new"), spec=fewer.replace("[config, db]", "[config]")
    )
    document = holdfast.json("rekey", "--confirm", "quaybot", status=4)
    assert "no source code of type git is declared" in document["left"][0]["reason"]
    assert ids(holdfast) == before


def test_what_somebody_deletes_meanwhile_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path / "service").build()
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    declare(service, old)
    holdfast = Inside(service.folder)
    for _ in range(2):
        holdfast("backup", status=0)
    declare(service, new)
    *_, oldest = ids(holdfast)

    def delete(_target: Target, _context: Context) -> None:
        for target in ("backups", "elsewhere"):
            shutil.rmtree(folders(service, target).get(oldest, tmp_path / "none"), True)

    with monkeypatch.context() as patch:
        patch.setattr(rekeying, "tell_of_clock", delete)
        document = holdfast.json(*REKEY, status=4)
    assert len(document["rekeyed"]) == 1
    holdfast(*REKEY, status=0)
    assert len(ids(holdfast)) == 1
    assert len(folders(service)) == len(folders(service, "elsewhere")) == 1


def rekeyed_at_one_target(folder: Path) -> tuple[Service, Inside]:
    """A service with one snapshot, which stands for other recipients at the other target."""
    service = Service(folder).build()
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    declare(service, old)
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    declare(service, new)
    holdfast(*REKEY, "--target", "disk", status=0)
    return service, holdfast


def test_a_deletion_tells_of_the_same_content_for_other_recipients(tmp_path: Path) -> None:
    _, holdfast = rekeyed_at_one_target(tmp_path / "service")
    anew, before = ids(holdfast)
    words = ("delete", "--snapshot", before)
    told = f"{anew} has the same content"
    assert told in holdfast.json(*words, status=7)["error"]["message"]
    assert told in holdfast(*words, "--confirm", before, status=0).stdout
    assert ids(holdfast) == [anew]


def test_a_damaged_copy_leads_to_the_same_content_for_other_recipients(tmp_path: Path) -> None:
    service, holdfast = rekeyed_at_one_target(tmp_path / "service")
    anew, before = ids(holdfast)
    content = service.observe()
    (folders(service)[anew] / "db.sqlite.zst.age").write_bytes(b"damaged")
    told = holdfast(*RECOVER, "--identity", "keys/new", status=4).stderr
    assert f"{before} has the same content, for other recipients: --snapshot {before}" in told
    holdfast(*RECOVER, "--identity", "keys/old", "--snapshot", before, status=0)
    assert service.observe() == content


def test_what_names_an_older_snapshot_names_the_new_one(tmp_path: Path) -> None:
    old, new = (make_key(tmp_path, name) for name in ("old", "new"))
    lazy = SPEC.replace("verify: stored", "verify: stored, skip_unchanged: true")
    service = Service(tmp_path / "lazy", lazy).build()
    shutil.copytree(tmp_path / "keys", service.folder / "keys")
    holdfast = Inside(service.folder)
    declare(service, old, spec=lazy)
    holdfast("backup", status=0)
    # Nothing changed, and this one is for the new recipient: it has no content of its own.
    declare(service, new, spec=lazy)
    holdfast("backup", status=0)
    content = service.observe()
    assert holdfast.json("show", "--snapshot", "latest")["unchanged"]
    holdfast(*REKEY, status=0)
    newest, oldest = ids(holdfast)
    named = holdfast.json("show", "--snapshot", newest)["unchanged"]
    assert set(named.values()) == {oldest}
    service.destroy()
    holdfast(*RECOVER, "--identity", "keys/new", status=0)
    assert service.observe() == content
