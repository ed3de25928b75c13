"""What every source must do with what a restore replaced: show it, put it back, let it go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import StepFailed
from runner.source import Kept, Place
from tests.source.stack import Stack, tree


def place_of(folder: Path, token: str) -> Place:
    """The place of one of several runs."""
    return Place(token, workspace=folder / "workspaces" / token, safety=folder / "safety copies")


FIRST = "20261120t021500z7f3a9c"
SECOND = "20261120t031500z111111"
THIRD = "20261120t041500z222222"


class PutsBack:
    """A part of the conformance suite."""

    def test_what_was_replaced_is_put_back_and_that_too(
        self, stack: Stack, place: Place, tmp_path: Path
    ) -> None:
        artifacts = stack.capture()
        stack.change()
        changed = stack.observe()
        kept = restored(stack, artifacts, place)
        assert all(one.bytes > 0 for one in stack.source.copies(kept))
        after = stack.observe()
        again = put_back(stack, kept, place_of(tmp_path, SECOND))
        assert stack.observe() == changed
        assert stack.source.copies(again)
        put_back(stack, again, place_of(tmp_path, THIRD))
        assert stack.observe() == after

    def test_where_nothing_was_nothing_is(self, stack: Stack, place: Place, tmp_path: Path) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.destroy()
        kept = restored(stack, artifacts, place)
        assert list(stack.source.copies(kept)) == []
        again = put_back(stack, kept, place_of(tmp_path, SECOND))
        assert not stack.source.exists()
        put_back(stack, again, place_of(tmp_path, THIRD))
        assert stack.observe() == original

    def test_putting_back_can_be_repeated_and_taken_back(
        self, stack: Stack, place: Place, tmp_path: Path
    ) -> None:
        artifacts = stack.capture()
        stack.change()
        changed = stack.observe()
        kept = restored(stack, artifacts, place)
        after, before = stack.observe(), tree(stack.root)
        second = place_of(tmp_path, SECOND)
        stack.source.put_back(kept, second)
        copies = list(stack.source.put_back(kept, second))
        assert copies
        assert stack.observe() == changed
        stack.source.unswap(second)
        assert stack.source.swapped(second) == "absent"
        stack.source.discard(second)
        assert stack.observe() == after
        assert tree(stack.root) == before
        assert stack.source.copies(kept)

    def test_a_safety_copy_is_let_go(self, stack: Stack, place: Place, tmp_path: Path) -> None:
        artifacts = stack.capture()
        stack.change()
        kept = restored(stack, artifacts, place)
        after = stack.observe()
        stack.source.drop(kept)
        assert list(stack.source.copies(kept)) == []
        assert not [one for one in stack.root.rglob("*") if f"before-{FIRST}" in one.name]
        second = place_of(tmp_path, SECOND)
        with pytest.raises(StepFailed, match="gone"):
            stack.source.put_back(kept, second)
        stack.source.unswap(second)
        stack.source.discard(second)
        stack.source.drop(kept)
        assert stack.observe() == after


def restored(stack: Stack, artifacts: object, place: Place) -> Kept:
    """Restore and clean up; what then is known of what was replaced."""
    stack.restore(artifacts, place)  # type: ignore[arg-type]
    kept: Kept = json.loads(json.dumps(stack.source.keep(place)))
    stack.source.discard(place)
    return kept


def put_back(stack: Stack, kept: Kept, place: Place) -> Kept:
    """The same for what is put back."""
    stack.source.put_back(kept, replace(place))
    assert stack.source.swapped(place) == "done"
    found: Kept = json.loads(json.dumps(stack.source.keep(place)))
    stack.source.discard(place)
    return found
