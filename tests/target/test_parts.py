"""How an object that is sent in parts is cut: large enough, alike, and few at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StepFailed
from runner.target.parts import Parts

MIB = 1024 * 1024
DECLARED = 16 * MIB


@pytest.mark.parametrize("expected", [0, 1, 70 * 1024 * MIB])
def test_parts_are_as_declared_while_those_do(expected: int) -> None:
    assert Parts.of(DECLARED, 10_000, expected) == Parts(DECLARED, 3, 10_000)


def test_what_was_large_is_sent_in_larger_parts_and_fewer_at_once() -> None:
    assert Parts.of(DECLARED, 10_000, 300 * 1024 * MIB) == Parts(62 * MIB, 1, 10_000)


@given(
    declared=st.integers(5, 64), most=st.integers(1, 50_000), expected=st.integers(0, 5 * 1024**4)
)
def test_twice_what_is_expected_can_be_sent(declared: int, most: int, expected: int) -> None:
    parts = Parts.of(declared * MIB, most, expected)
    assert parts.size * parts.most >= 2 * expected
    assert parts.size % MIB == 0
    assert parts.size == declared * MIB or (parts.size - MIB) * most < 2 * expected
    assert parts.size <= parts.at_once * parts.size <= max(3 * declared * MIB, parts.size)


def test_more_is_refused_where_it_is_too_much() -> None:
    passed = Parts(10, 1, 2).within([b"x" * 15, b"y" * 5, b"z"], "bucket")
    assert next(passed) + next(passed) == b"x" * 15 + b"y" * 5
    with pytest.raises(StepFailed, match="Target bucket: an object has more than 2 parts"):
        next(passed)
