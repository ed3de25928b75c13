"""Some databases of a server that other projects use too: theirs are never read nor touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import Place
from runner.source.redis_address import address_of
from runner.source.redis_choose import both, chosen_of
from runner.source.redis_resp import commands
from runner.spec.model import SourceSpec
from tests.redis_server import RedisServer, running
from tests.source.conformance import SourceConformance, place_in
from tests.source.redis_reading import capture, user
from tests.source.redis_sample import LIBRARY, RedisSample, look
from tests.source.stack import Stack, bash, decode
from tests.source.test_redis_load import kill_while_it_swaps

pytestmark = pytest.mark.usefixtures("no_scratch_left")

OURS = [0, 3]
THEIRS = 5


class OfTwoProjects(RedisSample):
    """Our databases, and those of a neighbour; functions are the whole server's."""

    def build(self, folder: Path) -> SourceSpec:
        spec = super().build(folder)
        with self.server.connect(db=THEIRS) as client:
            client.mset({"coins:1": "theirs", "other": b"\x00\xff"})
            client.set("brief", "theirs", ex=100_000)
        self.neighbour = self.of_neighbour()
        return replace(spec, options={**spec.options, "databases": OURS})

    def destroy(self, folder: Path) -> None:
        for number in OURS:
            with self.server.connect(db=number) as client:
                client.flushdb()

    def observe(self, folder: Path) -> Any:
        return _ours(super().observe(folder))

    def observe_at(self, destination: str) -> Any:
        return _ours(super().observe_at(destination), alone=True)

    def observe_restored(self, folder: Path) -> Any:
        """Give the commands to an empty server."""
        with running(password="") as server:
            bash([f"redis-cli -p {server.port} --pipe < keys.resp"], folder)
            with server.connect() as client:
                return _ours(look(client), alone=True)

    def of_neighbour(self) -> Any:
        """What is not ours: other databases, and the functions."""
        with self.server.connect() as client:
            found = look(client)
        keys = {name: one for name, one in found["keys"].items() if not _is_ours(name)}
        return {**found, "keys": keys}


def _is_ours(name: str) -> bool:
    return int(name.split(" ", 1)[0]) in OURS


def _ours(found: Any, *, alone: bool = False) -> Any:
    """Our keys; `alone`: there must be nothing else."""
    if alone:
        assert all(map(_is_ours, found["keys"]))
        assert found["functions"] == []
    return {name: one for name, one in found["keys"].items() if _is_ours(name)}


@pytest.fixture(scope="module")
def open_server() -> Iterator[RedisServer]:
    """Without a password: commands are run as written, where no environment has one."""
    with running(password="") as server:
        yield server


class TestSomeDatabases(SourceConformance):
    sample = OfTwoProjects()

    @pytest.fixture(autouse=True)
    def _server(self, open_server: RedisServer) -> Iterator[None]:
        self.sample.server = open_server
        yield
        assert self.sample.of_neighbour() == self.sample.neighbour

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """The suite wants what was captured and nothing else."""
        return replace(place_in(tmp_path), existing="flush")


def of_two_projects(server: RedisServer, folder: Path) -> Iterator[Stack]:
    """The neighbour's databases are as they were, whatever a test does with ours."""
    sample = OfTwoProjects()
    sample.server = server
    yield Stack(folder / "production", sample)
    assert sample.of_neighbour() == sample.neighbour


@pytest.fixture
def stack(redis_server: RedisServer, tmp_path: Path) -> Iterator[Stack]:
    yield from of_two_projects(redis_server, tmp_path)


@pytest.fixture
def open_stack(open_server: RedisServer, tmp_path: Path) -> Iterator[Stack]:
    """The same on a server without a password, for commands that are run as written."""
    yield from of_two_projects(open_server, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path)


def names(text: Iterable[bytes]) -> set[tuple[int, bytes]]:
    """The keys that a portable form has, by database."""
    found, database = set(), 0
    for command in commands(text):
        if command[0] == b"SELECT":
            database = int(command[1])
        else:
            assert command[0] == b"RESTORE"
            found.add((database, command[1]))
    return found


