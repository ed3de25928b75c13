"""A wire to an HTTP server that a test can listen to, cut, and answer on instead of the server."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 65536


@dataclass
class Wire:
    """One request a connection, passed on as it is; the answers come back as they are."""

    port: int
    heads: list[str] = field(default_factory=list)  # of the requests, as they were sent
    # What the wire says itself, given a request's head; empty: it breaks; None: the server says.
    answer: Callable[[str], bytes | None] = field(default=lambda head: None)
    # Whether the server's answer to a request with that head never arrives.
    lose: Callable[[str], bool] = field(default=lambda head: False)
    # After so many bytes of an answer the connection breaks, once for each number.
    cuts: list[int] = field(default_factory=list)
    slowness: float = 0.0  # seconds before each block of an answer

    def lines(self, method: str) -> list[str]:
        """The first lines of the requests with that method."""
        return [head.split("\r\n")[0] for head in self.heads if head.startswith(f"{method} ")]

    def _serve(self, client: socket.socket, address: tuple[str, int]) -> None:
        with client, contextlib.suppress(OSError):
            head, body = _request(client)
            self.heads.append(head)
            answer = self.answer(head)
            if answer is not None:
                client.sendall(answer)
                return
            with socket.create_connection(address) as server:
                # The end of the connection is the end of the answer.
                server.sendall(head.replace("\r\n", "\r\nConnection: close\r\n", 1).encode() + body)
                self._pass_on(server, client, head)

    def _pass_on(self, server: socket.socket, client: socket.socket, head: str) -> None:
        cuttable, lost = head.startswith("GET "), self.lose(head)
        passed = 0
        while block := server.recv(BLOCK):
            time.sleep(self.slowness)
            if not lost:
                client.sendall(block)
            passed += len(block)
            if cuttable and self.cuts and passed >= self.cuts[0]:
                self.cuts.pop(0)
                return


def _request(client: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        block = client.recv(BLOCK)
        if not block:
            raise OSError("no request")
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.partition(":") for line in head.decode().lower().split("\r\n")]
    length = next((int(value) for name, _, value in lines if name == "content-length"), 0)
    received = [body]
    left = length - len(body)
    while left > 0:
        block = client.recv(BLOCK)
        if not block:
            raise OSError("half a request")
        received.append(block)
        left -= len(block)
    return head.decode() + "\r\n\r\n", b"".join(received)


@contextlib.contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to a server on this machine, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(listener.getsockname()[1])

        def listen() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                serving = (client, ("127.0.0.1", port))
                threading.Thread(target=wire._serve, args=serving, daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield wire
        listener.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port that nobody listens on; below those that the kernel gives to clients."""
    while True:
        port = 10_000 + int.from_bytes(os.urandom(2)) % 20_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
