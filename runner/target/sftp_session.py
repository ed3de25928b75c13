"""One connection to an SFTP server, used by any thread: its event loop has a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import StepFailed
from runner.target.sftp_address import CIPHERS, Address, Host
from runner.target.sftp_errors import (
    AT_JUMP,
    lost,
    no_sftp,
    out_of_reach,
    speaks_no_sftp,
    unknown_host,
)

if TYPE_CHECKING:
    import asyncssh

Answer = TypeVar("Answer")

CONNECT_SECONDS = 20.0
FIRST_SECONDS = 10.0
UNANSWERED = 3  # questions whether it is still there, after which a server is given up
LONGEST_PAUSE_SECONDS = 5.0


class Session:
    """A connection that is made when it is needed, and made again when it was lost."""

    def __init__(self, address: Address, *, timeout: float, retry: float) -> None:
        self._address = address
        self.timeout = timeout  # seconds for one request
        self._patience = min(timeout, CONNECT_SECONDS)  # for each step of a login
        self.retry = retry  # seconds in which a connection that fails is tried again
        self._known = False  # whether it was there when it was needed last
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._open: list[asyncssh.SSHClientConnection] = []
        self._client: asyncssh.SFTPClient | None = None

    def run(
        self, act: Callable[[asyncssh.SFTPClient], Awaitable[Answer]], *, again: bool = True
    ) -> Answer:
        """What `act` returns. Where the connection turns out to be lost and `again` is set, it is
        made anew and `act` is called once more.
        """
        return self._wait(self._acting(act, again))

    def submit(self, act: Coroutine[Any, Any, Answer]) -> concurrent.futures.Future[Answer]:
        """Start something on what is open already."""
        return asyncio.run_coroutine_threadsafe(self._limited(act), self._started())

    def _wait(self, act: Coroutine[Any, Any, Answer]) -> Answer:
        future = asyncio.run_coroutine_threadsafe(act, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # Many requests fail together when a connection is lost, and one of them is told.
                self._loop.set_exception_handler(lambda *_: None)
                self._connecting = asyncio.Lock()
                # The thread keeps nothing but the loop alive, and no interpreter from ending.
                threading.Thread(target=_run, args=(self._loop,), daemon=True).start()
                weakref.finalize(self, _stop, self._loop, self._open)
            return self._loop

    async def _limited(self, act: Coroutine[Any, Any, Answer]) -> Answer:
        async with asyncio.timeout(self.timeout):
            return await act

    async def _acting(
        self, act: Callable[[asyncssh.SFTPClient], Awaitable[Answer]], again: bool
    ) -> Answer:
        client = await self._connected()
        try:
            async with asyncio.timeout(self.timeout):
                return await act(client)
        except lost():
            self._forget(client)
            if not again:
                raise
        client = await self._connected()
        async with asyncio.timeout(self.timeout):
            return await act(client)

    def _forget(self, client: asyncssh.SFTPClient) -> None:
        if self._client is client:
            self._client = None
            while self._open:
                self._open.pop().abort()

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._connecting:
            if self._client is not None and self._open[-1].is_closed():
                self._forget(self._client)
            if self._client is None:
                self._client = await self._reached()
            return self._client

    async def _reached(self) -> asyncssh.SFTPClient:
        """A new connection, tried for as long as `retry` says.

        A server that was there is waited for longer than one that never was.
        """
        deadline = time.monotonic() + (
            self.retry if self._known else min(self.retry, FIRST_SECONDS)
        )
        pause = 0.1
        while True:
            try:
                client = await self._connect()
            except out_of_reach():
                while self._open:
                    self._open.pop().abort()
                left = deadline - time.monotonic()
                if left <= 0:
                    self._known = False
                    raise
                await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._known = True
                return client

    async def _connect(self) -> asyncssh.SFTPClient:
        address = self._address
        through = None
        if address.jump is not None:
            through = await self._log_in(address.jump, None)
        connection = await self._log_in(address.server, through)
        try:
            async with asyncio.timeout(self._patience):
                return await connection.start_sftp_client()
        except no_sftp() as error:
            if connection.is_closed():
                raise ConnectionResetError from error
            raise speaks_no_sftp(address) from error

    async def _log_in(
        self, host: Host, through: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        import asyncssh

        known = self._address.known()
        try:
            connection = await asyncssh.connect(
                host.host,
                host.port,
                username=host.user,
                tunnel=through,
                known_hosts=known,
                config=None,
                connect_timeout=self._patience,
                login_timeout=self._patience,
                keepalive_interval=max(1.0, self.timeout / (UNANSWERED + 1)),
                keepalive_count_max=UNANSWERED,
                encryption_algs=CIPHERS,
                **self._address.credentials(),
            )
        except asyncssh.HostKeyNotVerifiable:
            raise await self._stranger(host, through, known) from None
        except (OSError, asyncssh.Error) as error:
            if host is self._address.jump:
                error.add_note(AT_JUMP)
            raise
        self._open.append(connection)
        return connection

    async def _stranger(
        self,
        host: Host,
        through: asyncssh.SSHClientConnection | None,
        known: asyncssh.SSHKnownHosts,
    ) -> StepFailed:
        import asyncssh

        shown = None
        with contextlib.suppress(OSError, asyncssh.Error):
            shown = await asyncssh.get_server_host_key(
                host.host, host.port, tunnel=through, config=None
            )
        fingerprint = "" if shown is None else shown.get_fingerprint()
        # The first two lists are the keys that are trusted, of hosts and of authorities.
        port = None if host.port == 22 else host.port
        expected = any(known.match(host.host, "", port)[:2])
        return unknown_host(self._address, host, fingerprint, expected=expected)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        waiting = asyncio.all_tasks(loop)
        for task in waiting:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, connections: list[asyncssh.SSHClientConnection]) -> None:
    def close() -> None:
        while connections:
            connections.pop().abort()
        # Once what the aborts have asked for is done.
        loop.call_later(0.0, loop.call_soon, loop.stop)

    with contextlib.suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(close)