@pytest.mark.parametrize("method", ["sync", "keys"])
def test_nothing_of_other_databases_is_stored(
    stack: Stack, redis_server: RedisServer, tmp_path: Path, method: str
) -> None:
    captured, artifacts = capture(redis_server, tmp_path, method=method, databases=OURS)
    expected = set()
    for number in OURS:
        with redis_server.connect(db=number) as client:
            expected |= {(number, key) for key in client.scan_iter()}
    assert names(artifacts.read()) == expected
    assert captured.fingerprint["chosen"] == OURS
    assert captured.fingerprint["functions"] == 0
    assert list(captured.fingerprint["databases"]) == ["0", "3"]
    assert captured.consistency == ("exact" if method == "sync" else "fuzzy")
    assert ("functions of the whole server: not in it" in captured.notes) == (method == "sync")


def test_databases_without_any_key_are_told(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis_server.connect(db=THEIRS) as client:
        client.set("a", "theirs")
    captured, artifacts = capture(redis_server, tmp_path, databases=[0, 7])
    assert "there is no key in databases 0, 7" in captured.notes
    assert names(artifacts.read()) == set()


def test_all_is_the_whole_server(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis_server.connect(db=THEIRS) as client:
        client.set("a", "b")
    captured, artifacts = capture(redis_server, tmp_path, databases="all")
    assert captured.fingerprint["forms"] == ["rdb"]
    assert "chosen" not in captured.fingerprint
    assert b"".join(artifacts.read()).startswith(b"REDIS")


@pytest.mark.parametrize("existing", ["skip", "overwrite", "flush"])
def test_an_older_snapshot_of_the_whole_server_gives_ours(
    stack: Stack, place: Place, existing: str
) -> None:
    artifacts = of_whole_server(stack).capture()
    original = stack.observe()
    stack.change()
    changed = stack.observe()
    theirs_change(stack)
    place = replace(place, existing=existing)
    stack.restore(artifacts, place)
    expected = {"skip": original | changed, "overwrite": changed | original, "flush": original}
    assert stack.observe() == expected[existing]
    theirs_change(stack, "more")
    stack.source.unswap(place)
    assert stack.observe() == changed


def test_a_snapshot_of_some_empties_no_others_where_the_spec_names_none(
    stack: Stack, place: Place
) -> None:
    original = stack.observe()
    artifacts = stack.capture()
    stack.change()
    theirs_change(stack)
    stack.spec = without_databases(stack.spec)
    place = replace(place, existing="flush")
    stack.restore(artifacts, place)
    assert stack.observe() == original
    kept = stack.source.keep(place)
    assert kept["databases"] == OURS
    stack.source.discard(place)
    stack.change()
    back = replace(place, token="20261120t031500z111111")
    stack.source.put_back(kept, back)
    stack.source.confirm(back)
    stack.source.discard(back)
    assert stack.observe() != original


def test_a_wider_spec_at_the_resume_empties_no_others(stack: Stack, place: Place) -> None:
    place = replace(place, existing="flush")
    stack.source.stage(stack.capture(), place)
    stack.spec = without_databases(stack.spec)
    stack.source.swap(place)
    stack.source.confirm(place)


def test_a_snapshot_of_other_databases_is_no_empty_restore(stack: Stack, place: Place) -> None:
    artifacts = stack.capture()
    stack.spec = with_databases(stack.spec, [7])
    with pytest.raises(PersonNeeded, match=r"is of databases 0, 3, and its spec names database 7"):
        stack.source.stage(artifacts, place)


@pytest.mark.parametrize(
    ("now", "left"), [([3, 5], "database 5"), (None, "all but databases 0, 3")]
)
def test_databases_that_a_snapshot_lacks_are_told_and_stay(
    stack: Stack, place: Place, now: list[int] | None, left: str
) -> None:
    artifacts = stack.capture()
    stack.spec = with_databases(stack.spec, now) if now else without_databases(stack.spec)
    place = replace(place, existing="flush")
    stack.source.stage(artifacts, place)
    stack.source.swap(place)
    assert stack.source.confirm(place) == [f"not in the snapshot, so left as it was: {left}"]


def test_a_rollback_by_a_spec_of_other_databases_is_refused(stack: Stack, place: Place) -> None:
    artifacts = stack.capture()
    stack.change()
    changed = stack.observe()
    place = replace(place, existing="flush")
    stack.restore(artifacts, place)
    kept = stack.source.keep(place)
    stack.source.discard(place)
    ours, back = stack.spec, replace(place, token="20261120t031500z111111")
    for other in ([0], [5]):
        stack.spec = with_databases(ours, other)
        with pytest.raises(StepFailed, match=r"databases 0, 3 of .* were replaced") as told:
            stack.source.put_back(kept, back)
        assert "`databases: [0, 3]`" in told.value.remedy
    stack.spec = ours
    stack.source.put_back(kept, back)
    stack.source.discard(back)
    assert stack.observe() == changed


def test_exchanged_files_of_the_whole_server_are_not_put_back(
    stack: Stack, place: Place, tmp_path: Path
) -> None:
    owned = {"data_dir": str(tmp_path), "stop": "false", "start": "false"}
    stack.spec = replace(stack.spec, options={**stack.spec.options, **owned})
    with pytest.raises(StepFailed, match="with all databases of the server"):
        stack.source.put_back({"copies": [], "moves": []}, place)


def test_clients_of_others_hold_nothing_up(
    stack: Stack, redis_server: RedisServer, place: Place
) -> None:
    place = replace(place, existing="flush")
    with redis_server.connect(db=THEIRS, client_name="their-app") as theirs:
        theirs.get("other")
        stack.source.gate(place)
        with redis_server.connect(db=3, client_name="our-app") as ours:
            ours.get("coins:1")
            with pytest.raises(PersonNeeded, match="our-app") as told:
                stack.source.gate(place)
    assert "their-app" not in told.value.message


def test_a_key_beside_what_replaced_ours_is_seen(
    stack: Stack, redis_server: RedisServer, place: Place
) -> None:
    place = replace(place, existing="flush")
    stack.source.stage(stack.capture(), place)
    stack.source.swap(place)
    theirs_change(stack)
    stack.source.confirm(place)
    with redis_server.connect(db=3) as client:
        client.set("written", "by an app")
    with pytest.raises(StepFailed, match="came into being"):
        stack.source.confirm(place)


@pytest.mark.parametrize("existing", ["skip", "flush"])
def test_a_kill_in_the_middle_is_taken_back(
    stack: Stack, redis_server: RedisServer, place: Place, existing: str
) -> None:
    place = replace(place, existing=existing)
    with redis_server.connect() as client:
        client.mset({f"key:{number}": "x" * 50 for number in range(30_000)})
    artifacts = stack.capture()
    stack.destroy()
    stack.change()
    changed = stack.observe()
    stack.source.stage(artifacts, place)
    kill_while_it_swaps(stack, place)
    assert stack.source.swapped(place) == "partial"
    stack.source.unswap(place)
    stack.source.discard(place)
    assert stack.observe() == changed


def test_checks_of_another_server_ask_our_database(stack: Stack, tmp_path: Path) -> None:
    stack.spec = with_databases(stack.spec, [3])
    artifacts = stack.capture()
    with running(password="") as other:
        place = place_in(tmp_path, other.url.removesuffix("/0"))
        stack.restore(artifacts, place)
        for where in (str(stack.source.staged(place)), place.destination):
            assert stack.source.ask("redis", "EXISTS coins:1", where, 10) == 1
        stack.source.discard(place)


def test_a_number_that_is_not_ours_is_no_destination(stack: Stack) -> None:
    for number in ("", "/0", "/3"):
        typed = f"redis://127.0.0.1:1{number}"
        assert stack.source.destination(typed) == typed
    with pytest.raises(
        UsageError, match="Keys keep the numbers of their databases: databases 0, 3"
    ):
        stack.source.destination("redis://127.0.0.1:1/5")


def test_a_part_of_ours_comes_back(stack: Stack, place: Place) -> None:
    artifacts = stack.capture()
    stack.destroy()
    stack.restore(artifacts, replace(place, include=("coins:*",)))
    assert sorted(stack.observe()) == ["0 coins:1", "3 coins:1"]


@pytest.mark.parametrize("rights", ["+@all", "+@all -sync -psync"])
def test_the_safety_copy_has_ours_alone(
    stack: Stack, redis_server: RedisServer, place: Place, rights: str
) -> None:
    given = user(redis_server, "ann", "~*", *rights.split())
    stack.spec = replace(stack.spec, options={**stack.spec.options, **given})
    artifacts = stack.capture()
    (kept,) = stack.restore(artifacts, place)
    assert names([Path(kept).read_bytes()]) == names(artifacts.read())


def test_other_databases_are_a_change(stack: Stack) -> None:
    before = stack.source.changed_mark()
    for options in ({"databases": [0]}, {"databases": "all"}):
        stack.spec = replace(stack.spec, options={**stack.spec.options, **options})
        assert stack.source.changed_mark() != before


def test_a_user_without_sync_is_enough(
    stack: Stack, redis_server: RedisServer, tmp_path: Path
) -> None:
    given = user(redis_server, "ann", "~*", "+@all", "-sync", "-psync")
    captured, artifacts = capture(redis_server, tmp_path, databases=[3], **given)
    assert names(artifacts.read()) == {(3, b"coins:1")}
    assert captured.consistency == "fuzzy"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"databases": [2, 7]}, 2),
        ({"databases": [2, 7], "db": 7}, 7),
        ({"databases": [2, 7], "url": "redis://127.0.0.1/7"}, 7),
        ({"databases": [0, 7]}, 0),
        ({"databases": "all"}, 0),
        ({"db": 4}, 4),
    ],
)
def test_checks_ask_one_of_the_databases(
    tmp_path: Path, options: dict[str, Any], asked: int
) -> None:
    assert address_of(options, tmp_path).database == asked


