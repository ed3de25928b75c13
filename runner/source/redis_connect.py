"""A raw connection to a Redis server: it sends packed commands and reads replies as bytes.

No client library reads as fast: bulk work asks for millions of replies, and a SYNC answers with
something that is no reply at all.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from runner.errors import StepFailed
from runner.source.redis_address import Address
from runner.source.redis_replies import replies_in
from runner.source.redis_tls import ASKED_FOR_NONE, ASKED_FOR_TLS, open_tls

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0  # without a byte, a server is given up
BLOCK = 256 * 1024
WINDOW = 16 * 1024  # bytes of replies that are looked at together
FEW = 8  # replies; fewer are not worth a look together
SLICE = 1024 * 1024  # bytes handed to the kernel at once: the time limit is that of one slice

_REMEDIES = {
    "NOAUTH": "Declare `password` (and `user`) of the source.",
    "WRONGPASS": "Look at `user` and `password` of the source: does the server know them?",
    "NOPERM": "Give the user that right: ACL SETUSER … +command, or ~pattern for its keys.",
    "OOM": "Give the server more memory (maxmemory), or make room in it.",
    "LOADING": "It is still reading its data: wait until it is there.",
    "MISCONF": "The server cannot save to its own disk. Look there first.",
    "READONLY": "This is a replica. Name its primary.",
    "MOVED": "This is a node of a cluster, and another one has the key.",
    "NOMASTERLINK": "This replica has lost its primary. Name another server.",
}


class Rejected(StepFailed):
    """A reply that is an error. `code` is its first word: NOPERM, BUSYKEY, OOM, ERR, …"""

    def __init__(self, where: str, text: str) -> None:
        # What follows repeats the arguments, of which one may be a password.
        text = text.partition(", with args beginning")[0]
        self.code, _, _ = text.partition(" ")
        self.text = text
        unknown = text.lower().startswith("err unknown command")
        remedy = "The command is renamed away or not known there." if unknown else ""
        super().__init__(
            f"The Redis server at {where} refuses: {text[:300]}",
            remedy=remedy or _REMEDIES.get(self.code, ""),
        )

    @property
    def forbidden(self) -> bool:
        """Whether the command is one that this user or this server does not allow at all."""
        return self.code == "NOPERM" or "unknown command" in self.text.lower()

    @property
    def of_a_key(self) -> bool:
        """Whether the command is allowed, but not for that key."""
        return self.code == "NOPERM" and any(one in self.text for one in (" a key", " the keys"))


class Unreachable(StepFailed):
    """There is no server, or it is gone."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, local=True)


