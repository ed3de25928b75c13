"""Rekey: snapshots for other recipients, and never a moment in which one is lost."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from runner.errors import StepFailed
from runner.execute import replaced
from runner.target import NotAllowed, Target
from runner.target.local import LocalTarget
from tests.inside import Inside
from tests.s3_server import S3Server
from tests.service import SPEC, Service
from tests.test_contract import assert_contract, faults
from tests.test_signing import make_key as make_signer
from tests.tools import require_program, run

REKEY = ("rekey", "--identity", "keys/old", "--confirm", "quaybot")
RECOVER = ("dr-restore", "--confirm", "quaybot")


def make_key(folder: Path, name: str) -> str:
    """A new identity in `keys/<name>`; return its recipient."""
    identity = pyrage.x25519.Identity.generate()
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / name).write_text(f"{identity}\n")
    return str(identity.to_public())


def declare(service: Service, *recipients: str, spec: str = SPEC) -> None:
    """Change the spec's recipients."""
    text = spec + f"encryption: {{recipients: [{', '.join(recipients)}]}}\n"
    (service.folder / "backup.yaml").write_text(text)


def ids(holdfast: Inside, *words: str) -> list[str]:
    return [one["id"] for one in holdfast.json("list", *words)["snapshots"]]


def folders(service: Service, target: str = "backups") -> dict[str, Path]:
    parent = service.folder / target / "quaybot" / "default"
    return {one.name: one for one in parent.glob("2*")}


def follow_instructions(service: Service, folder: Path) -> None:
    """Bring a snapshot back by its RESTORE.md and ordinary tools, with the new key."""
    text = (folder / "RESTORE.md").read_text()
    blocks = [part.partition("\n```")[0] for part in text.split("```sh\n")[1:]]
    script = f"export AGE_IDENTITY={service.folder}/keys/new\n" + "\n".join(blocks)
    run("bash", "-e", "-c", script, folder=folder)
    with sqlite3.connect(folder / "restored" / "db" / "quaybot.db") as database:
        assert database.execute("select count(*) from players").fetchone() == (200,)
    database.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, str, str]:
    """A service with two snapshots for an old key, whose spec names a new one since."""
    service = Service(tmp_path_factory.mktemp("rekey") / "original").build()
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    declare(service, old)
    for _ in range(2):
        Inside(service.folder)("backup", status=0)
    declare(service, new)
    return service, old, new


