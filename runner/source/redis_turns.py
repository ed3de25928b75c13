"""Talks with a server that share one connection, so that it always has something to answer.

A talk is a generator: it yields what to send and, once it is resumed, finds the replies to that
next on the connection. While the server answers one talk, the others read and compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TypeVar

from runner.source.redis_connect import RawConnection

Found = TypeVar("Found")
Talk = Generator[bytes, None, Found]
LATER = b""  # yielded by one that awaits nothing, but lets the others go first


def in_turn(connection: RawConnection, talks: deque[Talk[None]]) -> None:
    """Bring all talks to their end; those that run may add others."""
    while talks:
        one = talks.popleft()
        try:
            packed = next(one)
        except StopIteration:
            continue
        connection.send(packed)
        talks.append(one)


def alone(connection: RawConnection, talk: Talk[Found]) -> Found:
    """Bring one talk to its end; what it found."""
    while True:
        try:
            packed = next(talk)
        except StopIteration as end:
            found: Found = end.value
            return found
        connection.send(packed)