class RawConnection:
    """One connection. Everything raises StepFailed, saying which server and what to do."""

    def __init__(self, opened: socket.socket, where: str) -> None:
        self.where = where  # the server for a sentence
        self.database = 0  # the one that commands are about
        self._socket = opened
        self._heard = False  # whether it ever answered
        self._data = b""
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, *arguments: bytes | str | int) -> Any:
        """What the server answers: bytes, int, None, or a list of these. Raises Rejected."""
        self.send_many([[_bytes(one) for one in arguments]])
        reply = self.read_reply()
        if isinstance(reply, Rejected):
            raise reply
        return reply

    def select(self, database: int) -> None:
        """Make the commands that follow be about another logical database."""
        if database != self.database:
            self.call("SELECT", database)
            self.database = database

    def send_many(self, commands: Iterable[Sequence[bytes]]) -> None:
        """Send commands at once; each will have its reply, in order."""
        self.send(pack(commands))

    def send(self, packed: bytes | memoryview) -> None:
        """Send what `pack` made."""
        view = memoryview(packed)
        try:
            for start in range(0, len(view), SLICE):
                self._socket.sendall(view[start : start + SLICE])
        except OSError as error:
            raise self._gone(error) from error

    def read_replies(self, count: int) -> list[Any]:
        """The next `count` replies. Errors are among them, as Rejected."""
        found: list[Any] = []
        while len(found) < count:
            before = len(found)
            if count - before > FEW:
                found += self._read_plain(count - before)
            if len(found) - before < FEW:  # they are of another kind, or not here yet
                found += [self.read_reply() for _ in range(min(FEW, count - len(found)))]
        return found

    def _read_plain(self, count: int) -> list[Any]:
        """At most `count` of the next replies, as far as they are here and plain."""
        lines = self._data[self._at : self._at + WINDOW].split(b"\r\n")
        lines.pop()  # it has no end yet
        found, at = replies_in(lines, count)
        self._at += sum(map(len, lines[:at])) + 2 * at
        return found

    def read_reply(self) -> Any:
        """The next reply. An error is returned as a Rejected, not raised."""
        end = self._data.find(b"\r\n", self._at)
        while end < 0:
            self._more()
            end = self._data.find(b"\r\n", self._at)
        kind = self._data[self._at]
        text = self._data[self._at + 1 : end]
        self._at = end + 2
        if kind == 36:  # $
            size = int(text)
            return None if size < 0 else self._exactly(size)
        if kind == 58:  # :
            return int(text)
        if kind == 42:  # *
            count = int(text)
            return None if count < 0 else self.read_replies(count)
        if kind == 43:  # +
            return text
        if kind == 45:  # -
            return Rejected(self.where, text.decode(errors="replace"))
        raise StepFailed(f"What answers at {self.where} does not speak like a Redis server.")

    def read_lines(self, count: int) -> list[bytes]:
        """The next `count` lines, as they are: quicker for replies that are one line each."""
        parts, there = [self._data[self._at :]], self._data.count(b"\n", self._at)
        self._data, self._at = b"", 0
        while there < count:
            self._more()
            parts.append(self._data)
            there += self._data.count(b"\n")
            self._data = b""
        *lines, self._data = b"".join(parts).split(b"\r\n", count)
        return lines

    def read_line(self) -> bytes:
        """The next line without its end; a server that is busy sends bare newlines."""
        while (end := self._data.find(b"\n", self._at)) < 0:
            self._more()
        line = self._data[self._at : end]
        self._at = end + 1
        return line.rstrip(b"\r")

    def read_some(self) -> bytes:
        """Whatever comes next, of any length but nothing. Raises Unreachable at the end."""
        if self._at == len(self._data):
            self._more()
        found = self._data[self._at :] if self._at else self._data
        self._data, self._at = b"", 0
        return found

    def _exactly(self, size: int) -> bytes:
        """`size` bytes, and the line end after them left out."""
        start, end = self._at, self._at + size
        if end + 2 <= len(self._data):
            self._at = end + 2
            return self._data[start:end]
        found = bytearray(size + 2)
        view = memoryview(found)
        have = len(self._data) - start
        view[:have] = memoryview(self._data)[start:]
        self._data, self._at = b"", 0
        while have < size + 2:
            try:
                count = self._socket.recv_into(view[have:])
            except OSError as error:
                raise self._gone(error) from error
            if not count:
                raise self._gone(None)
            have += count
        return bytes(view[:size])

    def _more(self) -> None:
        try:
            chunk = self._socket.recv(BLOCK)
        except OSError as error:
            raise self._gone(error) from error
        if not chunk:
            raise self._gone(None)
        self._heard = True
        self._data = self._data[self._at :] + chunk
        self._at = 0

    def _gone(self, error: OSError | None) -> Unreachable:
        if isinstance(error, TimeoutError):
            waited = self._socket.gettimeout() or 0
            return Unreachable(f"The Redis server at {self.where} was silent for {waited:g} s.")
        if isinstance(error, ssl.SSLError):  # it says only now that it refuses the handshake
            why = f": {error.reason or error.strerror}."
            remedy = ASKED_FOR_NONE
        else:
            why = f": {error.strerror or error}." if error else "."
            remedy = "Look into its log; it may have been stopped, or killed for its memory."
            secure = isinstance(self._socket, ssl.SSLSocket)
            if not self._heard:
                remedy += f" {ASKED_FOR_NONE if secure else ASKED_FOR_TLS}"
        return Unreachable(
            f"The Redis server at {self.where} has ended the connection{why}", remedy=remedy
        )


def connect(address: Address, silence: float = SILENCE_SECONDS) -> RawConnection:
    """Open a connection and authenticate; no database is selected.

    Gives the server up after `silence` seconds without a byte. Raises Unreachable, Rejected, or
    UsageError when the password cannot be had.
    """
    password = address.secret()
    try:
        opened = _open(address, silence)
    except OSError as error:
        raise Unreachable(
            f"The Redis server at {address.where} cannot be reached: {error.strerror or error}.",
            remedy="Is it running, and is the address right?",
        ) from error
    connection = RawConnection(opened, address.where)
    try:
        _authenticate(connection, address.user, password)
    except BaseException:
        connection.close()
        raise
    return connection


def _authenticate(connection: RawConnection, user: str, password: str) -> None:
    if user:  # one without a password takes any
        connection.call("AUTH", user, password)
    elif password:
        try:
            connection.call("AUTH", password)
        except Rejected as error:
            if "without any password configured" not in error.text:  # then none is needed
                raise


def argument(value: bytes) -> bytes:
    """One argument in the form in which a server reads it; for commands joined by hand."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def pack(commands: Iterable[Sequence[bytes]]) -> bytes:
    """Commands in the form in which a server reads them."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        parts += [b"$%d\r\n%b\r\n" % (len(one), one) for one in command]
    return b"".join(parts)


def _open(address: Address, silence: float) -> socket.socket:
    wait = min(CONNECT_SECONDS, silence)
    if address.tls:
        opened = open_tls(address, address.tls, wait)
    elif address.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(wait)
        try:
            opened.connect(address.socket)
        except BaseException:
            opened.close()
            raise
    else:
        opened = socket.create_connection((address.host, address.port), wait)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.settimeout(silence)
    return opened


def _bytes(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
