"""What a recovery replaced: put back, killed on the way, listed, let go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.source import replaced
from tests.inside import Inside
from tests.postgres_server import Database
from tests.redis_server import RedisServer
from tests.service import Service
from tests.whole_stack import SOURCES, WholeStack, die_at


@pytest.fixture
def stack(tmp_path: Path, database: Database, redis_server: RedisServer) -> WholeStack:
    return WholeStack(tmp_path / "service", tmp_path / "target", database, redis_server).build()


def recovered(stack: WholeStack) -> tuple[str, Any]:
    """Back up, let a day go by, recover; the run, and what was there before it."""
    stack("backup", status=0)
    stack.change()
    before = stack.observe()
    return stack.json("dr-restore", "--confirm", "quaybot")["run"], before


def test_a_recovery_of_everything_is_taken_back_and_that_too(stack: WholeStack) -> None:
    run, before = recovered(stack)
    restored = stack.observe()
    shown = stack("dr-restore", "--rollback", run, "--dry-run", status=0).stdout
    assert "main.swap" in shown
    assert "would rollback" not in shown
    refused = stack("dr-restore", "--rollback", run, status=7)
    assert "--confirm quaybot" in refused.stderr
    stack("dr-restore", "--rollback", run, "--dry-run", "--out", "plan.json", status=0)
    applied = stack("apply", "--plan", "plan.json", status=7)
    for answer in (refused, applied):
        assert f"this takes back what {run} restored" in answer.stderr
    assert stack.observe() == restored
    document = stack.json("dr-restore", "--rollback", run, "--confirm", "quaybot")
    assert document["status"] == "done"
    assert stack.observe() == before
    assert stack.log()[-2:] == ["stop", "start"]
    assert stack.leftovers() == []
    again = stack("dr-restore", "--rollback", run, "--confirm", "quaybot", status=1)
    assert document["run"] in again.stderr
    stack("dr-restore", "--rollback", document["run"], "--confirm", "quaybot", status=0)
    assert stack.observe() == restored


def test_safety_copies_are_listed_and_let_go(stack: WholeStack) -> None:
    run, _ = recovered(stack)
    rows = stack.json("list", "--safety")["safety"]
    assert {one["source"] for one in rows} == set(SOURCES)
    assert {one["run"] for one in rows} == {run}
    assert all(one["bytes"] > 0 and not one["unfinished"] for one in rows)
    assert "dr-restore --rollback" in stack("list", "--safety", status=0).stdout
    assert stack.json("prune", "--safety", "--older", "1d")["removed"] == []
    assert "--confirm quaybot" in stack("prune", "--safety", status=7).stderr
    restored = stack.observe()
    removed = stack.json("prune", "--safety", "--confirm", "quaybot")["removed"]
    assert {one["source"] for one in removed} == set(SOURCES)
    assert stack.json("list", "--safety")["safety"] == []
    assert stack.safety_databases() == []
    assert [one for one in stack.folder.rglob("*") if ".before-" in one.name] == []
    assert stack.observe() == restored
    assert "cannot be taken back" in stack("dr-restore", "--rollback", run, status=1).stderr


@pytest.mark.slow
def test_a_rollback_killed_after_each_exchange_is_resumed(stack: WholeStack) -> None:
    run, other = recovered(stack)
    now = stack.observe()
    for name in SOURCES:
        die_at(stack, f"{name}.swap:ended", "dr-restore", "--rollback", run, "--confirm", "quaybot")
        run = stack.json("history", "--runs")["runs"][0]["run"]
        stack("dr-restore", "--resume", run, status=0)
        now, other = other, now
        assert stack.observe() == now, name
    assert stack.leftovers() == []


def test_a_killed_rollback_is_taken_back_by_the_next_command(stack: WholeStack) -> None:
    stack("backup", status=0)
    stack.change()
    run = stack.json("restore", "--source", "main", "--confirm", "main")["run"]
    restored = stack.observe()
    die_at(stack, "main.swap:ended", "dr-restore", "--rollback", run, "--confirm", "quaybot")
    assert stack.observe()["main"] != restored["main"]
    stack("backup", status=0)
    assert stack.observe() == restored
    assert stack.leftovers() == []


@pytest.mark.parametrize("name", ["db", "config", "code"])
def test_a_killed_rollback_that_was_taken_back_leaves_nothing(tmp_path: Path, name: str) -> None:
    service = Service(tmp_path / "service").build()
    service.program("backup", status=0)
    service.change()
    before = service.observe()
    run = service.program.json("dr-restore", "--confirm", "quaybot")["run"]
    back = ("dr-restore", "--rollback", run, "--confirm", "quaybot")
    die_at(service, f"{name}.swap:ended", *back)
    service.program("backup", status=0)
    assert service.leftovers() == []
    service.program(*back, status=0)
    assert service.observe() == before


def test_where_nothing_stood_nothing_stands_again(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    program = service.program
    program("backup", status=0)
    service.destroy()
    run = program.json("dr-restore", "--confirm", "quaybot")["run"]
    shown = program("prune", "--safety", "--dry-run", status=0).stdout
    assert f"Forget {run}, which kept nothing of db" in shown
    program("dr-restore", "--rollback", run, "--confirm", "quaybot", status=0)
    assert not (service.folder / "data" / "quaybot.db").exists()
    assert not (service.folder / "config").exists()
    assert service.observe()["code"] is None


def test_a_safety_copy_that_is_gone_is_told_before_anything_changes(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    program = service.program
    program("backup", status=0)
    run = program.json("restore", "--source", "db", "--confirm", "db")["run"]
    (kept,) = (service.folder / "data").glob("*.before-*")
    kept.unlink()
    before = service.observe()
    refused = program("dr-restore", "--rollback", run, "--confirm", "quaybot", status=4)
    assert "is gone" in refused.stderr
    assert service.observe() == before


def test_half_removed_safety_copies_are_never_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that ends early has taken a part of them: a repository without some objects."""
    service = Service(tmp_path / "service").build()
    program = Inside(service.folder)
    program("backup", status=0)
    run = program.json("dr-restore", "--confirm", "quaybot")["run"]
    removal = ("prune", "--safety", "--confirm", "quaybot")

    def cut_off(path: Path) -> None:
        (path / "HEAD" if path.is_dir() else path).unlink()
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(replaced, "remove_tree", cut_off)
        program(*removal, status=4)
    assert "only a part may be left" in program("list", "--safety", status=0).stdout
    before = service.observe()
    refused = program("dr-restore", "--rollback", run, "--confirm", "quaybot", status=4)
    assert "was about to be removed" in refused.stderr
    assert service.observe() == before
    program(*removal, "--older", "1d", status=0)
    assert [one for one in service.folder.rglob("*") if ".before-" in one.name] == []


