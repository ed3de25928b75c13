"""Questions: a yes passes, a no fails, and what could not be asked is neither."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import Interrupted
from runner.prove.answer import judge
from runner.prove.network import host_and_port
from runner.prove.probes import KINDS, Asked, ask, shell_form
from runner.prove.restored import asked_of
from runner.registry import open_source
from runner.source import Source
from runner.spec.model import Probe, SourceSpec

PASS, FAIL, SKIP, UNKNOWN = "PASS", "FAIL", "SKIP", "COULD-NOT-VERIFY"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A bot's small database, in a file whose name needs quoting in a URL."""
    path = tmp_path / "quay bot?#%20.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "create table players(name text, gold integer);"
            "insert into players values ('ada', 3), ('grace', 5);"
            "create table empty(x);"
            "create virtual table notes using fts5(body);"
            "create virtual table boxes using rtree(id, low, high);"
            "insert into notes values ('meet at the quay');"
        )
    connection.close()
    return path


def declared(kind: str, **options: Any) -> Source:
    return open_source(SourceSpec("db", kind, options, Path("/nowhere")))


def of(path: Path) -> Asked:
    source = declared("sqlite", path=str(path))
    return asked_of(source, path, {}, isolated=False)


@pytest.mark.parametrize(
    ("query", "verdict"),
    [
        ("select count(*) > 0 from players", PASS),
        ("select count(*) > 0 from empty", FAIL),
        ("select gold from players order by gold", PASS),
        ("select 0.0", FAIL),
        ("select null", FAIL),
        ("select x from empty", FAIL),
        ("select 'false'", FAIL),
        ("select 'yes'", PASS),
        ("select count(*) from notes where notes match 'quay'", PASS),
        ("with recursive n(i) as (select 1 union select i+1 from n) select 1 from n", PASS),
        ("select count(*) = 0 from boxes", PASS),
        ("pragma foreign_keys", FAIL),
        ("select * from gone", FAIL),
        ("select age from players", FAIL),
        ("select name from players order by name collate klingon", UNKNOWN),
        ("select unheard_of(1)", UNKNOWN),
        ("selekt 1", UNKNOWN),
        ("select 1; select 2", UNKNOWN),
        ("", FAIL),
    ],
)
def test_sql_passes_when_its_first_value_is_true(database: Path, query: str, verdict: str) -> None:
    answer = ask(Probe("sql", query, name="q"), of(database))
    assert (answer.name, answer.kind, answer.verdict) == ("q", "sql", verdict), answer


