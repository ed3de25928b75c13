"""A drill of all five kinds at once: the commands get what was restored, and nothing that lives."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.owner import Owner, alive
from runner.prove.command import isolation
from tests.postgres_server import Database
from tests.redis_server import RedisServer
from tests.tools import cannot_run, require_program
from tests.whole_stack import SOURCES, WholeStack, die_at

# What each kind's own program says of what the drill restored, at the address it is given.
ASK_EACH = """
  - name: ask-each
    drill: same
    run: |
      psql --no-psqlrc -qAt "$HOLDFAST_MAIN" -c 'select count(*) from players' | grep -qx 200
      socket=${HOLDFAST_CACHE#unix://}
      redis-cli -s "${socket%%\\?*}" exists session:1 | grep -qx 1
      sqlite3 "$HOLDFAST_DB" 'select count(*) from players' | grep -qx 200
      grep -q TOKEN "$HOLDFAST_CONFIG/.env"
      git -C "$HOLDFAST_CODE" cat-file -e v1
"""
REACH_OUT = """
  - name: reach-out
    drill: |
      for port in TRAP PG_PORT REDIS_PORT; do
        if (: < /dev/tcp/127.0.0.1/$port) 2>/dev/null; then echo "reached $port"; exit 1; fi
      done
    run: "true"
  - {name: page, probe: {http: "http://127.0.0.1:TRAP/health"}, drill: same, expected: 1s}
  - {name: port, probe: {tcp: "127.0.0.1:TRAP"}, drill: same, expected: 1s}
  - {name: left-out, run: "touch /dev/tcp/127.0.0.1/TRAP", expected: 1s}
"""


@pytest.fixture
def stack(tmp_path: Path, database: Database, redis_server: RedisServer) -> WholeStack:
    return WholeStack(tmp_path / "service", tmp_path / "target", database, redis_server).build()


@contextmanager
def trap() -> Iterator[socket.socket]:
    """A server of production that nobody may call."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def declare(stack: WholeStack, entries: str) -> None:
    """Add entries to the end of the recovery."""
    path = stack.folder / "backup.yaml"
    path.write_text(path.read_text().replace("checks:", "  " + entries.strip() + "\n" + "checks:"))


def report_of(document: Any) -> Any:
    return json.loads(Path(document["report"]).with_suffix(".json").read_text())


def servers_of(stack: WholeStack) -> list[Owner]:
    """The scratch servers that are noted and run."""
    notes = [json.loads(one.read_text()) for one in stack.folder.rglob("*.process")]
    owners = [Owner.from_json(one["owner"]) for one in notes if "owner" in one]
    return [one for one in owners if alive(one)]


@pytest.mark.slow
def test_what_a_killed_drill_leaves_is_swept_by_the_next(stack: WholeStack) -> None:
    stack("backup", status=0)
    left: list[Owner] = []
    # While all kinds are being restored, and when all of them stand.
    for moment in ("cache.prove", "players"):
        die_at(stack, moment, "drill")
        assert [one for one in left if alive(one)] == []
        left = servers_of(stack)
        assert stack.leftovers() != []
    assert len(left) == 2
    document = stack.json("drill", "--scenario", "host-lost")
    assert {one["equal"] for one in document["proof"]} == {True}
    (swept,) = report_of(document)["swept"]
    assert swept in Path(document["report"]).read_text()
    assert [one for one in left if alive(one)] == []
    assert stack.leftovers() == []


def test_each_kind_is_given_to_the_commands_and_nothing_that_lives(stack: WholeStack) -> None:
    for program in ("psql", "redis-cli", "sqlite3"):
        require_program(program)
    if isolation() == "none":
        cannot_run("the kernel allows no network namespace")
    with trap() as server:
        entries = ASK_EACH + REACH_OUT
        for name, port in (
            ("TRAP", server.getsockname()[1]),
            ("PG_PORT", stack.database.cluster.port),
            ("REDIS_PORT", stack.server.port),
        ):
            entries = entries.replace(name, str(port))
        declare(stack, entries)
        stack("backup", status=0)
        before = stack.observe()
        document = stack.json("drill")
    assert {one["source"]: one["equal"] for one in document["proof"]} == dict.fromkeys(
        SOURCES, True
    )
    verdicts = {one["name"]: one["verdict"] for one in document["checks"]}
    assert (verdicts.pop("page"), verdicts.pop("port")) == ("SKIP", "SKIP")
    assert set(verdicts.values()) == {"PASS"}
    assert document["isolation"] == report_of(document)["isolation"] == "network"
    assert document["cleanup"] == "clean"
    assert stack.observe() == before
    assert stack.log() == []
    assert stack.leftovers() == []
