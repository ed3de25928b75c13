"""PostgreSQL, Redis, SQLite, files and git: destroyed together, recovered together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_journeys import run_blocks
from tests.tools import clean_environment, require_program
from tests.whole_machine import WholeMachine, whole_machine, writers
from tests.whole_stack import SOURCES

KILLED_AFTER_EACH = Path(__file__).parent / "faults" / "killed_after_each.py"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[WholeMachine]:
    with whole_machine(tmp_path) as service:
        yield service


def players(stack: WholeMachine) -> list[int]:
    """The numbers of the players in PostgreSQL, in order."""
    return [row[0] for row in stack.database.rows("SELECT id FROM players ORDER BY id")]


def require_proven(document: Any) -> None:
    """All that a recovery says of itself is well: its steps, its proofs, its probes."""
    assert document["status"] == "done"
    assert {one["source"]: one["equal"] for one in document["proof"]} == dict.fromkeys(
        SOURCES, True
    )
    steps = {one["id"]: one["status"] for one in document["steps"]}
    assert {name for name, status in steps.items() if status != "done"} == {
        f"{name}.unswap" for name in SOURCES
    }
    assert document["next"] is None


def test_everything_is_lost_and_comes_back(stack: WholeMachine) -> None:
    before = stack.observe()
    with writers(stack):
        stack("backup", status=0)
    newest = max(players(stack))
    stack.destroy()
    document = stack.json("dr-restore", *stack.by_address, "--confirm", "quaybot")
    require_proven(document)
    found = stack.observe()
    assert [found[name] == before[name] for name in ("db", "files", "code")] == [True] * 3
    # Of what was written meanwhile the beginning came back, without a gap.
    new = players(stack)[200:]
    assert new == list(range(1001, 1001 + len(new)))
    assert not new or new[-1] <= newest
    assert stack.log() == ["provisioned", "stop", "start", "deployed"]
    assert stack.leftovers() == []


@pytest.mark.slow
def test_a_person_brings_everything_back_by_the_runbook(stack: WholeMachine) -> None:
    for program in ("psql", "redis-cli"):
        require_program(program)
    stack("backup", status=0)
    wanted = stack.observe()
    stack.destroy()
    document = stack.json("runbook", "--from", stack.target)["document"]
    run_blocks(document, stack.machine.home, REDISCLI_AUTH=stack.server.password)
    assert stack.observe() == wanted
    assert stack.log() == ["provisioned", "stop", "start", "deployed"]


@pytest.mark.slow
def test_killed_after_each_step_in_turn_and_resumed(stack: WholeMachine, tmp_path: Path) -> None:
    # One at a time: a kill beside a command of the user's leaves a question to a person.
    spec = stack.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("version: 1\n", "version: 1\nparallel: 1\n", 1))
    stack("backup", status=0)
    wanted = stack.observe()
    stack.destroy()
    report = tmp_path / "report"
    flags = [*stack.by_address, "--confirm", "quaybot", "--json"]
    subprocess.run(
        [sys.executable, "-P", str(KILLED_AFTER_EACH), str(report), *flags],
        cwd=tmp_path,
        env=clean_environment(tmp_path, **stack.environment),
        stdin=subprocess.DEVNULL,
        check=True,
        start_new_session=True,
    )
    found = json.loads(report.read_text())
    assert found["status"] == 0, found
    document = json.loads(found["said"])
    require_proven(document)
    # No step was spared, and none was taken back meanwhile.
    assert set(found["killed"]) == {
        one["id"] for one in document["steps"] if one["status"] == "done"
    }
    assert stack.observe() == wanted
    assert stack.log()[0] == "provisioned"
    assert stack.log()[-2:] == ["start", "deployed"]
    assert stack.leftovers() == []
