"""A service whose data is in PostgreSQL, from its first backup to the bad day, by the program."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.owner import Owner, alive
from tests.postgres_server import PASSWORD, Database, Servers, fresh_database
from tests.postgres_service import PostgresService, content, databases
from tests.source.postgres_sample import EVIL, quoted
from tests.tools import blocks, run

DEADLINE_SECONDS = 60.0
CHECKS = {
    "checks": {
        "db": [
            {"name": "players exist", "sql": "select count(*) > 0 from players"},
            {"name": "nobody is lost", "sql": "select count(*) from players", "at_least": 200},
        ]
    }
}
RECOVERY = {
    "objectives": {"system": {"rto": "1h"}, "db": {"rto": "10m", "rpo": "26h"}},
    "recovery": [
        {"restore": ["db"]},
        {
            "name": "answers",
            "probe": {"sql": "select count(*) from items", "source": "db"},
            "drill": "same",
        },
    ],
}


@pytest.fixture
def service(tmp_path: Path, database: Database) -> PostgresService:
    service = PostgresService(tmp_path / "service", database).fill()
    service.declare(**CHECKS, **RECOVERY)
    return service


def wait_until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)
    return found


def forget_a_day(database: Database) -> None:
    """What somebody does by mistake."""
    database.execute(
        "DELETE FROM items WHERE player < 100", "UPDATE players SET name = 'x' WHERE id = 7"
    )


def test_a_mistake_is_taken_back(service: PostgresService) -> None:
    database = service.database
    before = content(database)
    service("backup", status=0)
    assert service.json("verify", "--level", "restored")["results"][0]["verdict"] == "PASS"
    forget_a_day(database)
    after = content(database)
    document = service.json("restore", "--source", "db", "--confirm", "db")
    assert document["proof"] == [{"source": "db", "equal": True, "differences": []}]
    assert content(database) == before
    (kept,) = [one for one in databases(database.cluster) if one.startswith(f"{database.name}_")]
    assert "_before_" in kept
    assert content(database, kept) == after
    assert service.leftovers() == []
    service("status", status=0)
    names = {one["name"] for one in service.json("ls", "--source", "db")["contents"]}
    assert {"public.players", "public.items"} <= names


def test_total_loss_comes_back(service: PostgresService) -> None:
    database = service.database
    before = content(database)
    service("backup", status=0)
    database.cluster.execute(f"DROP DATABASE {database.name}")
    document = service.json("dr-restore", "--confirm", "quay")
    assert document["status"] == "done"
    assert content(database) == before
    assert service.leftovers() == []


def test_a_drill_touches_nothing(service: PostgresService) -> None:
    before, standing = content(service.database), databases(service.database.cluster)
    service("backup", status=0)
    document = service.json("drill", "--report-dir", "reports")
    assert document["cleanup"] == "clean"
    assert document["proof"] == [{"source": "db", "equal": True, "differences": []}]
    assert {one["verdict"] for one in document["checks"]} == {"PASS"}
    assert document["rto"]["db"]["met"] is True
    assert (content(service.database), databases(service.database.cluster)) == (before, standing)
    assert service.leftovers() == []


def test_a_check_that_fails_fails_the_drill(service: PostgresService) -> None:
    service.declare(checks={"db": [{"name": "rich", "sql": "select count(*) > 999 from players"}]})
    service("backup", status=0)
    document = service.json("drill", "--report-dir", "reports", status=4)
    assert [one["verdict"] for one in document["checks"]] == ["FAIL"]
    assert service.leftovers() == []


def test_a_restore_to_another_name_and_of_some_tables(service: PostgresService) -> None:
    database = service.database
    before = content(database)
    service("backup", status=0)
    forget_a_day(database)
    after = content(database)
    service("restore", "--source", "db", "--to", "copy of it", status=0)
    assert content(database, "copy of it") == before
    database.cluster.execute(f"CREATE DATABASE part OWNER {database.owner}")
    service(
        *("restore", "--source", "db", "--to", "part", "--include", "public.players"),
        *("--confirm", "db"),
        status=0,
    )
    assert len(database.cluster.rows("SELECT * FROM players", "part")) == 200
    assert content(database) == after


def test_a_connected_application_stops_the_restore(service: PostgresService) -> None:
    database = service.database
    before = content(database)
    service("backup", status=0)
    forget_a_day(database)
    with database.connect(database.owner, application_name="the bot") as bot:
        answer = service("restore", "--source", "db", "--confirm", "db", status=7)
        assert "the bot" in answer.stderr
        assert content(database) != before
        assert bot.execute("SELECT 1").fetchone() == (1,)
        service("restore", "--source", "db", "--confirm", "db", "--live", status=0)
        with pytest.raises(psycopg.OperationalError):
            bot.execute("SELECT 1")
    assert content(database) == before
    assert service.leftovers() == []


def test_a_role_that_makes_no_databases_restores_in_place(service: PostgresService) -> None:
    database = service.database
    before, standing = content(database), databases(database.cluster)
    service("backup", status=0)
    forget_a_day(database)
    database.execute(f"ALTER ROLE {database.owner} NOCREATEDB")
    document = service.json("restore", "--source", "db", "--confirm", "db")
    assert document["proof"] == [{"source": "db", "equal": True, "differences": []}]
    (safety,) = document["safety"]
    assert Path(safety).stat().st_size > 0
    assert content(database) == before
    assert databases(database.cluster) == standing
    assert service.leftovers() == []


def test_the_doctor_looks_at_the_server(service: PostgresService) -> None:
    found = service("doctor")
    assert str(service.database.cluster.major) in found.stdout
    assert "pg_dump" in found.stdout
    service.source["bin"] = "/nowhere"
    service.declare()
    assert "pg_dump" in service("doctor", status=4).stdout


def test_several_databases_and_their_roles(tmp_path: Path, database: Database) -> None:
    cluster = database.cluster
    service = PostgresService(
        tmp_path / "service", database, user="postgres", databases="all", globals=True
    ).fill()
    del service.source["dbname"]
    service.declare()
    cluster.execute(f"CREATE DATABASE {quoted(EVIL)} OWNER {database.owner}")
    evil = Database(cluster, EVIL, database.owner)
    evil.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS v")
    before = content(database)
    found = service.json("backup")["snapshots"][0]["artifacts"]
    assert len([one for one in found if ".pgdump" in one["key"]]) == 3
    assert len([one for one in found if ".globals.sql" in one["key"]]) == 1
    service("verify", "--level", "restored", status=0)
    cluster.execute(f"DROP DATABASE {quoted(EVIL)}", f"DROP DATABASE {database.name}")
    cluster.execute(f"DROP ROLE {database.owner}")
    service("dr-restore", "--confirm", "quay", status=0)
    assert content(database) == before
    assert evil.rows("SELECT count(*) FROM t") == [(10,)]
    assert service.leftovers() == []


@pytest.fixture(params=["socket", "password"])
def behind(
    request: pytest.FixtureRequest, tmp_path: Path, database: Database
) -> tuple[PostgresService, Path]:
    """A service whose database only a command reaches, and the log of that command."""
    cluster = database.cluster
    wrapper, log = tmp_path / "reach it.sh", tmp_path / "log"
    socket = f"export PGHOST={cluster.folder}" if request.param == "socket" else ""
    wrapper.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\nexport PATH={cluster.bin}:"$PATH"\n{socket}\nexec "$@"\n'
    )
    wrapper.chmod(0o755)
    service = PostgresService(
        tmp_path / "service", database, exec=f"env -u PGHOST '{wrapper}'", port=cluster.port
    ).fill()
    if request.param == "socket":
        # There is no such host here: what does not go through the command fails.
        for name in ("host", "password"):
            del service.source[name]
    service.declare(**CHECKS, **RECOVERY)
    return service, log


def test_a_database_that_only_a_command_reaches(behind: tuple[PostgresService, Path]) -> None:
    service, log = behind
    database = service.database
    before = content(database)
    service("backup", status=0)
    service("verify", "--level", "restored", status=0)
    forget_a_day(database)
    service("restore", "--source", "db", "--confirm", "db", status=0)
    assert content(database) == before
    service("drill", "--report-dir", "reports", status=0)
    assert service.leftovers() == []
    calls = log.read_text()
    assert "pg_dump" in calls
    assert "pg_restore" in calls
    assert PASSWORD not in calls


def scratch_servers(service: PostgresService) -> list[tuple[Owner, list[Path]]]:
    """The scratch servers that are noted, with their folders elsewhere."""
    found = []
    for path in (service.folder / ".holdfast").rglob("*.process"):
        try:
            note = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            continue
        if "owner" in note:
            folders = [Path(one) for one in note["folders"]]
            found.append((Owner.from_json(note["owner"]), folders))
    return found


@pytest.mark.parametrize("command", ["verify --level restored", "drill --report-dir reports"])
def test_a_killed_proof_leaves_no_server(service: PostgresService, command: str) -> None:
    service("backup", status=0)
    proof = service.program.start(*command.split())
    servers = wait_until(lambda: scratch_servers(service))
    os.kill(proof.pid, signal.SIGKILL)
    proof.communicate()
    service(*command.split(), status=0)
    for owner, folders in servers:
        assert not alive(owner)
        assert [one for one in folders if one.exists()] == []
    assert scratch_servers(service) == []
    assert service.leftovers() == []


@pytest.mark.parametrize("when", ["staging", "swapping"])
def test_a_killed_restore_is_taken_back_or_finished(service: PostgresService, when: str) -> None:
    database = service.database
    before = content(database)
    service("backup", status=0)
    forget_a_day(database)
    marks = {"staging": "holdfast\\_%", "swapping": f"{database.name}\\_before%"}
    appeared = f"SELECT 1 FROM pg_database WHERE datname LIKE '{marks[when]}'"
    restore = service.program.start("restore", "--source", "db", "--confirm", "db")
    wait_until(lambda: database.cluster.rows(appeared))
    os.kill(restore.pid, signal.SIGKILL)
    restore.communicate()
    assert database.name in databases(database.cluster)
    service("restore", "--source", "db", "--confirm", "db", status=0)
    assert content(database) == before
    assert service.leftovers() == []


@pytest.mark.parametrize("where", ["the same server", "an empty server of a newer major"])
def test_the_printed_commands_bring_it_back(
    service: PostgresService, servers: Servers, where: str
) -> None:
    database = service.database
    before = content(database)
    service.source["user"] = "postgres"
    service.source["globals"] = True
    service.declare()
    service("backup", status=0)
    (snapshot,) = service.snapshots()
    text = (snapshot / "RESTORE.md").read_text()
    assert PASSWORD not in text
    database.cluster.execute(f"DROP DATABASE {database.name}")
    with fresh_database(servers.debian() if where == "the same server" else servers.newer()) as two:
        there = Database(two.cluster, database.name, database.owner)
        variables = two.cluster.environment()
        del variables["PGDATABASE"]
        lines = [f"export {name}={value}" for name, value in variables.items()]
        script = "\n".join([*lines, *blocks(text, "sh"), *blocks(text, "sh server")])
        run("bash", "-e", "-c", script, folder=snapshot)
        assert content(there) == before
        owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'players'"
        assert there.rows(owner) == [(database.owner,)]