@pytest.fixture
def service(original: tuple[Service, str, str], tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original[0].folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service", (original[0].folder / "backup.yaml").read_text())


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def test_only_the_new_identity_opens_what_was_rekeyed(service: Service, holdfast: Inside) -> None:
    before, content = ids(holdfast), service.observe()
    assert "2 can be opened by others than the declared" in holdfast("status").stdout
    document = holdfast.json(*REKEY)
    assert (document["status"], document["left"]) == ("done", [])
    after = ids(holdfast)
    assert len(after) == 2
    assert not set(after) & set(before)
    assert {one["id"] for one in document["rekeyed"]} == set(after)
    assert set(folders(service)) == set(folders(service, "elsewhere")) == set(after)
    assert "than the declared" not in holdfast("status").stdout
    service.destroy()
    holdfast(*RECOVER, "--identity", "keys/old", status=7)
    holdfast(*RECOVER, "--identity", "keys/new", status=0)
    assert service.observe() == content


def test_the_same_is_in_it_as_before_and_at_every_target(
    service: Service, holdfast: Inside
) -> None:
    before = [holdfast.json("show", "--snapshot", one) for one in ids(holdfast)]
    holdfast(*REKEY, status=0)
    for then in before:
        # The id of what is gone leads to what stands for it.
        now = holdfast.json("show", "--snapshot", then["id"])
        same = ("policy", "sequence", "created_at", "host", "sources", "spec_digest", "targets")
        assert {name: now[name] for name in same} == {name: then[name] for name in same}
        assert now["rekeyed"]["id"] == then["id"]
        sizes = [[one["content_bytes"] for one in each["artifacts"]] for each in (then, now)]
        assert sizes[0] == sizes[1]
    newest, oldest = (holdfast.json("show", "--snapshot", one) for one in ids(holdfast))
    assert newest["predecessor"]["id"] == oldest["id"]
    results = holdfast.json("verify", "--level", "restored", "--identity", "keys/new")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
    guarded = holdfast.json("verify")["rollback"]
    assert {one["verdict"] for one in guarded} == {"PASS"}


def test_its_json_and_its_manifests_have_the_declared_shape(
    original: tuple[Service, str, str], service: Service, holdfast: Inside
) -> None:
    _, old, new = original
    large = random.Random(7).randbytes(2 << 20)
    (service.folder / "config" / "large").write_bytes(large)
    declare(service, old)
    holdfast("backup", status=0)
    declare(service, new)
    make_key(service.folder, "stranger")
    stranger = (*REKEY[:1], "--identity", "keys/stranger", *REKEY[3:])
    assert_contract(holdfast(*stranger, "--json", status=7), "rekey")
    assert_contract(holdfast(*REKEY, "--json", status=0), "rekey")
    assert_contract(holdfast("rekey", "--dry-run", "--json", status=0), "plan")
    assert_contract(holdfast("show", "--snapshot", "latest", "--json", status=0), "show")
    folder = folders(service)[ids(holdfast)[0]]
    stored = json.loads((folder / "manifest.json").read_text())
    assert faults(stored, "manifest") == []
    heads = {one["key"]: one["head_sha256"] for one in stored["artifacts"] if "head_sha256" in one}
    head = (folder / "config.tar.zst.age").read_bytes()[: 1 << 20]
    assert heads == {"config.tar.zst.age": hashlib.sha256(head).hexdigest()}
    holdfast("restore", "--source", "config", "--identity", "keys/new", "--to", "back", status=0)
    (back,) = (service.folder / "back").rglob("large")
    assert back.read_bytes() == large


def test_again_there_is_nothing_to_do_and_no_yes_is_asked_for(holdfast: Inside) -> None:
    holdfast(*REKEY, status=0)
    answer = holdfast("rekey", status=0)
    assert "Nothing was done" in answer.stdout


def test_a_dry_run_shows_what_would_be_and_needs_no_yes(service: Service, holdfast: Inside) -> None:
    before = set(folders(service))
    plan = holdfast.json("rekey", "--dry-run")
    actions = [step["action"] for step in plan["steps"]]
    assert actions.count("rekey.write") == 2
    assert actions.count("rekey.remove") == 4
    asked = holdfast.json("rekey", "--identity", "keys/old", status=7)
    assert "--confirm quaybot" in asked["error"]["message"]
    assert "2 snapshots" in asked["error"]["message"]
    assert "nobody can open these snapshots again" in asked["error"]["message"]
    assert set(folders(service)) == before


def test_a_saved_plan_is_carried_out_once(service: Service, holdfast: Inside) -> None:
    old = folders(service)
    shutil.copytree(service.folder / "backups", service.folder / "copied")
    holdfast("rekey", "--identity", "keys/old", "--dry-run", "--out", "plan.json", status=0)
    apply = ("apply", "--plan", "plan.json", "--identity", "keys/old", "--confirm", "quaybot")
    holdfast(*apply, status=0)
    for name, place in old.items():  # as when the run was stopped before they were removed
        shutil.copytree(service.folder / "copied" / "quaybot" / "default" / name, place)
    assert "stale" in holdfast(*apply, status=7).stderr
    holdfast("verify", "--identity", "keys/new", "--level", "stored", status=0)


def test_with_a_wrong_identity_nothing_changes(service: Service, holdfast: Inside) -> None:
    make_key(service.folder, "stranger")
    before = set(folders(service))
    confirmed = ("rekey", "--confirm", "quaybot")
    document = holdfast.json(*confirmed, "--identity", "keys/stranger", status=7)
    assert len(document["left"]) == 4
    assert "No given identity opens" in document["left"][0]["reason"]
    assert holdfast.json(*confirmed, status=7)["rekeyed"] == []
    assert set(folders(service)) == set(folders(service, "elsewhere")) == before


def test_a_recipient_more_is_added_to_what_there_is(
    original: tuple[Service, str, str], service: Service, holdfast: Inside
) -> None:
    _, old, new = original
    declare(service, old, new)
    document = holdfast.json(*REKEY)
    assert document["opens"]
    for key in ("old", "new"):
        words = ("verify", "--level", "readable", "--identity", f"keys/{key}")
        assert {one["verdict"] for one in holdfast.json(*words)["results"]} == {"PASS"}


def test_one_of_them_at_one_target(service: Service, holdfast: Inside) -> None:
    newest, oldest = ids(holdfast)
    holdfast(*REKEY, "--snapshot", oldest, "--target", "disk", status=0)
    (made,) = set(folders(service)) - {newest}
    assert made != oldest
    assert set(folders(service, "elsewhere")) == {newest, oldest}
    # What is made for one target is brought to the others, not made anew.
    holdfast(*REKEY, status=0)
    assert made in folders(service, "elsewhere")
    assert set(folders(service)) == set(folders(service, "elsewhere"))


def test_what_is_damaged_everywhere_stays_and_is_told(service: Service, holdfast: Inside) -> None:
    newest, oldest = ids(holdfast)
    for target in ("backups", "elsewhere"):
        file = folders(service, target)[oldest] / "db.sqlite.zst.age"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    document = holdfast.json(*REKEY, status=4)
    assert document["status"] == "partial"
    assert [(one["id"], one["target"]) for one in document["left"]] == [
        (oldest, "disk"),
        (oldest, "offsite"),
    ]
    assert "db.sqlite.zst.age" in document["left"][0]["reason"]
    for target in ("backups", "elsewhere"):
        there = folders(service, target)
        assert oldest in there
        assert newest not in there
        assert len(there) == 2


def test_what_is_damaged_at_one_target_is_taken_from_another(
    service: Service, holdfast: Inside
) -> None:
    for one in folders(service).values():
        (one / "config.tar.zst.age").write_bytes(b"gone")
    holdfast(*REKEY, status=0)
    results = holdfast.json("verify", "--level", "readable", "--identity", "keys/new")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}


