"""A target is tried out with one small object, also by several at the same moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.errors import StepFailed
from runner.target import NotAllowed, trial
from runner.target.trial import try_out


class Shelf:
    """Keeps objects; somebody else takes them away between the writing and the reading."""

    def __init__(self, taken_away: int = 0) -> None:
        self.there: dict[str, bytes] = {}
        self.taken_away = taken_away  # how often

    def write(self, key: str, data: bytes) -> None:
        self.there[key] = data

    def read(self, key: str) -> Iterator[bytes]:
        if self.taken_away:
            self.taken_away -= 1
            del self.there[key]
        if key not in self.there:
            raise FileNotFoundError(key)
        return iter([self.there[key]])

    def remove(self, key: str) -> None:
        del self.there[key]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LONGEST_PAUSE_SECONDS", 0.0)


def tried(shelf: Shelf) -> None:
    try_out("disk", write=shelf.write, read=shelf.read, remove=shelf.remove)


def test_nothing_is_left_of_it() -> None:
    shelf = Shelf()
    tried(shelf)
    assert shelf.there == {}


def test_another_who_tries_it_too_may_take_the_object_away() -> None:
    tried(Shelf(taken_away=trial.ATTEMPTS - 1))


def test_what_never_comes_back_was_not_kept() -> None:
    with pytest.raises(FileNotFoundError):
        tried(Shelf(taken_away=trial.ATTEMPTS))


def test_something_else_that_comes_back_is_told() -> None:
    shelf = Shelf()
    with pytest.raises(StepFailed, match="disk does not keep what is written"):
        try_out("disk", write=shelf.write, read=lambda key: [b"else"], remove=shelf.remove)


def test_whoever_may_not_remove_may_still_keep_backups_there() -> None:
    def remove(key: str) -> None:
        raise NotAllowed(f"{key} stays.", remedy="")

    shelf = Shelf()
    try_out("disk", write=shelf.write, read=shelf.read, remove=remove)
    assert list(shelf.there) == [trial.PROBE]
