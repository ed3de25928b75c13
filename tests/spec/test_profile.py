"""Profiles: maps merge, null removes, everything else replaces."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runner.spec.profile import merge

# Without types, which replace a map whole, and without nulls, which a base does not hold.
LEAVES = st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
KEYS = st.sampled_from("abcd")
BASES = st.recursive(
    st.dictionaries(KEYS, LEAVES), lambda inner: st.dictionaries(KEYS, LEAVES | inner)
)
OVERRIDES = st.recursive(
    st.dictionaries(KEYS, LEAVES | st.none()),
    lambda inner: st.dictionaries(KEYS, LEAVES | st.none() | inner),
)
# As documents are: what is a map in one of them is no text in another.
SHAPED = st.fixed_dictionaries(
    {},
    optional={"a": st.dictionaries(KEYS, LEAVES), "b": st.dictionaries(KEYS, LEAVES), "c": LEAVES},
)


def test_maps_merge_and_lists_replace() -> None:
    base = {"targets": {"disk": {"type": "local", "path": "a"}, "nas": {"type": "local"}}, "l": [1]}
    override = {"targets": {"disk": {"path": "b"}, "nas": None}, "l": [2]}
    assert merge(base, override) == {"targets": {"disk": {"type": "local", "path": "b"}}, "l": [2]}


def test_another_type_replaces_the_whole() -> None:
    base = {"db": {"type": "sqlite", "path": "a.db"}}
    override = {"db": {"type": "postgres", "dbname": "a", "port": None}}
    assert merge(base, override) == {"db": {"type": "postgres", "dbname": "a"}}


def test_the_same_type_written_again_merges() -> None:
    base = {"db": {"type": "sqlite", "path": "a.db"}}
    assert merge(base, {"db": {"type": "sqlite", "x": 1}})["db"]["path"] == "a.db"


@given(BASES, OVERRIDES)
def test_applying_a_profile_twice_is_applying_it_once(
    base: dict[str, Any], override: dict[str, Any]
) -> None:
    once = merge(base, override)
    assert merge(once, override) == once


@given(BASES, OVERRIDES)
def test_neither_side_is_changed(base: dict[str, Any], override: dict[str, Any]) -> None:
    before = copy.deepcopy((base, override))
    merge(base, override)
    assert (base, override) == before


@given(SHAPED, SHAPED, SHAPED)
def test_overrides_that_remove_nothing_may_be_merged_first(
    base: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert merge(merge(base, first), second) == merge(base, merge(first, second))


@given(BASES)
def test_an_empty_profile_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base


@given(BASES, OVERRIDES)
def test_no_null_is_left(base: dict[str, Any], override: dict[str, Any]) -> None:
    def nulls(value: Any) -> bool:
        if isinstance(value, dict):
            return any(nulls(one) for one in value.values())
        return value is None

    assert not nulls(merge(base, override))
