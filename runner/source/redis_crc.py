"""The CRC-64 that Redis puts behind what DUMP answers: reflected, Jones' polynomial, nothing before
or after.

ISA-L has it (`crc64_jones_refl` of its crc64.h), and comes with the package `isal`, whose Python
side does not offer it. It is called in the library itself: 0.7 us for a small value, where a loop
over its bytes takes 100 ns for each.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import cache

REFLECTED = 0x95AC9329AC4BC9B5  # the polynomial, its lowest power in the highest bit
_ONES = (1 << 64) - 1
_INVERTED = bytes(255 - byte for byte in range(256))


def crc64(values: Sequence[bytes]) -> list[bytes]:
    """The sum of each value: eight bytes, the lowest first."""
    add = native() or _by_table
    sums = array("Q", [add(_ONES, value, len(value)) for value in values])
    if sys.byteorder == "big":
        sums.byteswap()
    rows = sums.tobytes().translate(_INVERTED)
    return [rows[at : at + 8] for at in range(0, len(rows), 8)]


@cache
def native() -> Callable[[int, bytes, int], int] | None:
    """ISA-L's own: it inverts what it is given and what it returns. None where a build of the
    package keeps it to itself.
    """
    from isal import isal_zlib

    try:
        found = ctypes.PyDLL(isal_zlib.__file__).crc64_jones_refl
    except (AttributeError, OSError):
        return None
    found.argtypes = (ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64)
    found.restype = ctypes.c_uint64
    return found


def _by_table(start: int, value: bytes, _: int) -> int:
    """The same, as `native` does it."""
    table, total = _table(), start ^ _ONES
    for byte in value:
        total = table[(total ^ byte) & 255] ^ (total >> 8)
    return total ^ _ONES


@cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        total = byte
        for _ in range(8):
            total = (total >> 1) ^ (REFLECTED if total & 1 else 0)
        table.append(total)
    return tuple(table)
