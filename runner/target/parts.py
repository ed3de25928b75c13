"""How an object that is sent in parts is cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Self

from runner.errors import StepFailed

BLOCK = 1024 * 1024  # bytes: the size of a part is so many of them
AT_ONCE = 3
GROWTH = 2  # times as large as expected an object may become


@dataclass(frozen=True)
class Parts:
    """The parts of one object."""

    size: int  # bytes of each but the last: some servers want all of them alike
    at_once: int  # that are sent at the same time, and held in memory
    most: int  # that one object may have

    @classmethod
    def of(cls, declared: int, most: int, expected_bytes: int) -> Self:
        """Of the size that is declared, or larger where about so many bytes need it; of larger ones
        there are fewer at once.
        """
        least = ceil(GROWTH * expected_bytes / most / BLOCK) * BLOCK
        size = max(declared, least)
        return cls(size, max(1, AT_ONCE * declared // size), most)

    def within(self, chunks: Iterable[bytes], target: str) -> Iterator[bytes]:
        """The chunks. Raises StepFailed, which names the target, where they are too much."""
        left = self.size * self.most
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise StepFailed(
                    f"Target {target}: an object has more than {self.most} parts.",
                    remedy="Declare a larger part_size of the target.",
                )
            yield chunk
