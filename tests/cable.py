"""A cable to a server that a test can cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK = 16384


@dataclass
class Cable:
    """Passes on every connection as it is, until it is cut."""

    port: int
    # After so many bytes in both directions all connections break, once; None: they never do.
    cut_after: int | None = None
    _open: list[socket.socket] = field(default_factory=list)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def _pass_on(self, giver: socket.socket, taker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := giver.recv(BLOCK):
                taker.sendall(block)
                self._count(len(block))
        self._end(giver, taker)

    def _count(self, size: int) -> None:
        with self._counting:
            if self.cut_after is None:
                return
            self.cut_after -= size
            if self.cut_after > 0:
                return
            self.cut_after = None
            self._end(*self._open)
            self._open.clear()

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _connect(self, client: socket.socket, port: int) -> None:
        server = socket.create_connection(("127.0.0.1", port))
        self._open += [client, server]
        for pair in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=pair, daemon=True).start()


@contextlib.contextmanager
def cable_to(port: int) -> Iterator[Cable]:
    """A cable to a server on this machine, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cable = Cable(listener.getsockname()[1])

        def listen() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                cable._connect(client, port)

        threading.Thread(target=listen, daemon=True).start()
        yield cable
        listener.shutdown(socket.SHUT_RDWR)
        cable._end(*cable._open)