@pytest.mark.parametrize(
    "query",
    [
        "insert into players values ('eve', 1)",
        "delete from players",
        "drop table players",
        "create temp table t(x)",
        "attach 'other.db' as other",
        "vacuum into 'copy.db'",
    ],
)
def test_sql_changes_nothing_and_opens_nothing_else(
    database: Path, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    before = database.read_bytes()
    assert ask(Probe("sql", query), of(database)).verdict == UNKNOWN
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize(
    ("expectation", "verdict", "expected"),
    [
        ({"expect": 8}, PASS, 8),
        ({"expect": "8"}, PASS, "8"),
        ({"expect": True}, PASS, True),
        ({"expect": 9}, FAIL, 9),
        ({"at_least": 8}, PASS, "at least 8"),
        ({"at_least": 8.5}, FAIL, "at least 8.5"),
    ],
)
def test_sql_is_held_against_what_is_expected(
    database: Path, expectation: dict[str, Any], verdict: str, expected: Any
) -> None:
    answer = ask(Probe("sql", "select sum(gold) from players", **expectation), of(database))
    assert (answer.verdict, answer.expected, answer.actual) == (verdict, expected, 8)


@pytest.mark.parametrize("query", ["select null", "select max(gold) > 9 from players where 0"])
@pytest.mark.parametrize("expect", [True, False])
def test_null_is_neither_true_nor_false(database: Path, query: str, *, expect: bool) -> None:
    assert ask(Probe("sql", query, expect=expect), of(database)).verdict == FAIL


@given(st.none() | st.integers() | st.floats() | st.text() | st.binary())
def test_any_value_of_a_database_can_be_judged(value: Any) -> None:
    for probe in (Probe("sql", "q"), Probe("sql", "q", expect=1), Probe("sql", "q", at_least=1)):
        assert judge(probe, value).verdict in (PASS, FAIL)


def test_a_locked_database_is_not_known(database: Path) -> None:
    with sqlite3.connect(database, isolation_level=None) as writer:
        writer.execute("begin exclusive")
        answer = ask(Probe("sql", "select count(*) from players"), of(database), timeout=0.2)
        writer.rollback()
    writer.close()
    assert answer.verdict == UNKNOWN
    assert "locked" in answer.actual


def test_a_query_without_end_is_given_up(database: Path) -> None:
    endless = "with recursive n(i) as (select 1 union all select i+1 from n) select max(i) from n"
    answer = ask(Probe("sql", endless), of(database), timeout=0.2)
    assert answer.verdict == UNKNOWN
    assert "interrupted" in answer.actual


def test_a_database_in_use_is_read_with_its_log_and_one_at_rest_leaves_none(
    database: Path,
) -> None:
    query = Probe("sql", "select count(*) from players", expect=3)
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("pragma journal_mode=wal")
    writer.execute("insert into players values ('linus', 1)")
    assert ask(query, of(database)).verdict == PASS
    writer.close()
    assert list(database.parent.iterdir()) == [database]
    assert ask(query, of(database)).verdict == PASS
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("content", [None, b"not a database at all" * 100, b"\0" * 4096])
def test_a_database_that_is_none_fails(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "db"
    if content is not None:
        path.write_bytes(content)
    assert ask(Probe("sql", "select count(*) from players"), of(path)).verdict == FAIL


def test_a_source_without_values_cannot_be_asked(tmp_path: Path) -> None:
    asked = asked_of(declared("files", paths=["config"]), tmp_path, {}, isolated=False)
    answer = ask(Probe("sql", "select 1"), asked)
    assert answer.verdict == UNKNOWN
    assert answer.actual == "db is made of files: it cannot be asked sql."


def test_what_was_not_restored_cannot_be_asked() -> None:
    asked = asked_of(declared("sqlite", path="x.db"), None, {}, isolated=True)
    assert ask(Probe("sql", "select 1"), asked).verdict == UNKNOWN


def test_a_file_must_be_there_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=x")
    (tmp_path / "blank").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "a").write_text("a")
    (tmp_path / "inward").symlink_to(".env")
    (tmp_path / "dangling").symlink_to("nowhere")
    found = {
        name: ask(Probe("file", name), Asked(path=tmp_path)).verdict
        for name in (".env", "blank", "folder", "config", "config/a", "inward", "dangling", "gone")
    }
    assert found == {
        ".env": PASS,
        "blank": FAIL,
        "folder": FAIL,
        "config": PASS,
        "config/a": PASS,
        "inward": PASS,
        "dangling": FAIL,
        "gone": FAIL,
    }


@pytest.mark.parametrize(
    "value", ["../secret", "/etc/hostname", "outward", "a/../../secret", "a\0"]
)
def test_a_file_outside_what_was_restored_proves_nothing(tmp_path: Path, value: str) -> None:
    (tmp_path / "secret").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "outward").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to("loop")
    assert ask(Probe("file", value), Asked(path=root)).verdict == UNKNOWN
    assert ask(Probe("file", "loop"), Asked(path=root)).verdict in (FAIL, UNKNOWN)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("test -f here", PASS),
        ('test "$GREETING" = hello', PASS),
        ("echo broken >&2; exit 3", FAIL),
        ("a-program-that-nobody-has", UNKNOWN),
        ("kill -9 $$", UNKNOWN),
        ("trap 'exit 0' TERM; while true; do sleep 0.05; done", UNKNOWN),
    ],
)
def test_a_command_is_asked_in_what_was_restored(tmp_path: Path, text: str, verdict: str) -> None:
    (tmp_path / "here").write_text("x")
    asked = Asked(path=tmp_path, environment={"GREETING": "hello"})
    assert ask(Probe("run", text), asked, timeout=1).verdict == verdict


class Service(BaseHTTPRequestHandler):
    """Healthy from the third question on."""

    asked = 0

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/home")
            self.end_headers()
            return
        if self.path == "/health":
            type(self).asked += 1
        healthy = self.path == "/home" or self.asked >= 3
        self.send_response(200 if healthy else 503)
        self.end_headers()
        self.wfile.write(b"all is well" if healthy else b"starting")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    Service.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", port), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def test_http_is_asked_until_the_service_is_healthy() -> None:
    with serving() as url:
        early = ask(Probe("http", f"{url}/health"), Asked())
        assert (early.verdict, early.expected, early.actual) == (FAIL, 200, 503)
        late = ask(Probe("http", f"{url}/health", within=60), Asked())
        assert (late.verdict, late.expected, late.actual) == (PASS, 200, 200)
        assert Service.asked == 3


def test_http_is_asked_until_the_service_listens() -> None:
    port = free_port()
    started = threading.Event()
    timer = threading.Timer(0.3, started.set)

    def serve() -> None:
        started.wait()
        with serving(port):
            finished.wait()

    finished = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    timer.start()
    try:
        answer = ask(Probe("http", f"http://127.0.0.1:{port}/home", within=60), Asked())
    finally:
        finished.set()
        thread.join()
    assert answer.verdict == PASS


def test_http_status_redirects_and_body() -> None:
    with serving() as url:
        assert ask(Probe("http", f"{url}/moved"), Asked()).verdict == PASS
        assert ask(Probe("http", f"{url}/moved", expect=302), Asked()).verdict == PASS
        assert ask(Probe("http", f"{url}/home", expect="200"), Asked()).verdict == PASS
        assert ask(Probe("http", f"{url}/health", expect=503), Asked()).verdict == PASS
        for body, verdict in (("is well", PASS), ("is ill", FAIL)):
            probe = Probe("http", f"{url}/home", options={"body": body})
            assert ask(probe, Asked()).verdict == verdict


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "http://", "http://h:x/", "http://[::1", "x y"]
)
def test_http_asks_nothing_but_http(url: str) -> None:
    assert ask(Probe("http", url), Asked()).verdict == UNKNOWN


def test_a_refused_connection_is_a_no() -> None:
    port = free_port()
    for probe in (Probe("http", f"http://127.0.0.1:{port}/"), Probe("tcp", f"127.0.0.1:{port}")):
        found = ask(probe, Asked())
        assert found.verdict == FAIL
        assert str(found.actual).endswith(": Connection refused")


def test_a_server_that_speaks_something_else_is_a_no() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = ask(Probe("http", f"http://127.0.0.1:{port}/"), Asked())
        thread.join()
    assert found.verdict == FAIL
    assert "no answer" in found.actual


def test_tcp_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ask(Probe("tcp", f"127.0.0.1:{port}"), Asked()).verdict == PASS


@pytest.mark.parametrize("value", ["", "host", ":80", "host:", "host:0", "host:70000", "host:²"])
def test_tcp_needs_a_host_and_a_port(value: str) -> None:
    assert ask(Probe("tcp", value), Asked()).verdict == UNKNOWN


@given(st.text())
def test_any_text_is_an_address_or_none(value: str) -> None:
    found = host_and_port(value)
    assert found is None or (found[0] and 0 < found[1] < 65536)


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_in_isolation_the_live_system_is_not_asked(kind: str) -> None:
    with serving() as url:
        value = f"{url}/health" if kind == "http" else url.removeprefix("http://")
        answer = ask(Probe(kind, value, within=60), Asked(isolated=True))
        assert answer.verdict == SKIP
        assert Service.asked == 0


@pytest.mark.parametrize("kind", ["sql", "redis"])
def test_a_value_is_asked_of_a_source(kind: str) -> None:
    answer = ask(Probe(kind, "DBSIZE", at_least=1), Asked())
    assert (answer.verdict, answer.expected) == (UNKNOWN, "at least 1")
    assert answer.actual == f"{kind} is asked of a source, and none is named"


def test_asking_ends_when_the_run_is_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Interrupted):
        ask(Probe("file", "gone", within=3600), Asked(path=tmp_path), interrupted=stop)


def bash(lines: list[str], folder: Path) -> int:
    return subprocess.run(
        ["bash", "-e"], input="\n".join(lines), text=True, cwd=folder, check=False
    ).returncode


def test_the_shell_form_asks_the_same(tmp_path: Path) -> None:
    (tmp_path / "it's here").write_text("x")
    with serving() as url:
        address = url.removeprefix("http://")
        holding = [
            Probe("file", "it's here"),
            Probe("run", 'test -f "it\'s here"; test "$PWD" = "$(pwd)"'),
            Probe("http", f"{url}/home"),
            Probe("http", f"{url}/moved"),
            Probe("http", f"{url}/moved", expect=302),
            Probe("http", f"{url}/health", within=60),
            Probe("http", f"{url}/home", options={"body": "is well"}),
            Probe("run", "exit 3", expect=3),
            Probe("tcp", address),
        ]
        for probe in holding:
            assert bash(shell_form(probe), tmp_path) == 0, shell_form(probe)
        failing = [
            Probe("file", "$(touch oops)"),
            Probe("run", "false; true"),
            Probe("http", f"{url}/home", expect=404),
            Probe("http", f"{url}/home", expect="200$(touch oops)"),
            Probe("http", f"{url}/home", options={"body": "$(touch oops)*"}),
            Probe("http", f"{url}/home", options={"body": "200"}),
            Probe("run", "exit 4", expect=3),
            Probe("run", "true", expect=3),
            Probe("tcp", "$(touch oops):80"),
        ]
        for probe in failing:
            assert bash(shell_form(probe), tmp_path) != 0, shell_form(probe)
    assert not (tmp_path / "oops").exists()


def test_what_a_shell_cannot_ask_is_a_comment_for_a_person(tmp_path: Path) -> None:
    lines = shell_form(Probe("sql", "select 1\n; touch oops", source="db"))
    assert all(line.startswith("# ") for line in lines)
    assert "Ask of db, and expect True" in lines[0]
    assert bash(lines, tmp_path) == 0
    assert set(KINDS) == {"file", "http", "redis", "run", "sql", "tcp"}