def test_what_two_choices_have_in_common() -> None:
    some, other = frozenset((1, 2)), frozenset((2, 3))
    assert both(None, None) is None
    assert both(some, None) == both(None, some) == some
    assert both(some, other) == frozenset((2,))
    assert chosen_of({}) is chosen_of({"databases": "all"}) is None


def test_printed_commands_refuse_the_file_of_a_whole_server(open_stack: Stack) -> None:
    original = open_stack.observe()
    artifacts = of_whole_server(open_stack).capture()
    folder = artifacts.capture.folder
    bash(open_stack.source.restore_commands(artifacts.capture.stored, decode, "restored/x"), folder)
    with pytest.raises(AssertionError, match="it holds more than databases 0, 3"):
        bash(open_stack.source.place_commands("restored/x"), folder)
    assert open_stack.observe() == original


def test_printed_commands_bring_in_no_keys_of_others(open_stack: Stack) -> None:
    open_stack.spec = replace(
        open_stack.spec, options={**open_stack.spec.options, "method": "keys"}
    )
    original = open_stack.observe()
    artifacts = of_whole_server(open_stack).capture()
    folder = artifacts.capture.folder
    bash(open_stack.source.restore_commands(artifacts.capture.stored, decode, "restored/x"), folder)
    theirs_change(open_stack)
    with pytest.raises(AssertionError, match="it holds more than databases 0, 3"):
        bash(open_stack.source.place_commands("restored/x"), folder)
    assert open_stack.observe() == original


