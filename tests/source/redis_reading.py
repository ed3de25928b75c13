"""What tests of reading a Redis server share: its address, its RDB, and a capture's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from runner.secret import Secret
from runner.source import Captured
from runner.source.redis_address import Address, address_of
from runner.source.redis_capture import capture_server
from runner.source.redis_sync import begin
from tests.redis_server import RedisServer
from tests.source.stack import FolderArtifacts, FolderCapture


def address(server: RedisServer, **options: Any) -> Address:
    """The server's address over TCP, as a spec would give it."""
    return address_of(server.options | options, server.folder)


def user(server: RedisServer, name: str, *rules: str) -> dict[str, Any]:
    """A new ACL user with these rules; the options that make a source use it."""
    with server.connect() as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">their password", *rules)
    path = server.folder / f"password of {name}"
    path.write_text("their password")
    return {"user": name, "password": Secret(f"file:{path}")}


def rdb_of(server: RedisServer) -> bytes:
    """What the server sends to a replica."""
    with begin(address(server)) as snapshot:
        return b"".join(snapshot.chunks())


def capture(server: RedisServer, folder: Path, **options: Any) -> tuple[Captured, FolderArtifacts]:
    """Capture a server with these options of the source beside its address."""
    store = FolderCapture(folder / "snapshot", "cache")
    whole = server.options | options
    captured = capture_server(address_of(whole, folder), whole, store)
    return captured, FolderArtifacts(store, captured.fingerprint)


PAIRS = 500
SUM = 100


@contextmanager
def moving(server: RedisServer) -> Iterator[None]:
    """Somebody who moves sums between the two keys of many pairs all the time."""
    with server.connect() as client:
        client.mset({f"{side}:{n}": SUM for n in range(PAIRS) for side in ("left", "right")})
        for number in range(2000):  # so that a scan takes a while
            client.set(f"ballast:{number}", "x" * 2000)
    stop, moved = Event(), Event()

    def work() -> None:
        with server.connect() as client:
            number = 0
            while not stop.is_set():
                number += 1
                pipe = client.pipeline(transaction=True)
                pipe.decrby(f"left:{number % PAIRS}", number % 7 + 1)
                pipe.incrby(f"right:{number % PAIRS}", number % 7 + 1)
                pipe.execute()
                moved.set()

    thread = Thread(target=work)
    thread.start()
    try:
        assert moved.wait(60)
        yield
    finally:
        stop.set()
        thread.join()


def broken_pairs(read: Callable[[str], Any]) -> list[int]:
    """The pairs whose sum is not what it always was."""
    return [
        number
        for number in range(PAIRS)
        if int(read(f"left:{number}")) + int(read(f"right:{number}")) != 2 * SUM
    ]
