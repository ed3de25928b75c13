"""When keys expire, to the millisecond, on servers that tell it and on those that must be asked
how long it is until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from runner.source.redis_connect import RawConnection, Rejected
from runner.source.redis_turns import Talk

NEVER = -1
GONE = -2
_NEVER = b":%d" % NEVER  # as it is told
TOGETHER = 10  # keys between two looks at the clock
_CLOCK_LINES = 5  # of what TIME answers: an array of two strings

_EXPIRY = b"*2\r\n$11\r\nPEXPIRETIME\r\n"
_LEFT = b"*2\r\n$4\r\nPTTL\r\n"
_CLOCK = b"*1\r\n$4\r\nTIME\r\n"


class Expiries:
    """Asks one server, as ms since 1970, NEVER or GONE. The questions may share a batch with
    others: `questions`, then as many `lines` of replies, then `read`. `names` are those of keys
    as packed arguments.
    """

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        try:
            connection.call("PEXPIRETIME", "")
            self._absolute = True
        except Rejected as error:
            if not error.forbidden:
                raise
            self._absolute = error.of_a_key  # of the one without a name: it can be asked
        if not self._absolute:  # before 7.0
            connection.call("TIME")  # a refusal has fewer lines than an answer, which are awaited

    def questions(self, names: Sequence[bytes]) -> bytes:
        """What to send."""
        if self._absolute:
            return _EXPIRY + _EXPIRY.join(names)
        parts = []
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            parts += [_CLOCK, _LEFT, _LEFT.join(some), _CLOCK]
        return b"".join(parts)

    def lines(self, count: int) -> int:
        """How many lines the answers for so many keys have."""
        if self._absolute:
            return count
        return count + 2 * _CLOCK_LINES * -(-count // TOGETHER)

    def read(self, names: Sequence[bytes], lines: Sequence[bytes]) -> Talk[list[int]]:
        """The expiries of these keys."""
        if self._absolute:
            return [NEVER if line == _NEVER else self._number(line) for line in lines]
        found, at = [], 0
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            end = at + len(some) + 2 * _CLOCK_LINES
            found += yield from self._relative(some, lines[at:end])
            at = end
        return found

    def ask(self, names: Sequence[bytes]) -> Talk[list[int]]:
        """The expiries of these keys, in a batch of their own."""
        yield self.questions(names)
        found = yield from self.read(names, self._connection.read_lines(self.lines(len(names))))
        return found

    def _relative(self, names: Sequence[bytes], lines: Sequence[bytes]) -> Talk[list[int]]:
        before, after = _clock(lines[:_CLOCK_LINES]), _clock(lines[-_CLOCK_LINES:])
        left = [self._number(line) for line in lines[_CLOCK_LINES:-_CLOCK_LINES]]
        if before == after or all(one < 0 for one in left):
            return [before + one if one >= 0 else one for one in left]
        # A millisecond began in between: ask again, of one key at a time.
        found = []
        for name in names:
            found += yield from self.ask([name])
        return found

    def _number(self, line: bytes) -> int:
        if line.startswith(b"-"):
            raise Rejected(self._connection.where, line[1:].decode(errors="replace"))
        return int(line[1:])


def _clock(lines: Sequence[bytes]) -> int:
    return int(lines[2]) * 1000 + int(lines[4]) // 1000
