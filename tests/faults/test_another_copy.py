"""A recovery whose copy turns out to be damaged, or to be gone, goes on with another target's."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyrage
import pytest

from runner.errors import StepFailed
from runner.execute import verifying
from runner.store.snapshot import Manifest, sums
from runner.target.local import LocalTarget
from tests.faults.bad_day import IDENTITY, Steady, encrypted_spec, safety_copies, snapshots
from tests.faults.conftest import Fresh
from tests.faults.test_copies import KILLED, at_start_of, block
from tests.faults.test_disk import fill, small_disk
from tests.service import SPEC, Service
from tests.tools import clean_environment, run

RECOVER = ("dr-restore", "--confirm", "quaybot")
ARTIFACTS = {
    "db": "db.sqlite.zst",
    "config": "config.tar.zst",
    "code": "code.bundle.zst",
}


@pytest.fixture
def two(fresh: Fresh) -> tuple[Service, Steady]:
    """A service with two snapshots at `disk` (backups) and `offsite` (elsewhere)."""
    return fresh("two")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def came_from(document: dict[str, Any]) -> dict[str, str]:
    """The target that each source was staged from."""
    return {one["source"]: one["target"] for one in document["copies"]}


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("source", ["db", "config", "code"])
def test_a_damaged_artifact_is_taken_from_elsewhere(
    two: tuple[Service, Steady], source: str, damage: Callable[[Path], None]
) -> None:
    service, holdfast = two
    before = service.observe()
    (stored,) = (one for one in snapshots(service)[-1].iterdir() if one.name == ARTIFACTS[source])
    damage(stored)
    service.destroy()
    document = holdfast.json(*RECOVER)
    assert service.observe() == before
    assert {one["equal"] for one in document["proof"]} == {True}
    expected = {one: "offsite" if one == source else "disk" for one in ARTIFACTS}
    assert came_from(document) == expected
    assert not service.leftovers()


def test_the_damage_is_known_from_then_on(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    (stored,) = snapshots(service)[-1].glob("db.sqlite*")
    flip(stored)
    holdfast("restore", "--source", "db", "--confirm", "db", status=0)
    found = holdfast.json("restore", "--source", "db", "--confirm", "db")
    assert found["copies"] == [{"source": "db", "target": "offsite", "passed_over": []}]
    answer = holdfast("status", status=4)
    said = f"at disk is damaged: {stored.name}: its sha256 is not that of what was written"
    assert said in answer.stdout


def test_damage_that_cannot_be_written_down_holds_nothing_up(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, holdfast = two
    (stored,) = snapshots(service)[-1].glob("db.sqlite*")
    flip(stored)

    def refuse(*_: object) -> None:
        raise StepFailed("disk takes nothing.")

    monkeypatch.setattr(verifying, "write_record", refuse)
    document = holdfast.json("restore", "--source", "db", "--confirm", "db")
    assert came_from(document) == {"db": "offsite"}


@pytest.mark.parametrize(("source", "name"), [("config", "config.tar"), ("code", "code.bundle")])
def test_content_that_makes_no_sense_before_its_hash_was_compared(
    two: tuple[Service, Steady], source: str, name: str
) -> None:
    """What is larger than a block is used while it is read, and judged at its end."""
    service, holdfast = two
    for folder in ("config", "code"):
        (service.folder / folder / "large").write_bytes(random.Random(7).randbytes(2 << 20))
    run("git", "add", ".", folder=service.folder / "code")
    run("git", "commit", "-q", "-m", "large", folder=service.folder / "code")
    with (service.folder / "backup.yaml").open("a") as spec:
        spec.write("compression: none\n")
    holdfast("backup", status=0)
    before = service.observe()
    stored = snapshots(service)[-1] / name
    stored.write_bytes(b"x" * 500 + stored.read_bytes()[500:])
    service.destroy()
    document = holdfast.json(*RECOVER)
    assert service.observe() == before
    assert came_from(document)[source] == "offsite"
    assert not service.leftovers()
    answer = holdfast("drill", "--from", "disk", status=4)
    assert f"{name} at disk is damaged: its sha256 is not that of what was written" in answer.stderr


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flipped_at(part: float) -> Callable[[Path], None]:
    """What flips a bit that far into a file."""

    def flip_there(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(part * (len(data) - 1))] ^= 1
        path.write_bytes(data)

    return flip_there


class TestLargeAndEncrypted:
    """What age authenticates is not hashed besides, since its content is compared anyhow."""

    MEBIBYTES = 2

    @pytest.fixture
    def sealed(self, tmp_path: Path) -> tuple[Service, Steady]:
        (tmp_path / "service").mkdir()
        spec = encrypted_spec(tmp_path / "service", SPEC) + "compression: none\n"
        service = Service(tmp_path / "service", spec).build()
        large = random.Random(7).randbytes(self.MEBIBYTES << 20)
        for name in ("config", "code"):
            (service.folder / name / "large").write_bytes(large)
        with sqlite3.connect(service.folder / "data" / "quaybot.db") as database:
            database.execute("create table blobs(content)")
            database.execute("insert into blobs values(?)", (large,))
        database.close()
        run("git", "add", ".", folder=service.folder / "code")
        run("git", "commit", "-q", "-m", "large", folder=service.folder / "code")
        holdfast = Steady(service.folder)
        holdfast("backup", status=0)
        return service, holdfast

    def stored(self, service: Service, source: str) -> Path:
        name = ARTIFACTS[source].removesuffix(".zst")
        return snapshots(service)[-1] / f"{name}.age"

    @pytest.mark.parametrize(
        "damage",
        [flipped_at(part) for part in (0, 0.00002, 0.00007, 0.0001, 0.5, 1)]
        + [cut, appended, Path.unlink],
    )
    @pytest.mark.parametrize("source", ["db", "config", "code"])
    def test_is_taken_from_elsewhere_where_it_is_damaged(
        self, sealed: tuple[Service, Steady], source: str, damage: Callable[[Path], None]
    ) -> None:
        service, holdfast = sealed
        before = service.observe()
        damage(self.stored(service, source))
        service.destroy()
        document = holdfast.json(*RECOVER)
        assert service.observe() == before
        assert came_from(document)[source] == "offsite"
        assert not service.leftovers()

    def forge(self, service: Service, source: str) -> None:
        """Put other content of the same length there, encrypted to the same recipient."""
        stored = self.stored(service, source)
        identity = pyrage.x25519.Identity.from_str((service.folder / IDENTITY).read_text().strip())
        content = bytearray(pyrage.decrypt(stored.read_bytes(), [identity]))
        content[len(content) // 2] ^= 1
        # The library adds a line of random length to the header.
        anew = partial(pyrage.encrypt, bytes(content), [identity.to_public()])
        size = stored.stat().st_size
        stored.write_bytes(next(one for one in iter(anew, None) if len(one) == size))

    @pytest.mark.parametrize("source", ["db", "config", "code"])
    def test_is_taken_from_elsewhere_where_somebody_forged_it(
        self, sealed: tuple[Service, Steady], source: str
    ) -> None:
        service, holdfast = sealed
        before = service.observe()
        self.forge(service, source)
        service.destroy()
        document = holdfast.json(*RECOVER)
        assert service.observe() == before
        assert came_from(document)[source] == "offsite"

    @pytest.mark.parametrize("source", ["db", "config", "code"])
    def test_is_compared_as_content_where_nothing_else_tells_of_it(
        self, sealed: tuple[Service, Steady], source: str
    ) -> None:
        """Forged by somebody who made the manifest fit as well."""
        service, holdfast = sealed
        before = service.observe()
        real = hashlib.sha256(self.stored(service, source).read_bytes()).hexdigest()
        self.forge(service, source)
        forged = self.stored(service, source).read_bytes()
        document = json.loads((snapshots(service)[-1] / "manifest.json").read_bytes())
        for one in document["artifacts"]:
            if one["sha256"] == real:
                one["sha256"] = hashlib.sha256(forged).hexdigest()
                one["head_sha256"] = hashlib.sha256(forged[: 1 << 20]).hexdigest()
        manifest = Manifest.from_bytes(json.dumps(document).encode())
        for folder in ("backups", "elsewhere"):
            place = snapshots(service, folder)[-1]
            (place / self.stored(service, source).name).write_bytes(forged)
            (place / "manifest.json").write_bytes(manifest.to_bytes())
            (place / "SHA256SUMS").write_bytes(sums(manifest, manifest.to_bytes()))
        holdfast("restore", "--source", source, "--confirm", source, status=4)
        assert service.observe() == before
        assert not safety_copies(service)


@pytest.mark.parametrize("name", ["SHA256SUMS", "RESTORE.md", "db.fingerprint.json.zst"])
def test_what_lies_beside_it_counts_too(two: tuple[Service, Steady], name: str) -> None:
    service, holdfast = two
    flip(snapshots(service)[-1] / name)
    answer = holdfast("restore", "--source", "db", "--confirm", "db", status=0)
    assert "db came from offsite, since disk could not serve: " in answer.stdout
    assert name in answer.stdout
    assert "`holdfast verify --target disk` says what is whole there." in answer.stdout


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_manifest_that_was_damaged_since_the_plan_was_made(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    service, holdfast = two
    manifest = snapshots(service)[-1] / "manifest.json"
    at_start_of(monkeypatch, "db.stage", lambda: damage(manifest))
    document = holdfast.json("restore", "--source", "db", "--confirm", "db")
    assert came_from(document) == {"db": "offsite"}


def test_a_target_that_goes_away_meanwhile(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of the copy later is asked where it was staged from."""
    service, holdfast = two
    before = service.observe()
    service.destroy()
    at_start_of(monkeypatch, "code.stage", lambda: shutil.rmtree(service.folder / "backups"))
    document = holdfast.json(*RECOVER)
    assert service.observe() == before
    assert came_from(document)["code"] == "offsite"