def test_printed_commands_empty_nothing_where_a_database_is_lacking(open_stack: Stack) -> None:
    open_stack.spec = with_databases(open_stack.spec, [3])
    artifacts = open_stack.capture()
    folder = artifacts.capture.folder
    bash(open_stack.source.restore_commands(artifacts.capture.stored, decode, "restored/x"), folder)
    with running("--databases", "2", password="") as other, other.connect() as client:
        client.set("a", "theirs")
        open_stack.spec = replace(
            open_stack.spec, options={**open_stack.spec.options, "url": other.url}
        )
        with pytest.raises(AssertionError, match="no such database"):
            bash(open_stack.source.place_commands("restored/x"), folder)
        assert client.keys() == [b"a"]


def of_whole_server(stack: Stack) -> Stack:
    """The same before its spec named databases."""
    whole = copy(stack)
    whole.spec = without_databases(stack.spec)
    return whole


def with_databases(spec: SourceSpec, numbers: list[int]) -> SourceSpec:
    """The same source as other databases of the server."""
    return replace(spec, options={**spec.options, "databases": numbers})


def without_databases(spec: SourceSpec) -> SourceSpec:
    """The same source as the whole server."""
    options = {name: one for name, one in spec.options.items() if name != "databases"}
    return replace(spec, options=options)


def theirs_change(stack: Stack, function: str = "theirs") -> None:
    """The neighbour writes, and loads a function of its own."""
    sample = stack.sample
    assert isinstance(sample, OfTwoProjects)
    with sample.server.connect(db=THEIRS) as client:
        client.set("coins:1", "theirs, and newer")
        client.delete("other")
        library = LIBRARY.replace("name=game", f"name={function}").replace(
            "'coins'", f"'{function}'"
        )
        client.function_load(library, replace=True)
    sample.neighbour = sample.of_neighbour()
