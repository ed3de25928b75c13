"""The portable form of a Redis snapshot, read back: whatever became of it is told in words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import StepFailed
from runner.source.redis_file import Summary, summarize

VALUE = b"\x00\x03abc" + b"\x0a\x00" + bytes(8)


def text(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in words)


WHOLE = (
    text(b"SELECT", b"7")
    + text(b"RESTORE", b"key", b"0", VALUE)
    + text(b"RESTORE", b"fading", b"1893456000000", VALUE)
    + text(b"FUNCTION", b"LOAD", b"#!lua name=quay")
)


def counted(data: bytes) -> Summary:
    summary = Summary()
    for _ in summarize(iter([data]), "resp", summary):
        pass
    return summary


@pytest.mark.parametrize(
    "damaged",
    [
        text(),
        text(b"SELECT", b"x"),
        text(b"SELECT", b"9" * 5000),
        text(b"RESTORE", b"key", b" ", VALUE),
        b"*" + b"9" * 5000 + b"\r\n",
        WHOLE[:-1],
    ],
)
def test_what_no_server_writes_is_told(damaged: bytes) -> None:
    with pytest.raises(StepFailed, match="What was stored"):
        counted(damaged)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=12))
def test_damage_anywhere_is_told_or_does_no_harm(at: int, junk: bytes) -> None:
    assert counted(WHOLE).keys == {7: 2}
    with contextlib.suppress(StepFailed):
        counted(WHOLE[:at] + junk + WHOLE[at + len(junk) :])