def test_a_target_that_goes_away_before_the_proof(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fingerprint is sealed: each copy of it serves."""
    service, holdfast = two
    before = service.observe()
    service.destroy()
    at_start_of(monkeypatch, "config.prove", lambda: block(service.folder / "backups"))
    document = holdfast.json(*RECOVER)
    assert service.observe() == before
    assert {one["equal"] for one in document["proof"]} == {True}
    assert came_from(document)["config"] == "disk"


def test_a_target_that_does_not_answer_is_waited_for_once(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each source: a night has only so many hours."""
    service, holdfast = two
    before = service.observe()
    service.destroy()
    waited: list[str] = []
    real = LocalTarget.get

    def get(target: LocalTarget, key: str, **part: Any) -> Iterator[bytes]:
        if target.name != "disk":
            return real(target, key, **part)
        waited.append(key)
        raise StepFailed("disk did not answer in time.")

    at_start_of(monkeypatch, "code.stage", lambda: monkeypatch.setattr(LocalTarget, "get", get))
    answer = holdfast(*RECOVER, status=0)
    assert service.observe() == before
    assert len(waited) == 1
    for source in ARTIFACTS:
        said = f"{source} came from offsite, since disk could not serve: disk did not answer"
        assert said in answer.stdout


def test_where_no_target_answers_the_remedy_is_to_look_at_them(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, holdfast = two
    before = service.observe()

    def block_both() -> None:
        block(service.folder / "backups")
        block(service.folder / "elsewhere")

    at_start_of(monkeypatch, "db.stage", block_both)
    answer = holdfast("restore", "--source", "db", "--confirm", "db", status=4)
    assert "And at offsite: " in answer.stderr
    assert "Nothing was replaced." in answer.stderr
    assert "earlier snapshot" not in answer.stderr
    assert service.observe() == before


def test_a_run_that_was_cut_off_goes_on_with_the_copy_that_it_took(
    two: tuple[Service, Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, holdfast = two
    before = service.observe()
    flip(snapshots(service)[-1] / ARTIFACTS["config"])
    service.destroy()

    def cut_off() -> None:
        raise OSError("the power went")

    at_start_of(monkeypatch, "config.prove", cut_off)
    document = holdfast(*RECOVER, "--json", status=4).json
    shutil.rmtree(service.folder / "backups")
    holdfast.json("dr-restore", "--resume", document["run"])
    assert service.observe() == before


def test_where_no_copy_is_whole_each_is_told_and_nothing_replaced(
    two: tuple[Service, Steady],
) -> None:
    service, holdfast = two
    before = service.observe()
    flip(snapshots(service)[-1] / ARTIFACTS["db"])
    (snapshots(service, "elsewhere")[-1] / ARTIFACTS["db"]).unlink()
    answer = holdfast("restore", "--source", "db", "--confirm", "db", status=4)
    assert f"{ARTIFACTS['db']} at disk is damaged: " in answer.stderr
    assert "And at offsite: The stored copy of " in answer.stderr
    assert "it is missing" in answer.stderr
    assert "Take an earlier snapshot, with --snapshot or --at." in answer.stderr
    assert service.observe() == before
    assert not safety_copies(service)
    assert not service.leftovers()


def test_a_target_that_was_asked_for_is_the_only_one(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    flip(snapshots(service)[-1] / ARTIFACTS["db"])
    answer = holdfast("restore", "--source", "db", "--from", "disk", "--confirm", "db", status=4)
    assert "at disk is damaged" in answer.stderr
    assert "Begin anew with --from another target" in answer.stderr


def test_a_drill_fails_with_the_copy_that_it_tries(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    flip(snapshots(service)[-1] / ARTIFACTS["db"])
    document = holdfast.json("drill", status=4)
    assert {one["status"] for one in document["steps"] if one["id"] == "db.stage"} == {"failed"}


def test_a_full_disk_is_no_fault_of_the_copy(two: tuple[Service, Steady]) -> None:
    service, holdfast = two
    with small_disk(service.folder / "data", "256k") as disk:
        fill(disk)
        answer = holdfast("restore", "--source", "db", "--confirm", "db", status=4)
    assert "where 0 are free" in answer.stderr
    assert "offsite" not in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("config", "--include", ".env", "--confirm", "config"),
        ("config", "--to", "found"),
        ("db", "--to", "found.db"),
        ("db", "--live", "--confirm", "db"),
        ("code", "--to", "found"),
    ],
)
def test_however_a_source_is_restored(two: tuple[Service, Steady], words: tuple[str, ...]) -> None:
    service, holdfast = two
    before = service.observe()
    flip(snapshots(service)[-1] / ARTIFACTS[words[0]])
    document = holdfast.json("restore", "--source", *words)
    assert [one["equal"] for one in document["proof"]] == [True]
    assert came_from(document) == {words[0]: "offsite"}
    assert service.observe() == before
    assert not service.leftovers()


@pytest.mark.parametrize("moment", ["config.stage:ended", "config.prove", "config.swap:ended"])
def test_killed_after_it_went_over_to_another_copy(
    two: tuple[Service, Steady], moment: str
) -> None:
    service, holdfast = two
    before = service.observe()
    flip(snapshots(service)[-1] / ARTIFACTS["config"])
    service.destroy()
    killed = subprocess.run(
        [sys.executable, "-P", str(KILLED), moment, *RECOVER],
        cwd=service.folder,
        env=clean_environment(service.folder),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    (last, *_) = holdfast.json("history", "--runs")["runs"]
    document = holdfast.json("dr-restore", "--resume", last["run"])
    assert service.observe() == before
    assert came_from(document)["config"] == "offsite"
    holdfast("dr-restore", "--rollback", last["run"], "--confirm", "quaybot", status=0)
    assert not service.leftovers()
