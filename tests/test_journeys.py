"""The stories that matter, end to end, on a real small service."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.inside import Inside
from tests.service import SPEC, Service
from tests.store.builders import Recipe, make
from tests.tools import clean_environment, require_program

Fresh = Callable[..., tuple[Service, Inside]]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IDENTITY = "keys/quay.key"


def protected(kind: str, folder: Path) -> Service:
    """A service with one snapshot, plain or encrypted."""
    folder.mkdir(parents=True)
    spec = SPEC
    if kind == "encrypted":
        identity = pyrage.x25519.Identity.generate()
        (folder / "keys").mkdir()
        (folder / IDENTITY).write_text(f"{identity}\n")
        secret = f'{{secret: "file:{IDENTITY}"}}'
        spec += f"encryption: {{recipients: [{identity.to_public()}], identity: {secret}}}\n"
    service = Service(folder, spec).build()
    Inside(folder)("backup", status=0)
    return service


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """One plain and one encrypted service, each with one snapshot."""
    return {
        kind: protected(kind, tmp_path_factory.mktemp(kind) / "service")
        for kind in ("plain", "encrypted")
    }


@pytest.fixture
def fresh(originals: dict[str, Service], tmp_path: Path) -> Fresh:
    """Makes a copy of a service, and the program in its folder."""

    def copy(name: str = "plain", **changes: str) -> tuple[Service, Inside]:
        folder = tmp_path / name
        shutil.copytree(originals[name].folder, folder, symlinks=True)
        spec = (folder / "backup.yaml").read_text()
        for old, new in changes.items():
            assert WORDS[old] in spec
            spec = spec.replace(WORDS[old], new)
        return Service(folder, spec), Inside(folder)

    return copy


# What a test may put in the place of a part of the spec.
WORDS = {
    "policy": "nightly: {keep: {last: 3}, verify: stored}",
    "deploy": 'run: "test -s .env && echo deployed >> service.log", drill: same',
    "stop": 'stop: "echo stop >> service.log"',
}


def first_snapshot(service: Service, target: str = "backups") -> Path:
    """The folder of the only snapshot at a target."""
    (found,) = (service.folder / target / "quaybot" / "default").glob("2*")
    return found


def run_blocks(document: str, folder: Path, **environment: str) -> None:
    """Run a document's `sh` blocks, in order, as a person without this project would."""
    blocks = BLOCK.findall(document)
    assert blocks
    done = subprocess.run(
        ["bash", "-e"],
        input="\n".join(blocks),
        cwd=folder,
        env={**clean_environment(folder), "PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{document}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
class TestEverythingComesBack:
    def test_after_a_total_loss(self, fresh: Fresh, kind: str) -> None:
        service, holdfast = fresh(kind)
        before = service.observe()
        service.destroy()
        document = holdfast.json("dr-restore", "--confirm", "quaybot")
        assert {one["equal"] for one in document["proof"]} == {True}
        assert service.observe() == before
        assert service.log() == ["stop", "start", "deployed"]
        assert service.leftovers() == []

    def test_by_the_instructions_beside_the_snapshot(
        self, fresh: Fresh, tmp_path: Path, kind: str
    ) -> None:
        if kind == "encrypted":
            require_program("age")
        service, _ = fresh(kind)
        before = service.observe()
        folder = tmp_path / "elsewhere"
        shutil.copytree(first_snapshot(service, "elsewhere"), folder)
        identity = str(service.folder / IDENTITY)
        text = (folder / "RESTORE.md").read_text()
        run_blocks(text, folder, AGE_IDENTITY=identity)
        restored = folder / "restored"
        found = Service(tmp_path / "found")
        (found.folder / "data").mkdir()
        (restored / "db" / "quaybot.db").rename(found.folder / "data" / "quaybot.db")
        (restored / "config" / "config").rename(found.folder / "config")
        (restored / "config" / ".env").rename(found.folder / ".env")
        (restored / "code").rename(found.folder / "code")
        assert found.observe() == before

    def test_by_the_runbook(self, fresh: Fresh, tmp_path: Path, kind: str) -> None:
        if kind == "encrypted":
            require_program("age")
        service, holdfast = fresh(kind)
        before = service.observe()
        document = holdfast.json("runbook")["document"]
        service.destroy()
        shutil.rmtree(service.folder / ".holdfast")
        workshop = tmp_path / "workshop"
        workshop.mkdir()
        identity = str(service.folder / IDENTITY)
        run_blocks(document, workshop, AGE_IDENTITY=identity)
        assert service.observe() == before
        assert service.log() == ["stop", "start", "deployed"]

    def test_by_the_runbook_whose_fetch_was_cut(
        self, fresh: Fresh, tmp_path: Path, kind: str
    ) -> None:
        if kind == "encrypted":
            require_program("age")
        service, holdfast = fresh(kind)
        before = service.observe()
        document = holdfast.json("runbook")["document"]
        service.destroy()
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "cp").write_text('#!/bin/sh\ntouch "$4/SHA256SUMS"\nexit 1\n')
        (programs / "cp").chmod(0o755)
        identity = str(service.folder / IDENTITY)
        cut = f"{programs}:{os.environ['PATH']}"
        with pytest.raises(AssertionError):
            run_blocks(document, tmp_path, AGE_IDENTITY=identity, PATH=cut)
        run_blocks(document, tmp_path, AGE_IDENTITY=identity)
        assert service.observe() == before


class TestRestore:
    def test_replaces_one_source_and_keeps_what_it_replaced(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        service.change()
        changed = service.observe()
        document = holdfast.json("restore", "--source", "db", "--confirm", "db")
        assert service.observe() == {**changed, "db": before["db"]}
        (safety,) = document["safety"]
        database = sqlite3.connect(safety)
        assert database.execute("select name from players where name = 'late'").fetchone()
        database.close()
        assert service.log() == ["stop", "start"]

    def test_a_source_that_the_spec_had_once_is_told_from_one_that_never_was(
        self, fresh: Fresh
    ) -> None:
        service, holdfast = fresh()
        newest = max(service.folder.glob("backups/*/*/*/manifest.json")).parent.name
        (service.folder / "backup.yaml").write_text(
            "version: 1\nproject: quaybot\n"
            "sources: {config: {type: files, paths: [config]}}\n"
            "targets: {disk: {type: local, path: backups}}\n"
        )
        for command in (("restore", "--to", "here.db"), ("ls",)):
            answer = holdfast(*command, "--source", "db", status=1).stderr
            assert f"no source `db`. {newest} holds one from before" in answer
            assert "holds one" not in holdfast(*command, "--source", "bd", status=1).stderr
        words = answer.partition("`holdfast ")[2].partition("`")[0].replace("DIR", "fetched")
        holdfast(*words.split(), status=0)
        assert list((service.folder / "fetched").iterdir())

    def test_from_a_disk_that_is_not_mounted_asks_whether_it_is(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        shutil.rmtree(service.folder / "backups")
        answer = holdfast("restore", "--source", "db", "--from", "disk", status=1)
        assert "disk holds no snapshot at all: is its disk mounted" in answer.stderr
        answer = holdfast("restore", "--source", "db", "--at", "2020-01-01", status=1)
        assert "mounted" not in answer.stderr

    def test_brings_back_one_file_and_leaves_the_others(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        service.change()
        (service.folder / ".env").write_text("TOKEN=lost\n")
        words = ("restore", "--source", "config", "--include", ".env")
        shown = holdfast(*words, "--dry-run", status=0).stdout
        assert "Put what matches .env of config in its place" in shown
        assert "mv " not in shown.partition("config.swap")[2]
        holdfast(*words, "--confirm", "config", status=0)
        assert (service.folder / ".env").read_text() == "TOKEN=abc\n"
        assert (service.folder / "config" / "app.toml").read_text() == "name = 'changed'\n"

    @pytest.mark.parametrize("words", ["drill", "restore --source db --to new.db"])
    def test_shows_no_command_that_replaces_what_is_live_where_it_restores_elsewhere(
        self, fresh: Fresh, words: str
    ) -> None:
        _, holdfast = fresh()
        steps = holdfast.json(*words.split(), "--dry-run")["steps"]
        swaps = [step for step in steps if step["id"].endswith((".swap", ".confirm", ".unswap"))]
        shown = [line for step in swaps for line in step["commands"]]
        assert shown, steps
        assert not any(line.startswith(("mv ", "mkdir ")) for line in shown)
        assert not any(line.endswith("data/quaybot.db") for line in shown), shown

    @pytest.mark.parametrize("source", ["db", "code"])
    def test_what_comes_back_whole_or_not_at_all_is_refused_before_anything_is_done(
        self, fresh: Fresh, source: str
    ) -> None:
        _, holdfast = fresh()
        words = ("restore", "--source", source, "--include", "players")
        assert "--to" in holdfast(*words, "--dry-run", status=1).stderr
        holdfast(*words, "--confirm", source, status=1)
        assert [one["kind"] for one in holdfast.json("history")["runs"]] == ["backup"]

    def test_brings_back_what_ls_shows_by_the_name_that_it_shows(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        asked = ("--source", "config", "--include", "./config/deep/odd*")
        (shown,) = holdfast.json("ls", *asked)["contents"]
        assert shown["name"] == "config/deep/odd\\nname"
        asked = ("--source", "config", "--include", shown["name"])
        holdfast("restore", *asked, "--to", "new", status=0)
        assert (service.folder / "new" / "config" / "deep" / "odd\nname").exists()
        assert not (service.folder / "new" / ".env").exists()

    def test_asks_before_it_replaces_a_destination_that_is_not_empty(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        (service.folder / "out").mkdir()
        (service.folder / "out" / "mine").write_text("mine\n")
        holdfast("restore", "--source", "config", "--to", "out", status=7)
        assert [one.name for one in (service.folder / "out").iterdir()] == ["mine"]
        holdfast("restore", "--source", "config", "--to", "new", status=0)
        assert (service.folder / "new" / ".env").read_text() == "TOKEN=abc\n"

    def test_goes_back_to_a_time(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        time.sleep(1.1)
        instant = holdfast.json("list")["snapshots"][0]["taken_at"]
        service.change()
        holdfast("backup", status=0)
        arguments = ("restore", "--source", "db", "--confirm", "db")
        # The time is of whole seconds, and the content was taken within that second.
        later = f"{instant[:-1]}.999Z"
        holdfast(*arguments, "--at", later, status=0)
        assert service.observe()["db"] == before["db"]
        answer = holdfast(*arguments, "--at", "2020-01-01 00:00", status=1)
        assert "not after 2020-01-01" in answer.stderr

    def test_takes_another_target_when_the_first_is_gone(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        (service.folder / "backups").rename(service.folder / "gone")
        (service.folder / "backups").write_text("no folder\n")
        answer = holdfast("list", status=4)
        assert "disk cannot be read" in answer.stdout
        service.destroy()
        holdfast("dr-restore", "--confirm", "quaybot", status=0)
        assert service.observe() == before

    def test_refuses_a_damaged_artifact_before_anything_is_replaced(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        for name in ("db.sqlite.zst", "config.tar.zst"):
            stored = first_snapshot(service) / name
            data = bytearray(stored.read_bytes())
            data[len(data) // 2] ^= 1
            stored.write_bytes(data)
        for source in ("db", "config"):
            words = ("--source", source, "--from", "disk", "--confirm", source)
            document = holdfast.json("restore", *words, status=4)
            assert "disk is damaged" in document["error"]["message"]
        assert service.observe() == before
        assert service.log() == []
        assert service.leftovers() == []


class TestDrill:
    def test_passes_and_leaves_the_service_alone(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        document = holdfast.json("drill", "--report-dir", "reports")
        assert service.observe() == before
        assert service.log() == []
        assert service.leftovers() == []
        assert document["rto"]["system"]["met"] is True
        report = Path(document["report"])
        assert report.parent == service.folder / "reports"
        assert "PASSED" in report.read_text().splitlines()[0]
        status = holdfast.json("status")
        assert status["sources"][0]["rto"]["drill"] == document["run"]

    def test_fails_for_a_backup_that_is_intact_but_empty(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
            database.execute("delete from players")
        database.close()
        holdfast("backup", status=0)
        document = holdfast.json("drill", status=4)
        assert "players exist" in document["error"]["message"]
        assert [one["equal"] for one in document["proof"]] == [True, True, True]
        assert holdfast("status").status == 4

    def test_fails_for_a_tampered_artifact_with_a_forged_manifest(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        for target in ("backups", "elsewhere"):
            forge(first_snapshot(service, target), "config.tar.zst", b"evil")
        document = holdfast.json("drill", status=4)
        assert document["cleanup"] == "clean"
        assert document["rto"]["config"] == {"objective": None, "measured": None, "met": None}


def forge(folder: Path, name: str, more: bytes) -> None:
    """Change an artifact and make every checksum outside the seal agree with it."""
    import hashlib

    from runner.store.snapshot import Manifest, sums

    stored = folder / name
    data = (
        stored.read_bytes()
        + subprocess.run(["zstd", "-q"], input=more, capture_output=True, check=True).stdout
    )
    stored.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for one in manifest["artifacts"]:
        if one["key"] == name:
            plain = subprocess.run(
                ["zstd", "-dc"], input=data, capture_output=True, check=True
            ).stdout
            one["bytes"], one["sha256"] = len(data), hashlib.sha256(data).hexdigest()
            one["content_bytes"] = len(plain)
            one["content_sha256"] = hashlib.sha256(plain).hexdigest()
    forged = Manifest.from_bytes(json.dumps(manifest).encode())
    (folder / "manifest.json").write_bytes(forged.to_bytes())
    (folder / "SHA256SUMS").write_bytes(sums(forged, forged.to_bytes()))


class TestBackup:
    def test_publishes_the_others_when_one_source_vanished(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        shutil.rmtree(service.folder / "config")
        (service.folder / ".env").unlink()
        document = holdfast.json("backup", status=4)
        (snapshot,) = document["snapshots"]
        assert document["status"] == "partial"
        assert snapshot["missing"] == ["config"]
        assert snapshot["targets"] == ["disk", "offsite"]
        assert holdfast.json("verify")["ok"]
        assert service.leftovers() == []

    def test_does_not_call_done_what_it_can_no_longer_publish(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        service.folder.joinpath("code").rename(service.folder / "away")
        run = holdfast.json("backup", status=4)["run"]
        service.folder.joinpath("away").rename(service.folder / "code")
        told = holdfast.json("backup", "--resume", run, status=4)["error"]["message"]
        assert "was published without code, and a snapshot is never changed" in told
        assert "holdfast backup --source code" in told
        holdfast("backup", "--source", "code", status=0)

    def test_reaches_the_other_target_when_one_is_out_of_reach(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        shutil.rmtree(service.folder / "elsewhere")
        (service.folder / "elsewhere").write_text("no folder\n")
        document = holdfast.json("backup", status=4)
        assert document["snapshots"][0]["targets"] == ["disk"]
        assert document["error"]["step"] == "nightly.copy.offsite"
        status = holdfast.json("status", status=4)
        assert [one["reachable"] for one in status["targets"]] == [True, False]

    def test_runs_once_what_missed_its_time_several_times(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy='nightly: {schedule: "0 2 * * *", keep: {last: 3}}')
        assert holdfast.json("backup", "--due")["snapshots"] == []
        old = make(
            Recipe(sources=("db", "config", "code"), at=datetime.now(UTC) - timedelta(days=4))
        )
        for target in ("backups", "elsewhere"):
            shutil.rmtree(service.folder / target)
            old.write(service.folder / target)
        assert len(holdfast.json("backup", "--due")["snapshots"]) == 1
        assert holdfast.json("backup", "--due")["snapshots"] == []

    def test_all_is_not_well_with_what_was_never_backed_up(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        spec = service.folder / "backup.yaml"
        spec.write_text(
            spec.read_text().replace("sources:\n", "sources:\n  new: {type: git, path: code}\n")
        )
        shown = holdfast("status", status=0).stdout
        assert "All is well." not in shown
        assert "There is no snapshot of new. Next: holdfast backup --source new" in shown
        holdfast("backup", status=0)
        assert "All is well." in holdfast("status", status=0).stdout

    def test_does_not_wait_for_what_can_never_be_due(self, fresh: Fresh) -> None:
        _, holdfast = fresh(policy="nightly: {keep: {last: 3}}")
        answer = holdfast("backup", "--due", "--quiet", status=1)
        assert "None of these policies has a schedule" in answer.stderr

    def test_fetch_takes_the_latest_of_each_source(self, fresh: Fresh, tmp_path: Path) -> None:
        service, holdfast = fresh(policy="nightly: {skip_unchanged: true}")
        service.change()
        holdfast("backup", "--source", "db", status=0)
        holdfast(
            "backup", "--source", "db", status=0
        )  # unchanged: its content is in the one before
        wanted = ("--source", "db,config", "--to", tmp_path / "both", "--decrypt")
        holdfast("fetch", *wanted, status=0)
        assert (tmp_path / "both" / "config.tar").exists()
        database = sqlite3.connect(tmp_path / "both" / "db.sqlite")
        assert database.execute("select name from players where name = 'late'").fetchone()
        database.close()

    @pytest.mark.parametrize("how", [(), ("--decrypt",)])
    def test_fetch_overwrites_nothing(
        self, fresh: Fresh, tmp_path: Path, how: tuple[str, ...]
    ) -> None:
        _, holdfast = fresh()
        wanted = ("fetch", "--source", "config", "--to", str(tmp_path / "own"), *how)
        holdfast(*wanted, status=0)
        for file in (tmp_path / "own").iterdir():
            file.write_text("mine by now\n")
        assert "nothing was overwritten" in holdfast(*wanted, status=1).stderr
        assert {one.read_text() for one in (tmp_path / "own").iterdir()} == {"mine by now\n"}

    def test_records_what_did_not_change(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {skip_unchanged: true}")
        first = holdfast.json("backup")["snapshots"][0]
        second = holdfast.json("backup")["snapshots"][0]
        assert second["unchanged"]
        assert set(second["unchanged"].values()) <= {first["id"]}
        before = service.observe()
        service.destroy()
        holdfast("dr-restore", "--confirm", "quaybot", status=0)
        assert service.observe() == before

    def test_fetches_what_did_not_change_or_says_where_it_is(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {skip_unchanged: true}")
        first = holdfast.json("backup")["snapshots"][0]
        holdfast("backup", status=0)
        stored = holdfast("fetch", "--to", "stored", status=0)
        assert (
            f"Not in it: db, which was unchanged. Next: holdfast fetch --snapshot {first['id']}"
            in (stored.stdout)
        )
        holdfast("fetch", "--to", "content", "--decrypt", status=0)
        assert (service.folder / "content" / "db.sqlite").is_file()

    def test_says_what_could_not_be_captured_when_it_is_fetched(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        shutil.rmtree(service.folder / "code")
        holdfast("backup", status=4)
        fetched = holdfast("fetch", "--to", "content", "--decrypt", status=0)
        assert "Not in it: code, which could not be captured." in fetched.stdout
        holdfast("fetch", "--source", "code", "--to", "code", status=0)

    def test_calls_nothing_unchanged_whose_copies_are_all_damaged(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {skip_unchanged: true}")
        first = holdfast.json("backup")["snapshots"][0]
        holdfast("backup", status=0)
        for target in ("backups", "elsewhere"):
            (artifact,) = (service.folder / target).rglob(f"{first['id']}/db.sqlite.zst*")
            artifact.write_bytes(artifact.read_bytes()[:-1] + b"!")
        told = holdfast("verify", "--snapshot", first["id"], status=4)
        assert "find out what damaged this one" in told.stderr
        behind = [one["behind"] for one in holdfast.json("status", status=4)["targets"]]
        assert behind == [2, 2]
        again = holdfast.json("backup")["snapshots"][0]
        assert "db" not in again["unchanged"]
        holdfast("status", status=0)

    def test_is_not_well_while_the_newest_did_not_pass_its_checks(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
            database.execute("delete from players")
        database.close()
        holdfast("backup", status=0)
        told = holdfast("verify", "--level", "restored", "--target", "disk", status=4)
        assert "every copy is alike" in told.stderr
        answer = holdfast("status", status=4)
        assert "did not pass when it was restored" in answer.stdout
        assert "players exist" in answer.stdout
        holdfast("backup", status=0)
        holdfast("status", status=0)

    def test_two_at_once_make_one_and_a_clear_refusal(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        with service.program.start("backup") as one, service.program.start("backup") as other:
            ended = {one.communicate() and one.returncode, other.communicate() and other.returncode}
        assert ended in ({0, 6}, {0})
        assert {one["verdict"] for one in holdfast.json("verify")["results"]} == {"PASS"}
        assert service.leftovers() == []
        assert service.half_snapshots() == []


class TestPrune:
    def test_asks_before_it_removes_more_than_half(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {verify: stored}")
        for _ in range(3):
            holdfast("backup", status=0)
        spec = (service.folder / "backup.yaml").read_text()
        keep = spec.replace("nightly: {verify", "nightly: {keep: {last: 1}, verify")
        (service.folder / "backup.yaml").write_text(keep)
        holdfast("prune", status=7)
        holdfast("prune", "--confirm", "another", status=7)
        assert len(holdfast.json("list")["snapshots"]) == 4
        assert len(holdfast.json("prune", "--confirm", "quaybot")["removed"]) == 6
        assert len(holdfast.json("list")["snapshots"]) == 1

    def test_removes_nothing_once_the_newest_is_known_to_be_damaged(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {verify: stored}")
        _, newest = (holdfast.json("backup")["snapshots"][0]["id"] for _ in range(2))
        spec = service.folder / "backup.yaml"
        spec.write_text(spec.read_text().replace("nightly: {", "nightly: {keep: {last: 1}, "))
        holdfast("prune", "--dry-run", "--out", "plan.json", status=0)
        damaged = service.folder / "backups" / "quaybot" / "default" / newest / "db.sqlite.zst"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        holdfast("verify", status=4)
        applied = holdfast.json("apply", "--plan", "plan.json", "--confirm", "quaybot")
        assert {one["target"] for one in applied["removed"]} == {"offsite"}
        anew = holdfast.json("prune", "--dry-run")["steps"]
        assert {one["title"].rpartition(": ")[2] for one in anew} == {
            "remove 0 of 3",
            "remove 0 of 1",
        }

    def test_keeps_what_is_pinned(self, fresh: Fresh) -> None:
        service, holdfast = fresh(policy="nightly: {keep: {last: 1}, verify: stored}")
        first = first_snapshot(service).name
        holdfast("pin", "--snapshot", first, status=0)
        holdfast("backup", status=0)
        assert first in [one["id"] for one in holdfast.json("list")["snapshots"]]
        holdfast("unpin", "--snapshot", first[-6:], status=0)
        holdfast("backup", "--confirm", "quaybot", status=0)
        assert first not in [one["id"] for one in holdfast.json("list")["snapshots"]]


class TestSavedPlans:
    def save(self, holdfast: Inside, *words: str) -> Any:
        holdfast(*words, "--dry-run", "--out", "plan.json", status=0)
        return json.loads((holdfast.folder / "plan.json").read_text())

    def test_runs_exactly_what_was_saved(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        plan = self.save(holdfast, "dr-restore")
        service.change()
        holdfast("apply", "--plan", "plan.json", status=7)
        document = holdfast.json("apply", "--plan", "plan.json", "--confirm", "quaybot")
        assert service.observe() == before
        assert [one["id"] for one in document["steps"]] == [one["id"] for one in plan["steps"]]

    def test_refuses_one_that_was_changed(self, fresh: Fresh) -> None:
        _, holdfast = fresh()
        plan = self.save(holdfast, "dr-restore")
        plan["steps"][0]["params"]["destination"] = "/elsewhere"
        (holdfast.folder / "plan.json").write_text(json.dumps(plan))
        answer = holdfast("apply", "--plan", "plan.json", "--confirm", "quaybot", status=1)
        assert "it was changed after it was saved" in answer.stderr

    def test_refuses_one_of_another_spec(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        self.save(holdfast, "dr-restore")
        (service.folder / "backup.yaml").write_text(SPEC.replace("last: 3", "last: 4"))
        answer = holdfast("apply", "--plan", "plan.json", "--confirm", "quaybot", status=7)
        assert "stale" in answer.stderr

    def test_refuses_one_whose_snapshot_was_exchanged(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        before = service.observe()
        self.save(holdfast, "restore", "--source", "db")
        manifest = first_snapshot(service) / "manifest.json"
        manifest.write_bytes(manifest.read_bytes() + b" ")
        answer = holdfast("apply", "--plan", "plan.json", "--confirm", "db", status=7)
        assert "not the one that the plan was made for" in answer.stderr
        assert service.observe() == before

    def test_refuses_a_drill(self, fresh: Fresh) -> None:
        service, holdfast = fresh()
        self.save(holdfast, "drill")
        answer = holdfast("apply", "--plan", "plan.json", status=1)
        assert "Run `drill` itself" in answer.stderr
        assert service.log() == []

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format":1,"steps":[7]}'])
    def test_refuses_what_is_no_plan(self, fresh: Fresh, text: str) -> None:
        _, holdfast = fresh()
        (holdfast.folder / "plan.json").write_text(text)
        answer = holdfast("apply", "--plan", "plan.json", status=1)
        assert "cannot be used as a plan" in answer.stderr


class TestResume:
    def test_goes_on_after_a_failure(self, fresh: Fresh) -> None:
        service, holdfast = fresh(deploy='run: "test -e repaired; echo deployed >> service.log"')
        before = service.observe()
        service.destroy()
        document = holdfast.json("dr-restore", "--confirm", "quaybot", status=4)
        assert document["error"]["step"] == "deploy"
        assert document["next"] == f"holdfast dr-restore --resume {document['run']}"
        assert service.log() == ["stop", "start"]

        plan = holdfast.json("dr-restore", "--resume", document["run"], "--dry-run")
        assert plan["kind"] == "dr-restore"
        holdfast("backup", "--resume", document["run"], status=1)
        assert service.log() == ["stop", "start"]

        (service.folder / "repaired").touch()
        resumed = holdfast.json("dr-restore", "--resume", document["run"])
        assert resumed["run"] == document["run"]
        assert service.log() == ["stop", "start", "deployed"]
        assert service.observe() == before
        answer = holdfast("dr-restore", "--resume", document["run"], status=1)
        assert "nothing to resume" in answer.stderr

    def test_asks_a_person_about_an_interrupted_command(self, fresh: Fresh) -> None:
        service, holdfast = fresh(
            deploy='run: "touch waiting; sleep 60; echo deployed >> service.log"'
        )
        with service.program.start("dr-restore", "--confirm", "quaybot", "--json") as process:
            while not (service.folder / "waiting").exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            stdout, _ = process.communicate()
        assert process.returncode == 130
        run = json.loads(stdout)["run"]
        document = holdfast.json("dr-restore", "--resume", run, status=7)
        assert "nobody knows how far it got" in document["error"]["message"]
        assert service.log() == ["stop", "start"]
        holdfast("dr-restore", "--resume", run, "--done", "deploy", status=0)
        assert service.log() == ["stop", "start"]


def test_a_target_whose_disk_is_missing_is_not_filled_anew(fresh: Fresh) -> None:
    service, holdfast = fresh("plain")
    (service.folder / "elsewhere").rename(service.folder / "unplugged")
    answer = holdfast("backup", status=4)
    assert "Is its disk mounted?" in answer.stderr
    assert not list((service.folder / "elsewhere").rglob("manifest.json"))
    holdfast("status", status=4)
    shutil.rmtree(service.folder / "elsewhere", ignore_errors=True)
    (service.folder / "unplugged").rename(service.folder / "elsewhere")
    holdfast("backup", status=0)


def test_a_snapshot_that_was_taken_away_is_noticed(fresh: Fresh) -> None:
    service, holdfast = fresh("plain")
    holdfast("backup", status=0)
    newest = holdfast.json("list")["snapshots"][0]["id"]
    shutil.rmtree(service.folder / "backups/quaybot/default" / newest)
    results = holdfast.json("verify", status=4)["results"]
    gone = [one for one in results if one["verdict"] == "FAIL"]
    assert [(one["snapshot"], one["target"]) for one in gone] == [(newest, "disk")]
    assert newest in holdfast("status", status=4).stdout
    holdfast("backup", status=0)
    holdfast("verify", status=0)


def test_a_host_without_the_identity_proves_what_it_writes_once(fresh: Fresh) -> None:
    service, holdfast = fresh("encrypted")
    spec = (service.folder / "backup.yaml").read_text()
    blind = re.sub(r", identity: \{[^}]*\}", "", spec).replace("verify: stored", "verify: restored")
    (service.folder / "backup.yaml").write_text(blind)
    assert "identity" not in blind
    holdfast("backup", status=0)
    (snapshot, *_) = holdfast.json("list")["snapshots"]
    assert snapshot["proved"]["level"] == "restored"
    assert snapshot["proved"]["key"] == "one-time"
    results = holdfast.json("verify", "--level", "readable", status=7)["results"]
    assert {one["verdict"] for one in results} == {"COULD-NOT-VERIFY"}
    holdfast("verify", "--level", "restored", "--identity", IDENTITY, status=0)
