"""Replies of a Redis server, many at once, from the lines that have come of them.

A string may hold line ends itself, or be long: then the lines say nothing, and it is left to
whoever reads the bytes one reply after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEADS = [b"$%d" % size for size in range(1024)]  # of strings, by their length


def replies_in(lines: Sequence[bytes], most: int) -> tuple[list[Any], int]:
    """At most `most` replies, as far as they are whole and plain, and how many lines they took."""
    found: list[Any] = []
    at = 0
    try:
        while len(found) < most:
            head = lines[at]
            if head == _HEADS[len(lines[at + 1])]:
                found.append(lines[at + 1])
                at += 2
                continue
            end = at + 1 + 2 * int(head[1:]) if head.startswith(b"*") else 0
            strings = lines[at + 2 : end : 2]
            heads = [_HEADS[len(one)] for one in strings]
            if at < end <= len(lines) and heads == lines[at + 1 : end : 2]:
                found.append(strings)
                at = end
            else:
                reply, at = _reply(lines, at)
                found.append(reply)
    except (IndexError, ValueError):  # the end of what is here, or nothing plain
        pass
    return found, at


def _reply(lines: Sequence[bytes], at: int) -> tuple[Any, int]:
    """The reply that begins there, and where the next one does. Raises IndexError, ValueError."""
    head = lines[at]
    kind = head[:1]
    if kind == b"$":
        if head != _HEADS[len(lines[at + 1])]:
            raise ValueError
        return lines[at + 1], at + 2
    if kind == b":":
        return int(head[1:]), at + 1
    if kind != b"*" or (count := int(head[1:])) < 0:
        raise ValueError
    at += 1
    found = []
    for _ in range(count):
        reply, at = _reply(lines, at)
        found.append(reply)
    return found, at
