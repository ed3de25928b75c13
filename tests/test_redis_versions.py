"""Redis 6.2, 7 and 8, and Valkey 9: backed up, proven, drilled, and brought to one another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, redis_6, redis_8, running, valkey
from tests.redis_service import CHECKS, RECOVERY, RedisService
from tests.tools import Program, blocks, cannot_run, require_program, run

Find = Callable[[], str]


def redis_7() -> str:
    """The system's, where that is one."""
    found = require_program("redis-server")
    if " v=7." not in run(found, "--version", folder=Path()).stdout:
        cannot_run("The system's Redis is none of 7: apt-get install redis-server, on Debian 12")
    return found


def only(service: RedisService, *programs: str) -> None:
    """Let the service's machine have these servers installed alone."""
    folder = service.folder / "bin"
    folder.mkdir()
    for program in programs:
        (folder / Path(program).name).symlink_to(program)
    environment = {**service.program.environment, "PATH": str(folder)}
    service.program = Program(service.folder, environment)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (redis_6, redis_6),
        (redis_6, redis_7),
        (redis_6, valkey),
        (redis_7, redis_8),
        (redis_7, valkey),
        (redis_8, redis_8),
        (valkey, valkey),
    ],
)
def test_keys_come_back_on_a_server_that_is_not_older(
    tmp_path: Path, source: Find, destination: Find
) -> None:
    with running(program=source()) as live, running(program=destination(), password="") as other:
        service = RedisService(tmp_path / "service", live).fill()
        service("backup", status=0)
        only(service, destination())
        document = service.json("restore", "--source", "cache", "--to", other.url)
        assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
        with live.connect() as client, other.connect() as copy:
            assert copy.info("keyspace").keys() == client.info("keyspace").keys()
            assert copy.dbsize() == client.dbsize() > 10
            assert copy.pttl("wide") == pytest.approx(client.pttl("wide"), abs=60_000)


@pytest.mark.parametrize("find", [redis_6, redis_8, valkey])
def test_some_databases_are_replaced_and_the_others_stay(tmp_path: Path, find: Find) -> None:
    with running(program=find()) as live:
        service = RedisService(tmp_path / "service", live, databases=[3]).fill()
        service("backup", status=0)
        only(service, find())
        with live.connect(db=3) as ours:
            ours.set("unknown", "goes")
        with live.connect(db=15) as theirs:
            theirs.set("since", "stays")
            command = ("restore", "--source", "cache", "--existing", "flush", "--confirm", "cache")
            document = service.json(*command)
            assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
            assert sorted(theirs.keys()) == [b"h", b"since"]
        with live.connect(db=3) as ours:
            assert ours.keys() == [b"coins:1"]


@pytest.mark.parametrize(
    ("source", "destination"), [(redis_7, redis_6), (redis_8, redis_7), (valkey, redis_7)]
)
def test_an_older_server_is_refused_and_stays_as_it_was(
    tmp_path: Path, source: Find, destination: Find
) -> None:
    with running(program=source()) as live, running(program=destination(), password="") as other:
        service = RedisService(tmp_path / "service", live).fill()
        service("backup", status=0)
        only(service, source())
        answer = service("restore", "--source", "cache", "--to", other.url, status=4)
        assert "is too old" in answer.stderr
        with other.connect() as client:
            assert client.dbsize() == 0


class TestADrillOfValkey:
    @pytest.fixture
    def service(self, tmp_path: Path) -> RedisService:
        with running(program=valkey()) as live:
            service = RedisService(tmp_path / "service", live).fill()
            service.declare(checks=CHECKS, recovery=RECOVERY)
            service("backup", status=0)
            return service

    def test_takes_the_server_that_reads_it(self, service: RedisService) -> None:
        only(service, redis_7(), valkey())
        drilled = service.json("drill")
        assert {one["verdict"] for one in drilled["checks"]} == {"PASS"}
        assert drilled["cleanup"] == "clean"

    def test_cannot_tell_where_no_server_reads_it(self, service: RedisService) -> None:
        only(service, redis_7())
        assert "Install a Redis or Valkey server" in service("drill", status=7).stderr


def vectors(server: RedisServer) -> object:
    """What a vector set, whose type is a module's, holds, and when fields of a hash expire."""
    with server.connect() as client:
        ask = client.execute_command
        count = ask("VCARD", "near")
        at = ask("HPEXPIRETIME", "guests", "FIELDS", 2, "ann", "bob")
        return count, [ask("VEMB", "near", n) for n in range(count)], at


@pytest.mark.parametrize("method", ["sync", "keys"])
def test_vector_sets_come_back(tmp_path: Path, method: str) -> None:
    with running(program=redis_8()) as live:
        service = RedisService(tmp_path / "service", live, method=method).fill()
        only(service, redis_8())
        with live.connect() as client:
            for n in range(100):
                client.execute_command("VADD", "near", "VALUES", 2, n, 1, n, "SETATTR", "{}")
            client.hset("guests", mapping={"ann": 1, "bob": 2})
            client.execute_command("HPEXPIRE", "guests", 90_000_000, "FIELDS", 1, "ann")
        before = vectors(live)
        service("backup", status=0)
        assert service.json("verify", "--level", "restored")["ok"]
        with live.connect() as client:
            client.delete("near", "guests")
        document = service.json("restore", "--source", "cache", "--confirm", "cache")
        assert document["proof"] == [{"source": "cache", "equal": True, "differences": []}]
        assert vectors(live) == before


def test_a_file_is_decoded_where_only_an_older_server_is_installed(tmp_path: Path) -> None:
    with running(program=redis_8()) as live:
        service = RedisService(tmp_path / "service", live).fill()
        service("backup", status=0)
    require_program("redis-check-rdb")
    (snapshot,) = service.snapshots()
    lines = blocks((snapshot / "RESTORE.md").read_text(), "sh")
    run("bash", "-e", "-c", "\n".join(lines), folder=snapshot)
    file = snapshot / "restored" / "cache" / "dump.rdb"
    assert file.read_bytes().startswith(b"REDIS0012")
    (check,) = [line for line in lines if "redis-check-rdb" in line]
    check = check[check.index("for file in") :]
    file.write_bytes(b"REDIS0010" + b"\x42" * 100)
    damaged = run("bash", "-e", "-c", check, folder=snapshot, check=False)
    assert damaged.status != 0
    assert "RDB ERROR DETECTED" in damaged.stderr
