"""Lists that begin anew, and those that only say something twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, cycle, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.target.paging import to_its_end
from runner.target.s3_request import Unreachable


def listed(names: Iterable[str]) -> Iterator[Any]:
    return ({"path": one} for one in names)


def paths(found: Iterable[Any]) -> list[str]:
    return [one["path"] for one in to_its_end(found)]


@given(st.lists(st.integers(0, 99).map(str), unique=True, min_size=1), st.data())
def test_a_key_that_was_written_meanwhile_may_come_twice(
    names: list[str], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(names) - 1))
    twice = [*names[: at + 1], *names[at:]]
    assert paths(listed(twice)) == twice


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_a_list_that_begins_anew_is_ended(page: int, before: int) -> None:
    endless = chain((f"once {one}" for one in range(before)), cycle(map(str, range(page))))
    few = islice(endless, 8 * (page + before) + 8)
    with pytest.raises(Unreachable, match="a list without an end"):
        paths(listed(few))