def test_a_target_that_was_out_of_reach_is_brought_in_order_later(
    service: Service, holdfast: Inside
) -> None:
    away = service.folder / "elsewhere"
    away.rename(service.folder / "away")
    away.write_text("no folder\n")
    document = holdfast.json(*REKEY, status=4)
    assert (document["status"], document["left"]) == ("partial", [])
    assert [one["target"] for one in document["unread"]] == ["offsite"]
    made = set(folders(service))
    away.unlink()
    (service.folder / "away").rename(away)
    # What is there already is copied, for which no identity is needed.
    holdfast("rekey", "--confirm", "quaybot", status=0)
    assert set(folders(service)) == set(folders(service, "elsewhere")) == made


def test_pins_and_retention_are_as_before(service: Service, holdfast: Inside) -> None:
    oldest = ids(holdfast)[-1]
    holdfast("pin", "--snapshot", oldest, "--until", "90d", status=0)
    holdfast(*REKEY, status=0)
    newest, kept = holdfast.json("list")["snapshots"]
    assert (newest["pinned"], kept["pinned"]) == (False, True)
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("last: 3", "last: 1"))
    holdfast("prune", "--confirm", "quaybot", status=0)
    assert ids(holdfast) == [newest["id"], kept["id"]]
    holdfast("unpin", "--snapshot", kept["id"], status=0)
    holdfast("prune", "--confirm", "quaybot", status=0)
    assert ids(holdfast) == [newest["id"]]


def test_the_instructions_of_a_rekeyed_snapshot_work(service: Service, holdfast: Inside) -> None:
    for name in ("age", "zstd", "sqlite3"):
        require_program(name)
    holdfast(*REKEY, status=0)
    snapshot = ids(holdfast)[0]
    folder = folders(service)[snapshot]
    text = (folder / "RESTORE.md").read_text()
    assert f"# How to restore {snapshot}" in text
    follow_instructions(service, folder)
    assert b"AGE" not in (folder / "restored" / "spec.yaml").read_bytes()


def test_the_runbook_inside_names_the_new_snapshot(service: Service, holdfast: Inside) -> None:
    before = ids(holdfast)[0]
    holdfast(*REKEY, status=0)
    after = ids(holdfast)[0]
    words = ("runbook", "--snapshot", after, "--identity", "keys/new")
    document = holdfast.json(*words)["document"]
    assert after in document
    assert before not in document


def test_what_was_signed_is_checked_and_signed_again(service: Service, holdfast: Inside) -> None:
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    public = make_signer(service.folder / "keys", "signer")
    (service.folder / "keys" / "allowed").write_text(f"ops@example.org {public}")
    signing = 'signing: {key: {secret: "file:keys/signer"}, allowed_signers: keys/allowed}\n'
    for target in ("backups", "elsewhere"):
        shutil.rmtree(service.folder / target)
    shutil.rmtree(service.folder / ".holdfast")
    declare(service, old, spec=SPEC + signing)
    for _ in range(2):
        holdfast("backup", status=0)
    declare(service, new, spec=SPEC + signing)
    forged = ids(holdfast)[-1]
    for target in ("backups", "elsewhere"):
        (folders(service, target)[forged] / "SHA256SUMS.sig").unlink()
    document = holdfast.json(*REKEY, status=4)
    assert {one["id"] for one in document["left"]} == {forged}
    assert "nobody knows who made" in document["left"][0]["reason"]
    assert {one["verdict"] for one in holdfast.json("verify")["results"]} == {"PASS"}
    assert (
        "holdfast -s SHA256SUMS.sig"
        in (folders(service)[ids(holdfast)[0]] / "RESTORE.md").read_text()
    )


