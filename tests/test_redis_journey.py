"""A service whose sessions are in Redis, from its first backup to the bad day, by the program."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.owner import alive
from runner.source.redis_capture import COUNTED
from tests.redis_server import PASSWORD, RedisServer, running
from tests.redis_service import CHECKS, RECOVERY, RedisService
from tests.source.redis_sample import look
from tests.tools import blocks, require_program, run

DEADLINE_SECONDS = 60.0


@pytest.fixture
def service(tmp_path: Path, redis_server: RedisServer) -> RedisService:
    service = RedisService(tmp_path / "service", redis_server).fill()
    objectives = {"system": {"rto": "1h"}, "cache": {"rto": "10m", "rpo": "26h"}}
    service.declare(checks=CHECKS, recovery=RECOVERY, objectives=objectives)
    return service


def wait_until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)
    return found


def make_a_mistake(server: RedisServer) -> None:
    with server.connect() as client:
        client.delete("player:1", "wide", "session:1")
        client.set("coins:1", 4711)
        client.set("unknown", "newer")


def test_what_was_deleted_comes_back_beside_the_rest(service: RedisService) -> None:
    service("backup", status=0)
    assert service.json("verify", "--level", "restored")["results"][0]["verdict"] == "PASS"
    before = service.content["keys"]
    make_a_mistake(service.server)
    after = service.content["keys"]
    document = service.json("restore", "--source", "cache", "--confirm", "cache")
    assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
    assert service.content["keys"] == before | after
    assert service.leftovers() == []
    service("status", status=0)


def test_keys_that_stay_as_others_are_told(service: RedisService) -> None:
    service("backup", status=0)
    with service.server.connect() as client:
        client.set("coins:1", 4711)
    answer = service("restore", "--source", "cache", "--confirm", "cache", status=0)
    assert "1 of them not as in the snapshot: 'coins:1'" in answer.stdout
    assert "--existing overwrite" in answer.stdout
    service(
        *("restore", "--source", "cache", "--existing", "overwrite", "--confirm", "cache"), status=0
    )
    answer = service("restore", "--source", "cache", "--confirm", "cache", status=0)
    assert "not as in the snapshot" not in answer.stdout


def test_doctor_tells_of_databases_that_may_be_of_others(service: RedisService) -> None:
    service.server.empty()
    with service.server.connect() as client:
        client.set("mine", 1)
    assert "other projects" not in service("doctor").stdout
    with service.server.connect(db=5) as client:
        client.set("of another project", 1)
    assert "5 hold keys beside 0" in service("doctor").stdout


def test_doctor_tells_of_databases_without_a_key(tmp_path: Path, redis_server: RedisServer) -> None:
    service = RedisService(tmp_path / "service", redis_server, databases=[0, 30]).fill()
    assert "databases 3, 15 left alone; no key in database 30" in service("doctor").stdout


def test_two_projects_of_one_server_know_nothing_of_each_other(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    ours = RedisService(tmp_path / "ours", redis_server, databases=[0, 3]).fill()
    theirs = RedisService(tmp_path / "theirs", redis_server, databases=[15])
    for service in (ours, theirs):
        assert "left alone" in service("doctor").stdout
        service("backup", status=0)
        assert service.json("verify", "--level", "restored")["results"][0]["verdict"] == "PASS"
    before = ours.content["keys"]
    redis_server.empty()

    run_id = ours.json("dr-restore", "--confirm", "quay")["run"]
    assert {name.split()[0] for name in ours.content["keys"]} == {"0", "3"}
    document = theirs.json("dr-restore", "--confirm", "quay")
    assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
    assert ours.content["keys"] == before

    with redis_server.connect(db=15) as client:
        client.set("since", "written")
    with redis_server.connect() as client:
        client.set("unknown", "goes")
    ours("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache", status=0)
    with redis_server.connect(db=15) as client:
        assert client.get("since") == b"written"
        client.delete("since")
    assert ours.content["keys"] == before

    ours("dr-restore", "--rollback", run_id, "--confirm", "quay", status=0)
    assert {name.split()[0] for name in ours.content["keys"]} == {"15"}
    assert ours.leftovers() == theirs.leftovers() == []


@pytest.mark.parametrize("databases", [[1999], "all"])
def test_a_database_of_a_high_number_is_proven_and_drilled(
    tmp_path: Path, databases: str | list[int]
) -> None:
    with running("--databases", "2000") as server, server.connect(db=1999) as client:
        service = RedisService(tmp_path / "service", server, databases=databases)
        client.set("a", 1)
        service("backup", status=0)
        assert service.json("verify", "--level", "restored")["results"][0]["verdict"] == "PASS"
        service("drill", status=0)


def test_a_snapshot_replaces_everything(service: RedisService) -> None:
    service("backup", status=0)
    before = service.content
    make_a_mistake(service.server)
    answer = service("restore", "--source", "cache", "--existing", "flush", status=7)
    assert "--confirm cache" in answer.stdout + answer.stderr
    service("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache", status=0)
    assert service.content == before
    (kept,) = (service.folder / ".holdfast").rglob("*.before-*.rdb")
    with running(password="", content=kept) as copy, copy.connect() as client:
        assert client.get("unknown") == b"newer"


def test_a_part_comes_back(service: RedisService) -> None:
    service("backup", status=0)
    make_a_mistake(service.server)
    service(
        *("restore", "--source", "cache", "--include", "session:*", "--confirm", "cache"), status=0
    )
    with service.server.connect() as client:
        assert client.exists("session:1", "unknown") == 2
        assert client.exists("player:1", "wide") == 0


def test_total_loss_comes_back(service: RedisService) -> None:
    service("backup", status=0)
    before = service.content
    service.server.empty()
    document = service.json("dr-restore", "--confirm", "quay")
    assert document["status"] == "done"
    assert service.content == before
    assert service.leftovers() == []


def test_more_keys_than_are_counted_one_by_one_come_back(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    service = RedisService(tmp_path / "service", redis_server)
    with redis_server.connect() as client:
        client.execute_command("DEBUG", "POPULATE", COUNTED + 1)
    service("backup", status=0)
    assert service.json("verify", "--level", "restored")["results"][0]["verdict"] == "PASS"
    redis_server.empty()
    document = service.json("dr-restore", "--confirm", "quay")
    assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
    with redis_server.connect() as client:
        assert client.dbsize() == COUNTED + 1


def test_a_drill_touches_nothing(service: RedisService) -> None:
    service("backup", status=0)
    before = service.content
    document = service.json("drill", "--report-dir", "reports")
    assert document["cleanup"] == "clean"
    assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
    assert {one["verdict"] for one in document["checks"]} == {"PASS"}
    assert document["rto"]["cache"]["met"] is True
    assert service.content == before
    assert service.leftovers() == []
    assert service.scratch_servers() == []


def test_a_check_that_fails_fails_the_drill(service: RedisService) -> None:
    service.declare(checks={"cache": [{"name": "many", "redis": "DBSIZE", "at_least": 99_999}]})
    service("backup", status=0)
    document = service.json("drill", "--report-dir", "reports", status=4)
    assert [one["verdict"] for one in document["checks"]] == ["FAIL"]
    assert service.leftovers() == []


def test_a_check_changes_nothing(service: RedisService) -> None:
    service.declare(checks={"cache": [{"name": "bad", "redis": "FLUSHALL"}]})
    service("backup", status=0)
    (result,) = service.json("verify", "--level", "restored", status=7)["results"]
    assert "only reads" in result["reason"]


def test_another_server_gets_a_copy(service: RedisService) -> None:
    service("backup", status=0)
    before = service.content
    with running() as other:
        service("restore", "--source", "cache", "--to", other.url, status=0)
        with other.connect() as client:
            assert look(client) == before
    assert service.content == before


def test_without_a_server_to_prove_with_nothing_passes(
    service: RedisService, tmp_path: Path
) -> None:
    for name in ("git", "bash", "env"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(require_program(name))
    service("backup", status=0)
    service.program.environment["PATH"] = str(tmp_path / "bin")  # type: ignore[index]
    (result,) = service.json("verify", "--level", "restored", status=7)["results"]
    assert result["verdict"] == "COULD-NOT-VERIFY"
    assert "redis-server" in result["reason"]
    answer = service("doctor")
    assert "apt-get install redis-server" in answer.stdout
    before = service.content
    service.server.empty()
    document = service.json("restore", "--source", "cache", "--confirm", "cache", status=7)
    assert document["proof"][0]["equal"] is None
    assert service.content == before


@pytest.mark.parametrize("command", ["verify --level restored", "drill --report-dir reports"])
def test_a_killed_proof_leaves_no_server(service: RedisService, command: str) -> None:
    service("backup", status=0)
    proof = service.program.start(*command.split())
    servers = wait_until(service.scratch_servers)
    os.kill(proof.pid, signal.SIGKILL)
    proof.communicate()
    service(*command.split(), status=0)
    assert not [one for one in servers if alive(one)]
    assert service.scratch_servers() == []
    assert service.leftovers() == []


@pytest.mark.parametrize("existing", ["overwrite", "flush"])
def test_a_killed_restore_is_taken_back_or_finished(service: RedisService, existing: str) -> None:
    with service.server.connect() as client:
        client.mset({f"key:{number}": number for number in range(50_000)})
        service("backup", status=0)
        client.mset({f"key:{number}": "newer" for number in range(50_000)})
    arguments = ("restore", "--source", "cache", "--existing", existing, "--confirm", "cache")
    restore = service.program.start(*arguments)
    state = service.folder / ".holdfast"
    wait_until(lambda: [one for one in state.rglob("outcomes.0") if one.stat().st_size])
    os.kill(restore.pid, signal.SIGKILL)
    restore.communicate()
    service(*arguments, status=0)
    with service.server.connect() as client:
        keys = [f"key:{number}" for number in range(50_000)]
        assert client.mget(keys) == [str(number).encode() for number in range(50_000)]
    assert service.scratch_servers() == []
    assert service.leftovers() == []


@pytest.mark.parametrize("log", ["no", "yes"], ids=["rdb", "appendonly"])
@pytest.mark.parametrize(
    "options",
    [{}, {"method": "keys"}, {"databases": [0, 3, 15]}],
    ids=["auto", "keys", "databases"],
)
def test_the_printed_commands_bring_it_back(
    service: RedisService, options: dict[str, Any], log: str
) -> None:
    before = service.content
    if "databases" in options:
        before["functions"] = []
    service.source |= options
    service.declare()
    service("backup", status=0)
    (snapshot,) = service.snapshots()
    text = (snapshot / "RESTORE.md").read_text()
    assert PASSWORD not in text
    with running("--appendonly", log, password="") as other:
        other.stop()
        shutil.rmtree(other.folder / "appendonlydir", ignore_errors=True)
        lines = [f"export REDIS_DATA_DIR={other.folder}"]
        script = "\n".join([*lines, *blocks(text, "sh"), *blocks(text, "sh server")])
        run("bash", "-e", "-c", script, folder=snapshot)
        other.start()
        with other.connect() as client:
            assert look(client) == before


def test_the_server_is_named_by_what_the_recovery_itself_brings_back(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    service = RedisService(tmp_path / "service", redis_server).fill()
    service.source = {"type": "redis", "url": {"secret": "env:QUAY_URL"}}
    service.source["password"] = {"secret": "env:QUAY_PASSWORD"}
    service.declare(env_file=[".env"])
    spec = service.folder / "backup.yaml"
    config = "sources:\n  config: {type: files, paths: [.env]}\n"
    spec.write_text(spec.read_text().replace("sources:\n", config))
    environment = service.folder / ".env"
    environment.write_text(f"QUAY_URL={redis_server.url}\nQUAY_PASSWORD={PASSWORD}\n")
    service("backup", status=0)
    before = service.content
    environment.unlink()
    with redis_server.connect() as client:
        client.flushall()
    shown = service("dr-restore", "--dry-run", status=0).stdout
    # The snapshot says where it is, though the file that said it is lost.
    assert f"redis-cli -h 127.0.0.1 -p {redis_server.port} --rdb" in shown
    service("runbook", status=0)
    service("dr-restore", "--confirm", "quay", status=0)
    assert service.content == before
