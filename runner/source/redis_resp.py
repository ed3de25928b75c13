"""The portable form of a Redis snapshot: the commands that make it, as RESP text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.errors import StepFailed

BLOCK = 1024 * 1024
MOST_DIGITS = 20  # of a number of 64 bits

_RESTORE = b"*5\r\n$7\r\nRESTORE\r\n%b$%d\r\n%d\r\n$%d\r\n%b\r\n$6\r\nABSTTL\r\n"


def restore(name: bytes, expires: int, payload: bytes) -> bytes:
    """The command that makes a key again. `name` is an argument already; `expires` is in ms since
    1970, 0 for never; `payload` is what DUMP answers.
    """
    return _RESTORE % (name, len(b"%d" % expires), expires, len(payload), payload)


def commands(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Each command with its arguments. Raises StepFailed where the text is damaged or short."""
    source = iter(chunks)
    data, at = b"", 0
    while True:
        try:
            command, at = _command(data, at)
        except IndexError:
            more = next(source, None)
            if more is None:
                break
            # Large values grow by many chunks: take as much again as there is.
            parts, size, wanted = [data[at:], more], len(more), max(BLOCK, len(data) - at)
            while size < wanted and (more := next(source, None)) is not None:
                parts.append(more)
                size += len(more)
            data, at = b"".join(parts), 0
            continue
        yield command
    if at != len(data):
        raise StepFailed("What was stored of the Redis server is cut short.")


def is_number(text: bytes) -> bool:
    """Whether it is one that a server would write."""
    return text.isdigit() and len(text) <= MOST_DIGITS


def _command(data: bytes, at: int) -> tuple[list[bytes], int]:
    """One command and where it ends. Raises IndexError if it is not whole."""
    count, at = _number(data, at, b"*")
    found = []
    for _ in range(count):
        size, at = _number(data, at, b"$")
        end = at + size
        if end + 2 > len(data):
            raise IndexError
        found.append(data[at:end])
        at = end + 2
    return found, at


def _number(data: bytes, at: int, mark: bytes) -> tuple[int, int]:
    if data[at] != mark[0] or not (end := data.find(b"\r\n", at)) > at:
        if at < len(data) and data[at] == mark[0] and len(data) - at < 24:
            raise IndexError
        raise StepFailed("What was stored of the Redis server is damaged: it is no RESP text.")
    text = data[at + 1 : end]
    if not is_number(text):
        raise StepFailed("What was stored of the Redis server is damaged: it is no RESP text.")
    return int(text), end + 2
