"""Recovering by a spec whose variables were set in a file that is lost too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from runner.source.files import FilesSource
from runner.store.seal import keygen
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.test_killed_recovery import kill
from tests.tools import Program, require_program, run

NAMED = (
    SPEC.replace("env_file: [.env]", "env_file: [.env, local.env]")
    .replace("path: data/quaybot.db", 'path: "data/${NAME}.db"')
    .replace("path: code", 'path: "${CODE:-code}"')
)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service whose database is named by `.env`, which is encrypted with everything else."""
    identity, recipient = keygen()
    (tmp_path / "key").write_text(identity)
    (tmp_path / "key").chmod(0o600)
    keys = f"encryption: {{recipients: [{recipient}], identity: {{secret: 'file:../key'}}}}\n"
    service = Service(tmp_path / "service", NAMED + keys).build()
    (service.folder / ".env").write_text("TOKEN=abc\nNAME=quaybot\nLEVEL=1\n")
    (service.folder / "local.env").write_text("LEVEL=2\n")
    service.program("backup", status=0)
    return service


def lose(service: Service) -> None:
    """Lose everything but the targets and the spec."""
    service.destroy()
    assert not (service.folder / ".env").exists()


def test_everything_comes_back(service: Service) -> None:
    before = service.observe()
    lose(service)
    plan = service.program("dr-restore", "--dry-run", status=0).stdout
    assert f"Put db in its place: {service.folder}/data/quaybot.db" in plan
    service.program("dr-restore", "--confirm", "quaybot", status=0)
    assert service.observe() == before
    assert service.leftovers() == []


def test_each_source_comes_back_alone(service: Service) -> None:
    lose(service)
    service.program("restore", "--source", "db", "--confirm", "db", status=0)
    with sqlite3.connect(service.folder / "data/quaybot.db") as database:
        assert database.execute("select count(*) from players").fetchone() == (200,)
    assert not (service.folder / ".env").exists()
    service.program("restore", "--source", "config", "--confirm", "config", status=0)
    assert "NAME=quaybot" in (service.folder / ".env").read_text()


def test_a_saved_plan_and_a_killed_run_go_on(service: Service) -> None:
    before = service.observe()
    lose(service)
    service.program("dr-restore", "--dry-run", "--out", "plan", status=0)
    kill(service, "config.swap", "apply", "--plan", "plan", "--confirm", "quaybot")
    assert not (service.folder / ".env").exists()
    (begun,) = service.program.json("history", "--runs")["runs"][:1]
    service.program("dr-restore", "--resume", begun["run"], status=0)
    assert service.observe() == before


def test_a_drill_needs_no_file_of_this_host(service: Service) -> None:
    lose(service)
    results = service.program.json("drill", "--report-dir", "reports")
    assert {one["source"]: one["equal"] for one in results["proof"]} == {
        "code": True,
        "config": True,
        "db": True,
    }


def test_files_that_are_there_come_first(service: Service) -> None:
    (service.folder / "local.env").write_text("NAME=other\n")
    lose(service)
    plan = service.program("dr-restore", "--dry-run", status=0).stdout
    assert f"Put db in its place: {service.folder}/data/other.db" in plan


def test_without_the_key_the_variable_is_missed(service: Service, tmp_path: Path) -> None:
    lose(service)
    (tmp_path / "key").unlink()
    answer = service.program("dr-restore", "--dry-run", status=3)
    assert "${NAME} has no value" in answer.stderr
    program = Program(service.folder, {"NAME": "quaybot"})
    assert "data/quaybot.db" in program("dr-restore", "--dry-run", status=0).stdout


def test_nobody_reads_a_file_that_was_never_there(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("[.env, local.env]", "[.env, config/none.env]"))

    def refused(*_: object) -> None:
        raise AssertionError("a whole archive was read for nothing")

    holdfast = Inside(service.folder)
    monkeypatch.setattr(FilesSource, "stage", refused)
    holdfast("dr-restore", "--dry-run", status=0)
    (service.folder / ".env").rename(service.folder / "config/moved.env")
    spec.write_text(spec.read_text().replace("[.env, config/none.env]", "[config/none.env]"))
    assert "${NAME} has no value" in holdfast("dr-restore", "--dry-run", status=3).stderr


def test_what_nobody_known_signed_says_nothing(service: Service, tmp_path: Path) -> None:
    require_program("ssh-keygen")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "sign", folder=tmp_path)
    public = " ".join((tmp_path / "sign.pub").read_text().split()[:2])
    (service.folder / "signers").write_text(f"ops {public}\n")
    spec = service.folder / "backup.yaml"
    signing = "signing: {key: {secret: 'file:../sign'}, allowed_signers: signers}\n"
    spec.write_text(spec.read_text() + signing)
    lose(service)
    unsigned = service.program("dr-restore", "--dry-run", status=3)
    assert "${NAME} has no value" in unsigned.stderr
    named = Program(service.folder, {"NAME": "quaybot"})
    (service.folder / "config").mkdir()
    (service.folder / ".env").write_text("NAME=quaybot\n")
    named("backup", "--source", "config", status=0)
    (service.folder / ".env").unlink()
    assert "data/quaybot.db" in service.program("dr-restore", "--dry-run", status=0).stdout