def test_one_of_several_safety_copies_that_is_gone_is_told_before_anything_changes(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path / "service").build()
    program = service.program
    program("backup", status=0)
    run = program.json("dr-restore", "--confirm", "quaybot")["run"]
    (kept,) = service.folder.glob(".env.before-*")
    kept.unlink()
    before = service.observe()
    refused = program("dr-restore", "--rollback", run, "--confirm", "quaybot", status=4)
    assert "safety copy of config" in refused.stderr
    assert service.observe() == before


def test_the_copies_of_a_run_that_did_not_end_well_stay(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    program = service.program
    program("backup", status=0)
    (service.folder / ".env").write_text("")
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("test -s .env &&", "test -e ready &&"))
    failed = program.json("dr-restore", "--confirm", "quaybot", status=4)["run"]
    kept = program.json("prune", "--safety", "--confirm", "quaybot")["kept"]
    assert {one["run"] for one in kept} == {failed}
    assert len(program.json("list", "--safety")["safety"]) == 3
    program("dr-restore", "--rollback", failed, "--confirm", "quaybot", status=0)
    resumed = program("dr-restore", "--resume", failed, status=1)
    assert "was taken back" in resumed.stderr


def test_the_copies_of_a_run_that_nothing_goes_on_with_are_let_go(tmp_path: Path) -> None:
    """A restore cannot be resumed, and a recovery that a later one made good need not be."""
    service = Service(tmp_path / "service").build()
    program = Inside(service.folder)
    program("backup", status=0)
    spec = service.folder / "backup.yaml"
    well = spec.read_text()
    spec.write_text(well.replace('start: "echo', 'start: "false; echo'))
    program("restore", "--source", "db", "--confirm", "db", status=4)
    failed = program.json("dr-restore", "--confirm", "quaybot", status=4)["run"]
    spec.write_text(well)
    removal = ("prune", "--safety", "--confirm", "quaybot")
    assert {one["run"] for one in program.json(*removal)["kept"]} == {failed}
    program("dr-restore", "--confirm", "quaybot", status=0)
    assert program.json(*removal)["kept"] == []
    assert [one for one in service.folder.rglob("*") if ".before-" in one.name] == []


def test_a_role_that_makes_no_databases_puts_dumps_back(stack: WholeStack) -> None:
    """What was replaced in place was kept as a dump, not as a database."""
    database = stack.database
    spec = stack.folder / "backup.yaml"
    text = spec.read_text().replace("user: postgres", f"user: {database.owner}")
    spec.write_text(text.replace("         globals: true}", "         globals: false}"))
    database.execute(f"ALTER TABLE players OWNER TO {database.owner}")
    database.execute(f"ALTER TABLE items OWNER TO {database.owner}")
    database.execute(f"ALTER VIEW rich OWNER TO {database.owner}")
    database.execute(f"ALTER ROLE {database.owner} NOCREATEDB")
    stack("backup", "--source", "main", status=0)
    stack.change()
    before = stack.observe()["main"]
    run = stack.json("restore", "--source", "main", "--confirm", "main")["run"]
    restored = stack.observe()["main"]
    assert restored != before
    (kept,) = stack.json("list", "--safety")["safety"]
    assert kept["copies"][0]["where"].endswith(".pgdump")
    back = stack.json("dr-restore", "--rollback", run, "--confirm", "quaybot")["run"]
    assert stack.observe()["main"] == before
    stack("dr-restore", "--rollback", back, "--confirm", "quaybot", status=0)
    assert stack.observe()["main"] == restored
    assert stack.safety_databases() == []
