"""Hands chunks from the thread that makes them to another one that sends them.

The library that sends runs its own event loop in the thread that calls it. What makes the chunks
may need that library too (a copy from one bucket to another), and cannot run inside of that loop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

BLOCK = 1024 * 1024  # smaller chunks are joined
WAITING = 2  # blocks that are made and not yet sent
LOOK_SECONDS = 0.1  # how often a full queue's sender is looked at


class Abandoned(Exception):
    """What the sender gets instead of more chunks, when there will be none."""


class _Channel:
    """Blocks on their way, and whether anybody still takes them."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes | Abandoned | None] = queue.Queue(WAITING)
        self.ended = threading.Event()
        self.failed: BaseException | None = None

    def offer(self, block: bytes | Abandoned | None) -> bool:
        """Wait until there is room for it; False when nobody takes it any more."""
        while not self.ended.is_set():
            try:
                self._waiting.put(block, timeout=LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def taken(self) -> Iterator[bytes]:
        """What was offered, up to None."""
        while (block := self._waiting.get()) is not None:
            if isinstance(block, Abandoned):
                raise block
            yield block

    def drain(self, send: Callable[[Iterator[bytes]], None]) -> None:
        """Send all of it; what that raises is kept for the thread that waits."""
        try:
            send(self.taken())
        except BaseException as error:  # noqa: BLE001
            self.failed = error
        finally:
            self.ended.set()


def feed(chunks: Iterable[bytes], send: Callable[[Iterator[bytes]], None]) -> None:
    """Call `send` with the chunks, in a thread of its own; return when it has ended.

    Raises what `chunks` raises, once `send` has ended with Abandoned, or what `send` raises.
    """
    channel = _Channel()
    sender = threading.Thread(target=channel.drain, args=(send,), daemon=True)
    sender.start()
    try:
        if all(channel.offer(block) for block in joined(chunks)):
            channel.offer(None)
    except BaseException:
        channel.offer(Abandoned())
        sender.join()
        raise
    sender.join()
    if channel.failed is not None:
        raise channel.failed


def joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of about BLOCK bytes or more."""
    block = bytearray()
    for chunk in chunks:
        if not block and len(chunk) >= BLOCK:
            yield chunk
            continue
        block += chunk
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
