"""A target in somebody else's hands: forged manifests and archives are refused, in words."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bad_day import Steady, replace_content, reseal, safety_copies, snapshots
from tests.faults.conftest import Fresh
from tests.service import Service
from tests.source.test_tar_hostile import FOLDER, OUT, Forged, member

Change = Callable[[dict[str, Any]], object]


def artifact(**values: Any) -> Change:
    return lambda manifest: manifest["artifacts"][0].update(values)


MANIFESTS: dict[str, Change] = {
    "a key above": artifact(key="../../etc/passwd"),
    "an absolute key": artifact(key="/etc/passwd"),
    "a hidden key": artifact(key=".ssh"),
    "a key with a zero byte": artifact(key="db\0.sqlite"),
    "the manifest as artifact": artifact(key="manifest.json"),
    "a gigabyte": artifact(bytes=1 << 30, content_bytes=1 << 40),
    "no size": artifact(bytes=-1),
    "a size of text": artifact(bytes="12"),
    "a size beyond numbers": artifact(bytes=10**400),
    "a size of half a byte": artifact(bytes=0.5),
    "a hash of nothing": artifact(sha256=None),
    "a source above": artifact(source="../x"),
    "a part that is a path": artifact(part="../../x"),
    "a part that is a path, in its key too": artifact(part="/../x", key="db./../x.sqlite.zst"),
    "a part that is not its key's": artifact(part="x"),
    "a form of shell": artifact(form="$(touch pwned)"),
    "a base above": artifact(base="../../x", kind="incremental"),
    "a file above": lambda manifest: manifest["files"][0].update(key="../RESTORE.md"),
    "no artifacts": lambda manifest: manifest.update(artifacts=[]),
    "artifacts of text": lambda manifest: manifest.update(artifacts="none"),
    "artifacts of numbers": lambda manifest: manifest.update(artifacts=[7, None]),
    "sources of nothing": lambda manifest: manifest.update(sources=None),
    "sources of text": lambda manifest: manifest.update(sources={"db": "x"}),
    "unchanged since itself": lambda manifest: manifest.update(
        sources={}, unchanged={"db": manifest["id"]}
    ),
    "unchanged since a path": lambda manifest: manifest.update(
        sources={}, unchanged={"db": "../../x"}
    ),
    "a time beyond time": lambda manifest: manifest.update(created_at="9999-12-31T23:59:59Z"),
    "no time": lambda manifest: manifest.update(created_at="soon"),
    "a sequence of text": lambda manifest: manifest.update(sequence="9"),
    "a sequence beyond numbers": lambda manifest: manifest.update(sequence=10**400),
    "another id": lambda manifest: manifest.update(id="20990101T000000Z-nightly-ffffff"),
    "an id above": lambda manifest: manifest.update(id="../../x"),
    "another format": lambda manifest: manifest.update(format=2),
    "an unknown key": lambda manifest: manifest.update(more=1),
    "a policy of shell": lambda manifest: manifest.update(policy="$(touch pwned)"),
    "a host of escapes": lambda manifest: manifest.update(host="\x1b]0;pwned\x07\x1b[2J"),
    "a predecessor of text": lambda manifest: manifest.update(predecessor="x"),
    "a predecessor above": lambda manifest: manifest.update(
        predecessor={"id": "../../x", "sha256": "0"}
    ),
    "the same artifact twice": lambda manifest: manifest["artifacts"].append(
        manifest["artifacts"][0]
    ),
    "half a character": lambda manifest: manifest.update(host="\ud800"),
}
TEXTS = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "deep": b"[" * 60_000,
    "deep maps": b'{"a":' * 10_000,
    "ten megabytes": b'{"a": "' + b"x" * 10_000_000 + b'"}',
    "bytes": bytes(range(256)),
    "a number beyond numbers": b'{"format": 1, "sequence": ' + b"9" * 20_000 + b"}",
    "not a number": b'{"format": NaN, "sequence": Infinity}',
}
READS = (
    ("list",),
    ("status",),
    ("history",),
    ("verify",),
    ("show", "--snapshot", "latest"),
    ("ls", "--source", "db"),
    ("fetch", "--to", "fetched"),
    ("fetch", "--to", "opened", "--decrypt"),
    ("runbook",),
    ("prune",),
    ("drill",),
    ("restore", "--source", "db", "--to", "copy.db"),
    ("restore", "--source", "db", "--confirm", "db"),
    ("dr-restore", "--confirm", "quaybot"),
)


def everything_is_refused(service: Service, holdfast: Steady, snapshot: Path) -> None:
    """Every command ends in words; nothing live is replaced by what was forged."""
    outside = service.folder.parent
    before, names = service.observe(), {path.name for path in outside.iterdir()}
    for command in READS:
        answer = holdfast(*command)
        assert "root:x:" not in answer.stdout
        assert "\x1b" not in answer.stdout + answer.stderr, str(answer)
        if command[0] in ("restore", "dr-restore", "drill"):
            assert answer.status != 0, str(answer)
    for command in (("show",), ("restore", "--source", "db", "--confirm", "db"), ("verify",)):
        holdfast(*command, "--snapshot", snapshot.name)
    assert service.observe() == before
    assert safety_copies(service) == []
    assert {path.name for path in outside.iterdir()} == names
    assert service.leftovers() == []
    assert not list(outside.rglob("pwned"))


def last_alone(service: Service) -> Path:
    """The newest snapshot, with no other beside it."""
    first, newest = snapshots(service)
    shutil.rmtree(first)
    return newest


HARMLESS = ("a host of escapes", "a time beyond time", "a predecessor above")


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name not in HARMLESS])
def test_a_forged_manifest_is_refused(fresh: Fresh, name: str) -> None:
    service, holdfast = fresh()
    snapshot = last_alone(service)
    manifest = json.loads((snapshot / "manifest.json").read_text())
    MANIFESTS[name](manifest)
    data = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    (snapshot / "manifest.json").write_bytes(data)
    everything_is_refused(service, holdfast, snapshot)


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_words_in_a_sealed_manifest_are_only_words(fresh: Fresh, name: str) -> None:
    service, holdfast = fresh()
    snapshot = last_alone(service)
    manifest = json.loads((snapshot / "manifest.json").read_text())
    MANIFESTS[name](manifest)
    reseal(snapshot, manifest)
    for command in READS[:11]:
        answer = holdfast(*command)
        assert "\x1b" not in answer.stdout + answer.stderr, str(answer)


@pytest.mark.parametrize("name", TEXTS)
def test_whatever_lies_there_for_a_manifest_is_refused(fresh: Fresh, name: str) -> None:
    service, holdfast = fresh()
    snapshot = last_alone(service)
    (snapshot / "manifest.json").write_bytes(TEXTS[name])
    everything_is_refused(service, holdfast, snapshot)


def test_duplicate_keys_do_not_hide_a_value(fresh: Fresh) -> None:
    service, holdfast = fresh()
    snapshot = last_alone(service)
    text = (snapshot / "manifest.json").read_text()
    (snapshot / "manifest.json").write_text(text.replace("{", '{"id": "../../x", ', 1))
    everything_is_refused(service, holdfast, snapshot)


@pytest.mark.parametrize(
    "kind", ["a folder", "a link out", "a link to itself", "a pipe"], ids=lambda kind: kind
)
def test_what_is_no_file_is_no_manifest(fresh: Fresh, kind: str) -> None:
    service, holdfast = fresh()
    snapshot = last_alone(service)
    path = snapshot / "manifest.json"
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd" if kind == "a link out" else path.name)
    everything_is_refused(service, holdfast, snapshot)


ARCHIVES: dict[str, Sequence[tarfile.TarInfo]] = {
    "absolute": [member("/tmp/pwned")],
    "parent": [FOLDER, member("config/../../pwned")],
    "through a link": [FOLDER, OUT, member("config/out/pwned")],
    "hard link outward": [FOLDER, member("config/pwned", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to the parent": [FOLDER, member("config/x", tarfile.LNKTYPE, "../../.env")],
    "a device": [FOLDER, member("config/null", tarfile.CHRTYPE)],
    "another root": [member("etc/cron.d/pwned")],
    "the state": [member(".holdfast/pwned")],
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_forged_archive_whose_hashes_agree_writes_nothing(
    fresh: Fresh, name: str, listed: bool
) -> None:
    service, holdfast = fresh()
    (service.folder.parent / "outside").mkdir()
    newest = snapshots(service)[-1]
    forged = Forged(ARCHIVES[name], None if listed else [FOLDER])

    def change(document: dict[str, Any]) -> None:
        document["fingerprint"] |= forged.fingerprint

    contents = {
        "config.tar.zst": b"".join(forged.read()),
        "config.entries.json.zst": b"".join(forged.read("entries")),
    }
    replace_content(newest, contents, change)
    assert holdfast.json("verify", "--level", "stored", "--snapshot", newest.name)["ok"]
    before, names = service.observe(), {path.name for path in service.folder.parent.iterdir()}
    for command in (
        ("ls", "--source", "config"),
        ("verify", "--level", "restored", "--snapshot", newest.name),
        ("drill",),
        ("restore", "--source", "config", "--to", "copy"),
        ("restore", "--source", "config", "--confirm", "config"),
        ("dr-restore", "--confirm", "quaybot", "--steps", "config"),
    ):
        answer = holdfast(*command)
        assert command[0] == "ls" or answer.status in (1, 4), str(answer)
    assert service.observe() == before
    assert {path.name for path in service.folder.parent.iterdir()} == names
    assert list((service.folder.parent / "outside").iterdir()) == []
    assert not Path("/tmp/pwned").exists()
    assert service.leftovers() == []
