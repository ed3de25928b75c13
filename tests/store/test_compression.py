"""The level of zstd: declared, or chosen by what the beginning of the content gains."""

from __future__ import annotations

import random

import pytest

from runner.store.compression import decoded, encoder, parse
from runner.store.streams import BLOCK
from tests.service import SPEC

CHANCE = random.Random(7)
HASHES = CHANCE.randbytes(2 * BLOCK).hex().encode()
IMAGES = CHANCE.randbytes(4 * BLOCK)
TEXT = (" ".join(CHANCE.choices(SPEC.split(), k=3 * BLOCK // 4)).encode())[: 4 * BLOCK]


def encoded(compression: str, content: bytes) -> bytes:
    one = encoder(compression)
    *others, last = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    return b"".join(map(one.block, others)) + one.last(last)


@pytest.mark.parametrize(
    ("content", "level"), [(HASHES, 1), (IMAGES, 1), (TEXT, 3), (HASHES[:BLOCK], 3)]
)
def test_the_usual_level_is_taken_where_it_is_worth_its_time(content: bytes, level: int) -> None:
    chosen = encoded("zstd", content)
    assert chosen == encoded(f"zstd:{level}", content)
    assert b"".join(decoded(".zst", [chosen])) == content


def test_what_is_quicker_is_hardly_larger() -> None:
    for content in (HASHES, IMAGES):
        assert len(encoded("zstd", content)) < 1.03 * len(encoded("zstd:3", content))


def test_a_level_that_is_declared_is_taken_whatever_it_gains() -> None:
    assert parse("zstd:3") == ("zstd", 3)
    assert encoded("zstd:3", HASHES) != encoded("zstd", HASHES)