def test_what_is_signed_is_not_written_unsigned(service: Service, holdfast: Inside) -> None:
    for folder in folders(service).values():
        (folder / "SHA256SUMS.sig").write_text("whoever made it\n")
    document = holdfast.json(*REKEY, "--target", "disk", "--snapshot", "latest", status=7)
    assert "Declare signing.key" in document["left"][0]["reason"]


def test_what_is_locked_stays_and_is_told_and_a_prune_removes_it_later(
    service: Service, holdfast: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, until = set(ids(holdfast)), datetime(2099, 1, 2, 3, 4, tzinfo=UTC)

    def locked(_target: Target, key: str) -> datetime | None:
        return until if any(one in key for one in before) else None

    with monkeypatch.context() as patch:
        patch.setattr(replaced, "held_until", locked)
        document = holdfast.json(*REKEY, status=4)
    assert document["status"] == "partial"
    assert {one["id"] for one in document["left"]} == before
    assert "locked until 2099-01-02 03:04 UTC" in document["left"][0]["reason"]
    # Both are there, and what counts is the new one, once.
    assert len(ids(holdfast)) == 4
    assert ids(holdfast)[0] not in before
    results = holdfast.json("verify", "--level", "readable", "--identity", "keys/new")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
    removed = holdfast.json("prune")["removed"]
    assert {one["id"] for one in removed} == before
    assert len(ids(holdfast)) == 2


def test_what_a_stopped_removal_left_goes_and_what_others_put_there_stays(
    service: Service, holdfast: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = ids(holdfast)[-1]
    folder = folders(service)[oldest]
    (folder / "holiday.jpg").write_bytes(b"precious")
    remove, faults_left = LocalTarget.delete, [1]

    def stopped(target: LocalTarget, key: str) -> None:
        remove(target, key)
        if key.endswith(f"{oldest}/manifest.json") and faults_left:
            faults_left.pop()
            raise StepFailed("The disk was pulled out.")

    with monkeypatch.context() as patch:
        patch.setattr(LocalTarget, "delete", stopped)
        holdfast(*REKEY, "--target", "disk", status=4)
    assert [one.name for one in folder.iterdir()] == ["holiday.jpg"]


def test_where_nothing_may_be_removed_the_new_ones_are_written_and_the_rest_is_told(
    service: Service, holdfast: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(ids(holdfast))

    def refused(target: LocalTarget, key: str) -> None:
        raise NotAllowed(f"Target {target.name}: {key} may not be removed.")

    with monkeypatch.context() as patch:
        patch.setattr(LocalTarget, "delete", refused)
        document = holdfast.json(*REKEY, status=4)
    assert len(document["rekeyed"]) == 2
    assert "credentials that may remove" in document["left"][0]["reason"]
    assert before < set(folders(service))
    # It goes on from there, and needs no identity for that.
    document = holdfast.json("rekey", "--confirm", "quaybot")
    assert len(document["removed"]) == 4
    assert before.isdisjoint(folders(service))


def test_a_bucket_is_rekeyed(service: Service, s3_server: S3Server) -> None:
    given = s3_server.options()
    bucket = (
        f"offsite: {{type: s3, endpoint: '{s3_server.endpoint}', bucket: {given['bucket']}, "
        f"access_key: {{secret: 'file:{s3_server.folder}/access'}}, "
        f"secret_key: {{secret: 'file:{s3_server.folder}/secret'}}, retry: 5s}}"
    )
    spec = SPEC.replace("offsite: {type: local, path: elsewhere}", bucket)
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    holdfast = Inside(service.folder)
    shutil.rmtree(service.folder / ".holdfast")
    shutil.rmtree(service.folder / "backups")
    declare(service, old, spec=spec)
    holdfast("backup", status=0)
    declare(service, new, spec=spec)
    content, before = service.observe(), ids(holdfast, "--target", "offsite")
    document = holdfast.json(*REKEY, "--target", "offsite")
    assert document["removed"] == [{"id": before[0], "target": "offsite"}]
    shutil.rmtree(service.folder / "backups")
    service.destroy()
    holdfast(*RECOVER, "--from", "offsite", "--identity", "keys/new", status=0)
    assert service.observe() == content
