"""Keys by their names: those that match the patterns of Redis, those of a cluster's slots."""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Callable

SLOTS = 16384


def matches(include: tuple[str, ...]) -> Callable[[bytes], bool] | None:
    """Whether a key is asked for, by patterns as Redis has them; None: each is."""
    if not include:
        return None
    found = re.compile("|".join(_expression(one) for one in include).encode("latin-1"), re.DOTALL)
    return lambda key: found.fullmatch(key) is not None


def _expression(pattern: str) -> str:
    """A pattern of KEYS as an expression; each byte is one character in both."""
    text = pattern.encode(errors="surrogateescape").decode("latin-1")
    tokens = re.findall(r"\\.|\[\^?(?:\\.|[^\]\\])*\]|.", text, re.DOTALL)
    return "".join(_TOKENS.get(one) or _literal(one) for one in tokens)


_TOKENS = {"*": ".*", "?": "."}


def _literal(token: str) -> str:
    if len(token) == 1 or token[0] == "\\":
        return re.escape(token[-1])
    inverted = token.startswith("[^")
    inner = re.sub(r"([&|~\[^])", r"\\\1", token[2 if inverted else 1 : -1])
    if not inner:  # an empty class matches nothing, and its inverse everything
        return "." if inverted else "(?!)"
    return ("[^" if inverted else "[") + inner + "]"


def within(ranges: tuple[tuple[int, int], ...]) -> Callable[[bytes], bool]:
    """Whether a key belongs to one of these ranges of slots."""

    def here(key: bytes) -> bool:
        slot = slot_of(key)
        return any(low <= slot <= high for low, high in ranges)

    return here


def slot_of(key: bytes) -> int:
    """The slot of a key: that of what stands between its first braces, if anything does."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS
